"""How a genome measures the mean of its outputs, by training losses or by validation losses: docs/frozen-readout.md."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import reduce

from evo.search.variation.constants import draw
from genomes.analysis.calibration import ZERO, switched_off
from genomes.language.expressions import Expression, call
from genomes.language.genome import NEVER, Genome, Query
from genomes.language.primitives import EPOCHS, PROBE, Domain

WORDS = {"training": ("calibration", "output_error"), "validation": ("output_correction",)}
WAYS = (frozenset({"training"}), frozenset({"validation"}), frozenset(WORDS))
_PROBED = Domain(1, EPOCHS.high, (2, 30), "integer", "epochs")
_SWING = Domain(0, 1000, (0.02, 0.2), "log")  # by which validation losses are compared


def ways(genome: Genome) -> frozenset[str]:
    """By which losses it measures the mean: keys of WORDS, none where it does not."""
    trees = [*genome.outside_let, *(line.expr for line in genome.let)]
    return frozenset(way for tree in trees for way in _ways(tree))


def measured_by(genome: Genome, wanted: frozenset[str], rng: random.Random) -> Genome:
    """A genome that measures the mean, by the ``wanted`` losses; what adds them to others leaves no slack."""
    swing = draw(_SWING, rng) if rng.random() < 0.5 else 0.05
    if wanted - ways(genome):
        genome = genome.mapped(lambda tree: _with_both(tree, lambda k: call("output_correction", k, swing)))
    for way in WORDS.keys() - wanted:
        genome = genome.mapped(lambda tree, way=way: switched_off(tree, {}, WORDS[way]))
    return _with_probes_as_needed(genome, rng)


def random_probes(rng: random.Random) -> tuple[Expression, ...]:
    """Outputs of a query that measure two means, in epochs 1 and 2 or in later ones."""
    start = draw(_PROBED, rng) if rng.random() < 0.3 else 1
    size = draw(PROBE, rng)
    return tuple(call("output_probe", k, start, size) for k in range(2))


def epochs_until_measured(genome: Genome) -> int:
    """The epochs that pass before its query has probed all outputs; 0 where it probes none."""
    probes = [probe for probe in genome.query.outputs if probe.name == "output_probe"] if genome.query else []
    return max((round(sum(a.value or 0 for a in probe.arguments[:2])) + 1 for probe in probes), default=0)


def shift_without_slack(offset: Expression) -> Expression:
    """The shift by the mean as ``offset`` measures it, by training losses where it does not say."""
    corrections = dict.fromkeys(node for node in offset.walk() if node.name == "output_correction")
    shifts = [_shift(node.arguments[0], node) for node in corrections]
    if _ways(offset) != {"validation"}:
        shifts.insert(0, call("calibration", 0.0, 300))
    return reduce(_sum, shifts)


def _ways(tree: Expression) -> set[str]:
    used = {node.name for node in tree.walk()}
    return {way for way, words in WORDS.items() if used.intersection(words)}


def _with_both(tree: Expression, correction: Callable[[Expression | float], Expression]) -> Expression:
    """The expression with the other measure added to each."""
    match tree.name:
        case "calibration":
            shifts = _sum(_shift(0.0, correction(0.0)), _shift(1.0, correction(1.0)))
            return _sum(call("calibration", 0.0, tree.arguments[1]), shifts)
        case "output_error":
            return _sum(tree, correction(tree.arguments[0]))
        case "output_correction":
            return _sum(call("output_error", tree.arguments[0]), tree)
    return replace(tree, arguments=tuple(_with_both(argument, correction) for argument in tree.arguments))


def _shift(k: Expression | float, error: Expression) -> Expression:
    return call("mul", call("output_shift", k), error)


def _sum(first: Expression, second: Expression) -> Expression:
    return call("add", first, second)


def _with_probes_as_needed(genome: Genome, rng: random.Random) -> Genome:
    """The genome whose query probes the outputs if training losses measure their mean."""
    query = genome.query or Query(ZERO, NEVER)
    outputs = (query.outputs or random_probes(rng)) if "training" in ways(genome) else ()
    unused = query.offset == ZERO and not outputs
    return replace(genome, query=None if unused else replace(query, outputs=outputs))
