"""Prints a program as CUDA C++: kernels that advance many lanes (trainings of one genome or skeleton) by one step.

Constants are lane arrays, so all genomes that differ in their constants alone (one *skeleton*) share one text, and one
launch serves them all. The text needs no header; real is float or double.

What runs in a step, in this order (``Source.step``; nothing is launched that the program does not need):

1. ``clock_values`` one thread per lane, ``role_values`` one per tensor: schedules, multipliers, their state; in double.
   ``coefficients`` one thread per tensor: those of products of matrices.
2. For each stage of reductions and products: ``sums_N`` (256 partial results per tensor) and ``finish_N``; ``rows_N``,
   ``columns_N`` (one thread per row or column); ``model_N`` (one thread per lane, tensor after tensor); ``matrices_N``,
   ``left_matrices_N``, ``right_matrices_N``, passes that write the matrices of products, and for each a ``Product``: no
   kernel, but a library's work, see `products`. A stage holds what needs only what earlier stages found.
3. ``update_elements``: one pass that writes the update and the element slots; then ``store_rows``, ``store_columns``,
   ``store_tensors``, ``store_lanes``: the smaller slots, each class after all that read it; ``store_left``,
   ``store_right``: those of square values.

Every pass computes what it needs from gradients, parameters, slots and what earlier stages found anew, instead of
storing intermediate elements: passes wait for memory, not for arithmetic. Threads of a kernel never read what another
one of it writes, so there are no barriers, shared memory or atomics, and every sum has one order whatever the launch's
shape.

Before the first step run ``Source.start`` (fills the slots; theta must be set); before a gradient is taken run
``Source.query`` where there is one: it writes ``queried`` (theta in lanes that do not query) and ``active``.
Lanes whose ``alive`` is 0 stay as they are. ``not_finite`` of a lane is set where an update is infinite or NaN.
The arrays, and the grid of blocks of each launch, are in `layout`; the shapes of kernels in `frames`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from genomes.backends.cuda.frames import FRAMES
from genomes.backends.cuda.layout import DECLARATIONS, PIECES, ROLE_BITS, Launch, Model, Product, Source
from genomes.backends.cuda.operations import CLOCK_TEXT, DEVICE, HELPERS, ROLE_TEXT
from genomes.backends.cuda.products import PRODUCTS, workspace
from genomes.backends.cuda.statements import Statements, constants, number_text
from genomes.backends.own_names import RESERVED_IN_C, distinct, without_names
from genomes.compiler.branches import conditions, role_patterns
from genomes.compiler.program import MODEL_REDUCTIONS, REDUCTIONS, SQUARE, Node, Program, Query
from genomes.compiler.shapes import ShapeClass

_UNITS = {ShapeClass.ROW: "row", ShapeClass.COLUMN: "column", ShapeClass.TENSOR: "tensor", ShapeClass.MODEL: "lane"}
_REDUCTION_FRAMES = {
    ShapeClass.ROW: ("rows", "row over columns"),
    ShapeClass.COLUMN: ("columns", "column over rows"),
    ShapeClass.MODEL: ("model", "lane over tensors"),
}


_ENTRY_FRAMES = {  # of passes over all entries of a class
    ShapeClass.ELEMENT: ("elements", "tile"),
    ShapeClass.LEFT: ("left", "left"),
    ShapeClass.RIGHT: ("right", "right"),
}
_BYTES = {"float": 4, "double": 8}


class UnsupportedOperation(ValueError):
    """A program holds an operation that this back end has no kernel for."""


def unsupported(program: Program) -> list[str]:
    """The operations that have neither a kernel nor a library call: none, as long as this back end is complete."""
    kernels = {*DEVICE, *CLOCK_TEXT, *ROLE_TEXT, *REDUCTIONS, *MODEL_REDUCTIONS, "const", "load", "g", "theta"}
    able = kernels.union(PRODUCTS)
    return sorted({node.op for node in program.nodes} - able)


def skeleton(program: Program) -> Program:
    """The program without its numbers and names: equal for genomes that can share a kernel. It is not to be run."""

    def bare(nodes: Iterable[Node]) -> tuple[Node, ...]:
        return tuple(replace(node, attribute=0.0) if node.op == "const" else node for node in nodes)

    query = program.query and replace(program.query, nodes=bare(program.query.nodes))
    return replace(without_names(program), nodes=bare(program.nodes), query=query)


def bytes_per_lane(program: Program, model: Model, real: str = "float") -> int:
    """Bytes per lane of device memory: parameters, gradients, updates, queried parameters, and `own_bytes`."""
    slabs = 3 + program.queries
    return slabs * model.n_params * _BYTES[real] + own_bytes(program, render(program, real), model, real)


def own_bytes(program: Program, source: Source, model: Model, real: str = "float") -> int:
    """Bytes per lane without the slabs that an optimizer shares with its loop.

    Those are slots, what passes store for later ones, constants, flags, and what products of matrices need besides.
    ``source``: the program's, with any options.
    """
    sizes = source.sizes(model)
    reals = sizes["state"] + sizes["scratch"] + workspace(source, model) + model.n_outputs * (1 + model.shift_size)
    doubles = 2 + len(constants(program)) + sizes["host_state"] + sizes["host_values"]
    return reals * _BYTES[real] + 8 * doubles + 8 * 4


def render(program: Program, real: str = "float", literal: bool = False, apply: bool = False) -> Source:
    """The text of a program.

    ``real``: ``float`` or ``double``; ``literal``: its own numbers and names stand in it, for people to read, instead
    of lane arrays; ``apply``: the update is added to theta in the same pass instead of being written to ``update``.
    Raises UnsupportedOperation.
    """
    if lacking := unsupported(program):
        raise UnsupportedOperation(
            f"{program.name or 'program'}: the CUDA back end has no kernel for the operation {', '.join(lacking)}"
        )

    def written(program: Program) -> Source:
        return _Writer(program, real, literal, apply).source()

    if not literal:
        return written(skeleton(program))
    return written(distinct(program, lambda bare: written(bare).text, RESERVED_IN_C.split()))


class _Writer(Statements):
    """Prints the kernels of one program."""

    def __init__(self, program: Program, real: str, literal: bool, apply: bool = False):
        super().__init__(program, real, literal)
        self.apply = apply
        self.kernels: list[str] = []
        self.written: set[int] = set()  # the matrices of products that are in scratch

    def source(self) -> Source:
        """The text, and what to launch."""
        start, query, step = self._start(), self._query(), self._step()
        kernels = "\n\n".join(self.kernels)
        text = kernels
        for name, helper in reversed(HELPERS.items()):  # they call those above them
            if _calls(text, name):
                text = f"{helper.replace('{f}', self.suffix)}\n\n{text}"
        text = "\n\n".join([f"typedef {self.real} real;", DECLARATIONS.rstrip(), text]) + "\n"
        return Source(
            text, hashlib.sha256(text.encode()).hexdigest(), start, query, step,
            self.state, self.scratch, self.partials, self.host_state, self.host_values,
        )  # fmt: skip

    # --- kernels ---------------------------------------------------------------------------------------------------

    def _kernel(
        self, name: str, frame: str, before: Iterable[str], inside: Iterable[str] = (), after: Iterable[str] = ()
    ) -> Launch:
        """Print a kernel: statements before, inside and after the loop of its frame."""
        stored = self.scratch.size_text()
        sizes = {
            "constants": str(self.n_constants),
            "state": self.state.size_text(),
            "scratch": f"{stored} + {self.partials} * n_tensors * {PIECES}" if self.partials else stored,
            "partials": stored,
            "host_state": self.host_state.size_text(),
            "host_values": self.host_values.size_text(),
        }
        self.kernels.append(FRAMES[frame].text(name, list(before), list(inside), list(after), sizes))
        return Launch(name, frame.split()[0])

    def _start(self) -> tuple[Launch, ...]:
        lines: dict[ShapeClass, list[str]] = {shape: [] for shape in ShapeClass}
        for k, slot in enumerate(self.program.slots):
            host = slot.shape.on_host
            target = f"host_state[{self.host_state.index_text(k)}]" if host else f"state[{self.state.index_text(k)}]"
            value = "a.theta[params + element]" if slot.init == "theta" else number_text(float(slot.init))
            lines[slot.shape].append(f"{target} = {value};")
        flags = ["a.steps[lane] = 0;", "a.not_finite[lane] = 0;"]
        of_lane = [*flags, *lines[ShapeClass.CLOCK], *lines[ShapeClass.MODEL]]
        launches = [self._kernel("start_lanes", "lane over tensors", of_lane, lines[ShapeClass.ROLE])]
        for shape in (ShapeClass.TENSOR, ShapeClass.COLUMN, ShapeClass.ROW):
            if lines[shape]:
                launches.append(self._kernel(f"start_{_UNITS[shape]}s", _UNITS[shape], lines[shape]))
        for shape, (name, frame) in _ENTRY_FRAMES.items():
            if lines[shape]:
                launches.append(self._kernel(f"start_{name}", frame, [], lines[shape]))
        return tuple(launches)

    def _query(self) -> tuple[Launch, ...]:
        query, evaluation = self.program.query, self.program.evaluation
        if not self.program.queries:
            return ()
        lines, reasons = [], []
        moved = ["real theta = a.theta[params + element];"]
        if evaluation:
            taken_back = f"host_state[{self.host_state.index_text(evaluation.applied)}] > 0"
            moved.append(f"if ({taken_back}) theta -= state[{self.state.index_text(evaluation.offset)}];")
            reasons.append(taken_back)
        if query:
            lines, biases = self._query_lines(query)
            moved.append(f"if (a.asked[lane]) theta += state[{self.state.index_text(query.offset)}];")
            reasons += ["a.asked[lane]", *biases]
        lines.append(f"a.active[lane] = {' || '.join(reasons)};")
        moved.append("a.queried[params + element] = theta;")
        return self._kernel("query_lanes", "lane", lines), self._kernel("query_elements", "tile", [], moved)

    def _query_lines(self, query: Query) -> tuple[list[str], list[str]]:
        """Statements that set ``asked`` and ``output_bias``, and conditions that a bias is not 0."""
        own = _Writer(Program("", query.nodes, (), (), query.when), self.real, self.literal)
        before = self.n_constants - own.n_constants
        own.constant_of = {i: before + k for i, k in own.constant_of.items()}
        lines = [line for _, line in own.statements({query.when, *query.outputs}, ShapeClass.CLOCK)]
        lines.append(f"a.asked[lane] = a.steps[lane] > 0 && {own.atom(query.when)};")
        biases = []
        for k, node in enumerate(query.outputs):
            here = f"a.output_bias[(long long)lane * a.n_outputs + {k}]"
            lines.append(f"if ({k} < a.n_outputs) {here} = real({own.atom(node)});")
            biases.append(f"({k} < a.n_outputs && {own.atom(node)} != 0)")
        return lines, biases

    def _step(self) -> tuple[Launch | Product, ...]:
        launches = [self._clock(), *self._roles(), *self._coefficients()]
        for number, stage in enumerate(self.stages):
            launches += [*self._reduce(number, stage), *self._multiply(number, stage)]
        return (*launches, self._update(), *self._stores())

    def _clock(self) -> Launch:
        lines = self._host_lines(ShapeClass.CLOCK, self.host_values.clock)
        return self._kernel("clock_values", "lane", [*lines, "a.steps[lane] += 1;"])

    def _roles(self) -> list[Launch]:
        lines = self._host_lines(ShapeClass.ROLE, self.host_values.role)
        return [self._kernel("role_values", "tensor", lines)] if lines else []

    def _host_lines(self, shape: ShapeClass, shared: tuple[int, ...]) -> list[str]:
        """Compute the values of a class on the host, write those that are shared, then the state."""
        lines = [line for _, line in self.statements(self.stored_in(shape).union(shared), shape)]
        lines += [f"host_values[{self.host_values.index_text(i)}] = {self.atom(i)};" for i in shared]
        stores = self.stores_of(shape)
        return lines + [f"host_state[{self.host_state.index_text(slot)}] = {self.atom(i)};" for slot, i in stores]

    def _coefficients(self) -> list[Launch]:
        """Write the host values that products take into scratch, where the library finds them."""
        lines = [line for _, line in self.statements(set(self.numbers))]
        lines += [f"scratch[{self.scratch.index_text(i)}] = {self.atom(i)};" for i in self.numbers]
        return [self._kernel("coefficients", "tensor", lines)] if lines else []

    def _reduce(self, number: int, stage: list[int]) -> list[Launch]:
        launches = []
        if group := self.sums_of(stage):
            blocks = {i: f"{k} * n_tensors + index" if k else "index" for k, i in enumerate(group)}
            pieces = {i: f"partials[({block}) * {PIECES} + piece]" for i, block in blocks.items()}
            launches.append(self._reduction(f"sums_{number}", "piece", pieces))
            lines = []
            for i in group:
                lines += [
                    f"real {self.names[i]} = partials[({blocks[i]}) * {PIECES}];",
                    f"for (int piece = 1; piece < pieces; ++piece) {self._gather(i, pieces[i])}",
                    f"scratch[{self.scratch.index_text(i)}] = {self.names[i]};",
                ]
            launches.append(self._kernel(f"finish_{number}", "tensor", lines))
        for shape, (name, frame) in _REDUCTION_FRAMES.items():
            targets = {i: f"scratch[{self.scratch.index_text(i)}]" for i in self.of_class(stage, shape)}
            if targets:
                launches.append(self._reduction(f"{name}_{number}", frame, targets))
        return launches

    def _reduction(self, name: str, frame: str, targets: dict[int, str]) -> Launch:
        """A kernel whose loop gathers the arguments of reductions. ``targets``: where each node's result goes."""
        arguments = {i: self.program.nodes[i].arguments[0] for i in targets}
        before, inside = self.split(set(arguments.values()), FRAMES[frame])
        for i, argument in arguments.items():
            before.append(f"real {self.names[i]} = 0;")
            gathered = self._gather(i, self.atom(argument))
            if "max" in self.program.nodes[i].op:
                gathered = f"if ({FRAMES[frame].first}) {self.names[i]} = {self.atom(argument)}; else {gathered}"
            inside.append(gathered)
        return self._kernel(
            name, frame, before, inside, [f"{target} = {self.names[i]};" for i, target in targets.items()]
        )

    def _gather(self, i: int, value: str) -> str:
        name = self.names[i]
        return f"{name} += {value};" if "sum" in self.program.nodes[i].op else f"{name} = larger({name}, {value});"

    def _multiply(self, number: int, stage: list[int]) -> list[Launch | Product]:
        """Kernels that write the matrices of products into scratch, and the products, whose results replace them."""
        ends = [i for i in stage if i in self.chains]
        if not ends:
            return []
        nodes = self.program.nodes
        places = dict(pair for i in ends for pair in self.matrices_of(i))
        launches = []
        for shape, (name, frame) in _ENTRY_FRAMES.items():
            written = {
                place: matrix
                for place, matrix in places.items()
                if nodes[matrix].shape is shape
                and place not in self.written
                and (matrix not in self.stored or place != matrix)
            }
            self.written |= written.keys()
            if written:
                before, inside = self.split(set(written.values()), FRAMES[frame])
                inside += [f"scratch[{self.scratch.index_text(i)}] = {self.atom(x)};" for i, x in written.items()]
                kernel = f"matrices_{number}" if shape is ShapeClass.ELEMENT else f"{name}_matrices_{number}"
                launches.append(self._kernel(kernel, frame, before, inside))
        found = conditions(self.program).nodes
        products = [
            Product(
                nodes[i].op,
                tuple(place for place, _ in self.matrices_of(i)),
                i,
                self.numbers_of(i),
                role_patterns(self.program, found[i], ROLE_BITS),
            )
            for i in ends
        ]
        self.kernels += [self._remark(product) for product in products]
        return [*launches, *products]

    def _remark(self, product: Product) -> str:
        """What the text's reader is told of a library's work between two kernels."""
        place = f"scratch[{self.scratch.index_text(product.result)}]"
        if product.op in SQUARE:
            found = ", ".join(f"scratch[{self.scratch.index_text(i)}]" for i in product.matrices)
            lines = [
                f"// Here a library computes {product.op} for each lane and tensor (index), of the matrices",
                f"// {found}. It writes the result over {place}." + (" With" if any(product.numbers) else ""),
            ]
        else:
            (matrix,) = product.matrices
            x = f"scratch[{self.scratch.index_text(matrix)}]"
            lines = [
                f"// Here a library computes {product.op} for each lane and tensor (index), of the matrix x: [rows,",
                f"// columns] entries, {x}. It writes the result over {'x' if place == x else place}. In turn, with",
            ]
        for link, same in groupby(link for link in product.numbers if link):
            numbers = ", ".join(f"scratch[{self.scratch.index_text(i)}]" for i in link)
            count = len(list(same))
            lines.append(f"//     {numbers}" + (f"; {count} times" if count > 1 else ""))
        return "\n".join(lines)

    def _update(self) -> Launch:
        stores = self.stores_of(ShapeClass.ELEMENT)
        before, inside = self.split({self.program.update} | {i for _, i in stores}, FRAMES["tile"])
        update = self.atom(self.program.update)
        inside += [
            f"a.theta[params + element] += {update};" if self.apply else f"a.update[params + element] = {update};",
            f"if ({update} - {update} != 0) a.not_finite[lane] = 1;",
            *(f"state[{self.state.index_text(slot)}] = {self.atom(i)};" for slot, i in stores),
        ]
        return self._kernel("update_elements", "tile", before, inside)

    def _stores(self) -> list[Launch]:
        launches = []
        for shape, unit in _UNITS.items():
            if stores := self.stores_of(shape):
                lines = [line for _, line in self.statements({i for _, i in stores})]
                lines += [f"state[{self.state.index_text(slot)}] = {self.atom(i)};" for slot, i in stores]
                launches.append(self._kernel(f"store_{unit}s", unit, lines))
        for shape in (ShapeClass.LEFT, ShapeClass.RIGHT):
            if stores := self.stores_of(shape):
                name, frame = _ENTRY_FRAMES[shape]
                before, inside = self.split({i for _, i in stores}, FRAMES[frame])
                inside += [f"state[{self.state.index_text(slot)}] = {self.atom(i)};" for slot, i in stores]
                launches.append(self._kernel(f"store_{name}", frame, before, inside))
        return launches


def _calls(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w.]){name}\(", text) is not None
