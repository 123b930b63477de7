"""What each part of an optimizer is worth, and how much of it can go: what ``evo explain`` computes.

Every gene, term, gate and part of an expression is taken away by itself, and every number is rounded; the optimizer
and all of these train on the same instances, and differences are paired. Then parts are removed one after another for
as long as what is left is not worse: a removal counts only where further instances, which chose nothing, say so too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from evo.evaluation.question import Question
from evo.evaluation.seeds import parse_instances
from evo.evaluation.statistics import LEVEL, Paired, holm, paired
from evo.evaluation.targets import Target
from evo.evaluation.trainings import Evaluation
from genomes.analysis.calibration import calibrates, without_calibration
from genomes.analysis.simplify import with_one_thing_less
from genomes.compiler.identity import genome_identity
from genomes.language.expressions import Expression, number
from genomes.language.genome import Genome, GenomeError, dump, parse

MARGIN = 0.005  # quality that a simpler optimizer may lose
MOST_PARTS = 40  # that are looked at; largest first
MOST_REMOVALS = 12
ROUNDED = {"all numbers with two digits": 2, "all numbers with one digit": 1}
ORIGINAL = "the optimizer as it is"

Train = Callable[[Question], Evaluation]


@dataclass(frozen=True)
class Part:
    """What the optimizer has more than the variant without it, over instances. ``p_holm``: corrected over all parts.

    ``what``: what the variant lacks, or how its numbers are rounded.
    """

    what: str
    paired: Paired
    p_holm: float


@dataclass(frozen=True)
class Removal:
    """A part that was removed. ``loss``: mean quality lost against the original on the instances that confirmed it;
    ``high``: the upper end of its one-sided interval at LEVEL; ``instances``: their label and count."""

    what: str
    loss: float
    high: float
    instances: str


@dataclass(frozen=True)
class Explanation:
    """Parts by what they are worth, largest first; the simplified genome, and what was removed to get there."""

    genome: Genome
    instances: str
    quality: float
    parts: tuple[Part, ...]
    simplified: Genome
    removals: tuple[Removal, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {
            "genome": dump(self.genome),
            "instances": self.instances,
            "quality": self.quality,
            "parts": [
                {"what": part.what, "p_holm": part.p_holm, "count": part.paired.count}
                | {key: value for key, value in asdict(part.paired).items() if key != "differences"}
                for part in self.parts
            ],
            "simplified": dump(self.simplified),
            "removals": [asdict(removal) for removal in self.removals],
            "margin": MARGIN,
        }


def explain(genome: Genome, question: Question, train: Train) -> Explanation:
    """Ablate and simplify ``genome``.

    ``question``: with instances of a label; its targets do not matter. ``train``: gives the evaluation of a question.
    The instances that confirm removals are those of the label with a suffix.
    """
    found = variants(genome)
    evaluation = train(_asking(question, genome, found))
    original = _qualities(evaluation, ORIGINAL)
    differences = [paired(original, _qualities(evaluation, what)) for what, _ in found]
    corrected = holm([difference.p for difference in differences])
    parts = [Part(what, d, p) for (what, _), d, p in zip(found, differences, corrected, strict=True)]
    simplified, removals = _simplified(genome, question, train, dict(found), parts)
    return Explanation(
        genome,
        question.labeled,
        float(np.mean(original)),
        tuple(sorted(parts, key=lambda part: -part.paired.mean)),
        simplified,
        tuple(removals),
    )


def variants(genome: Genome) -> list[tuple[str, Genome]]:
    """The genome with one thing less or with rounded numbers, each program once, each with what it is."""
    candidates = [("calibration of the outputs' mean", without_calibration(genome))] if calibrates(genome) else []
    candidates += [(what, rounded(genome, digits)) for what, digits in ROUNDED.items()]
    candidates += with_one_thing_less(genome)
    seen, kept = {genome_identity(genome)}, {}
    for what, variant in candidates:
        try:
            identity = genome_identity(parse(dump(variant)))
        except GenomeError:
            continue
        if identity not in seen and len(kept) < MOST_PARTS:
            seen.add(identity)
            places = sum(what in (known, known.rpartition(", place ")[0]) for known in kept)
            kept[f"{what}, place {places + 1}" if places else what] = variant
    return list(kept.items())


def rounded(genome: Genome, digits: int) -> Genome:
    """The genome with every number at so many significant digits; betas keep them in ``1 - beta``."""

    def short(value: float) -> float:
        if 0.5 < value < 1:
            return float(f"{1 - float(f'{1 - value:.{digits}g}'):.12g}")
        return float(f"{value:.{digits}g}")

    def mapped(tree: Expression) -> Expression:
        if tree.value is not None:
            return number(short(tree.value))
        return replace(tree, arguments=tuple(map(mapped, tree.arguments)))

    decay = replace(genome.decay, rate=short(genome.decay.rate))
    terms = tuple(replace(term, weight=short(term.weight)) for term in genome.terms)
    roles = tuple((role, short(scale)) for role, scale in genome.roles)
    return replace(genome, lr=short(genome.lr), terms=terms, decay=decay, roles=roles).mapped(mapped)


def _simplified(
    genome: Genome, question: Question, train: Train, found: dict[str, Genome], parts: Sequence[Part]
) -> tuple[Genome, list[Removal]]:
    """Remove the part that is missed least, confirm, look at what is left, and so on."""
    smallest, removals = genome, []
    refused: set[str] = set()
    while len(removals) < MOST_REMOVALS:
        able = [part for part in parts if part.what not in (*refused, *ROUNDED) and part.paired.mean < MARGIN]
        if not able:
            break
        chosen = min(able, key=lambda part: part.paired.mean)
        again = replace_instances(question, f"{question.label}.confirm{len(removals) + len(refused)}")
        evaluation = train(_asking(again, genome, [(chosen.what, found[chosen.what])]))
        loss = paired(_qualities(evaluation, ORIGINAL), _qualities(evaluation, chosen.what))
        mean, high = _upper(loss)
        if high >= MARGIN:
            refused.add(chosen.what)
            continue
        smallest = found[chosen.what]
        removals.append(Removal(chosen.what, mean, high, again.labeled))
        refused.clear()
        found = dict(variants(smallest))
        again = replace_instances(question, f"{question.label}.further{len(removals)}")
        evaluation = train(_asking(again, genome, list(found.items())))
        original = _qualities(evaluation, ORIGINAL)
        parts = [Part(what, paired(original, _qualities(evaluation, what)), 1.0) for what in found]
    return smallest, removals


def replace_instances(question: Question, label: str) -> Question:
    """The question on as many instances of another label."""
    label, seeds = parse_instances(f"{label}:{len(question.seeds)}")
    return replace(question, seeds=seeds, label=label)


def _asking(question: Question, genome: Genome, found: Sequence[tuple[str, Genome]]) -> Question:
    targets = [Target(ORIGINAL, dump(genome)), *(Target(what, dump(variant)) for what, variant in found)]
    return replace(question, targets=tuple(targets))


def _qualities(evaluation: Evaluation, name: str) -> list[float]:
    return [result.counted_quality for result in evaluation.of(name)]


def _upper(loss: Paired) -> tuple[float, float]:
    """Mean loss and the upper end of its one-sided interval by the t distribution."""
    differences = np.asarray(loss.differences)
    if len(differences) < 2:
        return loss.mean, math.inf
    from scipy import stats  # here alone: it takes a second to load

    error = float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
    return loss.mean, loss.mean + float(stats.t.ppf(LEVEL, len(differences) - 1)) * error
