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


def write_all(
    target: str,
    *,
    rank: int,
    out: Path,
    force: bool,
    config: Path | None = None,
    fields: Sequence[str] = (),
    tracks: Sequence[str] = (),
) -> None:
    """Write every format to a folder, and print the files. ``fields``, ``tracks``: ``KEY=VALUE``. Raises UsageError."""
    if out == STANDARD_OUTPUT:
        raise UsageError("--all: several files are written; name a folder for them with --out DIR")
    exported = export_all(
        target, out=out, rank=rank, force=force, config=config, fields=_pairs("--field", fields),
        tracks=_pairs("--track", tracks),
    )  # fmt: skip
    print(*(out / name for name in exported.files), sep="\n")
    for format in formats().values():
        if format.note and any(name.startswith(f"{format.name}/") for name in exported.files):
            say(format.note)


def write_export(
    target: str,
    format: str,
    *,
    rank: int,
    out: Path,
    force: bool,
    config: Path | None = None,
    fields: Sequence[str] = (),
    tracks: Sequence[str] = (),
) -> None:
    """Write the exported file or files, and print where. ``fields``, ``tracks``: ``KEY=VALUE``. Raises UsageError."""
    export(
        target, format, rank=rank, out=out, force=force, config=config, fields=_pairs("--field", fields),
        tracks=_pairs("--track", tracks),
    )  # fmt: skip
    print_written(out)
    if note := find_format(format).note:
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
