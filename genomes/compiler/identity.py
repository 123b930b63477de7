"""When two genomes are the same optimizer: a hash of the program itself. Nothing is run and nothing is sampled."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from genomes.compiler.lowering import lower
from genomes.compiler.program import Node, Program
from genomes.language.expressions import Expression
from genomes.language.genome import Genome
from genomes.language.operations import OPERATIONS
from genomes.language.parser import constant


@lru_cache(maxsize=4096)
def genome_identity(genome: Genome) -> str:
    """`program_identity` of a genome's program; a query that never happens plays no part. Raises GenomeError."""
    if genome.query and is_never(genome.query.when) and not genome.query.outputs:
        genome = replace(genome, query=None)
    return program_identity(lower(genome))


def is_never(mask: Expression) -> bool:
    """Whether a mask is made of numbers alone and false."""
    return constant(mask) == 0


def program_identity(program: Program) -> str:
    """32 hex digits; equal for programs that apply the same operations to the same exact constants and states.

    The order of nodes and slots, the order of commutative arguments, states kept twice, names and labels play no part.

    Every node and slot gets a name that says what it is. A node's name is made of its operation and its arguments'
    names, a slot's of its class, its start and the name of what it stores. Slots depend on one another in circles, so
    their names are refined until no more of them differ (Moore, minimization of automata, 1956). Slots of one name
    then always hold the same, and the names together are the program.
    """
    query, evaluation = program.query, program.evaluation
    parts: dict[int, object] = {query.offset: True} if query else {}
    parts |= {evaluation.offset: "evaluated", evaluation.applied: "applied"} if evaluation else {}
    stored = [node for _, node in sorted(program.stores)]
    slots = [_name(slot.shape, _exact(slot.init), parts.get(i, False)) for i, slot in enumerate(program.slots)]
    while True:
        nodes = _node_names(program.nodes, slots)
        refined = [_name(slot, nodes[node]) for slot, node in zip(slots, stored, strict=True)]
        if len(set(refined)) == len(set(slots)):
            break
        slots = refined
    own = _node_names(query.nodes, []) if query else []
    asked = [own[query.when], *(own[i] for i in query.outputs)] if query else [""]
    if program.as_evaluated:
        asked.append("as evaluated")
    return _name(nodes[program.update], *asked, *sorted(set(refined)))


def _node_names(nodes: Sequence[Node], slots: Sequence[str]) -> list[str]:
    names: list[str] = []
    for node in nodes:
        arguments = [names[a] for a in node.arguments]
        if OPERATIONS[node.op].commutative:
            arguments.sort()
        attribute = node.attribute
        about = "" if attribute is None else slots[int(attribute)] if node.op == "load" else _exact(attribute)
        names.append(_name(node.op, node.shape, about, *arguments))
    return names


def _exact(value: float | str) -> str:
    return value if isinstance(value, str) else float(value).hex()


def _name(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:32]
