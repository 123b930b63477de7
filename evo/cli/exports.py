"""What ``evo export`` prints."""

from __future__ import annotations

from pathlib import Path

from evo.api import export


def write_export(target: str, format: str, *, rank: int, out: Path | None) -> None:
    """Print the exported file, or where it was written."""
    exported = export(target, format, rank=rank, out=out)
    if exported.path is None:
        print(exported.text, end="")
    else:
        print(exported.path)
