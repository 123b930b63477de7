"""Known optimizers: one YAML each, with its source and the independent implementation that it is checked against."""

from __future__ import annotations

import json
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from genomes.language import genome
from genomes.language.genome import Genome, GenomeError

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """All names, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@cache
def load(name: str) -> Genome:
    """The genome called ``name``. Raises GenomeError where there is none, with the nearest name."""
    if name not in names():
        near = get_close_matches(name, names(), 1)
        hint = f"; did you mean {near[0]}?" if near else "; evo catalogue lists them"
        raise GenomeError([f"no known optimizer is called {name!r}{hint}"])
    return genome.load(FOLDER / f"{name}.yaml")


@cache
def verified() -> dict[str, dict[str, float | int]]:
    """For each entry what its last verification found: ``largest_error`` (relative) over so many ``steps``.

    Written by ``python -m tests.genomes.verify``; empty where that was never run.
    """
    path = FOLDER / "verified.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
