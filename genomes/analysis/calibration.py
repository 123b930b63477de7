"""The same genome with its calibration of the outputs' mean switched off, so that a quality can be read beside it.

Training cannot see the mean of the outputs (docs/frozen-readout.md). What a genome gains by measuring and shifting it
is no better training: a result names the quality of this genome next to its own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

from genomes.language.expressions import Expression, number
from genomes.language.genome import MAX_NAME, Genome
from genomes.language.parser import constant
from genomes.language.primitives import TABLE, Domain

CALIBRATION = ("calibration", "output_shift", "output_error", "output_correction")  # words that are 0 without it
SUFFIX = "-without-calibration"
ZERO = number(0)


def calibrates(genome: Genome) -> bool:
    """Whether a genome measures or shifts the mean of the outputs, or trains for that: uses a word of CALIBRATION,
    `query.outputs` or `query.as_evaluated`."""
    trees = [*genome.outside_let, *(line.expr for line in genome.let)]
    used = {node.name for tree in trees for node in tree.walk()}
    query = genome.query
    return bool(used.intersection(CALIBRATION) or (query and (query.outputs or query.as_evaluated)))


def without_calibration(genome: Genome) -> Genome:
    """The same genome, blind to the mean of the outputs; ``genome`` itself where it does not calibrate.

    Every word of CALIBRATION is 0, and `query.outputs` and `query.as_evaluated` are gone. What then is 0 goes too:
    summands, products, names, and the genes `query` and `evaluation` where their offset is 0. All else stays, averages
    of the parameters for evaluation above all: they are found by gradients, so the difference of the two qualities is
    what the calibration gives. (Without the whole gene `evaluation` it would be what averages give as well.) What the
    calibration gives in other ways counts to it, such as runs that patience ends later by its ``slack``.

    A genome may move the mean without these words, by chance or by a schedule of its own. That is not switched off: it
    shows as a quality above the bound of mean-blind optimizers.
    """
    if not calibrates(genome):
        return genome
    numbers: dict[str, float] = {}
    while True:  # a name that is 0 may make others 0
        off = genome.mapped(lambda tree, numbers=numbers: switched_off(tree, numbers))
        found = _numbers(off)
        if found == numbers:
            break
        numbers = found
    query, evaluation = off.query, off.evaluation
    if query:
        query = None if query.offset == ZERO else replace(query, outputs=(), as_evaluated=False)
    if evaluation and evaluation.offset == ZERO:
        evaluation = None
    name = genome.name[: MAX_NAME - len(SUFFIX)] + SUFFIX
    off = replace(off, query=query, evaluation=evaluation).renamed(name, f"{genome.name}, its calibration switched off")
    return off.without_unused_lines()


def _numbers(genome: Genome) -> dict[str, float]:
    """The values of names that are made of numbers alone, and of states that stay at 0."""
    found: dict[str, float] = {}
    for line in genome.let:
        value = constant(line.expr, found)
        if value is not None and (line.start is None or line.start == value == 0):
            found[line.name] = value
    return found


def switched_off(tree: Expression, numbers: Mapping[str, float], words: Collection[str] = CALIBRATION) -> Expression:
    """The expression with 0 for the ``words`` and for names that ``numbers`` say are 0; else as it was."""
    if tree.value is not None:
        return tree
    if tree.name in words or numbers.get(tree.name) == 0:
        return ZERO
    if not tree.arguments:
        return tree
    arguments = tuple(switched_off(argument, numbers, words) for argument in tree.arguments)
    arguments = tuple(_held(p.domain, a, numbers) for p, a in zip(TABLE[tree.name].parameters, arguments, strict=True))
    if arguments == tree.arguments:
        return tree
    first, last = arguments[0], arguments[-1]
    match tree.name:
        case "add" if ZERO in arguments:
            return last if first == ZERO else first
        case "sub" if last == ZERO:
            return first
        case "mul" if ZERO in arguments:
            return ZERO
        case "neg" | "div" | "hold" if first == ZERO:
            return ZERO
    return replace(tree, arguments=arguments)


def _held(domain: Domain | None, argument: Expression, numbers: Mapping[str, float]) -> Expression:
    """A constant in its domain: the compiler holds values to it, and the reader refuses numbers outside."""
    value = constant(argument, numbers) if domain else None
    if domain is None or value is None:
        return argument
    inside = min(max(value, domain.low), domain.high)
    inside = math.floor(inside) if domain.whole else inside
    return argument if inside == value else number(inside)
