"""Merges branches of choices by role: what one of them does not need is computed in the other alone.

``where(is_weight, a, 0) + where(is_weight, 0, b)`` becomes ``where(is_weight, a, b)``. Operations move into the
branches of a choice whose mask never changes where they do nothing in one of them: adding 0, multiplying or dividing by
1, a number times 0. Within a branch a choice by the same mask is that branch's value. Updated parameters are the same
bit for bit; an update that is 0 may have the other sign.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from genomes.compiler.branches import Condition, conditions, fixed_nodes, meaning
from genomes.compiler.graph import before, live
from genomes.compiler.program import ELEMENTWISE, OPTION, Node, Program

_SIGNED = ("atan2", "inverse_root")  # operations that tell -0 from 0


@dataclass(frozen=True)
class Merged:
    """A program with merged branches.

    ``origin``: for each node one of the first program that has its value wherever that is needed.
    """

    program: Program
    origin: tuple[int, ...]


def merged_branches(program: Program) -> Merged:
    """The program without operations that do nothing in a branch by role."""
    joined = _rewritten(Merged(program, tuple(range(len(program.nodes)))), _Branches.operation)
    fixed, found = fixed_nodes(joined.program), conditions(joined.program).nodes

    def within(new: _Branches, i: int, node: Node, arguments: Sequence[int]) -> int:
        known = [found[i]] * len(arguments)
        if node.op == "where" and fixed[node.arguments[0]]:
            known[1:] = [found[i] | meaning(joined.program, node.arguments[0], value) for value in (True, False)]
        return new.add(i, node, [new.side(a, k) for a, k in zip(arguments, known, strict=True)])

    return _rewritten(joined, within)


def _rewritten(old: Merged, rewrite: Callable[[_Branches, int, Node, Sequence[int]], int]) -> Merged:
    """A program whose nodes ``rewrite`` adds: for each node, over arguments that it has added before."""
    program = old.program
    new = _Branches(program)
    index: list[int] = []
    for i, node in enumerate(program.nodes):
        index.append(rewrite(new, i, node, [index[a] for a in node.arguments]))
    nodes, place = live(new.nodes, [index[i] for i in (program.update, *(node for _, node in program.stores))])

    def named(names: tuple[tuple[int, str], ...]) -> tuple[tuple[int, str], ...]:
        return tuple((place[index[node]], name) for node, name in names if index[node] in place)

    after = replace(
        program,
        nodes=tuple(nodes),
        stores=tuple((slot, place[index[node]]) for slot, node in program.stores),
        update=place[index[program.update]],
        labels=named(program.labels),
        words=named(program.words),
    )
    return Merged(after, tuple(old.origin[new.origin[i]] for i in place))


class _Branches:
    """A growing list of nodes that replace those of a program. ``origin``: for each the node that it replaces."""

    def __init__(self, program: Program):
        self.nodes: list[Node] = []
        self.origin: list[int] = []
        self._fixed = fixed_nodes(program)
        self._signed = before(program, [i for i, node in enumerate(program.nodes) if node.op in _SIGNED])
        self._index: dict[Node, int] = {}

    def add(self, origin: int, node: Node, arguments: Sequence[int]) -> int:
        """The number of a node, new or found."""
        node = replace(node, arguments=tuple(arguments))
        if node not in self._index:
            self._index[node] = len(self.nodes)
            self.nodes.append(node)
            self.origin.append(origin)
        return self._index[node]

    def operation(self, origin: int, node: Node, arguments: Sequence[int]) -> int:
        """The number of an operation: within the branches of one of its arguments where that is simpler."""
        if node.shape.on_host or node.op not in ELEMENTWISE:
            return self.add(origin, node, arguments)
        choices = [self._choice(a) for a in arguments]
        for mask in dict.fromkeys(choice[0] for choice in choices if choice):
            sides = [
                [choice[k] if choice and choice[0] == mask else a for a, choice in zip(arguments, choices, strict=True)]
                for k in (1, 2)
            ]
            simpler = [self._simpler(origin, node, side) for side in sides]
            if simpler != [None, None]:
                x, y = (
                    self.operation(origin, node, side) if simple is None else simple
                    for side, simple in zip(sides, simpler, strict=True)
                )
                return self.add(origin, Node("where", (), node.shape), (mask, x, y))
        return self.add(origin, node, arguments)

    def side(self, i: int, condition: Condition) -> int:
        """A value where a condition of the replaced program holds: the branch that is taken, if it is a choice."""
        choice = self._choice(i)
        known = dict(condition)
        if choice is None or self.origin[choice[0]] not in known:
            return i
        return self.side(choice[1] if known[self.origin[choice[0]]] else choice[2], condition)

    def _choice(self, i: int) -> tuple[int, int, int] | None:
        """The mask and the branches of a choice by a mask that never changes; None for other values."""
        node = self.nodes[i]
        if node.op != "where" or not self._fixed[self.origin[node.arguments[0]]]:
            return None
        mask, x, y = node.arguments
        while self.nodes[mask].op == "not":
            (mask,), x, y = self.nodes[mask].arguments, y, x
        return mask, x, y

    def _simpler(self, origin: int, node: Node, arguments: Sequence[int]) -> int | None:
        """The argument that an operation comes to, as a value of its class; None where it does more."""
        first, second = arguments[0], arguments[-1]
        a, b = self._number(first), self._number(second)
        match node.op:
            case "add" | "sub" | "mul" if 0 in (a, b) and origin in self._signed:
                return None
            case "add" if 0 in (a, b):
                found = second if a == 0 else first
            case "sub" if b == 0:
                found = first
            case "mul" if 1 in (a, b):
                found = second if a == 1 else first
            case "mul" if (a == 0 and self._is_finite(second)) or (b == 0 and self._is_finite(first)):
                found = first if a == 0 else second
            case "div" | "safe_div" if b == 1:
                found = first
            case _:
                return None
        shape = self.nodes[found].shape
        if shape.on_host:
            return None
        return found if shape is node.shape else self.add(origin, Node("expand", (), node.shape), (found,))

    def _number(self, i: int) -> float | None:
        """The number that all entries of a value are; None where there is none."""
        node = self.nodes[i]
        if node.op == "expand":
            return self._number(node.arguments[0])
        return float(node.attribute or 0.0) if node.op == "const" else None

    def _is_finite(self, i: int) -> bool:
        """Whether a value is a number of the genome, or an option in its place."""
        node = self.nodes[i]
        return node.op == OPTION or (node.op == "const" and math.isfinite(node.attribute or 0.0))
