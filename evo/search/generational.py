"""Searches whose generations train once: newcomers, and those who train again beside them, on fresh instances."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from evo.randomness import generator
from evo.recipe.schema import Recipe
from evo.records import Individual, Purpose, Request, Results
from evo.search.breeding import first_generation, new_child
from evo.search.instances import instances
from evo.search.protocol import Bred, Find, Search, Step

Parents = Callable[[random.Random, int], Sequence[Individual]]  # of the child of this index


class Generational(Search):
    """A subclass says who comes, who trains again, and who stays."""

    def __init__(self, recipe: Recipe, *arguments: Any, **options: Any) -> None:
        self._population: tuple[Individual, ...] = ()
        self._bred: tuple[Individual, ...] = ()
        super().__init__(recipe, *arguments, **options)

    @abstractmethod
    def _breed(self, bred: Bred) -> Sequence[Individual]:
        """The newcomers of a generation after the first. Changes nothing."""

    @abstractmethod
    def _survivors(self, born: Sequence[Individual]) -> Sequence[Individual]:
        """The next population, once ``born`` have trained."""

    def _first(self, bred: Bred) -> Sequence[Individual]:
        """The newcomers of the first generation. Changes nothing."""
        return first_generation(self.breeder, self.start, bred)

    def _again(self, born: Sequence[Individual]) -> Iterable[Individual]:
        """Who trains again beside ``born``: by default all the population, whose evidence grows while it lives."""
        return self._population

    def _children(self, parents: Parents, count: int, bred: Bred, crossover: float | None = None) -> list[Individual]:
        """``count`` children, each with parents of its own; see `evo.search.breeding.new_child`."""
        seen, children = self._trained, list[Individual]()
        while len(children) < count:
            bred(len(children), count)
            index = len(children)
            rng = generator(self.recipe.seed, self.generation, index, "parents")
            chosen = parents(rng, index)
            children.append(new_child(self.breeder, self.generation, index, chosen, seen, crossover))
        bred(count, count)
        return children

    def _ask(self, bred: Bred) -> Request:
        self._bred = self._joined(self._breed(bred) if self.generation else self._first(bred))
        fresh = instances(self.recipe, Purpose.SEARCH, self.generation)
        members = (*self._bred, *self._again(self._bred))
        return Request.crossed(Purpose.SEARCH, members, fresh, self.recipe.epochs)

    def _tell(self, request: Request, results: Results) -> Step:
        self._population = tuple(self._survivors(self._bred))
        return Step(self._bred, self._fitness(self._bred), complete=True)

    def _living(self) -> Iterable[Individual]:
        return self._population

    def _state(self) -> Any:
        return {"population": [i.id for i in self._population]}

    def _restore(self, state: Any, individual: Find) -> None:
        self._population = tuple(map(individual, state["population"]))
