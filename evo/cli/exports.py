"""What ``evo export`` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evo.api import export, export_all
from evo.cli.messages import say
from evo.cli.terminal import print_written
from evo.errors import UsageError
from evo.exports.formats import find_format, formats
from evo.files import STANDARD_OUTPUT


def write_export(
    target: str,
    format: str | None,
    *,
    rank: int,
    out: Path,
    force: bool,
    config: Path | None = None,
    fields: Sequence[str] = (),
    tracks: Sequence[str] = (),
) -> None:
    """Write the exported files, and print where. ``format``: None for every one. Raises UsageError.

    ``fields``, ``tracks``: ``KEY=VALUE``.
    """
    said = {"config": config, "fields": _pairs("--field", fields), "tracks": _pairs("--track", tracks)}
    if format is not None:
        export(target, format, rank=rank, out=out, force=force, **said)
        print_written(out)
        notes = [find_format(format).note]
    else:
        if out == STANDARD_OUTPUT:
            raise UsageError("--all: several files are written; name a folder for them with --out DIR")
        written = export_all(target, out=out, rank=rank, force=force, **said).files
        print(*(out / name for name in written), sep="\n")
        notes = [f.note for f in formats().values() if any(name.startswith(f"{f.name}/") for name in written)]
    for note in filter(None, notes):
        say(note)


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} {text}: expected KEY=VALUE")
        if key in found:
            raise UsageError(f"{option} {text}: {key} was given before")
        found[key] = value
    return found
