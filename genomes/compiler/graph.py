"""Rewrites of whole programs: what is dead goes, states that always hold the same become one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from genomes.compiler.program import Node, Program


def share_states(lowered: Program) -> Program:
    """The program with one slot for those that always hold the same: same start, same stored value."""
    stored = dict(lowered.stores)
    first: dict[tuple, int] = {}
    same = {
        slot: first.setdefault((shape.shape, shape.init, stored[slot]), slot)
        for slot, shape in enumerate(lowered.slots)
    }
    query, evaluation = lowered.query, lowered.evaluation
    own = ([query.offset] if query else []) + ([evaluation.offset, evaluation.applied] if evaluation else [])
    same |= {slot: slot for slot in own}
    kept = sorted(set(same.values()))
    if len(kept) == len(lowered.slots):
        return lowered
    number_of = {slot: kept.index(same[slot]) for slot in same}
    nodes: list[Node] = []
    index: dict[Node, int] = {}
    renumber: list[int] = []
    for node in lowered.nodes:
        attribute = node.attribute
        if node.op == "load" and attribute is not None:
            attribute = number_of[int(attribute)]
        new = replace(node, arguments=tuple(renumber[a] for a in node.arguments), attribute=attribute)
        if new not in index:
            index[new] = len(nodes)
            nodes.append(new)
        renumber.append(index[new])
    return share_states(
        replace(
            lowered,
            nodes=tuple(nodes),
            slots=tuple(lowered.slots[s] for s in kept),
            stores=tuple((number_of[s], renumber[stored[s]]) for s in kept),
            update=renumber[lowered.update],
            query=query and replace(query, offset=number_of[query.offset]),
            evaluation=evaluation
            and replace(evaluation, offset=number_of[evaluation.offset], applied=number_of[evaluation.applied]),
            labels=tuple((renumber[node], name) for node, name in lowered.labels),
            words=tuple((renumber[node], name) for node, name in lowered.words),
        )
    )


def before(program: Program, nodes: Iterable[int]) -> set[int]:
    """The nodes that ``nodes`` depend on, themselves included: in their own step or, by states, in those before."""
    stored = dict(program.stores)
    found: set[int] = set()
    stack = list(nodes)
    while stack:
        i = stack.pop()
        if i not in found:
            found.add(i)
            node = program.nodes[i]
            stack.extend([stored[int(node.attribute or 0)]] if node.op == "load" else node.arguments)
    return found


def live(nodes: list[Node], roots: list[int]) -> tuple[list[Node], dict[int, int]]:
    """The nodes that the roots need, in order, and the new number of each."""
    needed: set[int] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node not in needed:
            needed.add(node)
            stack.extend(nodes[node].arguments)
    order = sorted(needed)
    index = {old: new for new, old in enumerate(order)}
    return [replace(nodes[i], arguments=tuple(index[a] for a in nodes[i].arguments)) for i in order], index
