"""The numbers of a genome that a bundle's user may set: names for them, and a program that reads them from slots.

A number qualifies where it stands in the program as itself, as a multiple of itself or as what it lacks of 1: found by
lowering the genome with another number in its place. Where that fails for one of several equal numbers, they change as
one. The others are part of the program's structure and stay what they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from genomes.backends.cuda.source import skeleton
from genomes.compiler.lowering import lower
from genomes.compiler.program import Node, Program, Slot
from genomes.compiler.shapes import LoweringError, ShapeClass
from genomes.language.expressions import Expression
from genomes.language.genome import Evaluation, Genome, GenomeError, Query
from genomes.language.primitives import TABLE

_CHANGES = (0.9990234375, 0.9970703125)  # factors of a number that its places in the program follow
MOST = 64
_TINY = 1e-5  # what is not larger is called epsilon


@dataclass(frozen=True)
class Tunable:
    """A program whose slots ``values`` (name and default) hold its hyperparameters; they keep what they hold."""

    program: Program
    values: dict[str, float]


@dataclass(frozen=True)
class _Number:
    """A number of a genome. ``changed``: the genome with another in its place."""

    name: str
    value: float
    changed: Callable[[float], Genome]


def tunable(genome: Genome) -> Tunable:
    """The program of ``genome`` with its hyperparameters in slots. Raises GenomeError."""
    program = lower(genome)
    found: dict[str, tuple[float, dict[int, float]]] = {}
    taken: set[int] = set()
    names = {slot.name for slot in program.slots} | {label for _, label in program.labels}
    single = list(_numbers(genome))
    for number in [*single, *_together(genome, single)]:
        places = _places(program, number)
        if not places or places.keys() & taken or len(found) == MOST:
            continue
        taken |= places.keys()
        name, n = number.name, 1
        while name in found or name in names:
            n += 1
            name = f"{number.name}_{n}"
        found[name] = (number.value, places)
    return Tunable(_with_slots(program, found), {name: value for name, (value, _) in found.items()})


def _places(program: Program, number: _Number) -> dict[int, float]:
    """The constants of the program that follow a number, and the factor of each; none where it is no hyperparameter.

    Factor 0 stands for 1 - x.
    """
    changes = []
    for factor in _CHANGES:
        value = number.value * factor
        try:
            other = lower(number.changed(value))
        except (GenomeError, LoweringError):
            return {}
        if skeleton(other) != skeleton(program) or (program.query and other.query != program.query):
            return {}
        changes.append((value, other))
    places: dict[int, float] = {}
    for i, node in enumerate(program.nodes):
        if node.op != "const" or all(other.nodes[i] == node for _, other in changes):
            continue
        pairs = [(number.value, node.attribute), *((value, other.nodes[i].attribute) for value, other in changes)]
        here = float(node.attribute or 0.0)
        factor = 1.0 if here == number.value else -1.0 if here == -number.value else here / number.value
        if all(y == 1 - x for x, y in pairs):
            places[i] = 0.0
        elif all(math.isclose(y or 0.0, factor * x, rel_tol=1e-13) for x, y in pairs):
            places[i] = factor
        else:
            return {}
    return places


def _together(genome: Genome, single: list[_Number]) -> Iterator[_Number]:
    """Numbers that stand several times in the expressions of a genome, each as one."""
    first: dict[float, str] = {}
    for number in single:
        if number.value in first:

            def changed(value: float, old: float = number.value) -> Genome:
                return genome.mapped(lambda tree: _exchanged(tree, old, value))

            yield _Number(first[number.value], number.value, changed)
        first.setdefault(number.value, number.name)


def _exchanged(tree: Expression, old: float, value: float) -> Expression:
    """The expression with a number in the place of another, wherever that stands."""
    if tree.value == old:
        return replace(tree, value=value)
    return replace(tree, arguments=tuple(_exchanged(argument, old, value) for argument in tree.arguments))


def _with_slots(program: Program, found: dict[str, tuple[float, dict[int, float]]]) -> Program:
    """The program with loads of new slots in the places of constants. New nodes stand first."""
    clock = ShapeClass.CLOCK
    slots, nodes = list(program.slots), []
    loads: dict[str, int] = {}
    for name, (value, _) in found.items():
        loads[name] = len(nodes)
        nodes.append(Node("load", (), clock, len(slots)))
        slots.append(Slot(name, clock, value))
    formed: dict[int, int] = {}
    for name, (_, places) in found.items():
        for i, factor in places.items():
            if factor == 1:
                formed[i] = loads[name]
                continue
            nodes.append(Node("const", (), clock, factor or 1.0))
            arguments = len(nodes) - 1, loads[name]
            formed[i] = len(nodes)
            nodes.append(Node("mul" if factor else "sub", arguments, clock))
    index: dict[int, int] = {}
    for i, node in enumerate(program.nodes):
        if i in formed:
            index[i] = formed[i]
        else:
            index[i] = len(nodes)
            nodes.append(replace(node, arguments=tuple(index[a] for a in node.arguments)))
    kept = tuple((len(program.slots) + k, loads[name]) for k, name in enumerate(found))
    return replace(
        program,
        nodes=tuple(nodes),
        slots=tuple(slots),
        stores=(*((slot, index[node]) for slot, node in program.stores), *kept),
        update=index[program.update],
        labels=tuple((index[node], label) for node, label in program.labels if node not in formed),
    )


def _numbers(genome: Genome) -> Iterator[_Number]:
    """The numbers of a genome, with telling names: what a primitive calls its argument, or the key of a gene."""
    yield _Number("lr", genome.lr, lambda value: replace(genome, lr=value))
    for i, term in enumerate(genome.terms):
        if term.weight != 1:
            changed = _with_item(genome, "terms", i, lambda term, value: replace(term, weight=value))
            yield _Number("weight", term.weight, changed)
        for name, number, place in _in(term.expr):
            changed = _with_item(genome, "terms", i, lambda t, v, p=place: replace(t, expr=_replaced(t.expr, p, v)))
            yield _Number(name, number, changed)
    for i, line in enumerate(genome.let):
        for name, number, place in _in(line.expr):
            changed = _with_item(genome, "let", i, lambda t, v, p=place: replace(t, expr=_replaced(t.expr, p, v)))
            yield _Number(f"{line.name}_{name}", number, changed)
    for key in ("gates", "post"):
        for i, gate in enumerate(getattr(genome, key)):
            for name, number, place in _in(gate):
                changed = _with_item(genome, key, i, lambda tree, value, place=place: _replaced(tree, place, value))
                yield _Number(name, number, changed)
    if genome.decay.rate:
        decay = genome.decay
        yield _Number("weight_decay", decay.rate, lambda value: replace(genome, decay=replace(decay, rate=value)))
    for name, number, place in _in(genome.schedule):
        yield _Number(
            f"schedule_{name}", number,
            lambda value, place=place: replace(genome, schedule=_replaced(genome.schedule, place, value)),
        )  # fmt: skip
    for i, (role, multiplier) in enumerate(genome.roles):
        changed = _with_item(genome, "roles", i, lambda pair, value: (pair[0], value))
        yield _Number(f"lr_{role}", multiplier, changed)
    genes: dict[str, Query | Evaluation | None] = {"query": genome.query, "evaluation": genome.evaluation}
    for key, gene in genes.items():
        if gene is None:
            continue
        for name, number, place in _in(gene.offset):
            yield _Number(
                f"{key}_{name}", number,
                lambda value, key=key, gene=gene, place=place: replace(
                    genome, **{key: replace(gene, offset=_replaced(gene.offset, place, value))}
                ),
            )  # fmt: skip


def _with_item(genome: Genome, key: str, i: int, change: Callable[..., object]) -> Callable[[float], Genome]:
    def changed(value: float) -> Genome:
        items = list(getattr(genome, key))
        items[i] = change(items[i], value)
        return replace(genome, **{key: tuple(items)})

    return changed


def _in(tree: Expression, place: tuple[int, ...] = (), name: str = "constant") -> Iterator[tuple[str, float, tuple]]:
    """The numbers of an expression: (name, value, place)."""
    if tree.value is not None:
        yield "epsilon" if name == "constant" and 0 < tree.value <= _TINY else name, tree.value, place
    parameters = TABLE[tree.name].parameters if tree.name in TABLE else ()
    for k, argument in enumerate(tree.arguments):
        own = parameters[k].name if k < len(parameters) and parameters[k].domain else "constant"
        yield from _in(argument, (*place, k), own if re.fullmatch("[a-z][a-z0-9_]*", own) else "constant")


def _replaced(tree: Expression, place: tuple[int, ...], value: float) -> Expression:
    if not place:
        return replace(tree, value=value)
    k, *rest = place
    arguments = list(tree.arguments)
    arguments[k] = _replaced(arguments[k], tuple(rest), value)
    return replace(tree, arguments=tuple(arguments))
