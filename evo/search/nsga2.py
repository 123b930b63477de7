"""NSGA-II: quality against operations per step and states, with a population that follows the front.

Parents are chosen by tournaments on dominance, then on crowding distance; of parents and children, the best fronts live
on. As many live on as the first front asks for: twice its size, within the bounds of the settings. The front trains
again beside the children: what stands in it must go on deserving it.

Sources: Deb et al. (2002), "A fast and elitist multiobjective genetic algorithm: NSGA-II", by DEAP's selNSGA2 and
selTournamentDCD; Tan, Lee & Khor (2001), "Evolutionary algorithms with dynamic population size and local exploration
for multiobjective optimization", for the size of the population.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from deap import base, tools

from evo.randomness import generator, global_random
from evo.recipe.schema import Recipe
from evo.recipe.search_settings import Nsga2
from evo.records import Individual
from evo.search.generational import Generational
from evo.search.protocol import Bred, Find, distinct

PER_FRONT = 2  # individuals that live on, per individual of the first front


class _Objectives(base.Fitness):
    weights = (1.0, -1.0, -1.0)


@dataclass
class _Candidate:
    """An individual as DEAP's selection sees it."""

    individual: Individual
    fitness: Any


class ParetoSearch(Generational):
    """See the module's text."""

    def __init__(self, recipe: Recipe, *arguments: Any, **options: Any) -> None:
        assert isinstance(recipe.search, Nsga2)
        self._settings = recipe.search
        self._front: tuple[Individual, ...] = ()
        super().__init__(recipe, *arguments, **options)

    def front(self) -> tuple[Individual, ...]:
        """The individuals than which no other is better in one objective and as good in all, best quality first."""
        return self._front

    def _breed(self, bred: Bred) -> Sequence[Individual]:
        count = self.recipe.population
        pool = self._candidates(self._population)
        if not pool:  # all have failed
            return self._children(lambda rng, _: rng.choices(self._population, k=2), count, bred)
        parents: list[Individual] = []
        with global_random(generator(self.recipe.seed, self.generation, "tournament")):
            pool = tools.selNSGA2(pool, len(pool))
            full = (pool * 4)[: -(-len(pool) // 4) * 4]  # a tournament draws four at a time
            while len(parents) < 2 * count:
                parents += [candidate.individual for candidate in tools.selTournamentDCD(full, len(full))]
        return self._children(lambda _, index: parents[2 * index : 2 * index + 2], count, bred)

    def _again(self, born: Sequence[Individual]) -> Iterable[Individual]:
        return self._front

    def _survivors(self, born: Sequence[Individual]) -> Sequence[Individual]:
        everyone = (*self._population, *born)
        candidates = self._candidates(everyone)
        if not candidates:
            self._front = ()
            return everyone[: self.recipe.population]
        first = tools.sortNondominated(candidates, len(candidates), first_front_only=True)[0]
        self._front = self._best([candidate.individual for candidate in first], len(first))
        least, most = (round(share * self.recipe.population) for share in (self._settings.least, self._settings.most))
        count = max(1, least, min(most, PER_FRONT * len(first)))
        return [candidate.individual for candidate in tools.selNSGA2(candidates, count)]

    def _candidates(self, individuals: Iterable[Individual]) -> list[_Candidate]:
        """Those that have an estimate, one of each program, with their objectives."""
        found = [(i, estimate) for i in distinct(individuals) if (estimate := self._estimate(i))]
        breeder = self.breeder
        return [
            _Candidate(i, _Objectives((known.mean, breeder.operations(i.genome), breeder.states(i.genome))))
            for i, known in found
        ]

    def _state(self) -> Any:
        return {**super()._state(), "front": [i.id for i in self._front]}

    def _restore(self, state: Any, individual: Find) -> None:
        super()._restore(state, individual)
        self._front = tuple(map(individual, state["front"]))


SEARCH = ParetoSearch
