"""The genomes that are shipped: known optimizers, and discovered ones.

A known optimizer is one YAML here, with its source and the independent implementation that it is checked against. A
discovered one is one YAML in ``genomes/discovered``, with the campaign that found it and what it was measured to be.
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from genomes.language import genome
from genomes.language.genome import Genome, GenomeError

FOLDER = Path(__file__).parent
DISCOVERED = FOLDER.parent / "discovered"


def names() -> list[str]:
    """The known optimizers' names, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def discovered() -> list[str]:
    """The discovered optimizers' names, sorted."""
    return sorted(path.stem for path in DISCOVERED.glob("*.yaml"))


def all_names() -> list[str]:
    """Every name that ``load`` knows: known optimizers, then discovered ones."""
    return [*names(), *discovered()]


def file(name: str) -> Path:
    """The YAML of a shipped genome. Raises GenomeError where there is none of this name, with the nearest name."""
    if name not in all_names():
        near = get_close_matches(name, all_names(), 1)
        hint = f"; did you mean {near[0]}?" if near else "; evo catalogue lists them"
        raise GenomeError([f"no known optimizer is called {name!r}{hint}"])
    return (DISCOVERED if name in discovered() else FOLDER) / f"{name}.yaml"


@cache
def load(name: str) -> Genome:
    """The genome called ``name``. Raises GenomeError where there is none, with the nearest name."""
    return genome.load(file(name))


@cache
def verified() -> dict[str, dict[str, float | int]]:
    """For each entry what its last verification found: ``largest_error`` (relative) over so many ``steps``.

    Written by ``python -m tests.genomes.verify``; empty where that was never run.
    """
    path = FOLDER / "verified.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


@cache
def evidence() -> dict[str, dict[str, Any]]:
    """For each discovered optimizer where it comes from, and what it was measured to be on instances no search touched.

    ``campaign``: the folder with the records and the result; ``origin``: how it was found; ``rival``; ``by_depth``: for
    each ``depth`` the ``mean`` of its quality over so many ``pairs`` of trainings on so many ``instances``, and by how
    much it is better than the rival: ``difference`` with its 95 % interval, ``low`` to ``high``. Written by
    ``runs/table.py``.
    """
    return json.loads((DISCOVERED / "evidence.json").read_text(encoding="utf-8"))
