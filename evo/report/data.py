"""What a report says, taken from the ledger: plain records, no layout."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from evo.evaluation.bounds import mean_blind_quality
from evo.evaluation.reasons import Reason, reasons
from evo.ledger.ledger import Ledger, Member
from evo.recipe import reader
from evo.recipe.schema import Recipe
from evo.records import Fame, Generation
from evo.report.lineage import Drawing, ancestors, draw
from evo.search.mean_share import switched_off
from genomes import catalogue
from genomes.analysis.describe import formula
from genomes.compiler.identity import genome_identity
from harness.result import Training, mean_quality
from harness.task import Instance

Trainings = Sequence[tuple[Instance, Training]]


@dataclass(frozen=True)
class Curve:
    """Mean validation loss over instances, `[epoch]`, and the mean quality. ``instances``: how many."""

    name: str
    val_loss: list[float]
    quality: float | None
    target_loss: float
    instances: int


@dataclass(frozen=True)
class BesideBound:
    """Qualities beside the bound of optimizers that ignore the mean, by instance, least bound first.

    ``depths``, ``bounds``: `[instance]`. ``qualities``: of each optimizer by name, `[instance]`, the champion's first;
    None where a training has none. ``without_calibration``: the champion's with its calibration of the outputs' mean
    switched off, `[instance]`; None where it has no calibration.
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
    """What became of an operator's children. ``upper``: how many came into the upper half of their generation;
    ``better``: how many beat every elite on the same instances; ``famous``: how many are in the hall of fame."""

    name: str
    made: int
    diverged: int
    upper: int
    better: int
    famous: int


@dataclass(frozen=True)
class Famous:
    """A row of the hall of fame."""

    fame: Fame
    formula: list[str]


@dataclass(frozen=True)
class Report:
    """All that a page shows of a campaign. ``curves``: the champion's first, then the baselines'.

    ``beside_bound``: None for a task without a bound of optimizers that ignore the mean.
    """

    recipe: Recipe
    generations: list[Generation]
    hall_of_fame: list[Famous]
    curves: list[Curve]
    beside_bound: BesideBound | None
    lineage: Drawing | None
    operators: list[Operator]
    statuses: list[tuple[str, int]]
    reasons: list[Reason]
    meta: dict[str, str]

    @property
    def baselines(self) -> list[str]:
        """The names of the recipe's baselines, in order."""
        return list(self.recipe.baselines)


def collect(ledger: Ledger) -> Report:
    """Everything that the report on a campaign needs; the campaign may be running meanwhile."""
    meta, hall_of_fame = ledger.meta(), ledger.checkpoint().hall_of_fame
    recipe = reader.from_text(meta["recipe"])
    champion = hall_of_fame[0].individual if hall_of_fame else None
    named = [(f"champion {champion.name}", champion.hash)] if champion else []
    named += [(name, genome_identity(catalogue.load(name))) for name in recipe.baselines]
    blind = switched_off(champion) if champion else None
    selected = ledger.on_selection([*(hash for _, hash in named), *([blind.hash] if blind else [])])
    measured = {name: selected[hash] for name, hash in named if selected[hash]}
    return Report(
        recipe,
        ledger.past(),
        [Famous(fame, formula(fame.individual.genome)) for fame in hall_of_fame],
        [curve(name, [training for _, training in trainings]) for name, trainings in measured.items()],
        beside_bound(measured, selected[blind.hash] if blind else None),
        draw(ancestors(ledger, champion)) if champion else None,
        operators(ledger, {fame.individual.id for fame in hall_of_fame}),
        list(ledger.statuses().items()),
        reasons(ledger.unfinished()),
        meta,
    )


def curve(name: str, trainings: list[Training]) -> Curve:
    """The mean over trainings, each held at its last loss once it has ended; NaN where any is not finite."""
    runs = [t.val_loss for t in trainings if t.val_loss]
    epochs = max(map(len, runs), default=0)
    means = [fmean(run[min(epoch, len(run) - 1)] for run in runs) for epoch in range(epochs)]
    targets = [t.target_loss for t in trainings if math.isfinite(t.target_loss)]
    return Curve(name, means, mean_quality(trainings), fmean(targets) if targets else math.nan, len(trainings))


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
        found = {instance: training.quality for instance, training in trainings}
        return [found.get(instance) for instance in order]

    return BesideBound(
        [instance.num_hidden_layers for instance in order],
        [bounded[instance] for instance in order],
        {name: qualities(trainings) for name, trainings in measured.items()},
        None if without_calibration is None else qualities(without_calibration),
    )


def operators(ledger: Ledger, famous: set[str]) -> list[Operator]:
    """How the children of each operator did, compared within their generation, where instances are the same.

    ``famous``: the ids in the hall of fame.
    """
    generations: dict[int, list[Member]] = {}
    for member in ledger.members():
        generations.setdefault(member.generation, []).append(member)
    counts: dict[str, Counter[str]] = {}
    for members in generations.values():
        values = sorted((m.fitness for m in members if m.fitness is not None), reverse=True)
        middle = values[len(values) // 2] if values else math.inf
        elites = [m.fitness for m in members if m.operator == "elite" and m.fitness is not None]
        for member in members:
            value = member.fitness
            count = counts.setdefault(member.operator, Counter())
            count["made"] += 1
            count["diverged"] += value is None
            count["upper"] += value is not None and value > middle
            count["better"] += value is not None and bool(elites) and value > max(elites)
            count["famous"] += member.id in famous
    table = [
        Operator(name, count["made"], count["diverged"], count["upper"], count["better"], count["famous"])
        for name, count in counts.items()
    ]
    return sorted(table, key=lambda operator: (-operator.famous, -operator.better, -operator.made))


def versions(meta: dict[str, str]) -> str:
    """The versions of python, evo and libraries, and the processor, at launch, in words."""
    return ", ".join(f"{name} {version}" for name, version in json.loads(meta["versions"]).items())
