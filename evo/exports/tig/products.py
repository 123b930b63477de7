"""The CUDA text of products of matrices, and of what an optimizer may know of a network's frozen end.

A thread computes 4 x 4 entries of a product (`multiply` in the helpers). What works on one matrix as a whole, such as
Gram-Schmidt or the order of entries, is one block per tensor, whose threads wait for one another. Sources of the
algorithms: as `genomes.backends.torch_reference`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from evo.exports.tig.layout import Launch, Tiles
from genomes.backends.cuda.layout import Slab
from genomes.compiler.branches import Conditions
from genomes.compiler.program import Program
from genomes.compiler.shapes import ShapeClass

_LEFT, _RIGHT, _ELEMENT, _TENSOR = ShapeClass.LEFT, ShapeClass.RIGHT, ShapeClass.ELEMENT, ShapeClass.TENSOR
ROOT_STEPS = 32  # of the Newton iteration at most
_ROOT_SPACES = 7  # square values that it works on, beside one number per tensor


class Writer(Protocol):
    """What prints the kernels: see `evo.exports.tig.kernels`."""

    program: Program
    found: Conditions
    scratch: Slab
    chains: dict[int, tuple[int, ...]]
    spaces: tuple[ShapeClass, ...]

    def matrices_of(self, product: int) -> list[tuple[int, int]]:
        """The values in scratch that a product reads, and those that are to be found there."""
        ...

    def numbers_of(self, product: int) -> tuple[tuple[int, ...], ...]:
        """For each link of a chain of products the host values that it takes."""
        ...

    def place(self, value: int) -> str:
        """C text of the address of a tensor's first number of a value in scratch."""
        ...

    def number(self, value: int) -> str:
        """C text of a host value."""
        ...

    def tiled(
        self, name: str, extent: str, roots: Iterable[int], statements: Iterable[str], *, of: Tiles | None = None
    ) -> Launch:
        """A pass over the entries of a class, a thread for each."""
        ...

    def blocks(self, name: str, statements: Iterable[str], of: Tiles) -> Launch:
        """A block for each tensor."""
        ...


def workspaces(program: Program, chains: Mapping[int, tuple[int, ...]]) -> tuple[ShapeClass, ...]:
    """Classes of the values in scratch that products work on, beside what they read and leave."""
    nodes, spaces = program.nodes, []
    for i in chains:
        match nodes[i].op:
            case "odd_polynomial":
                wanted = [_LEFT, _LEFT, _ELEMENT]
            case "inverse_root":
                wanted = [nodes[i].shape] * _ROOT_SPACES + [_TENSOR, _TENSOR]
            case "gram_schmidt":
                wanted = [nodes[i].shape]
            case _:
                wanted = []
        spaces += [s for s in dict.fromkeys(wanted) for _ in range(wanted.count(s) - spaces.count(s))]
    return tuple(spaces)


def launches(writer: Writer, i: int, name: str) -> list[Launch]:
    """The kernels of a product, or of a chain of them that ends in node ``i``. ``name``: of the stage and its place."""
    op = writer.program.nodes[i].op
    made = _WRITERS[op](_Product(writer, i), f"{op}_{name}")
    moments = writer.found.moments[i]
    return [Launch(launch.kernel, launch.grid, moments, launch.turn) for launch in made]


class _Product:
    """A product under printing: where its matrices, its result and its workspaces are."""

    def __init__(self, writer: Writer, i: int):
        self.writer = writer
        self.shape = writer.program.nodes[i].shape
        self.matrices = [writer.place(place) for place, _ in writer.matrices_of(i)]
        self.shapes = [writer.scratch.shape(place) for place, _ in writer.matrices_of(i)]
        self.result = writer.place(i)
        self.numbers = [[writer.number(n) for n in link] for link in writer.numbers_of(i)]
        self.needed = writer.found.nodes[i]

    def tiles(self, extent: str) -> Tiles:
        return Tiles(extent, self.needed)

    def spaces(self, shape: ShapeClass) -> list[str]:
        """Places of the workspaces of a class."""
        return [self.writer.place(-1 - k) for k, s in enumerate(self.writer.spaces) if s is shape]

    def tiled(self, name: str, extent: str, statements: Iterable[str]) -> Launch:
        return self.writer.tiled(name, extent, (), statements, of=self.tiles(extent))

    def per_block(self, name: str, statements: Iterable[str]) -> Launch:
        return self.writer.blocks(name, statements, self.tiles("tensors"))

    @property
    def side(self) -> str:
        """C text of the size of a square result."""
        return "tensor.rows" if self.shape is _LEFT else "tensor.columns"

    @property
    def entries(self) -> str:
        return {_LEFT: "left", _RIGHT: "right"}[self.shape]

    @property
    def is_diagonal(self) -> str:
        """C text of whether a square result is a diagonal alone."""
        return "tensor.columns == 1" if self.shape is _LEFT else "false"


def _matrix(shape: ShapeClass) -> tuple[str, str]:
    """C texts of the distances of rows and of columns of a value of a class."""
    return {_ELEMENT: ("1", "tensor.rows"), _LEFT: ("tensor.rows", "1"), _RIGHT: ("tensor.columns", "1")}[shape]


def _multiplied(
    sizes: tuple[str, str, str],
    x: tuple[str, tuple[str, str]],
    y: tuple[str, tuple[str, str]],
    z: tuple[str, tuple[str, str]],
    more: str = "1, 0, 0",
) -> str:
    """A call of ``multiply``: z = alpha x y + beta w of (rows, columns, length); ``more``: alpha, beta, w."""
    arguments = [*sizes, *(f"{place}, {row}, {column}" for place, (row, column) in (x, y, z)), more]
    return f"multiply(i, {', '.join(arguments)});"


def _transposed(strides: tuple[str, str]) -> tuple[str, str]:
    return strides[1], strides[0]


def _outer(product: _Product, name: str) -> list[Launch]:
    x, y = product.matrices
    element = _matrix(_ELEMENT)
    call = _multiplied(
        ("tensor.rows", "tensor.rows", "tensor.columns"), (x, element), (y, _transposed(element)),
        (product.result, _matrix(_LEFT)),
    )  # fmt: skip
    alone = f"if (tensor.columns == 1) ({product.result})[i] = ({x})[i] * ({y})[i];"
    return [product.tiled(name, "left_blocks", [alone, f"else {call}"])]


def _inner(product: _Product, name: str) -> list[Launch]:
    x, y = product.matrices
    element = _matrix(_ELEMENT)
    call = _multiplied(
        ("tensor.columns", "tensor.columns", "tensor.rows"), (x, _transposed(element)), (y, element),
        (product.result, _matrix(_RIGHT)),
    )  # fmt: skip
    return [product.tiled(name, "right_blocks", [call])]


def _matmul(product: _Product, name: str) -> list[Launch]:
    x, y = product.matrices
    if product.shape is _ELEMENT:
        rows, columns = "tensor.rows", "tensor.columns"
        length = rows if product.shapes[0] is _LEFT else columns
        extent = "element_blocks"
    else:
        rows = columns = length = product.side
        extent = f"{product.entries}_blocks"
    call = _multiplied(
        (rows, columns, length), (x, _matrix(product.shapes[0])), (y, _matrix(product.shapes[1])),
        (product.result, _matrix(product.shape)),
    )  # fmt: skip
    if product.shape is _RIGHT:
        return [product.tiled(name, extent, [call])]
    other = "0" if product.shapes[1] is _RIGHT else "i"
    alone = f"if (tensor.columns == 1) ({product.result})[i] = ({x})[i] * ({y})[{other}];"
    return [product.tiled(name, extent, [alone, f"else {call}"])]


def _transpose(product: _Product, name: str) -> list[Launch]:
    (x,), n = product.matrices, product.side
    at = f"{product.is_diagonal} ? i : i % {n} * {n} + i / {n}"
    return [product.tiled(name, product.entries, [f"({product.result})[i] = ({x})[{at}];"])]


def _identity(product: _Product, name: str) -> list[Launch]:
    n = product.side
    on = f"{product.is_diagonal} || i / {n} == i % {n}"
    return [product.tiled(name, product.entries, [f"({product.result})[i] = {on} ? real(1) : real(0);"])]


def _matrix_trace(product: _Product, name: str) -> list[Launch]:
    (x,), (shape,) = product.matrices, product.shapes
    n = "tensor.rows" if shape is _LEFT else "tensor.columns"
    step = "(tensor.columns > 1 ? tensor.rows + 1 : 1)" if shape is _LEFT else "(tensor.columns + 1)"
    body = [
        "real trace = 0;",
        f"for (int i = threadIdx.x; i < {n}; i += blockDim.x) trace += ({x})[i * {step}];",
        "trace = block_sum(trace);",
        f"if (threadIdx.x == 0) *({product.result}) = trace;",
    ]
    return [product.per_block(name, body)]


def _gram_schmidt(product: _Product, name: str) -> list[Launch]:
    (x,), n = product.matrices, product.side
    parts = product.spaces(product.shape)[0]
    body = [
        f"const int n = {n};",
        f"const real* x = {x};",
        f"real *z = {product.result}, *parts = {parts};",
        f"if ({product.is_diagonal}) {{",
        "    for (int i = threadIdx.x; i < n; i += blockDim.x) z[i] = sign(x[i]);",
        "    continue;",
        "}",
        "for (int i = threadIdx.x; i < n * n; i += blockDim.x) z[i] = x[i];",
        "__syncthreads();",
        "for (int k = 0; k < n; ++k) {  // column k, less its parts along those before",
        "    for (int turn = 0; turn < 2; ++turn) {",
        "        for (int j = threadIdx.x; j < k; j += blockDim.x) {",
        "            real part = 0;",
        "            for (int i = 0; i < n; ++i) part += z[i * n + j] * z[i * n + k];",
        "            parts[j] = part;",
        "        }",
        "        __syncthreads();",
        "        for (int i = threadIdx.x; i < n; i += blockDim.x) {",
        "            real part = 0;",
        "            for (int j = 0; j < k; ++j) part += z[i * n + j] * parts[j];",
        "            z[i * n + k] -= part;",
        "        }",
        "        __syncthreads();",
        "    }",
        "    real norm = 0;",
        "    for (int i = threadIdx.x; i < n; i += blockDim.x) norm += z[i * n + k] * z[i * n + k];",
        "    norm = sqrtf(block_sum(norm));",
        "    for (int i = threadIdx.x; i < n; i += blockDim.x) z[i * n + k] = safe_div(z[i * n + k], norm);",
        "    __syncthreads();",
        "}",
    ]
    return [product.per_block(name, body)]


def _inverse_root(product: _Product, name: str) -> list[Launch]:
    """X T, T^p M in turn, of two copies each; a tensor at rest keeps the copy of X that its last turn left.

    ``stage``: 0 while M is away from I, then 1 in the last turn, then 2 and the number of the copy.
    """
    (x,), ((p, epsilon),), n = product.matrices, product.numbers, product.side
    m, m_next, root, root_next, t, square, lift = product.spaces(product.shape)
    norm, stage = product.spaces(_TENSOR)[:2]
    entries, blocks = product.entries, f"{product.entries}_blocks"
    strides = _matrix(product.shape)
    size = f"({n}) * ({product.is_diagonal} ? 1 : {n})"
    eye = f"(i / {n} == i % {n} ? real(1) : real(0))"
    turned = ["const bool odd = turn % 2;", f"const real p = floorf({p});"]
    working = f"if (*({stage}) < 2 && !({product.is_diagonal}))"

    def multiplied(left: str, right: str, result: str) -> str:
        return _multiplied((n, n, n), (left, strides), (right, strides), (result, strides))

    start = [
        "real sum = 0;",
        f"for (int i = threadIdx.x; i < {size}; i += blockDim.x) sum += ({x})[i] * ({x})[i];",
        "sum = block_sum(sum);",
        f"if (threadIdx.x == 0) *({norm}) = sqrtf(sum);",
        f"if (threadIdx.x == 0) *({stage}) = 0;",
    ]
    scale = [
        f"const real p = floorf({p}), z = (p + 1) / 2, norm = *({norm});",
        f"const real scaled = safe_div(({x})[i], norm) + {epsilon} * ({product.is_diagonal} ? real(1) : {eye});",
        f"if ({product.is_diagonal}) ({root})[i] = powf(scaled, -1 / p);",
        f"else ({m})[i] = z * scaled, ({root})[i] = powf(z, 1 / p) * {eye};",
    ]
    check = [
        f"const real* m = turn % 2 ? {m_next} : {m};",
        f"if ({product.is_diagonal} || *({stage}) > 1) continue;",
        "real distance = 0;",
        f"for (int i = threadIdx.x; i < {size}; i += blockDim.x) distance = larger(distance, fabsf(m[i] - {eye}));",
        "distance = block_max(distance);",
        f"const bool last = turn == {ROOT_STEPS - 1} || distance <= real(sizeof(real) == 4 ? 3.4526698e-04 : "
        "1.4901161193847656e-08);",
        "__syncthreads();",
        f"if (threadIdx.x == 0 && *({stage}) == 1) *({stage}) = 2 + (turn % 2);",
        f"else if (threadIdx.x == 0 && last) *({stage}) = 1;",
        "__syncthreads();",
    ]
    step = [
        *turned,
        f"{working} ({t})[i] = ((p + 1) * {eye} - (odd ? {m_next} : {m})[i]) / p;",
    ]
    grow = [
        *turned,
        f"{working} {{",
        "    " + multiplied(f"odd ? {root_next} : {root}", t, f"odd ? {root} : {root_next}"),
        "    if (p > 1) " + multiplied(t, t, square),
        "}",
    ]
    cube = [*turned, f"{working} if (p > 2) " + multiplied(square, f"p > 3 ? {square} : {t}", lift)]
    shrink = [
        *turned,
        f"{working} " + multiplied(f"p > 2 ? {lift} : p > 1 ? {square} : {t}", f"odd ? {m_next} : {m}",
                                   f"odd ? {m} : {m_next}"),
    ]  # fmt: skip
    finish = [
        f"const real p = floorf({p}), norm = *({norm});",
        f"const real* root = *({stage}) == 3 ? {root_next} : {root};",
        f"({product.result})[i] = norm == 0 ? real(0) : powf(norm, -1 / p) * root[i];",
    ]
    first = [product.per_block(f"{name}_norm", start), product.tiled(f"{name}_start", entries, scale)]
    turns = [
        product.per_block(f"{name}_check", check),
        product.tiled(f"{name}_step", entries, step),
        product.tiled(f"{name}_grow", blocks, grow),
        product.tiled(f"{name}_cube", blocks, cube),
        product.tiled(f"{name}_shrink", blocks, shrink),
    ]
    repeated = [Launch(one.kernel, one.grid, turn=turn) for turn in range(ROOT_STEPS) for one in turns]
    last = Launch(turns[0].kernel, turns[0].grid, turn=ROOT_STEPS)
    return [*first, *repeated, last, product.tiled(f"{name}_finish", entries, finish)]


def _odd_polynomial(product: _Product, name: str) -> list[Launch]:
    """In turn from one copy to the other; the last goes where the result is wanted."""
    square, factor = product.spaces(_LEFT)[:2]
    other = product.spaces(_ELEMENT)[0]
    element, side = _matrix(_ELEMENT), ("side", "1")
    found = []
    here, there = product.result, other
    wide = ["const bool wide = tensor.rows <= tensor.columns;", "const int side = wide ? tensor.rows : tensor.columns;"]
    for k, (a, b, c) in enumerate(product.numbers):
        first = _multiplied(
            ("side", "side", "wide ? tensor.columns : tensor.rows"),
            (here, ("wide ? 1 : tensor.rows", "wide ? tensor.rows : 1")),
            (here, ("wide ? tensor.rows : 1", "wide ? 1 : tensor.rows")),
            (square, side),
        )
        second = _multiplied(
            ("side", "side", "side"), (square, side), (square, side), (factor, side), f"{c}, {b}, {square}"
        )
        sizes = "tensor.rows", "tensor.columns"
        more = f"1, {a}, {here}"
        left = _multiplied((*sizes, "side"), (factor, side), (here, element), (there, element), more)
        right = _multiplied((*sizes, "side"), (here, element), (factor, side), (there, element), more)
        vector = f"if (tensor.columns == 1) ({there})[i] = {a} * ({here})[i] + ({here})[i] * *({factor});"
        lines = [*wide, vector, f"else if (wide) {left}", f"else {right}"]
        found += [
            product.tiled(f"{name}_square_{k}", "side_blocks", [*wide, first]),
            product.tiled(f"{name}_factor_{k}", "side_blocks", [*wide, second]),
            product.tiled(f"{name}_product_{k}", "element_blocks", lines),
        ]
        here, there = there, here
    if here != product.result:
        found.append(product.tiled(f"{name}_copy", "elements", [f"({product.result})[i] = ({here})[i];"]))
    return found


def _order_statistic(product: _Product, name: str) -> list[Launch]:
    """From the highest bit of the entries' keys to the lowest: how many of those that agree so far have it not."""
    (x,), ((k,),) = product.matrices, product.numbers
    body = [
        "const int size = tensor.rows * tensor.columns;",
        f"const real* x = {x};",
        f"const real wanted = smaller(larger(floorf({k}), real(0)), real(size - 1));",
        "int place = wanted == wanted ? (int)wanted : 0, count = 0;",
        "for (int i = threadIdx.x; i < size; i += blockDim.x) count += x[i] != x[i];",
        "const bool lost = block_sum(count) > 0;",
        "Key::Word prefix = 0, known = 0;",
        "for (int bit = 8 * (int)sizeof(Key::Word) - 1; bit >= 0; --bit) {",
        "    count = 0;",
        "    for (int i = threadIdx.x; i < size; i += blockDim.x) {",
        "        const Key::Word key = Key::of(x[i]);",
        "        count += (key & known) == prefix && !(key >> bit & 1);",
        "    }",
        "    count = block_sum(count);",
        "    const Key::Word here = (Key::Word)1 << bit;",
        "    if (place >= count) place -= count, prefix |= here;",
        "    known |= here;",
        "}",
        f"if (threadIdx.x == 0) *({product.result}) = lost ? real(1e308 * 10 * 0) : Key::back(prefix);",
    ]
    return [product.per_block(name, body)]


_WRITERS = {
    "outer": _outer, "inner": _inner, "matmul": _matmul, "transpose": _transpose, "identity": _identity,
    "matrix_trace": _matrix_trace, "gram_schmidt": _gram_schmidt, "inverse_root": _inverse_root,
    "odd_polynomial": _odd_polynomial, "order_statistic": _order_statistic,
}  # fmt: skip
OPERATIONS = frozenset(_WRITERS)

# The shifts of `genomes.backends.readout`, [outputs, n], then the Jacobian, rows to work on, gains [units].
_END = [
    "int n = 0, units = 0;",
    "for (int index = 0; index < n_tensors; ++index)",
    "    if (tensors[index].shifted > 0) n = tensors[index].rows, units = tensors[index].shifted;",
    "real* const* end = addresses + 3 * n_tensors;",
    "real *jacobian = shifts + n_outputs * n, *work = jacobian + n_outputs * n, *gain = work + n_outputs * n;",
]
_UNITS = [  # a loop over the frozen units, with the mean and the spread of each
    "for (int unit = blockIdx.x * blockDim.x + threadIdx.x; unit < units; unit += gridDim.x * blockDim.x) {",
    "    real center = 0;",
    "    for (int i = 0; i < n; ++i) center += end[1][i * units + unit] * end[0][i];",
    "    center += end[2][unit];",
    "    real spread = sqrtf(3 * end[5][unit] + real(1e-8));  // about right for a centered unit",
    "    for (int step = 0; step < 8; ++step) {",
    "        const real ratio = center / spread, density = expf(real(-0.5) * ratio * ratio) / "
    "real(2.5066282746310002);",
    "        const real excess = center * normal_share(ratio) + spread * density - end[4][unit];",
    "        spread = smaller(larger(spread - excess / larger(density, real(1e-3)), real(1e-4)), real(1e4));",
    "    }",
]
READOUT = (
    ("readout_gain", [
        *_END,
        *_UNITS,
        "    gain[unit] = normal_share(center / spread) * end[3][unit] / sqrtf(end[5][unit] + real(1e-5));",
        "}",
    ]),
    ("readout_jacobian", [
        *_END,
        "for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n_outputs * n; i += gridDim.x * blockDim.x) {",
        "    const real *last = end[6] + i / n, *weight = end[1] + i % n * units;",
        "    real sum = 0;",
        "    for (int unit = 0; unit < units; ++unit) sum += last[unit * n_outputs] * gain[unit] * weight[unit];",
        "    jacobian[i] = sum;",
        "}",
    ]),
    ("readout_shifts", [
        *_END,
        "for (int k = 0; k < n_outputs; ++k) {",
        "    real *row = jacobian + k * n, *rest = shifts + k * n;",
        "    for (int i = threadIdx.x; i < n; i += blockDim.x) rest[i] = row[i];",
        "    for (int j = 0, count = 0; j < n_outputs; ++j) {",
        "        if (j == k) continue;",
        "        real* other = work + count * n;",
        "        for (int i = threadIdx.x; i < n; i += blockDim.x) other[i] = jacobian[j * n + i];",
        "        __syncthreads();",
        "        for (int e = 0; e < count; ++e) take_along(other, work + e * n, n);",
        "        ++count;",
        "    }",
        "    __syncthreads();",
        "    for (int e = 0; e + 1 < n_outputs; ++e) take_along(rest, work + e * n, n);",
        "    const real size = dot(rest, row, n), least = real(1e-8) * dot(row, row, n);",
        "    for (int i = threadIdx.x; i < n; i += blockDim.x) rest[i] = size > least ? rest[i] / size : real(0);",
        "    __syncthreads();",
        "}",
    ]),
)  # fmt: skip

# `feature_gains` of `genomes.backends.readout` [units], for the change ``moved`` of the tensor before the frozen end.
FEATURE_GAINS = (
    "const int n = tensor.rows, units = tensor.shifted;",
    "real* const* end = addresses + 3 * n_tensors;",
    *_UNITS,
    "    real change = 0;",
    "    for (int i = 0; i < n; ++i) change += end[1][i * units + unit] * moved[i];",
    "    const real var = end[5][unit], least = real(1e-6) * spread * spread;",
    "    const real here = rectified_variance(center, spread) + least;",
    "    const real there = rectified_variance(center + change, spread) + least;",
    "    const real ratio = sqrtf(there / here * larger(1 + (there - here) / (var + real(1e-12)), real(0.0625)));",
    "    const real factor = sqrtf((var * ratio + real(1e-5)) / (var + real(1e-5)));",
    "    scale[unit] = end[3][unit] * smaller(larger(factor, real(0.25)), real(4));",
    "}",
)
