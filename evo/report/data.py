"""What a report says, taken from the ledger: plain records, no layout."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from evo.ledger.ledger import Ledger, training
from evo.ledger.schema import EVALUATIONS
from evo.recipe import reader as config
from evo.recipe.reader import Recipe
from evo.records import Fame, SearchState
from evo.report.lineage import Drawing, ancestors, draw
from genomes import catalogue
from genomes.analysis.describe import formula
from genomes.analysis.identity import semantic_hash
from genomes.language import genome
from genomes.language.genome import Genome
from harness.result import Training


@dataclass(frozen=True)
class Curve:
    """Mean validation loss over instances, one entry an epoch, and the mean quality. ``instances``: how many."""

    name: str
    val_loss: list[float]
    quality: float | None
    target_loss: float
    instances: int


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
    genome: Genome
    formula: list[str]


@dataclass(frozen=True)
class Report:
    recipe: Recipe
    state: SearchState
    generations: list[tuple[int, dict[str, Any], float]]
    hall_of_fame: list[Famous]
    curves: list[Curve]  # the champion first, then the baselines
    lineage: Drawing | None
    operators: list[Operator]
    statuses: list[tuple[str, int]]
    meta: dict[str, str]

    @property
    def baselines(self) -> list[str]:
        return list(self.recipe.baselines)


def collect(ledger: Ledger) -> Report:
    """Everything that the report on a campaign needs; the campaign may be running meanwhile."""
    meta, state = ledger.meta(), ledger.state()
    recipe = config.from_text(meta["recipe"])
    fame = [
        Famous(fame, parsed, formula(parsed))
        for fame in state.hall_of_fame
        for parsed in [genome.parse(fame.individual.genome, "ledger")]
    ]
    champion = state.hall_of_fame[0].individual if state.hall_of_fame else None
    named = [(f"champion {champion.name}", champion.hash)] if champion else []
    named += [(name, semantic_hash(catalogue.load(name))) for name in recipe.baselines]
    curves = [curve(name, trainings) for name, hash in named if (trainings := on_selection(ledger, hash))]
    return Report(
        recipe,
        state,
        ledger.past(),
        fame,
        curves,
        draw(ancestors(ledger, champion)) if champion else None,
        operators(ledger, state),
        ledger.rows("SELECT status, count(*) FROM evaluations GROUP BY status ORDER BY 2 DESC, 1"),
        meta,
    )


def curve(name: str, trainings: list[Training]) -> Curve:
    """The mean over trainings, each held at its last loss once it has ended; NaN where any is not finite."""
    runs = [t.val_loss for t in trainings if t.val_loss]
    epochs = max(map(len, runs), default=0)
    means = [fmean(run[min(epoch, len(run) - 1)] for run in runs) for epoch in range(epochs)]
    qualities = [t.quality for t in trainings if t.quality is not None]
    quality = fmean(qualities) if len(qualities) == len(trainings) else None
    targets = [t.target_loss for t in trainings if math.isfinite(t.target_loss)]
    return Curve(name, means, quality, fmean(targets) if targets else math.nan, len(trainings))


def operators(ledger: Ledger, state: SearchState) -> list[Operator]:
    """How the children of each operator did, compared within their generation, where instances are the same."""
    famous = {fame.individual.id for fame in state.hall_of_fame}
    generations: dict[int, list[tuple[str, str, float | None]]] = {}
    for number, place, operator, fitness in ledger.rows("SELECT generation, place, operator, fitness FROM individuals"):
        value = None if fitness is None else float(fitness)
        generations.setdefault(number, []).append((f"g{number}i{place}", operator, value))
    counts: dict[str, Counter[str]] = {}
    for members in generations.values():
        values = sorted((v for _, _, v in members if v is not None), reverse=True)
        middle = values[len(values) // 2] if values else math.inf
        elites = [v for _, operator, v in members if operator == "elite" and v is not None]
        for id, operator, value in members:
            count = counts.setdefault(operator, Counter())
            count["made"] += 1
            count["diverged"] += value is None
            count["upper"] += value is not None and value > middle
            count["better"] += value is not None and bool(elites) and value > max(elites)
            count["famous"] += id in famous
    table = [
        Operator(name, count["made"], count["diverged"], count["upper"], count["better"], count["famous"])
        for name, count in counts.items()
    ]
    return sorted(table, key=lambda operator: (-operator.famous, -operator.better, -operator.made))


def on_selection(ledger: Ledger, hash: str) -> list[Training]:
    """All trainings of a behaviour on the campaign's selection instances."""
    rows = ledger.rows(f"{EVALUATIONS.select} WHERE hash = ? AND purpose = 'selection'", (hash,))
    return [training(row) for row in rows]


def versions(meta: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in json.loads(meta["versions"]).items())
