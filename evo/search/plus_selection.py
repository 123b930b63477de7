"""A (mu + lambda) evolution strategy: the best of parents and children are the next parents.

Parents train again beside their children, so that all are ranked by what is known of them, and a lucky one does not
stay for good. Parents of a child are drawn evenly.

Source: Beyer & Schwefel (2002), "Evolution strategies: a comprehensive introduction".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evo.recipe.schema import Recipe
from evo.recipe.search_settings import PlusSelection
from evo.records import Individual
from evo.search.generational import Generational
from evo.search.protocol import Bred


class PlusSelectionSearch(Generational):
    """See the module's text."""

    def __init__(self, recipe: Recipe, *arguments: Any, **options: Any) -> None:
        assert isinstance(recipe.search, PlusSelection)
        self._parents = recipe.search.parents
        super().__init__(recipe, *arguments, **options)

    def _breed(self, bred: Bred) -> Sequence[Individual]:
        return self._children(lambda rng, _: rng.choices(self._population, k=2), self.recipe.population, bred)

    def _survivors(self, born: Sequence[Individual]) -> Sequence[Individual]:
        return self._best((*self._population, *born), self._parents)


SEARCH = PlusSelectionSearch
