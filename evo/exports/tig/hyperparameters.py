"""The numbers of a genome that a bundle's user may set: the options of its program, read from slots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from genomes.compiler.options import Option, lower_open, unused
from genomes.compiler.program import OPTION, Node, Program, Slot
from genomes.compiler.shapes import ShapeClass
from genomes.language.genome import Genome


@dataclass(frozen=True)
class Tunable:
    """A program whose slots ``options`` hold its hyperparameters; they keep what they hold."""

    program: Program
    options: Mapping[str, Option]


def tunable(genome: Genome) -> Tunable:
    """The program of ``genome`` with its hyperparameters in slots. Raises GenomeError."""
    opened = lower_open(genome, frozen_end=True)
    program, first = opened.program, len(opened.program.slots)
    taken = {slot.name for slot in program.slots}
    options = {unused(option.name, taken): option for option in opened.options}
    loads = [Node("load", (), ShapeClass.CLOCK, first + k) for k in range(len(options))]
    nodes, index = list(loads), []
    for node in program.nodes:
        if node.op == OPTION:
            index.append(int(node.attribute or 0))
        else:
            index.append(len(nodes))
            nodes.append(replace(node, arguments=tuple(index[a] for a in node.arguments)))
    query = program.query
    if query:
        own = (loads[int(node.attribute or 0)] if node.op == OPTION else node for node in query.nodes)
        query = replace(query, nodes=tuple(own))
    kept = ((first + k, k) for k in range(len(loads)))

    def named(names: tuple[tuple[int, str], ...]) -> tuple[tuple[int, str], ...]:
        return tuple((index[i], name) for i, name in names if index[i] >= len(loads) and name not in options)

    found = replace(
        program,
        nodes=tuple(nodes),
        slots=(*program.slots, *(Slot(name, ShapeClass.CLOCK, option.value) for name, option in options.items())),
        stores=(*((slot, index[node]) for slot, node in program.stores), *kept),
        update=index[program.update],
        query=query,
        labels=named(program.labels),
        words=named(program.words),
    )
    return Tunable(found, options)
