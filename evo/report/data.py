"""What a report says, taken from the ledger: plain records, no layout."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from statistics import fmean, median

from evo.campaign.explained import Explained
from evo.campaign.ranking import ranked
from evo.evaluation.bounds import mean_blind_quality
from evo.evaluation.reasons import Reason, reasons
from evo.ledger.ledger import Ledger, Member
from evo.recipe import limits, reader
from evo.recipe.schema import Recipe
from evo.records import Addition, Champion, Checkpoint, Estimate, Fame, Generation, Trial
from evo.report.lineage import Drawing, ancestors, draw
from evo.search.evidence import Evidence, fit
from evo.search.mean_share import switched_off
from genomes import catalogue
from genomes.analysis.describe import formula
from genomes.compiler.identity import genome_identity
from genomes.language.genome import Genome
from harness.result import Training, finished_quality
from harness.task import Instance

Trainings = Sequence[tuple[Instance, Training]]
MOST_PRICED = 60  # of all others: finding the cost of a program takes milliseconds


@dataclass(frozen=True)
class Point:
    """What was known at the end of a generation. ``budget``: training steps of all lanes up to then.

    ``best``, ``champion``, ``baselines`` (but for the reference): what they are above the reference, the first
    baseline, with the interval; without baselines, their estimates. ``median``: of the generation, likewise.
    ``promoted``: ids of the challengers that became champion in it.
    """

    number: int
    budget: int
    best: Estimate | None
    median: float | None
    champion: Estimate | None
    baselines: Mapping[str, Estimate | None]
    promoted: tuple[str, ...]


@dataclass(frozen=True)
class Tried:
    """A trial, its generation, and the names of those who took part, by id."""

    generation: int
    trial: Trial
    names: Mapping[str, str]


@dataclass(frozen=True)
class Curve:
    """Mean validation loss over instances, `[epoch]`. ``instances``: how many."""

    name: str
    val_loss: list[float]
    target_loss: float
    instances: int


@dataclass(frozen=True)
class BesideBound:
    """Qualities beside the bound of optimizers that ignore the mean, by instance, least bound first.

    ``depths``, ``bounds``: `[instance]`. ``qualities``: of each optimizer by name, `[instance]`, the champion's first;
    None where a training has none. ``without_calibration``: the champion's with its calibration of the outputs' mean
    switched off, `[instance]`, None where it was not trained so; None where it has no calibration.
    """

    depths: list[int]
    bounds: list[float]
    qualities: dict[str, list[float | None]]
    without_calibration: list[float | None] | None = None

    @property
    def with_and_without(self) -> list[tuple[float, float]]:
        """The champion's quality and that without its calibration, where both are known."""
        champion = next(iter(self.qualities.values()), [])
        pairs = zip(champion, self.without_calibration or [], strict=False)
        return [(ours, blind) for ours, blind in pairs if ours is not None and blind is not None]


@dataclass(frozen=True)
class Operator:
    """What became of an operator's children, by their estimates.

    ``failed``: how many have a training that did not finish; ``upper``: how many are in the upper half of their
    generation; ``better``: how many are above all their parents, copies not counted; ``famous``: how many are in the
    hall of fame.
    """

    name: str
    made: int
    failed: int
    upper: int
    better: int
    famous: int


@dataclass(frozen=True)
class Famous:
    """A row of the hall of fame. ``behind``: its estimate less the champion's; None for the champion."""

    fame: Fame
    behind: Estimate | None
    formula: list[str]


@dataclass(frozen=True)
class Control:
    """Another search from the same founders: ``points`` as of the campaign. ``steps``: training steps that it has."""

    algorithm: str
    points: list[Point]
    steps: int
    champion: Champion | None


@dataclass(frozen=True)
class OnFront:
    """An individual with what it costs: elementwise operations per parameter and step, state buffers of its size.

    ``rank``: for ``evo export --rank``; 0 for a baseline.
    """

    rank: int
    name: str
    estimate: Estimate
    operations: int
    states: int


@dataclass(frozen=True)
class Priced:
    """A program's quality beside its cost. ``operations``: per parameter and step; ``states``: buffers as the model.

    ``kind``: ``champion``, ``hall of fame``, ``baseline``, or ``others``.
    """

    name: str
    kind: str
    estimate: Estimate
    operations: int
    states: int


@dataclass(frozen=True)
class Joined:
    """A genome that was added, what is known of it, and how many individuals descend from it."""

    addition: Addition
    estimate: Estimate | None
    descendants: int


@dataclass(frozen=True)
class Read:
    """What a report needs of all trainings and individuals of a campaign.

    ``unfinished``: trainings that did not finish; ``statuses``: how many there are of each.
    """

    evidence: Evidence
    members: Sequence[Member]
    unfinished: Sequence[Training]
    statuses: Mapping[str, int]


@dataclass(frozen=True)
class Report:
    """All that a page shows of a campaign. ``curves``: the champion's first, then the baselines'.

    ``points``: by generation. ``prices``: see the function of that name. ``beside_bound``: None for a task without a
    bound of optimizers that ignore the mean. ``hardware``: how many instances each kind of machine of a cluster trains
    on. ``link``: the address of an individual's page by its id, where it has one.
    """

    recipe: Recipe
    generations: list[Generation]
    points: list[Point]
    trials: list[Tried]
    hall_of_fame: list[Famous]
    curves: list[Curve]
    beside_bound: BesideBound | None
    lineage: Drawing | None
    operators: list[Operator]
    statuses: list[tuple[str, int]]
    reasons: list[Reason]
    prices: list[Priced]
    meta: dict[str, str]
    added: list[Joined]
    front: list[OnFront]
    hardware: dict[str, int]
    controls: Sequence[Control] = ()
    explained: Explained | None = None
    link: Callable[[str], str] | None = None

    @property
    def baselines(self) -> list[str]:
        """The names of the recipe's baselines, in order."""
        return list(self.recipe.baselines)

    @property
    def reference(self) -> str | None:
        """The baseline that differences are to: the first one."""
        return next(iter(self.recipe.baselines), None)

    @property
    def estimates(self) -> dict[str, Estimate | None]:
        """The champion's and the baselines' estimates, by name."""
        named = {f"champion {best.fame.individual.name}": best.fame.estimate for best in self.hall_of_fame[:1]}
        last = self.generations[-1].statistics.baselines if self.generations else {}
        return {**named, **last}

    @property
    def lane_steps(self) -> int:
        """Training steps of all lanes of the complete generations."""
        return self.points[-1].budget if self.points else 0


def collect(ledger: Ledger, controls: Sequence[Control] = (), explained: Explained | None = None) -> Report:
    """Everything that the report on a campaign needs; the campaign may be running meanwhile.

    ``controls``: that stand beside it; ``explained``: what ``evo explain`` left, which may be of another champion.
    """
    evidence = fit(ledger.observations())
    found = full(ledger, Read(evidence, ledger.members(), ledger.unfinished(), ledger.statuses()))
    champion = found.hall_of_fame[0].fame.individual if found.hall_of_fame else None
    of_champion = explained if explained and champion and explained.hash == champion.hash else None
    return replace(found, controls=controls, explained=of_champion)


def read_in_batches(ledger: Ledger) -> Read:
    """What `full` needs, read so that a campaign that runs meanwhile is not held up: for those who look often."""
    tells, observations, unfinished, statuses = ledger.tells(), [], [], Counter[str]()
    for tell, status, observation, training in ledger.evaluations():
        statuses[status] += 1
        if training:
            unfinished.append(replace(training, train_loss=[], val_loss=[]))
        if tell < tells:
            observations.append(observation)
    counts = dict(sorted(statuses.items(), key=lambda item: (-item[1], item[0])))
    return Read(fit(observations), ledger.members(), unfinished, counts)


def brief(ledger: Ledger) -> Report:
    """What of a report is known without reading trainings and individuals: generations, trials, the hall of fame."""
    meta, hall_of_fame, past = ledger.meta(), ledger.checkpoint().hall_of_fame, ledger.past()
    return Report(
        recipe=reader.from_text(meta["recipe"]),
        generations=past,
        points=points(past),
        trials=trials(past, lambda id: ledger.individual(id).name),
        hall_of_fame=[_famous(fame, hall_of_fame[0]) for fame in hall_of_fame],
        curves=[],
        beside_bound=None,
        lineage=None,
        operators=[],
        statuses=[],
        reasons=[],
        prices=[],
        meta=meta,
        added=[],
        front=[],
        hardware=ledger.kinds(),
    )


def full(ledger: Ledger, read: Read) -> Report:
    """The report by what was read of all trainings and individuals."""
    known = brief(ledger)
    hall_of_fame, estimates = [row.fame for row in known.hall_of_fame], read.evidence.estimates
    champion = hall_of_fame[0].individual if hall_of_fame else None
    named = {f"champion {champion.name}": champion.hash} if champion else {}
    named |= {name: hash for name, hash in _identities(known.recipe).items() if hash not in named.values()}
    shared = ledger.shared(named.values())
    measured = {name: shared[hash] for name, hash in named.items() if shared[hash]}
    blind = switched_off(champion) if champion else None
    return replace(
        known,
        curves=[curve(name, [training for _, training in trainings]) for name, trainings in measured.items()],
        beside_bound=beside_bound(measured, ledger.shared([blind.hash])[blind.hash] if blind else None),
        lineage=draw(ancestors(ledger, champion, estimates)) if champion else None,
        operators=operators(read.members, read.evidence, {fame.individual.id for fame in hall_of_fame}),
        statuses=list(read.statuses.items()),
        reasons=reasons(read.unfinished),
        prices=prices(read, hall_of_fame, _identities(known.recipe), lambda id: ledger.individual(id).genome),
        added=joined(ledger.additions(), read.members, read.evidence),
        front=front(ledger, ledger.checkpoint(), read.evidence, known.recipe),
    )


def front(ledger: Ledger, reached: Checkpoint, evidence: Evidence, recipe: Recipe) -> list[OnFront]:
    """The champion, those of the front, and the baselines; empty for an algorithm without a front."""
    if not reached.front:
        return []
    estimates, known = evidence.estimates, [catalogue.load(name) for name in recipe.baselines]
    ranks = [(fame.individual.genome, fame.estimate) for fame in ranked(ledger, reached, estimates)]
    members = [
        *((rank, *each) for rank, each in enumerate(ranks, 1)),
        *((0, genome, estimates.get(genome_identity(genome))) for genome in known),
    ]
    return [
        OnFront(rank, genome.name, estimate, limits.operations(genome), limits.buffers(genome))
        for rank, genome, estimate in members
        if estimate
    ]


def control(algorithm: str, past: Sequence[Generation]) -> Control:
    """A control of so many complete generations."""
    found = points(past)
    best = past[-1].statistics.champion if past else None
    return Control(algorithm, found, found[-1].budget if found else 0, best)


def prices(
    read: Read, hall_of_fame: Sequence[Fame], baselines: Mapping[str, str], genome: Callable[[str], Genome]
) -> list[Priced]:
    """Qualities beside costs: of the hall of fame, the baselines (identities by name) and the best of the others.

    ``genome``: of an individual, by its id. Each program stands once.
    """
    estimates = read.evidence.estimates
    famous = {fame.individual.hash: fame for fame in hall_of_fame}
    first = {member.hash: member.id for member in reversed(read.members)}
    found: dict[str, Priced] = {}

    def add(hash: str, name: str, kind: str, priced: Genome) -> None:
        if hash not in found and hash in estimates:
            found[hash] = Priced(name, kind, estimates[hash], limits.operations(priced), limits.buffers(priced))

    for rank, (hash, fame) in enumerate(famous.items()):
        add(hash, fame.individual.name, "hall of fame" if rank else "champion", fame.individual.genome)
    for name, hash in baselines.items():
        add(hash, name, "baseline", catalogue.load(name))
    others = (hash for hash in read.evidence.ranking if hash not in found and hash in first)
    for hash in islice(others, MOST_PRICED):
        add(hash, first[hash], "others", genome(first[hash]))
    return list(found.values())


def _identities(recipe: Recipe) -> dict[str, str]:
    return {name: genome_identity(catalogue.load(name)) for name in recipe.baselines}


def _famous(fame: Fame, champion: Fame) -> Famous:
    behind = None if fame is champion else fame.estimate.minus(champion.estimate)
    return Famous(fame, behind, formula(fame.individual.genome))


def points(past: Sequence[Generation]) -> list[Point]:
    """The generations, with differences to the first baseline."""
    found: list[Point] = []
    budget = 0
    for generation in past:
        s = generation.statistics
        budget += s.lane_steps
        reference, *others = (*s.baselines, None)
        level = s.baselines[reference] if reference else Estimate(0.0, 0.0, 0)
        found.append(
            Point(
                generation.number,
                budget,
                s.gain if reference else s.best,
                None if s.median is None or level is None else s.median - level.mean,
                s.champion and (s.champion.gain if reference else s.champion.estimate),
                {name: above(s.baselines[name], level) for name in others if name},
                tuple(trial.challenger for trial in s.trials if trial.promoted),
            )
        )
    return found


def above(estimate: Estimate | None, reference: Estimate | None) -> Estimate | None:
    """The difference of two estimates; None where one is missing."""
    return estimate.minus(reference) if estimate and reference else None


def trials(past: Sequence[Generation], name: Callable[[str], str]) -> list[Tried]:
    """All trials, in order. ``name``: of an individual, by its id."""
    return [
        Tried(generation.number, trial, {id: name(id) for id in (trial.challenger, *trial.rivals)})
        for generation in past
        for trial in generation.statistics.trials
    ]


def curve(name: str, trainings: list[Training]) -> Curve:
    """The mean over trainings, each held at its last loss once it has ended; NaN where any is not finite."""
    runs = [t.val_loss for t in trainings if t.val_loss]
    epochs = max(map(len, runs), default=0)
    means = [fmean(run[min(epoch, len(run) - 1)] for run in runs) for epoch in range(epochs)]
    targets = [t.target_loss for t in trainings if math.isfinite(t.target_loss)]
    return Curve(name, means, fmean(targets) if targets else math.nan, len(trainings))


def beside_bound(measured: Mapping[str, Trainings], without_calibration: Trainings | None = None) -> BesideBound | None:
    """Qualities of optimizers on their instances beside each instance's bound.

    ``without_calibration``: the champion's trainings with its calibration switched off, None where it has none. The
    result is None where there is no training, or where the task has no such bound.
    """
    bounds = {instance: mean_blind_quality(instance) for trainings in measured.values() for instance, _ in trainings}
    bounded = {instance: bound for instance, bound in bounds.items() if bound is not None}
    if not bounded:
        return None
    order = sorted(bounded, key=lambda instance: (bounded[instance], instance.num_hidden_layers))

    def qualities(trainings: Trainings) -> list[float | None]:
        found = {instance: finished_quality(training.status, training.quality) for instance, training in trainings}
        return [found.get(instance) for instance in order]

    return BesideBound(
        [instance.num_hidden_layers for instance in order],
        [bounded[instance] for instance in order],
        {name: qualities(trainings) for name, trainings in measured.items()},
        None if without_calibration is None else qualities(without_calibration),
    )


def joined(additions: Sequence[Addition], members: Sequence[Member], evidence: Evidence) -> list[Joined]:
    """What became of the genomes that were added."""
    hashes = {member.id: member.hash for member in members}
    families: dict[str, set[str]] = {each.id: {each.id} for each in additions}
    for member in members:  # parents come before their children
        for family in families.values():
            if family.intersection(member.parents):
                family.add(member.id)
    return [
        Joined(each, evidence.estimates.get(hashes.get(each.id, "")), len(families[each.id]) - 1) for each in additions
    ]


def operators(members: Sequence[Member], evidence: Evidence, famous: set[str]) -> list[Operator]:
    """How the children of each operator did. ``famous``: the ids in the hall of fame."""
    quality = {hash: estimate.mean for hash, estimate in evidence.estimates.items()}
    by_id = {member.id: member for member in members}
    middle = {
        generation: median(found) if (found := [quality[m.hash] for m in group if m.hash in quality]) else math.inf
        for generation, group in _by_generation(members).items()
    }
    counts: dict[str, Counter[str]] = {}
    for member in members:
        value = quality.get(member.hash)
        parents = [by_id[id].hash for id in member.parents if id in by_id]
        count = counts.setdefault(member.operator, Counter())
        count["made"] += 1
        count["failed"] += member.hash in evidence.failed
        count["upper"] += value is not None and value > middle[member.generation]
        count["better"] += (
            value is not None
            and bool(parents)
            and member.hash not in parents
            and all(value > quality.get(parent, -math.inf) for parent in parents)
        )
        count["famous"] += member.id in famous
    table = [
        Operator(name, count["made"], count["failed"], count["upper"], count["better"], count["famous"])
        for name, count in counts.items()
    ]
    return sorted(table, key=lambda operator: (-operator.famous, -operator.better, -operator.made))


def _by_generation(members: Sequence[Member]) -> dict[int, list[Member]]:
    generations: dict[int, list[Member]] = {}
    for member in members:
        generations.setdefault(member.generation, []).append(member)
    return generations


def versions(meta: dict[str, str]) -> str:
    """The versions of python, evo and libraries, and the processor, at launch, in words."""
    return ", ".join(f"{name} {version}" for name, version in json.loads(meta["versions"]).items())
