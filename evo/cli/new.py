"""What ``evo new`` writes."""

from __future__ import annotations

import re
from pathlib import Path

from evo import files
from evo.cli.messages import say
from evo.errors import EvoError, UsageError
from evo.formatting import command
from evo.recipe import reader


def make_folder(run: Path, name: str | None, algorithm: str | None = None, *, force: bool) -> None:
    """Make the folder ``run`` with a commented recipe in it, and say what comes next.

    ``name``: the campaign's; None: the folder's, as far as its characters may stand in one. ``algorithm``: whose preset
    it is; None: all defaults. ``force``: over a recipe that is there. Raises UsageError, EvoError.
    """
    path = run / "recipe.yaml"
    text = reader.dump(reader.named(_slug(run) if name is None else name, algorithm), comments=True)
    if path.exists() and not force:
        raise UsageError(f"{path}: there is such a file; overwrite it with --force, or launch it with: {_launch(run)}")
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvoError(f"{run}: cannot be made: {error.strerror or error}") from None
    files.write(path, text)
    print(path)
    say(f"edit it, then: {_launch(run)}")


def _slug(run: Path) -> str:
    """A name for a campaign from that of its folder."""
    return re.sub(r"[^a-z0-9_-]+", "-", run.resolve().name.lower()).strip("-_")[:64] or "mine"


def _launch(run: Path) -> str:
    return command("launch", run)
