"""What ``evo export`` writes."""

from __future__ import annotations

from pathlib import Path

from evo.api import export
from evo.cli.terminal import print_written


def write_export(target: str, format: str, *, rank: int, out: Path, force: bool) -> None:
    """Write the exported file, and print where."""
    export(target, format, rank=rank, out=out, force=force)
    print_written(out)
