"""Tunes the numbers of one structure by CMA-ES, between the requests of a search.

Source: Hansen (2016), "The CMA evolution strategy: a tutorial", by the package cmaes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from cmaes import CMA

from evo.randomness import generator
from evo.records import Individual

TUNED = "tune_constants"  # the operator of individuals that are samples of a tuning, or their mean
STEP = 0.7  # first standard deviation, in steps of `evo.search.variation.skeleton`


@dataclass(frozen=True)
class Tuning:
    """A structure under tuning, from the numbers of ``owner`` on. ``told``: what each sample was worth, by round.

    Its state is its history: it goes on by repeating it.
    """

    owner: Individual
    start: tuple[float, ...]
    population: int
    seed: int
    told: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def begun(cls, owner: Individual, start: Sequence[float], population: int, seed: int) -> Tuning:
        """A new one; ``seed``: the campaign's."""
        own = generator(seed, owner.id, "tuning").getrandbits(32)
        return cls(owner, tuple(start), population, own)

    def ask(self) -> tuple[list[list[float]], list[float]]:
        """The next samples ``[sample][coordinate]``, and the mean that they are drawn about."""
        strategy = self._strategy()
        mean = strategy.mean.tolist()
        return [strategy.ask().tolist() for _ in range(self.population)], mean

    def tell(self, values: Sequence[float | None]) -> Tuning:
        """What the samples were worth, higher is better; None for one that failed."""
        least = min((value for value in values if value is not None), default=0.0)
        worth = tuple(least - 1.0 if value is None else value for value in values)
        return replace(self, told=(*self.told, worth))

    def state(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "owner": self.owner.id,
            "start": list(self.start),
            "population": self.population,
            "seed": self.seed,
            "told": [list(values) for values in self.told],
        }

    @classmethod
    def restored(cls, state: dict[str, Any], owner: Individual) -> Tuning:
        """The inverse of ``state``."""
        told = tuple(map(tuple, state["told"]))
        return cls(owner, tuple(state["start"]), state["population"], state["seed"], told)

    def _strategy(self) -> Any:
        strategy = CMA(np.array(self.start), STEP, population_size=self.population, seed=self.seed)
        for values in self.told:
            samples = [strategy.ask() for _ in values]
            strategy.tell([(sample, -value) for sample, value in zip(samples, values, strict=True)])
        return strategy


def sample_count(dimensions: int) -> int:
    """Samples per round: CMA-ES's own ``4 + 3 log n``, a little fewer, for rounds are few."""
    return 4 + int(1.5 * math.log(max(1, dimensions)))
