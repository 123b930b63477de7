"""The typed program that a genome lowers to: a list of operations on values, with explicit state buffers.

``Node`` i may use nodes before it alone, so the list is an order of evaluation. A step computes all nodes, applies
``update``, then writes every ``stores`` value into its slot; ``load`` nodes see what the last step wrote.

`genomes.language.operations` says what each operation means; a back end needs to know these alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from genomes.compiler.shapes import ShapeClass
from genomes.language.operations import MASKS, OPERATIONS, of_kind

CLOCK_SOURCES = of_kind("clock source")
ROLE_SOURCES = of_kind("role source")
VIEWS = of_kind("view")  # their values share memory with the caller's tensors
ELEMENTWISE = of_kind("elementwise")
REDUCTIONS = of_kind("reduction")
MODEL_REDUCTIONS = of_kind("model reduction")
MATRIX = of_kind("matrix")  # of a matrix and host numbers; they give a matrix of the same shape
SQUARE = of_kind("square")  # of square values, or giving one
OPTION = "option"  # a number that a user may set; its attribute is its place among the options


def result_class(op: str) -> ShapeClass:
    """The class of an operation's result, for those whose arguments do not decide it."""
    return ShapeClass[OPERATIONS[op].shape.upper()]


def square_class(op: str, shapes: Sequence[ShapeClass]) -> ShapeClass | None:
    """The class of the result of an operation on square values; None where it does not take these classes.

    ``shapes``: of its matrices.
    """
    first, last = shapes[0], shapes[-1]
    if op in ("outer", "inner"):
        return result_class(op) if first is last is ShapeClass.ELEMENT else None
    if op != "matmul":
        return None if not first.is_square else result_class(op) if OPERATIONS[op].shape else first
    if first is last:
        return first if first.is_square else None
    sides = (ShapeClass.LEFT, ShapeClass.ELEMENT), (ShapeClass.ELEMENT, ShapeClass.RIGHT)
    return ShapeClass.ELEMENT if (first, last) in sides else None


@dataclass(frozen=True)
class Node:
    """One value: ``op`` over the nodes ``arguments``. ``attribute``: the number of a const, the slot of a load."""

    op: str
    arguments: tuple[int, ...]
    shape: ShapeClass
    attribute: float | int | None = None

    @property
    def is_mask(self) -> bool:
        """Whether the value is true or false rather than a number."""
        return self.op in MASKS


@dataclass(frozen=True)
class Slot:
    """A state buffer of shape class ``shape``, filled with the number ``init`` or a copy of ``theta`` at the start."""

    name: str
    shape: ShapeClass
    init: float | str

    @property
    def is_large(self) -> bool:
        """Whether it has an entry per parameter, or per pair of rows or columns of each tensor."""
        return self.shape is ShapeClass.ELEMENT or self.shape.is_square


@dataclass(frozen=True)
class Query:
    """Where to take the gradient: at theta + the content of slot ``offset``, in steps where ``when`` is true.

    ``nodes``: its own, clock values without state; ``when``: the mask among them; ``outputs``: those that are added to
    the outputs, in steps where one of them is not 0. ``as_evaluated``: in steps where ``when`` is true, the scale of a
    frozen BatchNorm is what `genomes.backends.readout.feature_gains` found in the last step of an epoch, for what the
    slot then held; as it is before the first.
    """

    offset: int
    nodes: tuple[Node, ...]
    when: int
    outputs: tuple[int, ...] = ()
    as_evaluated: bool = False


@dataclass(frozen=True)
class Evaluation:
    """What stands in the parameters for evaluation alone.

    ``offset``: slot of what was added last; ``applied``: slot of a clock value, 1 where the last step added it, so that
    this one's gradient is taken without it and its update takes it back.
    """

    offset: int
    applied: int


@dataclass(frozen=True)
class Program:
    """What a genome means, for every back end.

    ``update``: node of the signed update, class element, added to theta. ``stores``: (slot, node) pairs.
    ``labels``: names of nodes for people who read generated code, from genes and `let` lines; ``words``: from words of
    the language and from their bodies, where no label is. Neither means anything.
    """

    name: str
    nodes: tuple[Node, ...]
    slots: tuple[Slot, ...]
    stores: tuple[tuple[int, int], ...]
    update: int
    query: Query | None = None
    evaluation: Evaluation | None = None
    labels: tuple[tuple[int, str], ...] = ()
    words: tuple[tuple[int, str], ...] = field(default=(), compare=False)

    @property
    def queries(self) -> bool:
        """Whether there are steps whose gradient is taken elsewhere than at the parameters as they are."""
        return self.query is not None or self.evaluation is not None

    @property
    def output_biases(self) -> int:
        """How many outputs a query may add something to."""
        return len(self.query.outputs) if self.query else 0

    @property
    def as_evaluated(self) -> bool:
        """Whether a query sees a frozen end as evaluation does."""
        return self.query is not None and self.query.as_evaluated

    @cached_property
    def may_be(self) -> tuple[frozenset[int], ...]:
        """For each node: the nodes whose memory its value may share, itself included."""
        shared: list[frozenset[int]] = []
        for i, node in enumerate(self.nodes):
            passes_on = node.op == "expand" or (node.op == "where" and self.nodes[node.arguments[0]].shape.on_host)
            shared.append(frozenset({i}).union(*(shared[a] for a in node.arguments if passes_on)))
        return tuple(shared)

    def is_borrowed(self, node: int) -> bool:
        """Whether a value may share the memory of the caller's tensors, so that a back end must copy it to keep it."""
        return any(self.nodes[i].op in VIEWS for i in self.may_be[node])

    @property
    def update_is_shared(self) -> bool:
        """Whether the update's memory may be a slot's or the caller's too, so that a back end must return a copy."""
        kept = frozenset().union(*(self.may_be[node] for _, node in self.stores))
        mine = self.may_be[self.update]
        return bool(mine & kept) or any(self.nodes[i].op in (*VIEWS, "load", "expand") for i in mine)

    @property
    def levels(self) -> tuple[int, ...]:
        """For each node: how many reductions over the whole model stand before it, along the longest path.

        Per-tensor nodes of one level can be computed tensor by tensor; a level needs the whole last one.
        """
        levels: list[int] = []
        for node in self.nodes:
            level = max((levels[a] for a in node.arguments), default=0)
            levels.append(level + (node.op in MODEL_REDUCTIONS))
        return tuple(levels)


def random_word(seed: bytes, t: int, tensor: int, stream: float) -> int:
    """32 pseudo-random bits for a step, a tensor (its place in the parameter list) and a stream, from 0; NaN is 0.

    ``uniform`` of entry k (row by row) is ((scramble(scramble(k) ^ random_word) >> 8) + 1) / 2^24.
    """
    word = 0
    for part in (
        *(int.from_bytes(seed[k : k + 4], "little") for k in range(0, len(seed), 4)),
        t,
        tensor,
        int(stream) if stream == stream else 0,
    ):
        word = scramble((word + 0x9E3779B9 * (part + 1)) & 0xFFFFFFFF)
    return word


def scramble(word: Any) -> Any:
    """Mixes 32 bits, one to one; of an int or of int64 tensors. Source: Wellons, Hash prospector, lowbias32."""
    word = ((word ^ (word >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    word = ((word ^ (word >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return word ^ (word >> 16)


class ProgramError(ValueError):
    """A program that breaks the rules of its form: a defect of the compiler, never of a genome."""


def check(program: Program) -> Program:
    """Return the program, having checked its form. Raises ProgramError."""
    for problem in _problems(program):
        raise ProgramError(f"{program.name}: {problem}")
    return program


def _fits(node: Node, shapes: list[ShapeClass]) -> bool:
    """Whether an operation that is not elementwise has the classes that it wants."""
    match OPERATIONS[node.op].kind:
        case "reduction":
            return shapes == [ShapeClass.ELEMENT] and node.shape is result_class(node.op)
        case "model reduction":
            return shapes == [ShapeClass.TENSOR] and node.shape is result_class(node.op)
        case "matrix":
            of_matrix = shapes[0] is ShapeClass.ELEMENT and node.shape is result_class(node.op)
            return of_matrix and all(s.on_host for s in shapes[1:])
        case "square":
            count = OPERATIONS[node.op].matrices
            return square_class(node.op, shapes[:count]) is node.shape and all(s.on_host for s in shapes[count:])
        case "noise" | "readout":
            return shapes[0].on_host and node.shape is ShapeClass.ELEMENT
    return True


def _problems(program: Program) -> Iterator[str]:
    nodes = program.nodes
    for i, node in enumerate(nodes):
        if any(not 0 <= a < i for a in node.arguments):
            yield f"node {i} ({node.op}) uses a later node"
        shapes = [nodes[a].shape for a in node.arguments]
        if node.op not in OPERATIONS:
            yield f"node {i}: {node.op} is no operation"
        elif len(shapes) != OPERATIONS[node.op].arity:
            yield f"node {i} ({node.op}) has {len(shapes)} arguments"
        elif not _fits(node, shapes):
            yield f"node {i}: {node.op} of {shapes} gives {node.shape}"
        elif node.op == "load" and node.shape is not program.slots[int(node.attribute or 0)].shape:
            yield f"node {i} loads slot {node.attribute} as {node.shape}"
    if nodes[program.update].shape is not ShapeClass.ELEMENT:
        yield "the update is no element value"
    stored = [slot for slot, _ in program.stores]
    if sorted(stored) != list(range(len(program.slots))):
        yield f"slots 0..{len(program.slots) - 1} are stored once each, not {stored}"
    for slot, node in program.stores:
        if nodes[node].shape is not program.slots[slot].shape:
            yield f"slot {program.slots[slot].name} ({program.slots[slot].shape}) gets a {nodes[node].shape} value"
