"""Nodes of a program under construction: equal operations on equal nodes are one node, simplified as they are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from genomes.compiler.program import Node, result_class, square_class
from genomes.compiler.shapes import LoweringError, ShapeClass, join
from genomes.language.operations import OPERATIONS, UNKNOWN, folded

MAX_PROGRAM_NODES = 4000
SMALLEST_DIVISOR = 1e-30  # what is not below this is never 0 in float32, and its inverse is finite

Numbers = list[float | None]
Rule = Callable[["Nodes", tuple[int, ...], Numbers], int | None]
"""What an operation on these nodes comes to; None where it is no simpler. Third: the constants among the arguments."""


def is_ordinary(value: float | None) -> bool:
    """Whether this is a number that float32 holds, and its inverse too, far from both ends."""
    return value is not None and SMALLEST_DIVISOR <= abs(value) <= 1 / SMALLEST_DIVISOR


class Nodes:
    """A growing list of nodes and lower bounds of their values. ``rules``: simplifications by operation."""

    def __init__(self, rules: Mapping[str, Rule]):
        self.nodes: list[Node] = []
        self.bounds: list[float] = []
        self._rules = rules
        self._index: dict[Node, int] = {}

    def add(self, node: Node, bound: float = UNKNOWN) -> int:
        """The number of this node, new or found. Raises LoweringError where there are too many."""
        if node not in self._index:
            self._index[node] = len(self.nodes)
            self.nodes.append(node)
            self.bounds.append(0.0 if 0 <= bound < SMALLEST_DIVISOR else bound)
            if len(self.nodes) > 10 * MAX_PROGRAM_NODES:
                raise LoweringError("the program grows too large")
        return self._index[node]

    def const(self, value: float) -> int:
        """The node of a number."""
        value = float(value) + 0.0  # -0.0 and 0.0 are one constant
        return self.add(Node("const", (), ShapeClass.CLOCK, value), value if math.isfinite(value) else UNKNOWN)

    def source(self, name: str) -> int:
        """The node of a source: ``g``, ``theta``, a clock or a role source."""
        return self.add(Node(name, (), result_class(name)), OPERATIONS[name].bound([]))

    def number(self, node: int) -> float | None:
        """The value of a constant node; None for others."""
        return self.nodes[node].attribute if self.nodes[node].op == "const" else None

    def expand(self, a: int, shape: ShapeClass) -> int:
        """``a`` as a value of the larger class ``shape``. Raises LoweringError where that does not hold it."""
        if self.nodes[a].shape is shape:
            return a
        if join(self.nodes[a].shape, shape) is not shape:
            raise LoweringError(f"a value of class {self.nodes[a].shape} does not fit where {shape} is stored")
        return self._made("expand", (a,), shape)

    def op(self, name: str, *arguments: int) -> int:
        """The node of an operation on nodes, simplified where that is exact. Raises LoweringError."""
        operation = OPERATIONS[name]
        match operation.kind:
            case "reduction":
                return self._made(name, (self.expand(arguments[0], ShapeClass.ELEMENT),), result_class(name))
            case "model reduction":
                return self._made(name, (self.op(operation.partial, arguments[0]),), result_class(name))
            case "matrix":
                matrix = self.expand(arguments[0], ShapeClass.ELEMENT)
                return self._made(name, (matrix, *arguments[1:]), result_class(name))
            case "noise" | "readout":
                return self._made(name, arguments, result_class(name))
        numbers = [self.number(a) for a in arguments]
        if operation.kind == "square":
            simpler = self._rules[name](self, arguments, numbers) if name in self._rules else None
            return simpler if simpler is not None else self._square(name, arguments)
        if operation.on_floats is None and self.nodes[arguments[0]].shape.on_host:
            return arguments[0]
        if not operation.mask and all(n is not None for n in numbers) and name != "where":
            return self.const(folded(name, [n for n in numbers if n is not None]))
        simpler = self._rules[name](self, arguments, numbers) if name in self._rules else None
        return simpler if simpler is not None else self.elementwise(name, *arguments)

    def _square(self, name: str, arguments: tuple[int, ...]) -> int:
        """The node of an operation on square values. Raises LoweringError where an argument has another class."""
        count = OPERATIONS[name].matrices
        matrices = tuple(
            a if self.nodes[a].shape.is_square else self.expand(a, ShapeClass.ELEMENT) for a in arguments[:count]
        )
        shapes = [self.nodes[a].shape for a in matrices]
        shape = square_class(name, shapes)
        if shape is None:
            found = " and ".join(f"{shape}" for shape in shapes)
            raise LoweringError(f"{name} does not take a value of class {found}: {OPERATIONS[name].meaning}")
        return self._made(name, (*matrices, *arguments[count:]), shape)

    def elementwise(self, name: str, *arguments: int) -> int:
        """The node of an elementwise operation as it stands. Raises LoweringError for a mask in a number's place."""
        operation = OPERATIONS[name]
        for i, a in enumerate(arguments):
            if self.nodes[a].is_mask != (i in operation.masks):
                raise LoweringError(f"{name} of a {'comparison' if self.nodes[a].is_mask else 'number'}")
        shape = join(*(self.nodes[a].shape for a in arguments))
        if operation.commutative and Node(name, arguments[::-1], shape) in self._index:
            arguments = arguments[::-1]
        return self._made(name, arguments, shape)

    def _made(self, name: str, arguments: tuple[int, ...], shape: ShapeClass) -> int:
        bound = OPERATIONS[name].bound([self.bounds[a] for a in arguments])
        if self._is_square(name, arguments):
            bound = max(bound, 0.0)
        if name == "sub":
            bound = self._gathered_weight(*arguments)
        return self.add(Node(name, arguments, shape), bound)

    def _is_square(self, name: str, arguments: tuple[int, ...]) -> bool:
        return name == "mul" and arguments[0] == arguments[1]

    def _gathered_weight(self, one: int, power: int) -> float:
        """A lower bound of a difference: 1 - beta ** t, the weights that an average has gathered, is never below 0."""
        if self.number(one) != 1 or self.nodes[power].op != "power":
            return UNKNOWN
        base, exponent = self.nodes[power].arguments
        beta = self.number(base)
        if beta is None or not -1 <= beta <= 1 or not self.bounds[exponent] >= 0:
            return UNKNOWN
        return 1 - abs(beta) if self.bounds[exponent] >= 1 and self.nodes[exponent].shape.on_host else 0.0
