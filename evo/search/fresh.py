"""Random genomes in every generation; the best on the selection instances is the champion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evo.randomness import generator
from evo.records import Fame, Individual, Purpose, Request, Results, Statistics, Told, trainings
from evo.search.instances import instances
from evo.search.protocol import Search
from evo.search.variation.random_genome import random_genome
from genomes.analysis.identity import semantic_hash
from harness.result import mean_quality


class FreshSearch(Search):
    """See the module's text."""

    def _members(self) -> tuple[Individual, ...]:
        recipe, number = self.recipe, self.generation
        members = []
        for index in range(recipe.population):
            rng = generator(recipe.seed, number, index, "random")
            genome = random_genome(f"g{number}i{index}", recipe.limits, rng)
            members.append(Individual(number, index, genome, semantic_hash(genome), (), "random"))
        return tuple(members)

    def _ask(self) -> Request:
        chosen = instances(self.recipe, Purpose.SELECTION, 0)
        return Request.crossed(Purpose.SELECTION, self._members(), chosen, self.recipe.epochs)

    def _tell(self, request: Request, results: Results) -> Told:
        members, number, epochs = self._members(), self.generation, self.recipe.epochs
        fitness = tuple(mean_quality(trainings(results, m, request.instances, epochs)) for m in members)
        new = [Fame(m, q, number) for m, q in zip(members, fitness, strict=True) if q is not None]
        self.hall_of_fame = tuple(sorted([*self.hall_of_fame, *new], key=lambda fame: -fame.quality)[:10])
        self.generation += 1
        return Told(number, request.purpose, members, fitness, Statistics(trained=len(request.lanes)))

    def _state(self) -> Any:
        return {}

    def _restore(self, state: Any, individual: Callable[[str], Individual]) -> None:
        pass


SEARCH = FreshSearch
