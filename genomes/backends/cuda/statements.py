"""The statements of kernels: names of a program's values in C, where they lie in memory, how they are computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cached_property

from genomes.backends.cuda.frames import Frame
from genomes.backends.cuda.layout import HostSlab, Slab
from genomes.backends.cuda.operations import CLOCK_TEXT, DEVICE, HOST, ROLE_TEXT
from genomes.backends.cuda.stages import chains, stages
from genomes.compiler.program import CLOCK_SOURCES, MATRIX, ROLE_SOURCES, Program
from genomes.compiler.shapes import ShapeClass
from genomes.language.operations import OPERATIONS


def constants(program: Program) -> tuple[float, ...]:
    """The program's numbers, in the order of the rows of ``constants``: those of its nodes, then of its query's."""
    nodes = (*program.nodes, *(program.query.nodes if program.query else ()))
    return tuple(float(node.attribute or 0.0) for node in nodes if node.op == "const")


class Statements:
    """Prints the values of one program as definitions of local variables.

    ``stages``: the nodes whose values are stored between passes (`genomes.backends.cuda.stages`); ``chains``: the
    products that end in one of them; ``scratch``, ``state``, ``host_state``, ``host_values``: where values lie.
    """

    def __init__(self, program: Program, real: str, literal: bool):
        self.program, self.real, self.literal = program, real, literal
        self.suffix = "f" if real == "float" else ""
        self.names = _names(program)
        self.n_constants = len(constants(program))
        numbers = [i for i, node in enumerate(program.nodes) if node.op == "const"]
        self.constant_of = {i: k for k, i in enumerate(numbers)}
        slots = list(enumerate(program.slots))
        self.state = Slab(tuple((k, slot.shape) for k, slot in slots if not slot.shape.on_host))
        self.host_state = HostSlab(
            tuple(k for k, slot in slots if slot.shape is ShapeClass.CLOCK),
            tuple(k for k, slot in slots if slot.shape is ShapeClass.ROLE),
        )
        self.chains = chains(program)
        self.stages = stages(program, self.chains)
        stored = [(i, program.nodes[i].shape) for stage in self.stages for i in stage]
        self.stored = frozenset(i for i, _ in stored)
        read = sorted({place for i in self.chains for place, _ in self.matrices_of(i)} - self.stored)
        numbers = ((i, ShapeClass.TENSOR) for i in self.numbers)
        self.scratch = Slab((*stored, *((i, program.nodes[i].shape) for i in read), *numbers))
        self.partials = max((len(self.sums_of(stage)) for stage in self.stages), default=0)

    def matrices_of(self, product: int) -> list[tuple[int, int]]:
        """The values in scratch that a product of matrices reads, and those that are to be found there.

        A matrix alone is written where its result will be, if that is one.
        """
        node = self.program.nodes[product]
        first = self.program.nodes[self.chains[product][0]]
        matrices = first.arguments[: OPERATIONS[node.op].matrices]
        if node.op in MATRIX and node.shape is ShapeClass.ELEMENT:
            return [(product, matrices[0])]
        return [(matrix, matrix) for matrix in matrices]

    def numbers_of(self, product: int) -> tuple[tuple[int, ...], ...]:
        """For each link of a chain of products the host values that it takes."""
        nodes = self.program.nodes
        return tuple(nodes[i].arguments[OPERATIONS[nodes[i].op].matrices :] for i in self.chains[product])

    def sums_of(self, stage: list[int]) -> list[int]:
        """The reductions over tensors of a stage."""
        return [i for i in self.of_class(stage, ShapeClass.TENSOR) if i not in self.chains]

    @cached_property
    def host_values(self) -> HostSlab:
        """The clock and role values that other kernels read; numbers and role sources are read where they are."""
        nodes = self.program.nodes
        read = {a for n in nodes if not n.shape.on_host for a in n.arguments if nodes[a].shape.on_host}
        role = {a for a in read if nodes[a].shape is ShapeClass.ROLE and nodes[a].op not in ROLE_SOURCES}
        for_roles = self._needed(role | self.stored_in(ShapeClass.ROLE), lambda i: nodes[i].shape is ShapeClass.CLOCK)
        clock = {a for a in read.union(for_roles) if nodes[a].shape is ShapeClass.CLOCK and nodes[a].op != "const"}
        return HostSlab(tuple(sorted(clock)), tuple(sorted(role)))

    @cached_property
    def numbers(self) -> list[int]:
        """The host values that products of matrices take."""
        return sorted({a for i in self.chains for link in self.numbers_of(i) for a in link})

    def statements(self, roots: set[int], host: ShapeClass | None = None) -> list[tuple[ShapeClass, str]]:
        """Definitions of the roots and of all that they need here, in order, each with its class.

        ``host``: the class (clock, role) that a kernel of host values computes; None for kernels of device values.
        """
        lines = []
        for i in self._needed(roots, lambda i: self._read(i, host) is not None):
            node = self.program.nodes[i]
            if node.op == "const" and self.literal:
                continue
            text = self._read(i, host)
            if text is None:
                atoms = [self.atom(a, real=host is None) for a in node.arguments]
                text = (HOST if host else DEVICE)[node.op].format(*atoms, f="" if host else self.suffix)
            elif node.is_mask and "host_values" in text:
                text += " != 0"
            kind = "bool" if node.is_mask else "double" if host else "real"
            lines.append((node.shape, f"const {kind} {self.names[i]} = {text};"))
        return lines

    def _needed(self, roots: Iterable[int], is_leaf: Callable[[int], bool]) -> list[int]:
        """The roots and what they are made of, down to leaves, in order."""
        found: set[int] = set()
        stack = list(roots)
        while stack:
            i = stack.pop()
            if i not in found:
                found.add(i)
                if not is_leaf(i):
                    stack.extend(self.program.nodes[i].arguments)
        return sorted(found)

    def _read(self, i: int, host: ShapeClass | None) -> str | None:
        """Where a kernel reads a value that it does not compute itself; None where it does."""
        node = self.program.nodes[i]
        if node.op == "const":
            return f"constants[{self.constant_of[i]}]"
        if node.op in ROLE_SOURCES:
            return ROLE_TEXT[node.op]
        if node.shape.on_host and node.shape is not host:
            return f"host_values[{self.host_values.index_text(i)}]"
        if node.op in CLOCK_SOURCES:
            return CLOCK_TEXT[node.op]
        if node.op == "load":
            slot = int(node.attribute or 0)
            return (
                f"host_state[{self.host_state.index_text(slot)}]" if host else f"state[{self.state.index_text(slot)}]"
            )
        if node.op in ("g", "theta"):
            return f"a.{node.op}[params + element]"
        return f"scratch[{self.scratch.index_text(i)}]" if i in self.stored else None

    def split(self, roots: set[int], frame: Frame) -> tuple[list[str], list[str]]:
        """Definitions of the roots: those before the loop of ``frame``, and those inside it."""
        lines = self.statements(roots)
        return [x for shape, x in lines if shape in frame.outer], [x for shape, x in lines if shape not in frame.outer]

    def atom(self, i: int, real: bool = False) -> str:
        """The text of a value that was defined: its name, or the number where numbers are literal."""
        node = self.program.nodes[i]
        if node.op == "const" and self.literal:
            number = number_text(float(node.attribute or 0.0))
            return f"real({number})" if real else number
        return self.names[i]

    def of_class(self, stage: list[int], shape: ShapeClass) -> list[int]:
        """The nodes of a stage that are of class ``shape``."""
        return [i for i in stage if self.program.nodes[i].shape is shape]

    def stored_in(self, shape: ShapeClass) -> set[int]:
        """The nodes that are stored into slots of class ``shape``."""
        return {i for _, i in self.stores_of(shape)}

    def stores_of(self, shape: ShapeClass) -> list[tuple[int, int]]:
        """(slot, node) of the stores into slots of class ``shape``, without those that leave a slot as it is."""
        nodes = self.program.nodes
        return [
            (slot, i)
            for slot, i in self.program.stores
            if self.program.slots[slot].shape is shape and not (nodes[i].op == "load" and nodes[i].attribute == slot)
        ]


def _names(program: Program) -> list[str]:
    """A C name for every node: its label, its source's or slot's name, or its number."""
    labels = dict(program.labels)
    stored = {node: f"new_{program.slots[slot].name}" for slot, node in program.stores}
    names: list[str] = []
    for i, node in enumerate(program.nodes):
        wanted = labels.get(i) or stored.get(i) or f"v{i}"
        if node.op == "load":
            wanted = program.slots[int(node.attribute or 0)].name
        elif node.op in (*CLOCK_SOURCES, *ROLE_SOURCES, "g", "theta"):
            wanted = node.op
        names.append(f"v{i}" if wanted in names else wanted)
    return names


def number_text(value: float) -> str:
    """A double literal; infinities and NaN as the products that they are."""
    if math.isinf(value):
        return "(1e308 * 10)" if value > 0 else "(-1e308 * 10)"
    return "(1e308 * 10 * 0)" if math.isnan(value) else repr(value)
