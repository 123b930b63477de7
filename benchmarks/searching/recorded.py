"""A landscape of real trainings, recorded by `benchmarks/record_landscape.py`.

A fresh instance is a recorded one of its depth, so that the qualities of all genomes on it belong together. Variation
is a step on the graph of parents and children. The truth is the mean over the recorded instances.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from evo.recipe.schema import Recipe
from evo.records import Individual
from evo.search.breeding import Breeder
from evo.search.variation.vary import Child
from genomes.language.genome import Genome, parse
from harness.task import Instance
from searching.landscape import LOST, Landscape, drawn

FAR = 0.2  # probability of a second step


class Recorded(Landscape):
    """See the module's text. ``qualities``: ``[genome, instance]``, NaN for none."""

    random: int
    constants = False

    def __init__(self, path: Path) -> None:
        recorded = json.loads(gzip.decompress(path.read_bytes()))
        rows = recorded["genomes"]
        self.name = recorded["name"]
        self.depths = tuple(recorded["depths"])
        self.genomes: list[Genome] = [parse(row["text"]) for row in rows]
        self.operators: list[str] = [row["operator"] for row in rows]
        self.qualities = np.array([[np.nan if q is None else q for q in row["qualities"]] for row in rows])
        self.columns = {
            depth: [j for j, instance in enumerate(recorded["instances"]) if instance["depth"] == depth]
            for depth in self.depths
        }
        self.parents: list[list[int]] = [row["parents"] for row in rows]
        self.neighbors: list[list[int]] = [[] for _ in rows]
        for i, row in enumerate(rows):
            for parent in set(row["parents"]):
                self.neighbors[i].append(parent)
                self.neighbors[parent].append(i)
        self.founders = tuple(g.name for g, o in zip(self.genomes, self.operators, strict=True) if o == "catalogue")
        self.randoms = [i for i, operator in enumerate(self.operators) if operator == "random"]
        self.random = len(self.randoms)
        self.truths = np.mean([np.nanmean(self._filled[:, c], axis=1) for c in self.columns.values()], axis=0)

    @property
    def _filled(self) -> np.ndarray:
        return np.where(np.isnan(self.qualities), LOST, self.qualities)

    def breeder(self, recipe: Recipe) -> Breeder:
        return RecordedBreeder(recipe, self)

    def truth(self, hash: str) -> float:
        return float(self.truths[int(hash, 16)])

    def quality(self, hash: str, instance: Instance) -> float | None:
        found = self.qualities[int(hash, 16), self.column(instance)]
        return None if np.isnan(found) else float(found)

    def column(self, instance: Instance) -> int:
        """The recorded instance that stands for this one."""
        columns = self.columns[instance.num_hidden_layers]
        return columns[drawn(instance.seed) % len(columns)]

    @property
    def best(self) -> float:
        return float(self.truths.max())

    @cached_property
    def index(self) -> dict[Genome, int]:
        """Where a genome without a name stands."""
        return {genome.renamed("x"): i for i, genome in enumerate(self.genomes)}


@dataclass(frozen=True)
class RecordedBreeder(Breeder):
    """Makes the recorded genomes. A child is a neighbor of its first parent, or now and then of a neighbor."""

    landscape: Recorded

    def known(self, name: str) -> Genome:
        return self.landscape.genomes[self.landscape.founders.index(name)]

    def random(self, name: str, rng: random.Random) -> Genome:
        """A recorded one: as a founder the one of that name, later any."""
        randoms = self.landscape.randoms
        found = randoms[int(name.removeprefix("random")) - 1] if name.startswith("random") else rng.choice(randoms)
        return self.landscape.genomes[found]

    def child(
        self, parents: Sequence[Genome], rng: random.Random, crossover: float, weights: Mapping[str, float]
    ) -> Child:
        at = start = int(self.identity(parents[0]), 16)
        for _ in range(2 if rng.random() < FAR else 1):
            if near := [i for i in self.landscape.neighbors[at] if i != start]:
                at = rng.choice(near)
        return Child(self.landscape.genomes[at], self.landscape.operators[at], 1)

    def switched_off(self, individual: Individual) -> None:
        """Never: no landscape knows of the outputs' mean."""

    def coordinates(self, genome: Genome) -> tuple[float, ...]:
        return ()

    def structure(self, genome: Genome) -> str:
        return self.identity(genome)

    def identity(self, genome: Genome) -> str:
        return f"{self.landscape.index[genome.renamed('x')]:032x}"
