"""The CUDA text of a program in a bundle: one launch for all tensors of a kind, grid-stride loops, no float atomics.

Every kernel has the parameters `PARAMETERS`, so that the host part has one list of arguments. Parameters and gradients
lie as the challenge lays them out: entry (row, column) of a tensor is at ``row + column * rows``, and so do the
elements of ``state`` and ``scratch``. Square values are private and lie row by row.

A *tile* is a part of one tensor that a block works on; the host part lists them. Sums over tensors have two stages, a
partial result per tile and the sum of those, in one order whatever the launch's shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby

from evo.exports.tig import products
from evo.exports.tig.layout import EXTENTS, TILE, Device, Kernel, Launch, Tiles
from genomes.backends.cuda import operations
from genomes.backends.cuda.layout import EXTENT, Slab
from genomes.backends.cuda.statements import Statements, number_text
from genomes.compiler.branches import ALL, Condition, conditions
from genomes.compiler.program import Program
from genomes.compiler.shapes import ShapeClass
from harness.train import STEPS_PER_EPOCH

DEVICE = {
    **operations.DEVICE,
    "output_shift": "output_shift(shifts, tensor, element, n_outputs, t, {0})",
    "uniform": "uniform(seed, t, tensor.param_index, (unsigned)fmax{f}({0}, 0), entry_of(tensor, element))",
}
ROLE_TEXT = {
    **operations.ROLE_TEXT,
    "depth_fraction": "last_layer > 0 ? real(tensor.layer) / real(last_layer) : real(0)",
}


_ENTRIES = {
    ShapeClass.ELEMENT: "elements",
    ShapeClass.ROW: "rows",
    ShapeClass.COLUMN: "columns",
    ShapeClass.LEFT: "left",
    ShapeClass.RIGHT: "right",
}
_OF_TENSOR = frozenset({ShapeClass.CLOCK, ShapeClass.ROLE, ShapeClass.MODEL, ShapeClass.TENSOR})
_OF_MODEL = frozenset({ShapeClass.CLOCK, ShapeClass.MODEL})
_INDICES = {  # of the number ``i`` of a unit within its tensor
    "elements": (
        ("element", "tensor.offset + i"),
        ("row", "tensor.row_offset + i % tensor.rows"),
        ("column", "tensor.column_offset + i / tensor.rows"),
    ),
    "rows": (("row", "tensor.row_offset + i"),),
    "columns": (("column", "tensor.column_offset + i"),),
    "left": (("left", "tensor.left_offset + i"),),
    "right": (("right", "tensor.right_offset + i"),),
    "tensors": (),
}
_ALONG = {  # loops of a thread along the other axis
    "rows": ("for (int j = 0; j < tensor.columns; ++j) {", (
        ("element", "tensor.offset + j * tensor.rows + i"), ("column", "tensor.column_offset + j"))),
    "columns": ("for (int j = 0; j < tensor.rows; ++j) {", (
        ("element", "tensor.offset + i * tensor.rows + j"), ("row", "tensor.row_offset + j"))),
}  # fmt: skip
_LOWEST = "real(-1e308 * 10)"


class Writer(Statements):
    """Prints the kernels of one program whose names are fit for C."""

    def __init__(self, program: Program):
        super().__init__(program, "float", literal=True)
        self.kernels: list[Kernel] = []
        self.found = conditions(program)
        self.uses_shift = any(node.op == "output_shift" for node in program.nodes)
        self.spaces = products.workspaces(program, self.chains)
        kept = [(i, shape) for i, shape in self.scratch.values if i not in self.numbers]
        self.scratch = Slab((*kept, *((-1 - k, shape) for k, shape in enumerate(self.spaces))))
        self.written: set[int] = set()  # matrices of products that are in scratch

    def device(self) -> Device:
        """The text, and what to launch."""
        start, query, readout, step = self._start(), self._query(), self._readout(), self._step()
        gains = self._gains()
        return Device(
            tuple(self.kernels), start, query, readout, step, gains, self.state, self.scratch, self.partials,
            self.host_values.clock, self.host_values.role, self.uses_shift,
        )  # fmt: skip

    def _read(self, i: int, host: ShapeClass | None) -> str | None:
        node = self.program.nodes[i]
        if node.op in ROLE_TEXT:
            return ROLE_TEXT[node.op]
        if node.shape.on_host:
            return number_text(float(node.attribute or 0.0)) if node.op == "const" else self._value(i)
        if node.op == "load":
            return f"state[{self.state.index_text(int(node.attribute or 0))}]"
        if node.op in ("g", "theta"):
            return f"{node.op}_of[element - tensor.offset]"
        return f"scratch[{self.scratch.index_text(i)}]" if i in self.stored else None

    def _value(self, i: int) -> str:
        return f"values[{self.host_values.index_text(i)}]" + (" != 0" if self.program.nodes[i].is_mask else "")

    def lines(self, roots: Iterable[int]) -> list[tuple[ShapeClass, str]]:
        """Definitions of the roots and of all that they need, in order, each with its class."""
        found = []
        for i in self._needed(roots, lambda i: self._read(i, None) is not None):
            node = self.program.nodes[i]
            if node.op == "const":
                continue
            text = self._read(i, None)
            if text is None:
                text = DEVICE[node.op].format(*(self.atom(a, real=True) for a in node.arguments), f="f")
            found.append((node.shape, f"const {'bool' if node.is_mask else 'real'} {self.names[i]} = {text};"))
        return found

    def parted(self, roots: Iterable[int], outer: frozenset[ShapeClass]) -> tuple[list[str], list[str]]:
        """Definitions of the roots: those of the classes ``outer``, and the others."""
        lines = self.lines(roots)
        return [x for shape, x in lines if shape in outer], [x for shape, x in lines if shape not in outer]

    def place(self, value: int) -> str:
        """C text of the address of a tensor's first number of a value in scratch."""
        variable = EXTENT[self.scratch.shape(value)][1]
        first = {"element": "tensor.offset", "index": "index"}.get(variable, f"tensor.{variable}_offset")
        return "scratch + " + re.sub(rf"\b{variable}\b", first, self.scratch.index_text(value))

    def kernel(self, name: str, body: Iterable[str]) -> str:
        """Keep a kernel; its name."""
        self.kernels.append(Kernel(name, "\n".join(body)))
        return name

    # --- frames --------------------------------------------------------------------------------------------------

    def tiled(
        self, name: str, extent: str, roots: Iterable[int], statements: Iterable[str], *, of: Tiles | None = None
    ) -> Launch:
        """A pass over the entries of a class, a thread for each: definitions of the roots, then statements."""
        before, inside = self.parted(roots, _OF_TENSOR)
        inside = [*inside, *statements]
        body = [*_defined(_INDICES.get(extent, ()), inside), *inside]
        return Launch(self.kernel(name, _over_tiles(extent, before, body, self._shared_names())), of or Tiles(extent))

    def per_tensor(self, name: str, roots: Iterable[int], statements: Iterable[str]) -> Launch:
        """A thread for each tensor."""
        lines = [*(line for _, line in self.lines(roots)), *statements]
        return Launch(self.kernel(name, _over_tensors(lines, self._shared_names())), "per_tensor")

    def blocks(self, name: str, statements: Iterable[str], of: Tiles) -> Launch:
        """A block for each tensor."""
        text = _over_tiles("", [], [], self._shared_names(), statements)
        return Launch(self.kernel(name, text), of)

    def number(self, value: int) -> str:
        """C text of a host value, rounded to the precision of the tensors."""
        node = self.program.nodes[value]
        text = self._read(value, None)
        assert text is not None
        return f"real({text})" if node.op == "const" else text

    def _shared_names(self) -> tuple[tuple[str, str], ...]:
        stored = self.scratch.size_text()
        after = f"{stored} + {self.partials} * n_partials" if self.partials else stored
        return ("real* partials", f"scratch + {stored}"), ("const real* shifts", f"scratch + {after}")

    # --- launches ------------------------------------------------------------------------------------------------

    def _start(self) -> tuple[Launch, ...]:
        """Fill the slots that do not begin at 0."""
        lines: dict[ShapeClass, list[str]] = {}
        for k, slot in enumerate(self.program.slots):
            if not slot.shape.on_host and slot.init != 0:
                value = "theta_of[i]" if slot.init == "theta" else number_text(float(slot.init))
                lines.setdefault(slot.shape, []).append(f"state[{self.state.index_text(k)}] = {value};")
        launches = []
        for shape, statements in lines.items():
            name = f"start_{shape}s"
            if shape in _ENTRIES:
                launches.append(self.tiled(name, _ENTRIES[shape], (), statements))
            elif shape is ShapeClass.TENSOR:
                launches.append(self.per_tensor(name, (), statements))
            else:
                launches.append(Launch(self.kernel(name, statements), "thread"))
        return tuple(launches)

    def _query(self) -> tuple[Launch, ...]:
        """The first two values say whether the evaluation's offset is taken back, and whether the query asks."""
        query, evaluation = self.program.query, self.program.evaluation
        if not self.program.queries:
            return ()
        lines = ["real queried = theta_of[i];"]
        if evaluation:
            lines.append(f"if (values[0] > 0) queried -= state[{self.state.index_text(evaluation.offset)}];")
        if query:
            lines.append(f"if (values[1] > 0) queried += state[{self.state.index_text(query.offset)}];")
        launches = [self.tiled("query", "elements", (), [*lines, "addresses[2 * n_tensors + index][i] = queried;"])]
        if query and query.outputs:
            body = [
                "const int i = threadIdx.x;",
                f"if (i < n_outputs && i < {len(query.outputs)})",
                "    addresses[3 * n_tensors + 8][i] = addresses[3 * n_tensors + 7][i] + values[2 + i];",
            ]
            launches.append(Launch(self.kernel("query_bias", body), "block"))
        if query and query.as_evaluated:
            body = [
                f"const real* scale = state + {self.state.size_text()};",
                "const int units = tensors[n_tensors - 1].shifted;",
                f"if (values[1] > 0 && t > {STEPS_PER_EPOCH})  // an epoch has ended",
                "    for (int i = threadIdx.x; i < units; i += blockDim.x) addresses[3 * n_tensors + 9][i] = scale[i];",
            ]
            launches.append(Launch(self.kernel("query_scale", body), "block"))
        return tuple(launches)

    def _readout(self) -> tuple[Launch, ...]:
        if not self.uses_shift:
            return ()
        shifts = self._shared_names()[1][1]
        return tuple(
            Launch(self.kernel(name, [f"real* shifts = {shifts};", *body]), "block") for name, body in products.READOUT
        )

    def _gains(self) -> tuple[Launch, ...]:
        query = self.program.query
        if not (query and query.as_evaluated):
            return ()
        moved = re.sub(r"\belement\b", "tensor.offset", self.state.index_text(query.offset))
        body = [
            "const Tensor tensor = tensors[n_tensors - 1];  // before the frozen end",
            f"const real* moved = state + {moved};",
            f"real* scale = state + {self.state.size_text()};",
            *products.FEATURE_GAINS,
        ]
        return (Launch(self.kernel("feature_gains", body), "block"),)

    def _step(self) -> tuple[Launch, ...]:
        launches: list[Launch] = []
        for number, stage in enumerate(self.stages):
            launches += [*self._sums(number, stage), *self._along(number, stage), *self._multiply(number, stage)]
        launches += [self._update(), *self._stores()]
        return tuple(launches)

    def _sums(self, number: int, stage: list[int]) -> list[Launch]:
        group = self.sums_of(stage)
        if not group:
            return []
        nodes = self.program.nodes
        before, inside = self.parted({nodes[i].arguments[0] for i in group}, _OF_TENSOR)
        names = {i: f"sum_{k}" for k, i in enumerate(group)}
        empty = {i: "0" if "sum" in nodes[i].op else _LOWEST for i in group}
        for i in group:
            before.append(f"real {names[i]} = {empty[i]};")
            inside.append(_gather(nodes[i].op, names[i], self.atom(nodes[i].arguments[0], real=True)))
        after = []
        for k, i in enumerate(group):
            reduce = "block_sum" if "sum" in nodes[i].op else "block_max"
            after += [
                f"{names[i]} = {reduce}({names[i]});",
                f"if (threadIdx.x == 0) partials[{k} * n_partials + tile] = {names[i]};",
            ]
        body = [*_defined(_INDICES["elements"], inside), *inside]
        sums = self.kernel(f"sums_{number}", _over_tiles("elements", before, body, self._shared_names(), after))
        lines = [f"const int n = (tensor.rows * tensor.columns + {TILE - 1}) / {TILE};"]
        for k, i in enumerate(group):
            lines += [
                f"real {names[i]} = {empty[i]};",
                "for (int k = 0; k < n; ++k)",
                f"    {_gather(nodes[i].op, names[i], f'partials[{k} * n_partials + tensor.first_tile + k]')}",
                f"scratch[{self.scratch.index_text(i)}] = {names[i]};",
            ]
        return [Launch(sums, Tiles("elements")), self.per_tensor(f"finish_{number}", (), lines)]

    def _along(self, number: int, stage: list[int]) -> list[Launch]:
        """Reductions over rows, columns and the model."""
        nodes = self.program.nodes
        launches = []
        for shape, extent in ((ShapeClass.ROW, "rows"), (ShapeClass.COLUMN, "columns"), (ShapeClass.MODEL, "")):
            group = self.of_class(stage, shape)
            if not group:
                continue
            outer = _OF_TENSOR | {shape} if extent else _OF_MODEL
            before, inside = self.parted({nodes[i].arguments[0] for i in group}, outer)
            for k, i in enumerate(group):
                before.append(f"real sum_{k} = {'0' if 'sum' in nodes[i].op else _LOWEST};")
                inside.append(_gather(nodes[i].op, f"sum_{k}", self.atom(nodes[i].arguments[0], real=True)))
            after = [f"scratch[{self.scratch.index_text(i)}] = sum_{k};" for k, i in enumerate(group)]
            if extent:
                loop, indices = _ALONG[extent]
                inside = [loop, *_indented([*_defined(indices, inside), *inside]), "}"]
                body = [*before, *inside, *after]
                body = [*_defined(_INDICES[extent], body), *body]
                name = self.kernel(f"{extent}_{number}", _over_tiles(extent, [], body, self._shared_names()))
                launches.append(Launch(name, Tiles(extent)))
            else:
                inside = [*_defined((("const Tensor tensor", "tensors[index]"),), inside), *inside]
                loop = ["for (int index = 0; index < n_tensors; ++index) {", *_indented(inside), "}"]
                launches.append(Launch(self.kernel(f"model_{number}", [*before, *loop, *after]), "thread"))
        return launches

    def _multiply(self, number: int, stage: list[int]) -> list[Launch]:
        """Passes that write the matrices of products into scratch, and the products, whose results replace them."""
        nodes = self.program.nodes
        launches: list[Launch] = []
        ends = [i for i in stage if i in self.chains]
        places = dict(pair for i in ends for pair in self.matrices_of(i))
        fresh = {p: m for p, m in places.items() if not (p == m and (m in self.stored or m in self.written))}
        self.written |= fresh.keys()
        moments = {p: ALL.union(self._moments_of(p)) for p in fresh}
        order = sorted(fresh, key=lambda p: (sorted(moments[p]), str(nodes[fresh[p]].shape), p))
        groups = groupby(order, key=lambda p: (moments[p], nodes[fresh[p]].shape))
        for k, ((when, shape), group) in enumerate(groups):
            written = {p: fresh[p] for p in group}
            statements = [
                f"scratch[{self.scratch.index_text(p)}] = {self.atom(m, real=True)};" for p, m in written.items()
            ]
            launch = self.tiled(f"matrices_{number}_{k}", _ENTRIES[shape], set(written.values()), statements)
            launches.append(Launch(launch.kernel, launch.grid, moments=when))
        for i in ends:
            launches += products.launches(self, i, f"{number}_{ends.index(i)}")
        return launches

    def _moments_of(self, place: int) -> Condition:
        """The masks under which all products that read a matrix in scratch are made."""
        readers = [i for i in self.chains if place in dict(self.matrices_of(i))]
        return frozenset.intersection(*(self.found.moments[i] for i in readers))

    def _update(self) -> Launch:
        stores = self.stores_of(ShapeClass.ELEMENT)
        statements = [
            f"addresses[2 * n_tensors + index][i] = {self.atom(self.program.update, real=True)};",
            *(f"state[{self.state.index_text(slot)}] = {self.atom(i, real=True)};" for slot, i in stores),
        ]
        return self.tiled("update", "elements", {self.program.update} | {i for _, i in stores}, statements)

    def _stores(self) -> list[Launch]:
        launches = []
        for shape in (ShapeClass.ROW, ShapeClass.COLUMN, ShapeClass.TENSOR, ShapeClass.MODEL, ShapeClass.LEFT,
                      ShapeClass.RIGHT):  # fmt: skip
            stores = self.stores_of(shape)
            if not stores:
                continue
            roots = {i for _, i in stores}
            lines = [f"state[{self.state.index_text(slot)}] = {self.atom(i, real=True)};" for slot, i in stores]
            name = f"store_{shape}s"
            if shape in _ENTRIES:
                launches.append(self.tiled(name, _ENTRIES[shape], roots, lines))
            elif shape is ShapeClass.TENSOR:
                launches.append(self.per_tensor(name, roots, lines))
            else:
                lines = [*(line for _, line in self.lines(roots)), *lines]
                launches.append(Launch(self.kernel(name, lines), "thread"))
        return launches


def device(program: Program) -> Device:
    """The kernels of a program whose names are fit for C."""
    return Writer(program).device()


def _gather(op: str, name: str, value: str) -> str:
    return f"{name} += {value};" if "sum" in op else f"{name} = larger({name}, {value});"


def _over_tiles(
    extent: str,
    before: list[str],
    body: list[str],
    shared: tuple[tuple[str, str], ...],
    after: Iterable[str] = (),
) -> list[str]:
    """Blocks go from tile to tile, their threads through its units; ``after``: with all threads, behind that."""
    inside = [*before]
    if body:
        size, _, tile = EXTENTS[extent]
        inside += [
            f"const int end = smaller(first + {tile}, {size});",
            "for (int i = first + threadIdx.x; i < end; i += blockDim.x) {",
            *_indented(body),
            "}",
        ]
    inside += after
    indices = (("index", "tiles[2 * tile]"), ("first", "tiles[2 * tile + 1]"), *_OF_INDEX)
    text = [
        "for (int tile = blockIdx.x; tile < n_tiles; tile += gridDim.x) {",
        *_indented(_defined(indices, inside) + inside),
        "}",
    ]
    return [*_defined(shared, text), *text]


def _over_tensors(body: list[str], shared: tuple[tuple[str, str], ...]) -> list[str]:
    text = [
        "for (int index = blockIdx.x * blockDim.x + threadIdx.x; index < n_tensors; index += gridDim.x * blockDim.x) {",
        *_indented(_defined(_OF_INDEX, body) + body),
        "}",
    ]
    return [*_defined(shared, text), *text]


_OF_INDEX = (
    ("const Tensor tensor", "tensors[index]"),
    ("real* theta_of", "addresses[index]"),
    ("real* g_of", "addresses[n_tensors + index]"),
)


def _defined(definitions: Iterable[tuple[str, str]], lines: Iterable[str]) -> list[str]:
    """The definitions of names that occur in the lines, or in one that is used. Names of one word are ints."""
    text = "\n".join(lines)
    kept: list[str] = []
    for name, value in reversed(list(definitions)):
        if re.search(rf"(?<![\w.]){name.rpartition(' ')[2]}\b", text):
            kept.insert(0, f"{name if ' ' in name else f'const int {name}'} = {value};")
            text += "\n" + kept[0]
    return kept


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]
