"""Tunes the numbers of one structure by an evolution strategy, between the requests of a search.

A round trains a mean and mirrored samples about it; the mean of the better half of them is the next one. Few
trainings hardly tell two samples apart, but the mean of many nearly random choices is not random. Steps stay as long as
they are: noise hides what shorter ones would find.

Source: Beyer (1995), "Toward a theory of evolution strategies: on the benefits of sex - the (mu/mu, lambda) theory";
Brockhoff et al. (2010), "Mirrored sampling and sequential selection for evolution strategies".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evo.randomness import generator
from evo.records import Individual
from evo.search.breeding import Breeder

TUNED = "tune_constants"  # the operator of individuals that are samples of a tuning, or their mean
SAMPLES = 15  # of a round, unless a search has its own number: the mean and seven pairs


@dataclass(frozen=True)
class Tuning:
    """A structure under tuning, from the numbers of ``owner`` on, ``mean`` at first.

    ``step``: standard deviation of the samples, in steps of `evo.search.variation.skeleton`; ``samples``: of a round,
    the mean included.
    """

    owner: Individual
    mean: tuple[float, ...]
    samples: int
    step: float
    rounds: int = 0

    def ask(self, seed: int) -> list[tuple[float, ...]]:
        """The mean, and samples about it ``[sample][coordinate]``; ``seed``: the campaign's."""
        rng = generator(seed, self.owner.id, self.rounds, "tuning")
        found = [self.mean]
        while len(found) < self.samples:
            steps = [rng.gauss(0, self.step) for _ in self.mean]
            found += [
                tuple(value + sign * step for value, step in zip(self.mean, steps, strict=True)) for sign in (1, -1)
            ]
        return found[: self.samples]

    def individuals(self, breeder: Breeder, generation: int, first: int) -> Iterator[Individual]:
        """The round's individuals, in the order of `ask`; ``first``: the index of the first in its generation."""
        for index, vector in enumerate(self.ask(breeder.recipe.seed), first):
            genome = breeder.tuned(self.owner.genome, vector).renamed(f"g{generation}i{index}", "evolved")
            yield breeder.individual(generation, index, genome, [self.owner], TUNED)

    def tell(self, seed: int, values: Sequence[float | None]) -> Tuning:
        """What those of `ask` were worth, higher is better; None for one that failed."""
        able = [(value, sample) for value, sample in zip(values, self.ask(seed), strict=True) if value is not None]
        able.sort(key=lambda pair: -pair[0])
        better = [sample for _, sample in able[: (self.samples + 1) // 2]] or [self.mean]
        mean = tuple(sum(column) / len(better) for column in zip(*better, strict=True))
        return replace(self, mean=mean, rounds=self.rounds + 1)

    def state(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "owner": self.owner.id,
            "mean": list(self.mean),
            "samples": self.samples,
            "step": self.step,
            "rounds": self.rounds,
        }

    @classmethod
    def restored(cls, state: dict[str, Any], owner: Individual) -> Tuning:
        """The inverse of ``state``."""
        return cls(owner, tuple(state["mean"]), state["samples"], state["step"], state["rounds"])
