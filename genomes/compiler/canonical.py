"""One form for genomes that differ only in how they are written, and composites put back together.

``canonical`` orders the arguments of commutative operations, folds constants, drops what does nothing (x * 1, x + 0,
terms of weight 0), joins equal terms and equal named values, drops names that nothing uses, and moves the weight of a
lone term into the learning rate where nothing stands between them. Behavior stays the same up to rounding.
"""

from __future__ import annotations

import math
from dataclasses import replace

from genomes.language.decay import DECAY_KINDS
from genomes.language.expressions import Expression, number
from genomes.language.genome import LR_RANGE, WEIGHT_RANGE, Genome, Term
from genomes.language.let import Line, names_in, renamed
from genomes.language.operations import COMMUTATIVE, ON_FLOATS, folded
from genomes.language.parser import body
from genomes.language.primitives import TABLE
from genomes.language.printer import show


def canonical(genome: Genome) -> Genome:
    """The genome in canonical form; ``canonical(canonical(g)) == canonical(g)``."""
    genome = _with_canonical_lines(genome) if genome.let else genome
    weights: dict[Expression, float] = {}
    for term in genome.terms:
        expr = canonical_expression(term.expr)
        weights[expr] = weights.get(expr, 0.0) + term.weight
    low, high = WEIGHT_RANGE
    terms = [Term(min(max(w, low), high), e) for e, w in weights.items() if w != 0 and e != number(0)]
    terms = sorted(terms, key=lambda t: (show(t.expr), t.weight)) or [Term(1.0, number(0))]
    lr = genome.lr
    alone = len(terms) == 1 and not genome.gates and DECAY_KINDS[genome.decay.kind].joins != "u"
    if alone and LR_RANGE[0] < lr * terms[0].weight <= LR_RANGE[1]:
        lr, terms = lr * terms[0].weight, [replace(terms[0], weight=1.0)]
    query, evaluation = genome.query, genome.evaluation
    if query:
        outputs = tuple(map(canonical_expression, query.outputs))
        while outputs and outputs[-1] == number(0):
            outputs = outputs[:-1]
        query = replace(query, offset=canonical_expression(query.offset), outputs=outputs)
    if evaluation:
        evaluation = replace(evaluation, offset=canonical_expression(evaluation.offset))
    found = replace(
        genome, lr=lr, terms=tuple(terms), gates=tuple(map(canonical_expression, genome.gates)),
        post=tuple(map(canonical_expression, genome.post)), schedule=canonical_expression(genome.schedule), query=query,
        evaluation=evaluation,
    )  # fmt: skip
    return found.without_unused_lines() if genome.let else found


def _with_canonical_lines(genome: Genome) -> Genome:
    """The genome with one name for equal values and equal states, as long as no line sees one of them before its time.

    What sees another state may differ by its place, and stays.
    """
    states = {line.name for line in genome.let if line.is_state}
    lines: list[Line] = []
    first: dict[tuple, tuple[str, int]] = {}
    same: dict[str, str] = {}
    for i, line in enumerate(genome.let):
        expr = canonical_expression(renamed(line.expr, same))
        equal, place = first.setdefault((line.start, renamed(expr, {line.name: ""})), (line.name, i))
        between = names_in(other.expr for other in genome.let[place + 1 : i])
        if equal != line.name and not names_in([expr]) & states - {line.name} and line.name not in between:
            same[line.name] = equal
        else:
            lines.append(replace(line, expr=expr))
    genome = genome.mapped(lambda tree: renamed(tree, same)) if same else genome
    known = {line.name: canonical_expression(renamed(line.expr, same)) for line in lines}
    return replace(genome, let=tuple(replace(line, expr=known[line.name]) for line in lines))


def canonical_expression(tree: Expression) -> Expression:
    """The expression with constants folded, identities removed and commutative arguments in order."""
    if not tree.arguments:
        return replace(tree, column=1)
    arguments = tuple(canonical_expression(a) for a in tree.arguments)
    values = [a.value for a in arguments]
    op = TABLE[tree.name].op
    if op in ON_FLOATS and TABLE[tree.name].result == "number" and None not in values:
        value = folded(op, [v for v in values if v is not None])
        if math.isfinite(value):
            return number(value + 0.0)
    simpler = _identity(tree.name, arguments)
    if simpler is not None:
        return simpler
    if op in COMMUTATIVE:
        # as people write: numbers before what they multiply, after what they are added to
        arguments = tuple(sorted(arguments, key=lambda a: ((a.value is not None) == (op == "add"), show(a))))
    return Expression(tree.name, arguments)


def _identity(name: str, arguments: tuple[Expression, ...]) -> Expression | None:
    """What an operation comes to where one argument makes it do nothing."""
    first, second = arguments[0], arguments[-1]
    match name:
        case "add" if first.value == 0 or second.value == 0:
            return second if first.value == 0 else first
        case "sub" | "div" | "pow" if second.value == (0 if name == "sub" else 1):
            # pow(x, 1) and div(x, 1) are x
            return first
        case "mul" if 1 in (first.value, second.value):
            return second if first.value == 1 else first
        case "neg" if first.name == "neg":
            return first.arguments[0]
    return None


def with_composites(genome: Genome) -> Genome:
    """The genome with ``recognize_composites`` applied to terms, gates, post and named values."""
    return replace(
        genome, terms=tuple(replace(t, expr=recognize_composites(t.expr)) for t in genome.terms),
        gates=tuple(map(recognize_composites, genome.gates)), post=tuple(map(recognize_composites, genome.post)),
        let=tuple(replace(line, expr=recognize_composites(line.expr)) for line in genome.let),
    )  # fmt: skip


def recognize_composites(tree: Expression) -> Expression:
    """The expression with every part that is a composite's body written as that composite, innermost first."""
    arguments = tuple(recognize_composites(a) for a in tree.arguments)
    tree = replace(tree, arguments=arguments, column=1)
    for primitive in TABLE.values():
        if primitive.group != "composite" or primitive.state or len(body(primitive.name)) != 1:
            continue
        ((_, pattern),) = body(primitive.name)
        found: dict[str, Expression] = {}
        names = {p.name for p in primitive.parameters}
        if _matches(pattern, tree, names, found) and set(found) == names and _allowed(primitive.name, found):
            return Expression(primitive.name, tuple(found[p.name] for p in primitive.parameters))
    return tree


def _matches(pattern: Expression, tree: Expression, names: set[str], found: dict[str, Expression]) -> bool:
    if pattern.name in names:
        return found.setdefault(pattern.name, tree) == tree
    if pattern.name != tree.name or pattern.value != tree.value or len(pattern.arguments) != len(tree.arguments):
        return False
    orders = [tree.arguments]
    if TABLE.get(tree.name) and TABLE[tree.name].op in COMMUTATIVE:
        orders.append(tree.arguments[::-1])
    for order in orders:
        trial = dict(found)
        if all(_matches(p, t, names, trial) for p, t in zip(pattern.arguments, order, strict=True)):
            found.update(trial)
            return True
    return False


def _allowed(name: str, found: dict[str, Expression]) -> bool:
    """Constants stand where constants belong, inside their domain."""
    for parameter in TABLE[name].parameters:
        if parameter.domain:
            value = found[parameter.name].value
            if value is None or not parameter.domain.low <= value <= parameter.domain.high:
                return False
    return True
