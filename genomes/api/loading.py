"""Genomes by name or from a file."""

from __future__ import annotations

from pathlib import Path

from genomes import catalogue
from genomes.compiler.lowering import read
from genomes.language.genome import Genome, GenomeError


def load(name_or_path: str | Path) -> Genome:
    """The known optimizer of this name, or the genome in a file whose name ends in ``.yaml`` or ``.yml``.

    Raises GenomeError for an unknown name or a file that is no genome with a meaning; OSError where a file cannot be
    read.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        return read(path)
    if isinstance(name_or_path, Path) or len(path.parts) > 1:
        raise GenomeError([f"{path}: the name of a genome file ends in .yaml"])
    return catalogue.load(name_or_path)
