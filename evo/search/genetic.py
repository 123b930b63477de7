"""The genetic algorithm, on paired instances.

One generation asks three times::

    search       elites of the last generation, and children of parents chosen by tournament, all train on the same
                 fresh instances; the mean quality ranks them
    retest       the best of them train on further fresh instances; the mean over both decides who stays (elite)
    selection    elites train on the campaign's fixed selection instances, which rank the hall of fame
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any

from evo.recipe.schema import Recipe
from evo.recipe.search_settings import Genetic
from evo.records import (
    Champion,
    Checkpoint,
    Fame,
    Individual,
    Purpose,
    Request,
    Results,
    Statistics,
    Told,
    trainings,
)
from evo.search.instances import instances
from evo.search.population import baselines, first_population, next_population
from evo.search.protocol import Bred, Search
from genomes.language.genome import Genome
from genomes.language.printer import show
from harness.result import mean_quality
from harness.task import Instance

HALL_OF_FAME = 10

Find = Callable[[str], Individual]


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
    ``newcomers``: known after the retest. ``asked``, ``trained``: lanes, before and after equal ones are joined.
    """

    stage: Purpose
    ranked: tuple[Individual, ...]
    fitness: tuple[float | None, ...]
    contenders: tuple[Individual, ...]
    qualities: tuple[tuple[float, ...], ...]
    baselines: dict[str, float | None]
    elites: tuple[Individual, ...] = ()
    newcomers: tuple[Individual, ...] = ()
    asked: int = 0
    trained: int = 0

    def state(self) -> dict[str, Any]:
        members = {key: [i.id for i in getattr(self, key)] for key in _MEMBERS}
        return {**{key: getattr(self, key) for key in _NUMBERS}, **members, "stage": self.stage.value}

    @classmethod
    def restored(cls, state: dict[str, Any], find: Find) -> _Generation:
        members = {key: tuple(map(find, state[key])) for key in _MEMBERS}
        numbers = {key: state[key] for key in _NUMBERS}
        numbers["fitness"], numbers["qualities"] = tuple(state["fitness"]), tuple(map(tuple, state["qualities"]))
        return cls(stage=Purpose(state["stage"]), **members, **numbers)


_MEMBERS = ("ranked", "contenders", "elites", "newcomers")
_NUMBERS = ("fitness", "qualities", "baselines", "asked", "trained")


class GeneticSearch(Search):
    """See the module's text."""

    def __init__(
        self,
        recipe: Recipe,
        checkpoint: Checkpoint | None = None,
        individual: Find | None = None,
        start: Sequence[Genome] = (),
    ) -> None:
        self._last = _Last()
        self._current: _Generation | None = None  # None: the next request breeds a generation
        self._bred: tuple[Individual, ...] = ()
        assert isinstance(recipe.search, Genetic)
        self._settings = recipe.search
        super().__init__(recipe, checkpoint, individual, start)

    def _ask(self, bred: Bred) -> Request:
        if self._current is None:
            self._bred = tuple(self._breed(bred))
            return self._request(Purpose.SEARCH, (*self._bred, *baselines(self.recipe, self.generation)))
        if self._current.stage is Purpose.RETEST:
            return self._request(Purpose.RETEST, self._current.contenders)
        return self._request(Purpose.SELECTION, self._to_select(self._current))

    def _tell(self, request: Request, results: Results) -> Told:
        told = Told(self.generation, request.purpose)
        if self._current is None:
            current = self._rank(request, results)
            fitness = dict(zip((i.hash for i in current.ranked), current.fitness, strict=True))
            told = replace(told, individuals=self._bred, fitness=tuple(fitness[i.hash] for i in self._bred))
            if current.stage is Purpose.SELECTION:
                current = self._choose(current, {})
        elif self._current.stage is Purpose.RETEST:
            current = self._choose(self._counted(self._current, request, self._current.contenders), results)
        else:
            current = self._counted(self._current, request, self._to_select(self._current))
            return replace(told, statistics=self._complete(current, results))
        if current.stage is Purpose.SELECTION and not self._to_select(current):
            return replace(told, statistics=self._complete(current, {}))
        self._current = current
        return told

    def _state(self) -> Any:
        return {"last": self._last.state(), "current": self._current and self._current.state()}

    def _restore(self, state: Any, individual: Find) -> None:
        self._last = _Last.restored(state["last"], individual)
        if state["current"]:
            self._current = _Generation.restored(state["current"], individual)

    # --- who takes part ----------------------------------------------------------------------------------------------

    def _breed(self, bred: Bred) -> list[Individual]:
        """The elites as they are, the champion of the hall of fame among them, then children by tournament."""
        if self.generation == 0:
            return first_population(self.recipe, self.start, bred)
        kept = list(self._last.elites)
        champion = self.hall_of_fame[0].individual if self.hall_of_fame else None
        if champion and kept and champion.hash not in {i.hash for i in kept}:
            kept[-1] = champion
        last = list(zip(self._last.population, self._last.fitness, strict=True))
        return next_population(self.recipe, self.generation, kept, last, self._settings.tournament, bred)

    def _to_select(self, current: _Generation) -> tuple[Individual, ...]:
        """Who trains on the selection instances: newcomers, and at first the baselines, so that reports can compare."""
        known = {fame.individual.hash for fame in self.hall_of_fame}
        new = tuple(i for i in current.newcomers if i.hash not in known)
        return new + (baselines(self.recipe, 0) if self.generation == 0 else ())

    def _instances(self, purpose: Purpose) -> list[Instance]:
        fixed = purpose is Purpose.SELECTION
        return instances(self.recipe, purpose, 0 if fixed else self.generation)

    def _request(self, purpose: Purpose, individuals: Sequence[Individual]) -> Request:
        return Request.crossed(purpose, individuals, self._instances(purpose), self.recipe.epochs)

    # --- who wins ----------------------------------------------------------------------------------------------------

    def _rank(self, request: Request, results: Results) -> _Generation:
        """The bred generation, ranked by its mean quality on the search instances."""
        chosen, epochs = self._instances(Purpose.SEARCH), self.recipe.epochs
        measured = baselines(self.recipe, self.generation)

        def quality(individual: Individual) -> float | None:
            return mean_quality(trainings(results, individual, chosen, epochs))

        fitness = {i.hash: quality(i) for i in self._bred}
        ranked = sorted(self._bred, key=lambda i: self._order(i, fitness[i.hash]))
        sound = _distinct(i for i in ranked if fitness[i.hash] is not None)
        contenders = sound[: self._settings.contenders]
        qualities = (trainings(results, i, chosen, epochs) for i in contenders)
        retest = bool(contenders and self._instances(Purpose.RETEST))
        return _Generation(
            stage=Purpose.RETEST if retest else Purpose.SELECTION,
            ranked=tuple(ranked),
            fitness=tuple(fitness[i.hash] for i in ranked),
            contenders=tuple(contenders),
            qualities=tuple(tuple(t.quality for t in trained if t.quality is not None) for trained in qualities),
            baselines={b.name: quality(b) for b in measured},
            asked=len(chosen) * (len(self._bred) + len(measured)),
            trained=len(request.lanes),
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

    def _complete(self, current: _Generation, selected: Results) -> Statistics:
        """Enter the newcomers in the hall of fame and close the generation."""
        known = {fame.individual.hash for fame in self.hall_of_fame}
        famous, chosen = list(self.hall_of_fame), self._instances(Purpose.SELECTION)
        for individual in current.newcomers:
            if individual.hash not in known:
                quality = mean_quality(trainings(selected, individual, chosen, self.recipe.epochs))
                if quality is not None:
                    famous.append(Fame(individual, quality, self.generation))
        self.hall_of_fame = _best_of(famous)
        self._last = _Last(current.ranked, current.fitness, current.elites)
        self._current = None
        self.generation += 1
        return self._statistics(current)

    def _order(self, individual: Individual, quality: float | None) -> tuple:
        """Sort key, best first: quality less parsimony, the diverged last; ties go to the smaller, then the earlier."""
        size = individual.genome.size
        if quality is None:
            return 1, 0.0, size, individual.index
        return 0, -(quality - self._settings.parsimony * size), size, individual.index

    def _counted(self, current: _Generation, request: Request, individuals: Sequence[Individual]) -> _Generation:
        asked = len(individuals) * len(request.instances)
        return replace(current, asked=current.asked + asked, trained=current.trained + len(request.lanes))

    def _statistics(self, current: _Generation) -> Statistics:
        qualities = [quality for quality in current.fitness if quality is not None]
        return Statistics(
            best=max(qualities, default=None),
            median=median(qualities) if qualities else None,
            mean=fmean(qualities) if qualities else None,
            worst=min(qualities, default=None),
            diverged=len(current.fitness) - len(qualities),
            distinct=len({i.hash for i in current.ranked}),
            trained=current.trained,
            saved=current.asked - current.trained,
            baselines=current.baselines,
            selection_best=self.hall_of_fame[0].quality if self.hall_of_fame else None,
            champion=champion(self.hall_of_fame),
        )


def champion(hall_of_fame: Sequence[Fame]) -> Champion | None:
    """The first of the hall of fame, with its direction written out."""
    if not hall_of_fame:
        return None
    best = hall_of_fame[0]
    terms = best.individual.genome.terms
    text = " + ".join(f"{t.weight:g} * ({show(t.expr)})" if t.weight != 1 else show(t.expr) for t in terms)
    return Champion(best.individual.id, best.individual.name, best.quality, text)


def _distinct(individuals: Iterable[Individual]) -> list[Individual]:
    """The first of each program, in order."""
    first: dict[str, Individual] = {}
    for individual in individuals:
        first.setdefault(individual.hash, individual)
    return list(first.values())


def _best_of(famous: Sequence[Fame]) -> tuple[Fame, ...]:
    """The best by selection quality, one entry per program; of equals, those that were there before."""
    first: dict[str, Fame] = {}
    for fame in famous:
        first.setdefault(fame.individual.hash, fame)
    return tuple(sorted(first.values(), key=lambda fame: -fame.quality)[:HALL_OF_FAME])


SEARCH = GeneticSearch
