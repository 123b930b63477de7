"""A (mu, lambda) evolution strategy: the best children are the next parents, and parents die.

Nobody lives on by luck; what the hall of fame knows stays there. Parents of a child are drawn evenly.

Source: Beyer & Schwefel (2002), "Evolution strategies: a comprehensive introduction"; lambda = 7 mu is theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from evo.recipe.schema import Recipe
from evo.recipe.search_settings import CommaSelection
from evo.records import Individual
from evo.search.generational import Generational
from evo.search.protocol import Bred


class CommaSelectionSearch(Generational):
    """See the module's text."""

    def __init__(self, recipe: Recipe, *arguments: Any, **options: Any) -> None:
        assert isinstance(recipe.search, CommaSelection)
        self._parents = recipe.search.parents
        super().__init__(recipe, *arguments, **options)

    def _breed(self, bred: Bred) -> Sequence[Individual]:
        return self._children(lambda rng, _: rng.choices(self._population, k=2), self.recipe.population, bred)

    def _again(self, born: Sequence[Individual]) -> Iterable[Individual]:
        return ()

    def _survivors(self, born: Sequence[Individual]) -> Sequence[Individual]:
        if self._population and not any(map(self._estimate, born)):
            return self._population  # all children have failed
        return self._best(born, self._parents)


SEARCH = CommaSelectionSearch
