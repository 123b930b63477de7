"""Regularized evolution: the oldest die, and not the worst, so that who is merely lucky does not stay.

One generation is as many cycles as it has children, all of which see the same living individuals, as with so many
workers: a tournament among a sample of the living chooses a parent; its mutant joins them; the oldest dies. There is no
crossover. The best children of a generation pass a funnel of tasks, as far as fresh instances make one: those of the
search, those of the retest, and for the best of all those of the gate.

The search may begin anew now and then, in turn from the founders and from the best so far; what died in between is
remembered by the hall of fame alone.

Sources: Real et al. (2019), "Regularized evolution for image classifier architecture search", arXiv:1802.01548,
algorithm 1 (100 individuals, tournaments of 25); Chen et al. (2023), "Symbolic discovery of optimization algorithms",
arXiv:2302.06675, for mutants of known optimizers, restarts and the funnel.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import Any

from evo.recipe.schema import Recipe
from evo.recipe.search_settings import RegularizedEvolution
from evo.records import Individual, Purpose, Request, Results
from evo.search.generational import Generational
from evo.search.instances import instances
from evo.search.protocol import Bred, Find, Step


class Aging(Generational):
    """See the module's text. The population: the living, oldest first."""

    def __init__(self, recipe: Recipe, *arguments: Any, **options: Any) -> None:
        assert isinstance(recipe.search, RegularizedEvolution)
        self._settings = recipe.search
        self._finalists: tuple[Individual, ...] = ()  # that are to train on the retest instances
        super().__init__(recipe, *arguments, **options)

    def _ask(self, bred: Bred) -> Request:
        if not self._finalists:
            return super()._ask(bred)
        fresh = instances(self.recipe, Purpose.RETEST, self.generation)
        return Request.crossed(Purpose.RETEST, self._finalists, fresh, self.recipe.epochs)

    def _tell(self, request: Request, results: Results) -> Step:
        if self._finalists:
            self._finalists = ()
            return Step(complete=True)
        step = super()._tell(request, results)
        able = [i for i in step.individuals if self._estimate(i)]
        if able and self.recipe.instances.retest:
            self._finalists = self._best(able, math.ceil(self._settings.funnel * len(step.individuals)))
        return Step(step.individuals, step.fitness, complete=not self._finalists)

    def _breed(self, bred: Bred) -> Sequence[Individual]:
        return self._children(lambda rng, _: [self._parent(rng)], self._settings.children, bred, crossover=0.0)

    def _parent(self, rng: random.Random) -> Individual:
        sample = rng.choices(self._population, k=max(1, round(self._settings.sample * len(self._population))))
        return max(sample, key=lambda i: found.mean if (found := self._estimate(i)) else -math.inf)

    def _again(self, born: Sequence[Individual]) -> Iterable[Individual]:
        return ()

    def _survivors(self, born: Sequence[Individual]) -> Sequence[Individual]:
        living = (*self._population, *born)
        every = self._settings.restart
        if every and self.generation % every == every - 1:
            from_founders = (self.generation // every) % 2 == 0
            best = [fame.individual for fame in self.hall_of_fame[:1]]
            living = tuple(filter(self._estimate, self._founders if from_founders else best)) or living
        return living[-self.recipe.population :]

    def _state(self) -> Any:
        return {**super()._state(), "finalists": [i.id for i in self._finalists]}

    def _restore(self, state: Any, individual: Find) -> None:
        super()._restore(state, individual)
        self._finalists = tuple(map(individual, state["finalists"]))


SEARCH = Aging
