"""What a search is: it asks for trainings and is told their results; it neither trains, stores nor prints.

An algorithm is a class of settings in `evo.recipe.search_settings` and a module of the same name in this package, whose
``SEARCH`` is a subclass of `Search`. Ask and tell take turns::

    search = algorithm(recipe)(recipe, checkpoint, individual, start, observations)
    while not search.ended:
        request = search.ask()    # where it begins a generation: after search.add(genomes), if any are to join
        told = search.tell(results_of(request.lanes))
        keep(told, search.checkpoint())

What all algorithms share is here: the baselines train along where an algorithm does not say otherwise, all results go
into one model (`evo.search.evidence`), a generation ends with a trial of the best challenger (`evo.search.gate`), and
the hall of fame has the champion first. Given the recipe, the checkpoint and the results, every draw is fixed: a search
that goes on from a checkpoint asks for what it would have asked for without the interruption.
"""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

from evo.recipe.schema import FIRST_LOOK, Recipe
from evo.records import (
    ADDED,
    Champion,
    Checkpoint,
    Estimate,
    Fame,
    Individual,
    Observation,
    Purpose,
    Request,
    Results,
    Statistics,
    Told,
    Trial,
)
from evo.search import gate
from evo.search.breeding import Breeder, baselines, is_founder
from evo.search.evidence import Evidence, fit
from evo.search.instances import block, block_size
from genomes.language.genome import Genome
from genomes.language.printer import show
from harness.result import finished_quality
from harness.task import TASKS, Instance
from harness.train import STEPS_PER_EPOCH

HALL_OF_FAME = 10
RIVALS = 3  # most individuals that a challenger must beat: the champion, and founders that may be as good
AS_GOOD = 0.2  # probability of being better than the champion from which on a founder is a rival

Bred = Callable[[int, int], None]  # told how many individuals of a generation are bred, and how many there are to be
Find = Callable[[str], Individual]


def _ignore(done: int, total: int) -> None:
    pass


class OrderError(RuntimeError):
    """``ask``, ``tell`` and ``checkpoint`` were called out of turn: a mistake in the calling program."""


@dataclass(frozen=True)
class Step:
    """What an algorithm made of results. ``individuals``: those that came into being, with what they are ranked by.

    ``complete``: the generation is over. ``dismissed``: individuals whose race has ended before its end.
    """

    individuals: tuple[Individual, ...] = ()
    fitness: tuple[float | None, ...] = ()
    complete: bool = False
    dismissed: int = 0


@dataclass(frozen=True)
class _Tally:
    """Counts of the generation under way. ``born``: hashes of its individuals."""

    born: tuple[str, ...] = ()
    dismissed: int = 0
    trained: int = 0
    lane_steps: int = 0
    trials: tuple[Trial, ...] = field(default=())


class Search(ABC):
    """A search under way. A subclass says what to ask, what to make of the answer, and what to remember.

    ``generation``: how many generations are complete. ``hall_of_fame``: the champion, then the others, best first.
    """

    def __init__(
        self,
        recipe: Recipe,
        checkpoint: Checkpoint | None = None,
        individual: Find | None = None,
        start: Sequence[Genome] = (),
        observations: Iterable[Observation] = (),
        breeder: Breeder | None = None,
    ) -> None:
        """Begin, or go on from ``checkpoint``. ``individual``: finds one by its id, for those that it names.

        ``start``: the genomes of ``recipe.start.genomes``, which the first generation needs; a search opens no files.
        ``observations``: of all results that the search was told before the checkpoint.
        """
        checkpoint = checkpoint or Checkpoint()
        self.recipe = recipe
        self.start = tuple(start)
        self.breeder = breeder or Breeder(recipe)
        self.baselines = baselines(self.breeder)
        self.generation: int = checkpoint.generation
        self.hall_of_fame: tuple[Fame, ...] = checkpoint.hall_of_fame
        self._asked: Request | None = None
        self._observed = {(o.hash, o.instance): o for o in observations}
        self._evidence: Evidence | None = None
        self._founders: tuple[Individual, ...] = ()
        self._trial: gate.UnderWay | None = None
        self._trials = 0
        self._failed_trials: frozenset[str] = frozenset()  # hashes of challengers
        self._tally = _Tally()
        self._lane_steps = 0  # of all trainings so far
        self._over = False  # the generation under way is over, but for the champion's share
        self._added: tuple[Genome, ...] = ()  # that join the generation which begins
        if checkpoint.state is not None:
            assert individual is not None, "a checkpoint names individuals by id"
            self._restore_common(checkpoint.state["common"], individual)
            self._restore(checkpoint.state["own"], individual)

    # --- ask and tell ------------------------------------------------------------------------------------------------

    @property
    def begins_generation(self) -> bool:
        """Whether the next request is the first of a generation."""
        return self._asked is None and self._trial is None and not self._over and self._tally == _Tally()

    def add(self, genomes: Iterable[Genome]) -> None:
        """Let genomes from outside join the generation that begins.

        They come beside its newcomers, change none of them, and are challengers as these. Raises OrderError within a
        generation.
        """
        if not self.begins_generation:
            raise OrderError("add() was called within a generation: wait until begins_generation is true")
        self._added += tuple(genomes)

    def ask(self, bred: Bred = _ignore) -> Request:
        """The trainings that the search wants next. Raises OrderError where the last ones were not told.

        ``bred``: called again and again while individuals are bred. What it raises ends the call; nothing has happened
        then, and the next ``ask`` wants the same. Raises ValueError where an algorithm breaks its promises, as does
        `tell`: a mistake of its author.
        """
        if self._asked is not None:
            raise OrderError("ask() was called twice: call tell(results) with the results of the last request first")
        if self._trial is not None:
            request = self._challenge(self._trial)
        else:
            request = self._switched_off() or self._ask(bred)
        if not request.lanes or len({lane.key for lane in request.lanes}) < len(request.lanes):
            raise ValueError("a request needs lanes, each of them once: see Request.crossed")
        lanes = {lane.key: lane for lane in request.lanes}
        along = () if self._trial or self._over else self._along()
        for lane in Request.crossed(request.purpose, along, request.instances, self.recipe.epochs).lanes:
            if (lane.hash, lane.key[1:]) not in self._observed:
                lanes.setdefault(lane.key, lane)
        self._asked = replace(request, lanes=tuple(lanes.values()))
        return self._asked

    def tell(self, results: Results) -> Told:
        """Take the results of the last request. Raises OrderError without one, KeyError where a result is missing."""
        if self._asked is None:
            raise OrderError("tell() was called without a request: call ask() first")
        request = self._asked
        answer = {lane.key: results[lane.key] for lane in request.lanes}
        self._observe(answer)
        told = Told(self.generation, request.purpose)
        if self._trial is not None:
            complete = self._judge(self._trial)
        elif request.purpose is Purpose.SHARE:
            complete = True
        else:
            step = self._tell(request, answer)
            if len(step.individuals) != len(step.fitness):
                raise ValueError("a step has a fitness for each individual")
            if sum(i.operator == ADDED for i in step.individuals) != len(self._added):
                raise ValueError("a step has the individuals of all genomes that were added: see Search._joined")
            self._added = ()
            told = replace(told, individuals=step.individuals, fitness=step.fitness)
            self._founders += tuple(filter(is_founder, step.individuals))
            born = (*self._tally.born, *(i.hash for i in step.individuals))
            self._tally = replace(self._tally, born=born, dismissed=self._tally.dismissed + step.dismissed)
            complete = step.complete and self._rank()
        self._over = complete
        if complete and self._switched_off() is None:
            self._over = False
            told = replace(told, statistics=self._statistics())
            self.generation += 1
            self._tally = _Tally()
        self._asked = None
        return told

    def checkpoint(self) -> Checkpoint:
        """From where to go on. Raises OrderError between ask and tell."""
        if self._asked is not None:
            raise OrderError("checkpoint() was called between ask() and tell(): call tell(results) first")
        return Checkpoint(self.generation, self.hall_of_fame, {"common": self._common_state(), "own": self._state()})

    @property
    def ended(self) -> bool:
        """Whether no generation follows the last complete one."""
        return self.recipe.ended(self.generation, self._lane_steps - self._tally.lane_steps)

    @property
    def evidence(self) -> Evidence:
        """The model of all results that the search was told."""
        if self._evidence is None:
            self._evidence = fit(self._observed.values())
        return self._evidence

    # --- an algorithm ------------------------------------------------------------------------------------------------

    @abstractmethod
    def _ask(self, bred: Bred) -> Request:
        """The next request; at least one lane. Changes nothing before the last call of ``bred``, see `ask`."""

    @abstractmethod
    def _tell(self, request: Request, results: Results) -> Step:
        """Take the results of ``request``, which have joined ``evidence``."""

    @abstractmethod
    def _living(self) -> Iterable[Individual]:
        """The individuals that may become champion or enter the hall of fame, after a complete generation."""

    @abstractmethod
    def _state(self) -> Any:
        """All of its own that the next request depends on: plain JSON, individuals by id."""

    @abstractmethod
    def _restore(self, state: Any, individual: Find) -> None:
        """The inverse of ``_state``."""

    def _joined(self, newcomers: Sequence[Individual]) -> tuple[Individual, ...]:
        """The newcomers of a generation, and after them those that join from outside."""
        first = max((i.index for i in newcomers), default=-1) + 1
        added = (
            self.breeder.individual(self.generation, index, genome, operator=ADDED)
            for index, genome in enumerate(self._added, first)
        )
        return (*newcomers, *added)

    @property
    def _trained(self) -> set[str]:
        """Hashes of all programs that the campaign has trained."""
        return {hash for hash, _ in self._observed}

    def _along(self) -> Sequence[Individual]:
        """Who trains on the instances of the next request beside those asked for, so that all results compare.

        In a trial nobody does: the champion is in it.
        """
        return self.baselines

    def _estimate(self, individual: Individual) -> Estimate | None:
        """What the evidence says of an individual; None for one with a failed training, or none."""
        return self.evidence.estimates.get(individual.hash)

    def _fitness(self, individuals: Iterable[Individual]) -> tuple[float | None, ...]:
        """The means of their estimates."""
        return tuple(found and found.mean for found in map(self._estimate, individuals))

    def _best(self, individuals: Sequence[Individual], count: int, parsimony: float = 0.0) -> tuple[Individual, ...]:
        """The best by estimate, one of each program; where all have failed, the first ones.

        ``parsimony``: quality that a node must earn.
        """
        able = [i for i in distinct(individuals) if self._estimate(i)]
        able.sort(key=lambda i: (-self._mean(i) + parsimony * i.genome.size, i.generation, i.index))
        return tuple(able[:count]) or tuple(individuals[:count])

    # --- champion and hall of fame -----------------------------------------------------------------------------------

    def _rank(self) -> bool:
        """Renew the hall of fame at the end of a generation; False where a trial begins first."""
        known = {fame.individual.hash: fame.individual for fame in self.hall_of_fame}
        known |= {i.hash: i for i in (*self._founders, *self._living()) if i.hash not in known}
        candidates = [i for i in known.values() if self._estimate(i)]
        champion = self._champion(candidates)
        self._enthrone(champion, candidates)
        self._trial = self._challenger(champion, candidates) if champion else None
        return self._trial is None

    def _champion(self, candidates: Sequence[Individual]) -> Individual | None:
        """Who is champion before any trial: the present one, unless it is a founder or has failed a training.

        Then the founder with the best estimate is. Without a gate, and where all founders have failed, anyone may be.
        """
        gated = bool(self.recipe.gate.instances)
        for fame in self.hall_of_fame[:1]:
            if gated and not is_founder(fame.individual) and self._estimate(fame.individual):
                return fame.individual
        founders = [i for i in candidates if is_founder(i)] if gated else []
        return max(founders or candidates, key=self._mean, default=None)

    def _mean(self, individual: Individual) -> float:
        found = self._estimate(individual)
        assert found is not None
        return found.mean

    def _enthrone(self, champion: Individual | None, candidates: Sequence[Individual]) -> None:
        """Set the hall of fame: ``champion`` first, then the others by their estimates."""
        since = {fame.individual.hash: fame.since for fame in self.hall_of_fame}
        others = sorted((i for i in candidates if champion and i.hash != champion.hash), key=self._mean, reverse=True)
        order = [champion, *others] if champion else []
        self.hall_of_fame = tuple(
            Fame(i, found, since.get(i.hash, self.generation))
            for i in order[:HALL_OF_FAME]
            if (found := self._estimate(i))
        )

    def _challenger(self, champion: Individual, candidates: Sequence[Individual]) -> gate.UnderWay | None:
        """The trial of the best candidate that is probably better than the champion and has failed none yet."""
        if not self.recipe.gate.instances or champion.hash not in self.evidence.estimates:
            return None
        settings = self.recipe.gate
        last = self.recipe.ended(self.generation + 1, self._lane_steps)
        # before the end a trial is worth its cost only where few instances will tell
        affordable = settings.instances if last else settings.instances / 4
        difference = {i.hash: self.evidence.difference(i.hash, champion.hash) for i in candidates}

        def able(i: Individual) -> bool:
            if i.hash == champion.hash or i.hash in self._failed_trials:
                return False
            if difference[i.hash].above_zero < (0.5 if last else settings.confidence):
                return False
            noise = math.hypot(self.evidence.noise[i.hash], self.evidence.noise[champion.hash])
            return gate.needed(difference[i.hash].mean, noise, settings.error_rate) <= affordable

        challenger = max(filter(able, candidates), key=self._mean, default=None)
        if challenger is None:
            return None
        founders = [
            i
            for i in candidates
            if is_founder(i)
            and i.hash not in (champion.hash, challenger.hash)
            and difference[i.hash].above_zero >= AS_GOOD
        ]
        rivals = (champion, *sorted(founders, key=self._mean, reverse=True)[: RIVALS - 1])
        return gate.UnderWay(self._trials, challenger, rivals)

    def _challenge(self, trial: gate.UnderWay) -> Request:
        """The next block of a trial."""
        fresh = block(self.recipe, Purpose.GATE, self._trial_block, trial.number, trial.looks)
        return Request.crossed(Purpose.GATE, (trial.challenger, *trial.open), fresh, self.recipe.epochs)

    @property
    def _trial_block(self) -> int:
        """Instances of a trial that are trained between two looks."""
        most = self.recipe.gate.instances
        size = block_size(self.recipe, most)
        return min(most, self.recipe.gate.look or size * -(-FIRST_LOOK // size))

    def _judge(self, trial: gate.UnderWay) -> bool:
        """Look at a trial; False where it goes on."""
        settings = self.recipe.gate
        looked = trial.looked(self._differences(trial), settings.error_rate, settings.instances, self.evidence.failed)
        if isinstance(looked, gate.UnderWay):
            self._trial = looked
            return False
        self._trial, self._trials = None, self._trials + 1
        self._tally = replace(self._tally, trials=(*self._tally.trials, looked))
        candidates = [fame.individual for fame in self.hall_of_fame] + [trial.challenger]
        candidates = list({i.hash: i for i in candidates if self._estimate(i)}.values())
        if not looked.promoted:
            self._failed_trials |= {trial.challenger.hash}
        self._enthrone(trial.challenger if looked.promoted else self._champion(candidates), candidates)
        return True

    def _differences(self, trial: gate.UnderWay) -> list[list[float]]:
        """Challenger less rival on the trial's instances so far, for each rival that trained on them."""
        differences: list[list[float]] = []
        for rival in trial.rivals:
            seen: list[float] = []
            for look in range(trial.looks + 1):
                for instance in block(self.recipe, Purpose.GATE, self._trial_block, trial.number, look):
                    own, other = (self._quality(i, instance) for i in (trial.challenger, rival))
                    if own is not None and other is not None:
                        seen.append(own - other)
            differences.append(seen)
        return differences

    def _quality(self, individual: Individual, instance: Instance) -> float | None:
        """A quality as the evidence takes it; None where it was not trained or failed."""
        key = individual.lane(instance, self.recipe.epochs).key
        found = self._observed.get((key[0], key[1:]))
        return found.quality if found else None

    def _switched_off(self) -> Request | None:
        """The champion without its calibration of the outputs' mean, on instances that it was trained on itself.

        None before a generation is over, and where there is nothing to switch off or to train.
        """
        if not self._over or not self.hall_of_fame or not TASKS[self.recipe.task].hides_mean:
            return None
        champion = self.hall_of_fame[0].individual
        blind = self.breeder.switched_off(champion)
        if blind is None:
            return None
        own = [instance for hash, instance in self._observed if hash == champion.hash]
        both = [instance for instance in own if (blind.hash, instance) in self._observed]
        missing = sorted(set(own) - set(both), key=lambda instance: instance[2])  # by seed
        wanted = missing[: max(0, self.recipe.instances.selection - len(both))]
        lanes = [blind.lane(_instance(key), self.recipe.epochs) for key in wanted]
        return Request(Purpose.SHARE, tuple(lanes)) if lanes else None

    # --- what a generation was like ----------------------------------------------------------------------------------

    def _observe(self, answer: Results) -> None:
        new = {key: training for key, training in answer.items() if (key[0], key[1:]) not in self._observed}
        for key, training in new.items():
            quality = finished_quality(training.status, training.quality)
            self._observed[key[0], key[1:]] = Observation(key[0], key[1:], quality)
        self._evidence = None
        steps = sum(training.epochs_run for training in new.values()) * STEPS_PER_EPOCH
        self._lane_steps += steps
        self._tally = replace(
            self._tally, trained=self._tally.trained + len(new), lane_steps=self._tally.lane_steps + steps
        )

    def _statistics(self) -> Statistics:
        tally, known = self._tally, self.evidence.estimates
        found = sorted((known[hash] for hash in dict.fromkeys(tally.born) if hash in known), key=lambda e: -e.mean)
        reference = known.get(self.baselines[0].hash) if self.baselines else None
        return Statistics(
            best=found[0] if found else None,
            gain=found[0].minus(reference) if found and reference else None,
            median=median(e.mean for e in found) if found else None,
            diverged=sum(hash in self.evidence.failed for hash in tally.born),
            distinct=len(set(tally.born)),
            dismissed=tally.dismissed,
            trained=tally.trained,
            lane_steps=tally.lane_steps,
            baselines={b.name: known.get(b.hash) for b in self.baselines},
            champion=champion(self.hall_of_fame, reference),
            trials=tally.trials,
        )

    # --- what is remembered ------------------------------------------------------------------------------------------

    def _common_state(self) -> dict[str, Any]:
        tally = self._tally
        return {
            "founders": [i.id for i in self._founders],
            "trial": self._trial and self._trial.state(),
            "trials": self._trials,
            "failed": sorted(self._failed_trials),
            "over": self._over,
            "lane_steps": self._lane_steps,
            "tally": [list(tally.born), tally.dismissed, tally.trained, tally.lane_steps],
            "tried": [asdict(trial) for trial in tally.trials],
        }

    def _restore_common(self, state: dict[str, Any], find: Find) -> None:
        self._founders = tuple(map(find, state["founders"]))
        if state["trial"]:
            kept = state["trial"]
            self._trial = gate.UnderWay(
                kept["number"],
                find(kept["challenger"]),
                tuple(map(find, kept["rivals"])),
                kept["looks"],
                tuple(kept["beaten"]),
            )
        self._trials, self._failed_trials = state["trials"], frozenset(state["failed"])
        self._over, self._lane_steps = state["over"], state["lane_steps"]
        born, *counts = state["tally"]
        self._tally = _Tally(tuple(born), *counts, trials=tuple(map(Trial.from_dict, state["tried"])))


def distinct(individuals: Iterable[Individual]) -> list[Individual]:
    """The first of each program, in order."""
    first: dict[str, Individual] = {}
    for individual in individuals:
        first.setdefault(individual.hash, individual)
    return list(first.values())


def _instance(key: tuple) -> Instance:
    """The instance of an observation."""
    task, num_hidden_layers, seed, init, accuracy_factor, _ = key
    return Instance(task, num_hidden_layers, bytes.fromhex(seed), init, accuracy_factor)


def champion(hall_of_fame: Sequence[Fame], reference: Estimate | None) -> Champion | None:
    """The first of the hall of fame, with its direction written out."""
    if not hall_of_fame:
        return None
    best = hall_of_fame[0]
    terms = best.individual.genome.terms
    text = " + ".join(f"{t.weight:g} * ({show(t.expr)})" if t.weight != 1 else show(t.expr) for t in terms)
    gain = best.estimate.minus(reference) if reference else None
    return Champion(best.individual.id, best.individual.name, best.estimate, gain, text, is_founder(best.individual))


def algorithm(recipe: Recipe) -> type[Search]:
    """The search that ``search.algorithm`` of a recipe names."""
    return importlib.import_module(f"evo.search.{recipe.search.algorithm}").SEARCH
