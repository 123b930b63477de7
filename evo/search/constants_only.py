"""An evolution strategy on the numbers of the founders, and of genomes that are added; structures stay as they are.

After the founders have trained, a generation is rounds of `evo.search.tuning`, each on the numbers of one founder, as
many as there is room for; all rounds are of one size. Those come first whose best individual is likely the best of all,
by a draw from what is known of it, and what its last round gained is taken to come once more: the budget goes to the
structure that earns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evo.randomness import generator
from evo.recipe.schema import Recipe
from evo.recipe.search_settings import ConstantsOnly
from evo.records import ADDED, Individual
from evo.search.breeding import founders
from evo.search.generational import Generational
from evo.search.protocol import Bred, Find
from evo.search.tuning import SAMPLES, Tuning


@dataclass(frozen=True)
class _Line:
    """A structure: its tuning, its best individual so far, and how much that rose in its last round."""

    tuning: Tuning
    best: Individual
    gain: float = 0.0


class ConstantsSearch(Generational):
    """See the module's text. The population: the best of each structure."""

    def __init__(self, recipe: Recipe, *arguments: Any, **options: Any) -> None:
        assert isinstance(recipe.search, ConstantsOnly)
        self._settings = recipe.search
        self._lines: tuple[_Line, ...] = ()
        self._rounds: tuple[tuple[int, tuple[int, ...]], ...] = ()  # line, and the places of its round's individuals
        super().__init__(recipe, *arguments, **options)

    def _first(self, bred: Bred) -> Sequence[Individual]:
        found = founders(self.breeder, self.start, bred)
        bred(len(found), len(found))
        self._rounds = ()
        return found

    def _breed(self, bred: Bred) -> Sequence[Individual]:
        born: list[Individual] = []
        rounds: list[tuple[int, tuple[int, ...]]] = []
        for number in self._order():
            tuning = self._lines[number].tuning
            if len(born) + tuning.samples > self.recipe.population:
                continue
            first = len(born)
            for individual in tuning.individuals(self.breeder, self.generation, first):
                born.append(individual)
                bred(len(born), self.recipe.population)
            rounds.append((number, tuple(range(first, len(born)))))
        bred(len(born), len(born))
        self._rounds = tuple(rounds)
        return born

    def _order(self) -> list[int]:
        """The structures, in the order in which they get a round."""
        rng = generator(self.recipe.seed, self.generation, "rounds")
        hopes = [self._hope(line, rng.gauss(0, 1)) for line in self._lines]
        return sorted(range(len(hopes)), key=lambda number: -hopes[number])

    def _hope(self, line: _Line, draw: float) -> float:
        found = self._estimate(line.best)
        return found.mean + draw * found.sd + line.gain if found else -math.inf

    def _again(self, born: Sequence[Individual]) -> Iterable[Individual]:
        return [self._lines[number].best for number, _ in self._rounds] if born else self._population

    def _survivors(self, born: Sequence[Individual]) -> Sequence[Individual]:
        if not self.generation:
            self._lines = tuple(self._begun(born))
        lines, added = list(self._lines), [i for i in born if i.operator == ADDED]
        for number, places in self._rounds:
            lines[number] = self._after(lines[number], [born[place] for place in places])
        if self.generation:
            lines += self._begun(added, lines[0].tuning.samples if lines else 0)
        self._lines, self._rounds = tuple(lines), ()
        return [*(line.best for line in lines), *added] or born or self._population

    def _begun(self, found: Sequence[Individual], samples: int = 0) -> list[_Line]:
        """A tuning for each structure among the founders or those added, from the best one's numbers on.

        ``samples``: of a round; 0: as many as the population has room for.
        """
        owners: dict[Any, Individual] = {}
        for founder in (*self._best(found, len(found)), *found):
            if self.breeder.coordinates(founder.genome):
                owners.setdefault(self.breeder.structure(founder.genome), founder)
        rounds = max(1, min(len(owners), self.recipe.population // SAMPLES))
        samples = samples or self.recipe.population // rounds
        return [
            _Line(Tuning(owner, self.breeder.coordinates(owner.genome), samples, self._settings.step), owner)
            for owner in owners.values()
        ]

    def _after(self, line: _Line, trained: Sequence[Individual]) -> _Line:
        """The line after a round."""
        tuning = line.tuning.tell(self.recipe.seed, self._fitness(trained))
        best = self._best((line.best, *trained), 1)[0]
        before, now = self._estimate(line.best), self._estimate(best)
        gain = now.mean - before.mean if now and before else 0.0
        return replace(line, tuning=tuning, best=best, gain=gain)

    def _state(self) -> Any:
        lines = [{"tuning": line.tuning.state(), "best": line.best.id, "gain": line.gain} for line in self._lines]
        return {**super()._state(), "lines": lines}

    def _restore(self, state: Any, individual: Find) -> None:
        super()._restore(state, individual)
        self._lines = tuple(
            _Line(
                Tuning.restored(line["tuning"], individual(line["tuning"]["owner"])),
                individual(line["best"]),
                line["gain"],
            )
            for line in state["lines"]
        )


SEARCH = ConstantsSearch
