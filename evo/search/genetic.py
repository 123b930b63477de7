"""The genetic algorithm, on paired instances.

One generation asks three times::

    search       elites of the last generation, and children of parents chosen by tournament, all train on the same
                 fresh instances; the mean quality ranks them
    retest       the best of them train on further fresh instances; the mean over both decides who stays (elite)
    selection    elites train on the campaign's fixed selection instances

Without a gate (``gate.instances: 0``) the mean over the selection instances alone ranks the hall of fame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from deap import base, tools

from evo.randomness import generator, global_random
from evo.recipe.schema import Recipe
from evo.recipe.search_settings import Genetic
from evo.records import Estimate, Fame, Individual, Purpose, Request, Results, trainings
from evo.search.breeding import first_generation, new_child
from evo.search.instances import instances
from evo.search.protocol import HALL_OF_FAME, Bred, Find, Search, Step, distinct
from harness.result import mean_quality
from harness.task import Instance


@dataclass(frozen=True)
class _Last:
    """The last complete generation: its individuals, best first, their mean qualities, and who passed the retest."""

    population: tuple[Individual, ...] = ()
    fitness: tuple[float | None, ...] = ()
    elites: tuple[Individual, ...] = ()

    def state(self) -> dict[str, Any]:
        ids = [[i.id for i in members] for members in (self.population, self.elites)]
        return {"population": ids[0], "fitness": list(self.fitness), "elites": ids[1]}

    @classmethod
    def restored(cls, state: dict[str, Any], find: Find) -> _Last:
        population, elites = (tuple(map(find, state[key])) for key in ("population", "elites"))
        return cls(population, tuple(state["fitness"]), elites)


@dataclass(frozen=True)
class _Generation:
    """A generation whose individuals are ranked. ``stage``: the purpose of its next request.

    ``ranked``: best first, with ``fitness``. ``contenders``: with their qualities ``[search instance]``. ``elites``,
    ``newcomers``: known after the retest.
    """

    stage: Purpose
    ranked: tuple[Individual, ...]
    fitness: tuple[float | None, ...]
    contenders: tuple[Individual, ...]
    qualities: tuple[tuple[float, ...], ...]
    elites: tuple[Individual, ...] = ()
    newcomers: tuple[Individual, ...] = ()

    def state(self) -> dict[str, Any]:
        members = {key: [i.id for i in getattr(self, key)] for key in _MEMBERS}
        return {"fitness": self.fitness, "qualities": self.qualities, **members, "stage": self.stage.value}

    @classmethod
    def restored(cls, state: dict[str, Any], find: Find) -> _Generation:
        members = {key: tuple(map(find, state[key])) for key in _MEMBERS}
        qualities = tuple(map(tuple, state["qualities"]))
        return cls(stage=Purpose(state["stage"]), fitness=tuple(state["fitness"]), qualities=qualities, **members)


_MEMBERS = ("ranked", "contenders", "elites", "newcomers")


class GeneticSearch(Search):
    """See the module's text."""

    def __init__(self, recipe: Recipe, *arguments: Any, **options: Any) -> None:
        self._last = _Last()
        self._current: _Generation | None = None  # None: the next request breeds a generation
        self._bred: tuple[Individual, ...] = ()
        self._selected: tuple[Fame, ...] = ()  # by their mean over the selection instances, best first
        assert isinstance(recipe.search, Genetic)
        self._settings = recipe.search
        super().__init__(recipe, *arguments, **options)

    def _ask(self, bred: Bred) -> Request:
        if self._current is None:
            self._bred = self._joined(self._breed(bred))
            return self._request(Purpose.SEARCH, self._bred)
        if self._current.stage is Purpose.RETEST:
            return self._request(Purpose.RETEST, self._current.contenders)
        return self._request(Purpose.SELECTION, self._to_select(self._current))

    def _tell(self, request: Request, results: Results) -> Step:
        step = Step()
        if self._current is None:
            current = self._ranked(results)
            fitness = dict(zip((i.hash for i in current.ranked), current.fitness, strict=True))
            step = Step(self._bred, tuple(fitness[i.hash] for i in self._bred))
            if current.stage is Purpose.SELECTION:
                current = self._choose(current, {})
        elif self._current.stage is Purpose.RETEST:
            current = self._choose(self._current, results)
        else:
            self._complete(self._current, results)
            return replace(step, complete=True)
        if current.stage is Purpose.SELECTION and not self._to_select(current):
            self._complete(current, {})
            return replace(step, complete=True)
        self._current = current
        return step

    def _living(self) -> Iterable[Individual]:
        return self._last.elites

    def _state(self) -> Any:
        selected = [
            (f.individual.id, f.estimate.mean, f.estimate.sd, f.estimate.count, f.since) for f in self._selected
        ]
        return {"last": self._last.state(), "current": self._current and self._current.state(), "selected": selected}

    def _restore(self, state: Any, individual: Find) -> None:
        self._last = _Last.restored(state["last"], individual)
        if state["current"]:
            self._current = _Generation.restored(state["current"], individual)
        self._selected = tuple(
            Fame(individual(id), Estimate(mean, sd, count), since) for id, mean, sd, count, since in state["selected"]
        )

    # --- who takes part ----------------------------------------------------------------------------------------------

    def _breed(self, bred: Bred) -> list[Individual]:
        """The elites as they are, the champion among them, then children of parents chosen by tournament."""
        if self.generation == 0:
            return first_generation(self.breeder, self.start, bred)
        kept = list(self._last.elites)
        champion = self.hall_of_fame[0].individual if self.hall_of_fame else None
        if champion and kept and champion.hash not in {i.hash for i in kept}:
            kept[-1] = champion
        population = [
            Individual(self.generation, i, parent.genome, parent.hash, (parent.id,), "elite")
            for i, parent in enumerate(kept)
        ]
        seen = {parent.hash for parent in kept}
        pool = [_Candidate(*member) for member in zip(self._last.population, self._last.fitness, strict=True)]
        while len(population) < self.recipe.population:
            bred(len(population), self.recipe.population)
            rng = generator(self.recipe.seed, self.generation, len(population), "tournament")
            with global_random(rng):
                chosen = tools.selTournament(pool, 2, self._settings.tournament)
            parents = [candidate.individual for candidate in chosen]
            population.append(new_child(self.breeder, self.generation, len(population), parents, seen))
        bred(len(population), self.recipe.population)
        return population

    def _to_select(self, current: _Generation) -> tuple[Individual, ...]:
        """Who trains on the selection instances: those that have not yet."""
        known = {fame.individual.hash for fame in self._selected}
        return tuple(i for i in current.newcomers if i.hash not in known)

    def _instances(self, purpose: Purpose) -> list[Instance]:
        fixed = purpose is Purpose.SELECTION
        return instances(self.recipe, purpose, 0 if fixed else self.generation)

    def _request(self, purpose: Purpose, individuals: Sequence[Individual]) -> Request:
        return Request.crossed(purpose, individuals, self._instances(purpose), self.recipe.epochs)

    # --- who wins ----------------------------------------------------------------------------------------------------

    def _ranked(self, results: Results) -> _Generation:
        """The bred generation, ranked by its mean quality on the search instances."""
        chosen, epochs = self._instances(Purpose.SEARCH), self.recipe.epochs
        fitness = {i.hash: mean_quality(trainings(results, i, chosen, epochs)) for i in self._bred}
        ranked = sorted(self._bred, key=lambda i: self._order(i, fitness[i.hash]))
        sound = distinct(i for i in ranked if fitness[i.hash] is not None)
        contenders = sound[: self._settings.contenders]
        qualities = (trainings(results, i, chosen, epochs) for i in contenders)
        retest = bool(contenders and self._instances(Purpose.RETEST))
        return _Generation(
            stage=Purpose.RETEST if retest else Purpose.SELECTION,
            ranked=tuple(ranked),
            fitness=tuple(fitness[i.hash] for i in ranked),
            contenders=tuple(contenders),
            qualities=tuple(tuple(t.quality for t in trained if t.quality is not None) for trained in qualities),
        )

    def _choose(self, current: _Generation, retested: Results) -> _Generation:
        """The elites: the best contenders by their mean over search and retest instances."""
        chosen, contenders, proven = self._instances(Purpose.RETEST), current.contenders, {}
        for individual, qualities in zip(contenders, current.qualities, strict=True):
            again = trainings(retested, individual, chosen, self.recipe.epochs) if retested else []
            failed = again and mean_quality(again) is None
            both = [*qualities, *(t.quality for t in again if t.quality is not None)]
            proven[individual.hash] = None if failed else fmean(both)
        if retested:
            contenders = tuple(sorted(contenders, key=lambda i: self._order(i, proven[i.hash])))
        elites = tuple(i for i in contenders if proven[i.hash] is not None)[: self._settings.elites]
        return replace(current, stage=Purpose.SELECTION, elites=elites, newcomers=elites or contenders[:1])

    def _complete(self, current: _Generation, results: Results) -> None:
        """Rank the newcomers by the selection instances and close the generation."""
        known = {fame.individual.hash for fame in self._selected}
        selected = list(self._selected)
        for individual in distinct(i for i in current.newcomers if i.hash not in known):
            found = trainings(results, individual, self._instances(Purpose.SELECTION), self.recipe.epochs)
            if mean_quality(found) is not None:
                qualities = [training.quality for training in found if training.quality is not None]
                spread = stdev(qualities) / len(qualities) ** 0.5 if len(qualities) > 1 else 0.0
                selected.append(Fame(individual, Estimate(fmean(qualities), spread, len(qualities)), self.generation))
        self._selected = tuple(sorted(selected, key=lambda fame: -fame.estimate.mean)[:HALL_OF_FAME])
        self._last = _Last(current.ranked, current.fitness, current.elites)
        self._current = None

    def _rank(self) -> bool:
        if self.recipe.gate.instances:
            return super()._rank()
        self.hall_of_fame = self._selected
        return True

    def _order(self, individual: Individual, quality: float | None) -> tuple:
        """Sort key, best first: quality less parsimony, the failed last; ties go to the smaller, then the earlier."""
        size = individual.genome.size
        if quality is None:
            return 1, 0.0, size, individual.index
        return 0, -(quality - self._settings.parsimony * size), size, individual.index


class _Quality(base.Fitness):
    weights = (1.0,)


@dataclass
class _Candidate:
    """An individual as DEAP's selection sees it. A failed one has no quality and loses every tournament."""

    individual: Individual
    fitness: Any

    def __init__(self, individual: Individual, quality: float | None) -> None:
        self.individual = individual
        self.fitness = _Quality((float("-inf") if quality is None else quality,))


SEARCH = GeneticSearch
