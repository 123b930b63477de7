"""Random search: every generation is drawn anew, and nothing is learned but who is best.

It is what any search must beat: at equal budget, from the same founders, with the same evidence and the same gate.

Source: Bergstra & Bengio (2012), "Random search for hyper-parameter optimization".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from evo.randomness import generator
from evo.recipe.schema import Recipe
from evo.recipe.search_settings import RandomSearch
from evo.records import Individual
from evo.search.breeding import founders, new_child
from evo.search.generational import Generational
from evo.search.protocol import HALL_OF_FAME, Bred

DRAWN = "random_genome"  # the operator of individuals that no parent made, after the founders


class Random(Generational):
    """See the module's text. The population: the best so far, which have no part in what comes."""

    def __init__(self, recipe: Recipe, *arguments: Any, **options: Any) -> None:
        assert isinstance(recipe.search, RandomSearch)
        self._mutants = recipe.search.mutants
        super().__init__(recipe, *arguments, **options)

    def _first(self, bred: Bred) -> Sequence[Individual]:
        found = founders(self.breeder, self.start, bred)
        return [*found, *self._drawn(found, len(found), bred)]

    def _breed(self, bred: Bred) -> Sequence[Individual]:
        return self._drawn(self._founders, 0, bred)

    def _drawn(self, ancestors: Sequence[Individual], first: int, bred: Bred) -> list[Individual]:
        """Individuals from index ``first`` on, up to the size of the population."""
        recipe, seen = self.recipe, self._trained | {i.hash for i in ancestors}
        drawn: list[Individual] = []
        for index in range(first, recipe.population):
            bred(index, recipe.population)
            rng = generator(recipe.seed, self.generation, index, "random")
            if rng.random() < self._mutants:
                parents = [rng.choice(ancestors)]
                drawn.append(new_child(self.breeder, self.generation, index, parents, seen, crossover=0.0))
            else:
                genome = self.breeder.random(f"g{self.generation}i{index}", rng)
                drawn.append(self.breeder.individual(self.generation, index, genome, operator=DRAWN))
        bred(recipe.population, recipe.population)
        return drawn

    def _again(self, born: Sequence[Individual]) -> Iterable[Individual]:
        return ()

    def _survivors(self, born: Sequence[Individual]) -> Sequence[Individual]:
        return self._best((*self._population, *born), HALL_OF_FAME)


SEARCH = Random
