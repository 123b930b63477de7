"""MAP-Elites: the best individual of each cell of a grid, operations per step against memory.

Memory is how far an optimizer's updates look back (`genomes.analysis.probe.Probe.memory`): it costs nothing, for every
genome is probed before it trains; no learning rate, schedule or scale of weights changes it much; and it tells the
families apart, from steepest descent (0) over its sign (0.2) and Adam (0.6) to long averages.

Parents are drawn evenly from the cells. They train again beside their children, for a cell whose elite is merely lucky
stays closed to better ones. The grid is filled anew from all elites in every generation, by what is known by then, so
that its state is its elites.

Sources: Mouret & Clune (2015), "Illuminating search spaces by mapping elites", arXiv:1504.04909; Tjanaka et al. (2023),
"pyribs: a bare-bones Python library for quality diversity optimization", whose GridArchive it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from evo.errors import UsageError
from evo.recipe.schema import Recipe
from evo.recipe.search_settings import RIBS_IS_MISSING, MapElites
from evo.records import Individual
from evo.search.generational import Generational
from evo.search.protocol import Bred, distinct

try:
    from ribs.archives import GridArchive
except ImportError:
    raise UsageError(f"search.algorithm: {RIBS_IS_MISSING}") from None

MOST_OPERATIONS = 256  # where the grid ends; costlier ones share its last cells


class Illumination(Generational):
    """See the module's text. The population: the elites, by cell."""

    def __init__(self, recipe: Recipe, *arguments: Any, **options: Any) -> None:
        assert isinstance(recipe.search, MapElites)
        self._settings = recipe.search
        super().__init__(recipe, *arguments, **options)

    def measures(self, individual: Individual) -> tuple[float, float]:
        """Where it stands in the grid: log2 of its operations per step, and its memory."""
        genome = individual.genome
        return math.log2(max(1, self.breeder.operations(genome))), self.breeder.memory(genome)

    def _breed(self, bred: Bred) -> Sequence[Individual]:
        return self._children(lambda rng, _: rng.choices(self._population, k=2), self.recipe.population, bred)

    def _again(self, born: Sequence[Individual]) -> Iterable[Individual]:
        drawn = {id for child in born for id in child.parents}
        return [elite for elite in self._population if elite.id in drawn]

    def _survivors(self, born: Sequence[Individual]) -> Sequence[Individual]:
        everyone = (*self._population, *born)
        able = [i for i in distinct(everyone) if self._estimate(i)]
        if not able:
            return everyone[: self.recipe.population]
        cells = (self._settings.cost_cells, self._settings.memory_cells)
        ranges = ((0.0, math.log2(MOST_OPERATIONS)), (0.0, 1.0))
        grid = GridArchive(solution_dim=1, dims=cells, ranges=ranges, dtype=float)
        grid.add([[k] for k in range(len(able))], [self._mean(i) for i in able], [self.measures(i) for i in able])
        cell, elite = grid.data("index"), grid.data("solution")
        return [able[int(elite[k, 0])] for k in cell.argsort()]


SEARCH = Illumination
