"""Prints a program as CUDA C++: kernels that advance many lanes (trainings of one genome or skeleton) by one step.

Constants are lane arrays, so all genomes that differ in their constants alone (one *skeleton*) share one text, and one
launch serves them all. The text needs no header; real is float or double.

What runs in a step, in this order (``Source.step``; nothing is launched that the program does not need):

1. ``clock_values`` one thread a lane, ``role_values`` one a tensor: schedules, multipliers, their state; in double.
2. For each stage of reductions: ``sums_N`` (256 partial results a tensor) and ``finish_N``; ``rows_N``, ``columns_N``
   (one thread a row or column); ``model_N`` (one thread a lane, tensor after tensor). A stage holds the reductions
   that need only what earlier stages found.
3. ``update_elements``: one pass that writes the update and the element slots; then ``store_rows``, ``store_columns``,
   ``store_tensors``, ``store_lanes``: the smaller slots, each class after all that read it.

Every pass computes what it needs from gradients, parameters, slots and earlier reductions anew instead of storing
intermediate elements: passes wait for memory, not for arithmetic. Threads of a kernel never read what another one of
it writes, so there are no barriers, shared memory or atomics, and every sum has one order whatever the launch's shape.

Before the first step run ``Source.start`` (fills the slots; theta must be set); before a gradient is taken run
``Source.query`` where there is one: it writes ``queried`` (theta where a lane asks for nothing) and ``active``.
Lanes whose ``alive`` is 0 stay as they are. ``not_finite`` of a lane is set where an update is infinite or NaN.
The arrays, and the grid of blocks of each launch, are in cuda_layout.py; the shapes of kernels in cuda_frames.py.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property

from genomes.backends.cuda_frames import FRAMES, Frame
from genomes.backends.cuda_layout import DECLARATIONS, PIECES, HostSlab, Launch, Model, Slab, Source
from genomes.backends.cuda_operations import CLOCK_TEXT, DEVICE, HELPERS, HOST, ROLE_TEXT
from genomes.program import CLOCK_SOURCES, MODEL_REDUCTIONS, REDUCTIONS, ROLE_SOURCES, Node, Program, Query
from genomes.shapes import ShapeClass

_UNITS = {ShapeClass.ROW: "row", ShapeClass.COLUMN: "column", ShapeClass.TENSOR: "tensor", ShapeClass.MODEL: "lane"}
_REDUCTION_FRAMES = {
    ShapeClass.ROW: ("rows", "row over columns"),
    ShapeClass.COLUMN: ("columns", "column over rows"),
    ShapeClass.MODEL: ("model", "lane over tensors"),
}


class UnsupportedOperation(ValueError):
    """A program holds an operation that this back end has no kernel for."""


def unsupported(program: Program) -> list[str]:
    """The operations that have no kernel: products of matrices, which are a library's work."""
    able = {*DEVICE, *CLOCK_TEXT, *ROLE_TEXT, *REDUCTIONS, *MODEL_REDUCTIONS, "const", "load", "g", "theta"}
    return sorted({node.op for node in program.nodes} - able)


def constants(program: Program) -> tuple[float, ...]:
    """The program's numbers, in the order of the rows of ``constants``: those of its nodes, then of its query's."""
    nodes = (*program.nodes, *(program.query.when if program.query else ()))
    return tuple(float(node.attribute or 0.0) for node in nodes if node.op == "const")


def skeleton(program: Program) -> Program:
    """The program without its numbers and names: equal for genomes that can share a kernel. It is not to be run."""

    def bare(nodes: Iterable[Node]) -> tuple[Node, ...]:
        return tuple(replace(node, attribute=0.0) if node.op == "const" else node for node in nodes)

    return replace(
        program,
        name="",
        nodes=bare(program.nodes),
        slots=tuple(replace(slot, name=f"s{k}") for k, slot in enumerate(program.slots)),
        query=Query(program.query.offset, bare(program.query.when)) if program.query else None,
        labels=(),
    )


def bytes_per_lane(program: Program, model: Model, real: str = "float") -> int:
    """Device memory a lane: parameters, gradients, updates, queried parameters, slots, reductions, constants, flags."""
    source = render(program, real)
    sizes = source.sizes(model)
    slabs = 3 + bool(program.query)
    reals = slabs * model.n_params + sizes["state"] + sizes["scratch"]
    doubles = 2 + len(constants(program)) + sizes["host_state"] + sizes["host_values"]
    return reals * (4 if real == "float" else 8) + 8 * doubles + 7 * 4


def render(program: Program, real: str = "float", literal: bool = False, apply: bool = False) -> Source:
    """The text of a program. ``real``: ``float`` or ``double``; ``literal``: its own numbers and names stand in it, for
    people to read, instead of lane arrays; ``apply``: the update is added to theta in the same pass instead of being
    written to ``update``. Raises UnsupportedOperation."""
    if lacking := unsupported(program):
        raise UnsupportedOperation(
            f"{program.name or 'program'}: the CUDA back end has no kernel for the operation {', '.join(lacking)}"
        )
    return _Writer(program if literal else skeleton(program), real, literal, apply).source()


class _Writer:
    """Prints the kernels of one program."""

    def __init__(self, program: Program, real: str, literal: bool, apply: bool = False):
        self.program, self.real, self.literal, self.apply = program, real, literal, apply
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
        self.stages = _stages(program)
        self.reduced = Slab(tuple((i, program.nodes[i].shape) for stage in self.stages for i in stage))
        self.partials = max((len(self._of(stage, ShapeClass.TENSOR)) for stage in self.stages), default=0)
        self.kernels: list[str] = []

    @cached_property
    def host_values(self) -> HostSlab:
        """The clock and role values that other kernels read; numbers and role sources are read where they are."""
        nodes = self.program.nodes
        read = {a for n in nodes if not n.shape.on_host for a in n.arguments if nodes[a].shape.on_host}
        role = {a for a in read if nodes[a].shape is ShapeClass.ROLE and nodes[a].op not in ROLE_SOURCES}
        for_roles = self._needed(role | self._stored(ShapeClass.ROLE), lambda i: nodes[i].shape is ShapeClass.CLOCK)
        clock = {a for a in read.union(for_roles) if nodes[a].shape is ShapeClass.CLOCK and nodes[a].op != "const"}
        return HostSlab(tuple(sorted(clock)), tuple(sorted(role)))

    def source(self) -> Source:
        start, query, step = self._start(), self._query(), self._step()
        kernels = "\n\n".join(self.kernels)
        helpers = [text.replace("{f}", self.suffix) for name, text in HELPERS.items() if _calls(kernels, name)]
        text = "\n\n".join([f"typedef {self.real} real;", DECLARATIONS.rstrip(), *helpers, kernels]) + "\n"
        return Source(
            text, hashlib.sha256(text.encode()).hexdigest(), start, query, step,
            self.state, self.reduced, self.partials, self.host_state, self.host_values,
        )  # fmt: skip

    # --- kernels ---------------------------------------------------------------------------------------------------

    def _kernel(
        self, name: str, frame: str, before: Iterable[str], inside: Iterable[str] = (), after: Iterable[str] = ()
    ) -> Launch:
        """Print a kernel: statements before, inside and after the loop of its frame."""
        reduced = self.reduced.size_text()
        sizes = {
            "constants": str(self.n_constants),
            "state": self.state.size_text(),
            "scratch": f"{reduced} + {self.partials} * n_tensors * {PIECES}" if self.partials else reduced,
            "partials": reduced,
            "host_state": self.host_state.size_text(),
            "host_values": self.host_values.size_text(),
        }
        self.kernels.append(FRAMES[frame].text(name, list(before), list(inside), list(after), sizes))
        return Launch(name, frame.split()[0])

    def _start(self) -> tuple[Launch, ...]:
        lines: dict[ShapeClass, list[str]] = {shape: [] for shape in ShapeClass}
        for k, slot in enumerate(self.program.slots):
            host = slot.shape.on_host
            place = f"host_state[{self.host_state.place(k)}]" if host else f"state[{self.state.place(k)}]"
            value = "a.theta[params + element]" if slot.init == "theta" else _number(float(slot.init))
            lines[slot.shape].append(f"{place} = {value};")
        flags = ["a.steps[lane] = 0;", "a.not_finite[lane] = 0;"]
        of_lane = [*flags, *lines[ShapeClass.CLOCK], *lines[ShapeClass.MODEL]]
        launches = [self._kernel("start_lanes", "lane over tensors", of_lane, lines[ShapeClass.ROLE])]
        for shape in (ShapeClass.TENSOR, ShapeClass.COLUMN, ShapeClass.ROW):
            if lines[shape]:
                launches.append(self._kernel(f"start_{_UNITS[shape]}s", _UNITS[shape], lines[shape]))
        if lines[ShapeClass.ELEMENT]:
            launches.append(self._kernel("start_elements", "tile", [], lines[ShapeClass.ELEMENT]))
        return tuple(launches)

    def _query(self) -> tuple[Launch, ...]:
        query = self.program.query
        if query is None:
            return ()
        last = len(query.when) - 1
        when = _Writer(Program("", query.when, (), (), last), self.real, self.literal)
        before = self.n_constants - when.n_constants
        when.constant_of = {i: before + k for i, k in when.constant_of.items()}
        lines = [line for _, line in when.statements({last}, ShapeClass.CLOCK)]
        lines.append(f"a.active[lane] = a.steps[lane] > 0 && {when.atom(last)};")
        moved = [
            "const real theta = a.theta[params + element];",
            f"a.queried[params + element] = a.active[lane] ? theta + state[{self.state.place(query.offset)}] : theta;",
        ]
        return self._kernel("query_lanes", "lane", lines), self._kernel("query_elements", "tile", [], moved)

    def _step(self) -> tuple[Launch, ...]:
        launches = [self._clock(), *self._roles()]
        for number, stage in enumerate(self.stages):
            launches += self._reduce(number, stage)
        return (*launches, self._update(), *self._stores())

    def _clock(self) -> Launch:
        lines = self._host_lines(ShapeClass.CLOCK, self.host_values.clock)
        return self._kernel("clock_values", "lane", [*lines, "a.steps[lane] += 1;"])

    def _roles(self) -> list[Launch]:
        lines = self._host_lines(ShapeClass.ROLE, self.host_values.role)
        return [self._kernel("role_values", "tensor", lines)] if lines else []

    def _host_lines(self, shape: ShapeClass, shared: tuple[int, ...]) -> list[str]:
        """Compute the values of a class on the host, write those that are shared, then the state."""
        lines = [line for _, line in self.statements(self._stored(shape).union(shared), shape)]
        lines += [f"host_values[{self.host_values.place(i)}] = {self.atom(i)};" for i in shared]
        stores = self._stores_of(shape)
        return lines + [f"host_state[{self.host_state.place(slot)}] = {self.atom(i)};" for slot, i in stores]

    def _reduce(self, number: int, stage: list[int]) -> list[Launch]:
        launches = []
        if group := self._of(stage, ShapeClass.TENSOR):
            blocks = {i: f"{k} * n_tensors + index" if k else "index" for k, i in enumerate(group)}
            pieces = {i: f"partials[({block}) * {PIECES} + piece]" for i, block in blocks.items()}
            launches.append(self._reduction(f"sums_{number}", "piece", pieces))
            lines = []
            for i in group:
                lines += [
                    f"real {self.names[i]} = partials[({blocks[i]}) * {PIECES}];",
                    f"for (int piece = 1; piece < pieces; ++piece) {self._gather(i, pieces[i])}",
                    f"scratch[{self.reduced.place(i)}] = {self.names[i]};",
                ]
            launches.append(self._kernel(f"finish_{number}", "tensor", lines))
        for shape, (name, frame) in _REDUCTION_FRAMES.items():
            places = {i: f"scratch[{self.reduced.place(i)}]" for i in self._of(stage, shape)}
            if places:
                launches.append(self._reduction(f"{name}_{number}", frame, places))
        return launches

    def _reduction(self, name: str, frame: str, places: dict[int, str]) -> Launch:
        """A kernel whose loop gathers the arguments of reductions and that writes the results to their places."""
        arguments = {i: self.program.nodes[i].arguments[0] for i in places}
        before, inside = self._split(set(arguments.values()), FRAMES[frame])
        for i, argument in arguments.items():
            before.append(f"real {self.names[i]} = 0;")
            gathered = self._gather(i, self.atom(argument))
            if "max" in self.program.nodes[i].op:
                gathered = f"if ({FRAMES[frame].first}) {self.names[i]} = {self.atom(argument)}; else {gathered}"
            inside.append(gathered)
        return self._kernel(name, frame, before, inside, [f"{place} = {self.names[i]};" for i, place in places.items()])

    def _gather(self, i: int, value: str) -> str:
        name = self.names[i]
        return f"{name} += {value};" if "sum" in self.program.nodes[i].op else f"{name} = larger({name}, {value});"

    def _update(self) -> Launch:
        stores = self._stores_of(ShapeClass.ELEMENT)
        before, inside = self._split({self.program.update} | {i for _, i in stores}, FRAMES["tile"])
        update = self.atom(self.program.update)
        inside += [
            f"a.theta[params + element] += {update};" if self.apply else f"a.update[params + element] = {update};",
            f"if ({update} - {update} != 0) a.not_finite[lane] = 1;",
            *(f"state[{self.state.place(slot)}] = {self.atom(i)};" for slot, i in stores),
        ]
        return self._kernel("update_elements", "tile", before, inside)

    def _stores(self) -> list[Launch]:
        launches = []
        for shape, unit in _UNITS.items():
            if stores := self._stores_of(shape):
                lines = [line for _, line in self.statements({i for _, i in stores})]
                lines += [f"state[{self.state.place(slot)}] = {self.atom(i)};" for slot, i in stores]
                launches.append(self._kernel(f"store_{unit}s", unit, lines))
        return launches

    # --- statements ------------------------------------------------------------------------------------------------

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
            return f"host_values[{self.host_values.place(i)}]"
        if node.op in CLOCK_SOURCES:
            return CLOCK_TEXT[node.op]
        if node.op == "load":
            slot = int(node.attribute or 0)
            return f"host_state[{self.host_state.place(slot)}]" if host else f"state[{self.state.place(slot)}]"
        if node.op in ("g", "theta"):
            return f"a.{node.op}[params + element]"
        return f"scratch[{self.reduced.place(i)}]" if _reduces(node) else None

    def _split(self, roots: set[int], frame: Frame) -> tuple[list[str], list[str]]:
        lines = self.statements(roots)
        return [x for shape, x in lines if shape in frame.outer], [x for shape, x in lines if shape not in frame.outer]

    def atom(self, i: int, real: bool = False) -> str:
        """The text of a value that was defined: its name, or the number where numbers are literal."""
        node = self.program.nodes[i]
        if node.op == "const" and self.literal:
            number = _number(float(node.attribute or 0.0))
            return f"real({number})" if real else number
        return self.names[i]

    def _of(self, stage: list[int], shape: ShapeClass) -> list[int]:
        return [i for i in stage if self.program.nodes[i].shape is shape]

    def _stored(self, shape: ShapeClass) -> set[int]:
        return {i for _, i in self._stores_of(shape)}

    def _stores_of(self, shape: ShapeClass) -> list[tuple[int, int]]:
        """Stores into slots of a class, without those that leave a slot as it is."""
        nodes = self.program.nodes
        return [
            (slot, i)
            for slot, i in self.program.stores
            if self.program.slots[slot].shape is shape and not (nodes[i].op == "load" and nodes[i].attribute == slot)
        ]


def _reduces(node: Node) -> bool:
    return node.op in REDUCTIONS or node.op in MODEL_REDUCTIONS


def _stages(program: Program) -> list[list[int]]:
    """The reductions, grouped by how many others stand before them along the longest path."""
    stages: list[list[int]] = []
    ready: list[int] = []
    for i, node in enumerate(program.nodes):
        stage = max((ready[a] for a in node.arguments), default=0)
        ready.append(stage + _reduces(node))
        if _reduces(node):
            stages += [[] for _ in range(stage + 1 - len(stages))]
            stages[stage].append(i)
    return stages


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


def _calls(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w.]){name}\(", text) is not None


def _number(value: float) -> str:
    """A double literal; infinities and NaN as the products that they are."""
    if math.isinf(value):
        return "(1e308 * 10)" if value > 0 else "(-1e308 * 10)"
    return "(1e308 * 10 * 0)" if math.isnan(value) else repr(value)
