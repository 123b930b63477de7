"""What ``evo export`` writes."""

from __future__ import annotations

from pathlib import Path

from evo.api import export, export_all
from evo.cli.terminal import print_written
from evo.errors import UsageError
from evo.files import STANDARD_OUTPUT


def write_all(target: str, *, rank: int, out: Path, force: bool) -> None:
    """Write every format to a folder, and print the files."""
    if out == STANDARD_OUTPUT:
        raise UsageError("--all: several files are written; name a folder for them with --out DIR")
    exported = export_all(target, out=out, rank=rank, force=force)
    print(*(out / name for name in exported.files), sep="\n")


def write_export(target: str, format: str, *, rank: int, out: Path, force: bool) -> None:
    """Write the exported file, and print where."""
    export(target, format, rank=rank, out=out, force=force)
    print_written(out)
