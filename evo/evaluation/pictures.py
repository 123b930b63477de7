"""Writing pictures: which files can be asked for, and the same bytes for the same picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from evo.errors import EvoError, UsageError

KINDS = (".png", ".svg", ".pdf")


def check(path: Path) -> None:
    """Raise UsageError where no picture can be written to ``path``: better before the work than after it."""
    if path.suffix.lower() not in KINDS:
        raise UsageError(f"--out {path}: a picture's name ends in {', '.join(KINDS)}")
    if not path.parent.is_dir():
        raise UsageError(f"--out {path}: there is no folder {path.parent}")


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` in the format that the name of ``path`` asks for. Raises EvoError."""
    dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    try:
        with matplotlib.rc_context({"svg.hashsalt": "evo"}):
            figure.savefig(path, dpi=150, metadata=dates.get(path.suffix.lower()))
    except OSError as error:
        raise EvoError(f"{path}: cannot be written: {error.strerror}") from None
