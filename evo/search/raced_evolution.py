"""Evolution by races: structure and constants, on islands, with the evidence of the whole campaign.

One generation::

    breed     on every island, children of parents chosen by tournament among its members, by their estimates; of
              several proposed the one with the best draw from what their traits promise (`evo.search.surrogate`);
              other children are samples of a strategy on the numbers of the best structures (`evo.search.tuning`)
    race      all children train on a first block of instances, one of each depth; then, again and again, the half of
              those in the race that is most likely to matter trains on a further block: children and members together,
              by draws from what is known of them
    survive   the best of an island's members and children, by their estimates, live on, unless they are too old
    migrate   now and then the best of an island joins the next one

Operators of variation whose children beat their parents are chosen more often. Tuning gets the more children the later
in the campaign, and the more often the best of a generation come from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evo.randomness import generator
from evo.recipe.schema import Recipe
from evo.recipe.search_settings import RacedEvolution
from evo.records import Individual, Purpose, Request, Results
from evo.search.breeding import first_generation, new_child
from evo.search.instances import block, block_size
from evo.search.protocol import Bred, Find, Search, Step
from evo.search.surrogate import Probe, Surrogate, fit
from evo.search.tuning import SAMPLES, TUNED, Tuning
from evo.search.variation.registry import OPERATORS

_STEP = 1.0  # of tuning
_RESTING = 8  # most tunings that are kept while they rest
_FORGET = 0.9  # of credit, per generation
_REMEMBERED = 400  # genomes that the surrogate learns from, beside the living
_BEST = 3  # of a generation, whose origin is credited


@dataclass(frozen=True)
class _Race:
    """A race under way. ``children``: by island. ``round``: blocks trained. ``tuned``: children's indices by tuning."""

    children: tuple[tuple[Individual, ...], ...]
    round: int = 0
    tuned: tuple[tuple[int, ...], ...] = ()
    finalists: int = 0

    @property
    def all(self) -> list[Individual]:
        """The children of all islands."""
        return [child for island in self.children for child in island]


class Raced(Search):
    """See the module's text."""

    def __init__(self, recipe: Recipe, *arguments: Any, **options: Any) -> None:
        assert isinstance(recipe.search, RacedEvolution)
        self._settings = recipe.search
        self._islands: tuple[tuple[Individual, ...], ...] = ((),) * recipe.search.islands
        self._race: _Race | None = None
        self._next: _Race | None = None  # bred, and not told yet
        self._tunings: tuple[Tuning, ...] = ()
        self._resting: tuple[Tuning, ...] = ()  # tunings of structures that were among the best before
        self._room = 0.0  # for samples of tunings, saved over generations until a round fits
        self._credits: dict[str, tuple[float, float]] = {}  # operator -> children, and those that beat their parents
        self._trained_last: tuple[Individual, ...] = ()  # oldest first
        self._probes: dict[str, Probe] = {}  # by id, of those that the surrogate learned from last
        self._earned = (0.0, 0.0)  # how many of generations' best came from tuning, and from the other operators
        super().__init__(recipe, *arguments, **options)

    # --- ask ---------------------------------------------------------------------------------------------------------

    def _ask(self, bred: Bred) -> Request:
        if self._race is None:
            self._next = self._breed(bred)
            return self._block(self._next.all, 0)
        return self._block(self._fastest(self._race), self._race.round)

    def _along(self) -> Sequence[Individual]:
        """The baselines, while only children train; later members do."""
        return () if self._race else self.baselines

    def _block(self, individuals: Iterable[Individual], number: int) -> Request:
        size = block_size(self.recipe, self.recipe.instances.search)
        fresh = block(self.recipe, Purpose.SEARCH, size, self.generation, number)
        return Request.crossed(Purpose.SEARCH, individuals, fresh, self.recipe.epochs)

    @property
    def _rounds(self) -> int:
        return max(1, self.recipe.instances.search // block_size(self.recipe, self.recipe.instances.search))

    def _fastest(self, race: _Race) -> list[Individual]:
        """Who trains on the next block: those who came first in one draw of all qualities from what is known."""
        entered = {i.hash: i for i in (*race.all, *self._living()) if self._estimate(i)}
        rng = generator(self.recipe.seed, self.generation, race.round, "race")
        drawn = {hash: self._drawn(i, rng) for hash, i in entered.items()}
        count = max(2, round(len(race.all) * self._settings.keep**race.round))
        return [entered[hash] for hash in sorted(entered, key=lambda hash: -drawn[hash])[:count]]

    def _drawn(self, individual: Individual, rng: Any) -> float:
        found = self._estimate(individual)
        return rng.gauss(found.mean, found.sd) if found else float("-inf")

    # --- breed -------------------------------------------------------------------------------------------------------

    def _breed(self, bred: Bred) -> _Race:
        if self.generation:
            return self._children(bred)
        return _Race(self._dealt(self._joined(first_generation(self.breeder, self.start, bred))))

    def _children(self, bred: Bred) -> _Race:
        recipe, seen = self.recipe, self._trained
        children: list[Individual] = []
        tuned: list[tuple[int, ...]] = []
        for tuning in self._tunings:
            first = len(children)
            for child in tuning.individuals(self.breeder, self.generation, first):
                children.append(child)
                bred(len(children), recipe.population)
            tuned.append(tuple(range(first, len(children))))
        weights = self._weights()
        known = self._known() if self._settings.proposals > 1 else []
        probes = {i.id: self._probes.get(i.id) or self.breeder.probe(i.genome) for i in known}
        surrogate = self._surrogate(known, probes)
        while len(children) < recipe.population:
            bred(len(children), recipe.population)
            child = self._child(len(children), seen, weights, surrogate)
            seen.add(child.hash)
            children.append(child)
        bred(len(children), recipe.population)
        self._probes = probes
        return _Race(self._dealt(self._joined(children)), tuned=tuple(tuned))

    def _child(
        self, index: int, seen: set[str], weights: Mapping[str, float], surrogate: Surrogate | None
    ) -> Individual:
        """The proposal that promises most, in one draw of each."""
        recipe, island = self.recipe, self._islands[index % len(self._islands)]
        proposals: dict[str, Individual] = {}
        for proposal in range(self._settings.proposals if surrogate else 1):
            rng = generator(recipe.seed, self.generation, index, "tournament", proposal)
            parents = [self._parent(island, rng) for _ in range(2)]
            child = new_child(
                self.breeder, self.generation, index, parents, set(seen), weights=weights, proposal=proposal
            )
            proposals.setdefault(child.hash, child)
        if surrogate is None or len(proposals) == 1:
            return next(iter(proposals.values()))
        rng = generator(recipe.seed, self.generation, index, "proposal")
        promise = {
            hash: rng.gauss(*surrogate.predict(self.breeder.traits(child.genome, self.breeder.probe(child.genome))))
            for hash, child in proposals.items()
            if hash not in seen
        }
        return proposals[max(promise, key=promise.__getitem__, default=next(iter(proposals)))]

    def _known(self) -> list[Individual]:
        """The living ones, and those that were trained last, one of each program."""
        return list({i.hash: i for i in (*self._living(), *self._trained_last) if self._estimate(i)}.values())

    def _surrogate(self, known: Sequence[Individual], probes: Mapping[str, Probe]) -> Surrogate | None:
        """What the known ones say of others. ``probes``: by id."""
        return fit(
            [
                (self.breeder.traits(i.genome, probes[i.id]), found)
                for i in known
                if (found := self._estimate(i)) is not None
            ]
        )

    def _dealt(self, individuals: Sequence[Individual]) -> tuple[tuple[Individual, ...], ...]:
        """The individuals on the islands, in turn."""
        count = len(self._islands)
        return tuple(tuple(individuals[island::count]) for island in range(count))

    def _parent(self, island: Sequence[Individual], rng: Any) -> Individual:
        drawn = rng.sample(range(len(island)), min(self._settings.tournament, len(island)))
        return max((island[i] for i in drawn), key=lambda i: self._mean(i) if self._estimate(i) else -math.inf)

    def _weights(self) -> Mapping[str, float]:
        """The recipe's frequencies of operators, times how often each one's children beat their parents."""
        given = self.recipe.variation.weights
        usual = {name: given.get(name, operator.weight) for name, operator in OPERATORS.items()}
        if not self._settings.credit or not self._credits:
            return usual
        tried, better = (sum(values) for values in zip(*self._credits.values(), strict=True))
        base = (better + 1) / (tried + 2)

        def rate(name: str) -> float:
            tried, better = self._credits.get(name, (0.0, 0.0))
            return (better + 4 * base) / (tried + 4)

        return {name: weight * rate(name) / base for name, weight in usual.items()}

    # --- tell --------------------------------------------------------------------------------------------------------

    def _tell(self, request: Request, results: Results) -> Step:
        step = Step()
        if self._race is None:
            assert self._next is not None, "asked before told"
            race = self._next
            born = sorted(race.all, key=lambda i: i.index)
            step = Step(tuple(born), self._fitness(born))
        else:
            race = replace(self._race, finalists=len(request.lanes) // len(request.instances))
        race = replace(race, round=race.round + 1)
        if race.round < self._rounds and any(map(self._estimate, race.all)):
            self._race = race
            return step
        self._race = self._next = None
        self._finish(race)
        return replace(step, complete=True, dismissed=max(0, len(race.all) - race.finalists) if race.round > 1 else 0)

    def _finish(self, race: _Race) -> None:
        self._give_credit(race)
        self._trained_last = (*self._trained_last, *sorted(race.all, key=lambda i: i.index))[-_REMEMBERED:]
        size = max(2, round(self._settings.members * self.recipe.population / len(self._islands)))
        young = self.generation - self._settings.age
        self._islands = tuple(
            self._best([i for i in (*members, *children) if i.generation > young], size, self._settings.parsimony)
            for members, children in zip(self._islands, race.children, strict=True)
        )
        if len(self._islands) > 1 and self.generation % self._settings.migration == self._settings.migration - 1:
            leaders = [island[:1] for island in self._islands]
            self._islands = tuple(
                self._best([*island, *leaders[i - 1]], size, self._settings.parsimony)
                for i, island in enumerate(self._islands)
            )
        self._tune(race)

    def _give_credit(self, race: _Race) -> None:
        parents = {i.id: i for i in (*self._living(), *race.all, *self._founders)}
        credit = {name: (tried * _FORGET, better * _FORGET) for name, (tried, better) in self._credits.items()}
        for child in race.all:
            if child.parents and child.operator != TUNED:
                own = self._estimate(child)
                known = [found for id in child.parents if id in parents and (found := self._estimate(parents[id]))]
                better = own is not None and all(own.mean > found.mean for found in known)
                tried, count = credit.get(child.operator, (0.0, 0.0))
                credit[child.operator] = tried + 1, count + better
        self._credits = dict(sorted(credit.items()))  # sums are in this order, before and after a checkpoint

    # --- tune --------------------------------------------------------------------------------------------------------

    def _tune(self, race: _Race) -> None:
        """Tell the tunings what their samples were worth; those of the best structures go on, or begin."""
        by_index, seed, population = (
            {child.index: child for child in race.all},
            self.recipe.seed,
            self.recipe.population,
        )
        told = [
            tuning.tell(seed, self._fitness(by_index[i] for i in indices))
            for tuning, indices in zip(self._tunings, race.tuned, strict=True)
        ]
        known = {self.breeder.structure(t.owner.genome): t for t in (*self._resting, *told)}
        samples = min(SAMPLES, population)
        self._room = min(population, self._room + population * self._settings.tuning * self._tuning_share(race))
        chosen: dict[Any, Tuning] = {}
        for individual in self._best(self._living(), len(self._living())):
            structure = self.breeder.structure(individual.genome)
            start = self.breeder.coordinates(individual.genome)
            if self._room < samples:
                break
            if structure not in chosen and start and self._estimate(individual):
                chosen[structure] = known.pop(structure, None) or Tuning(individual, start, samples, _STEP)
                self._room -= samples
        self._tunings, self._resting = tuple(chosen.values()), tuple(known.values())[-_RESTING:]

    def _tuning_share(self, race: _Race) -> float:
        """How large a part of what tuning may take it has.

        By how far the campaign is, for structure comes first, and how often a generation's best come from tuning.
        """
        able = sorted((i for i in race.all if self._estimate(i)), key=self._mean, reverse=True)
        tuned, others = (value * _FORGET for value in self._earned)
        for child in able[:_BEST]:
            if child.parents and self._tunings:
                tuned, others = tuned + (child.operator == TUNED), others + (child.operator != TUNED)
        self._earned = tuned, others
        return self._progress * min(1.0, 2 * (tuned + 1) / (tuned + others + 2))

    @property
    def _progress(self) -> float:
        """How much of the campaign is over, from 0 to 1."""
        steps = self._lane_steps / self.recipe.lane_steps if self.recipe.lane_steps else 0.0
        return min(1.0, max(steps, self.generation / self.recipe.generations))

    # --- remember ----------------------------------------------------------------------------------------------------

    def _living(self) -> list[Individual]:
        return list({i.hash: i for island in self._islands for i in island}.values())

    def _state(self) -> Any:
        race = self._race
        return {
            "islands": [[i.id for i in island] for island in self._islands],
            "race": race
            and {
                "children": [[i.id for i in island] for island in race.children],
                "round": race.round,
                "tuned": [list(indices) for indices in race.tuned],
                "finalists": race.finalists,
            },
            "tunings": [tuning.state() for tuning in self._tunings],
            "resting": [tuning.state() for tuning in self._resting],
            "room": self._room,
            "trained_last": [i.id for i in self._trained_last],
            "probes": {id: list(probed) for id, probed in self._probes.items()},
            "earned": list(self._earned),
            "credits": {name: list(values) for name, values in self._credits.items()},
        }

    def _restore(self, state: Any, individual: Find) -> None:
        def found(islands: list[list[str]]) -> tuple[tuple[Individual, ...], ...]:
            return tuple(tuple(map(individual, island)) for island in islands)

        self._islands = found(state["islands"])
        if race := state["race"]:
            tuned = tuple(map(tuple, race["tuned"]))
            self._race = _Race(found(race["children"]), race["round"], tuned, race["finalists"])
        self._tunings, self._resting = (
            tuple(Tuning.restored(kept, individual(kept["owner"])) for kept in state[key])
            for key in ("tunings", "resting")
        )
        self._room = state["room"]
        self._trained_last = tuple(map(individual, state["trained_last"]))
        # ledgers of an earlier evo have none: they are found again
        self._probes = {id: tuple(probed) for id, probed in state.get("probes", {}).items()}
        self._earned = tuple(state["earned"])
        self._credits = {name: (tried, better) for name, (tried, better) in state["credits"].items()}


SEARCH = Raced
