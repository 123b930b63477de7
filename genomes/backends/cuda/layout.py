"""The memory of a program's kernels: the table of tensors, one slab per lane, the arguments of a launch.

All arrays are ``[lanes, n]``, contiguous, so that lanes can be dropped by moving rows. Within a lane:

| array | numbers | content |
|---|---|---|
| theta, g, update, queried | real | all trainable tensors, one after the other, each row by row |
| state | real | the slots of classes element, row, column, tensor, model, left, right, in this order, of all tensors |
| scratch | real | what stages leave for later ones (`stages`), in the same order; partial sums of reductions |
| host_state, host_values | double | clock values, then role values (all tensors of the first, of the second, ...) |

``real`` is float or double; clock and role values are double whatever it is.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from genomes.backends.readout import frozen_end
from genomes.backends.torch_reference import extent, matrix_shape
from genomes.compiler.program import scramble
from genomes.compiler.shapes import ShapeClass

PIECES = 256  # partial results that a reduction over a tensor has; also the threads of a block
TILE = 1024  # elements of one tensor that a block of an element pass owns
# the size of a class over all tensors, and the variable that counts within it, as the kernels call them
EXTENT = {
    ShapeClass.ELEMENT: ("n_params", "element"),
    ShapeClass.ROW: ("n_rows", "row"),
    ShapeClass.COLUMN: ("n_columns", "column"),
    ShapeClass.TENSOR: ("n_tensors", "index"),
    ShapeClass.MODEL: ("", ""),
    ShapeClass.LEFT: ("n_left", "left"),
    ShapeClass.RIGHT: ("n_right", "right"),
}
ROLE_BITS = {
    "is_weight": 1, "is_bias": 2, "is_norm_scale": 4, "is_norm_shift": 8, "is_first": 16, "is_last": 32,
}  # fmt: skip


class Tensor(ctypes.Structure):
    """One trainable tensor, as the kernels see it.

    ``offset``: of its elements (rows, columns, left and right values) among all tensors'; ``param_index``: its index in
    the list of all parameters.
    """

    _fields_ = (
        ("depth_fraction", ctypes.c_double),
        ("offset", ctypes.c_int),
        ("row_offset", ctypes.c_int),
        ("column_offset", ctypes.c_int),
        ("left_offset", ctypes.c_int),
        ("right_offset", ctypes.c_int),
        ("rows", ctypes.c_int),
        ("columns", ctypes.c_int),
        ("roles", ctypes.c_int),
        ("param_index", ctypes.c_int),
        ("unused", ctypes.c_int),
    )


SIZES = (
    "n_tensors", "n_params", "n_rows", "n_columns", "n_left", "n_right", "n_layers", "steps_per_epoch", "n_outputs",
    "shift_tensor",
)  # fmt: skip


class Arguments(ctypes.Structure):
    """The argument of every kernel, by value: sizes, addresses of the model's tables, addresses of the lanes' arrays.

    ``alive``, ``steps``, ``epoch``, ``has_loss``, ``active``, ``asked`` (whether the query's own condition holds),
    ``not_finite``: int32 ``[lanes]``; ``seed``: uint32 ``[lanes]``, see ``seed_word``; ``train_loss``, ``val_loss``:
    double ``[lanes]``; ``constants``: double ``[lanes, constants of the program]``; ``output_bias``: real ``[lanes,
    n_outputs]``; ``output_shift``: real ``[lanes, n_outputs, rows of shift_tensor]``.
    """

    _fields_ = (
        *((name, ctypes.c_int) for name in ("lanes", *SIZES)),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "tensors", "tile_tensor", "tile_start", "tensor_of_row", "tensor_of_column",
                "alive", "seed", "epoch", "has_loss", "train_loss", "val_loss", "constants",
                "theta", "g", "update", "queried", "output_bias", "output_shift",
                "steps", "active", "asked", "not_finite",
                "state", "scratch", "host_state", "host_values",
            )
        ),
    )  # fmt: skip


DECLARATIONS = """\
struct Tensor {  // one trainable tensor; offsets are those of its elements, rows and columns among all tensors'
    double depth_fraction;
    int offset, row_offset, column_offset, left_offset, right_offset, rows, columns, roles, param_index, unused;
};

struct Arguments {  // arrays of the model, then arrays [lanes, n]
    int lanes, n_tensors, n_params, n_rows, n_columns, n_left, n_right, n_layers, steps_per_epoch, n_outputs;
    int shift_tensor;
    const Tensor* tensors;
    const int *tile_tensor, *tile_start, *tensor_of_row, *tensor_of_column;
    const int* alive;
    const unsigned* seed;
    const int *epoch, *has_loss;
    const double *train_loss, *val_loss, *constants;
    real* theta;
    const real* g;
    real *update, *queried, *output_bias;
    const real* output_shift;
    int *steps, *active, *asked, *not_finite;
    real *state, *scratch;
    double *host_state, *host_values;
};
"""


@dataclass(frozen=True)
class Model:
    """The trainable tensors of a model, in order. ``shapes``: ``[out, in]`` each; ``roles``: bits; ``depths``: 0..1;
    ``param_indices``: in the list of all parameters; ``n_layers``: the last trainable one included; ``n_outputs``:
    behind a frozen end, ``shift_tensor``: the tensor before it (see `genomes.backends.readout`), or 0 and -1."""

    shapes: tuple[tuple[int, int], ...]
    roles: tuple[int, ...]
    depths: tuple[float, ...]
    param_indices: tuple[int, ...]
    n_layers: int
    steps_per_epoch: int = 0
    n_outputs: int = 0
    shift_tensor: int = -1

    @classmethod
    def from_context(
        cls,
        shapes: Sequence[Sequence[int]],
        roles: Sequence[str],
        trainable: Sequence[bool],
        layers: Sequence[int],
        steps_per_epoch: int = 0,
    ) -> Self:
        """The model of ``init_state``'s context: one entry per tensor; those that do not train are left out."""
        kept = [i for i, flag in enumerate(trainable) if flag]
        last = max((layers[i] for i in kept), default=0)
        bits = [
            ROLE_BITS.get(f"is_{roles[i]}", 0)
            | (ROLE_BITS["is_first"] if layers[i] == 0 else 0)
            | (ROLE_BITS["is_last"] if layers[i] == last else 0)
            for i in kept
        ]
        end = frozen_end(shapes, roles, layers, trainable)
        return cls(
            tuple(matrix_shape(shapes[i]) for i in kept),
            tuple(bits),
            tuple(layers[i] / last if last else 0.0 for i in kept),
            tuple(kept),
            last + 1,
            steps_per_epoch,
            shapes[end[-1]][0] if end else 0,
            kept.index(end[0]) if end else -1,
        )

    @property
    def n_tensors(self) -> int:
        """Number of trainable tensors."""
        return len(self.shapes)

    @property
    def n_params(self) -> int:
        """Number of elements of all tensors."""
        return sum(rows * columns for rows, columns in self.shapes)

    @property
    def n_rows(self) -> int:
        """Number of rows of all tensors."""
        return sum(rows for rows, _ in self.shapes)

    @property
    def n_columns(self) -> int:
        """Number of columns of all tensors."""
        return sum(columns for _, columns in self.shapes)

    @property
    def n_left(self) -> int:
        """Numbers per left value of all tensors."""
        return self.offset(ShapeClass.LEFT, self.n_tensors)

    @property
    def n_right(self) -> int:
        """Numbers per right value of all tensors."""
        return self.offset(ShapeClass.RIGHT, self.n_tensors)

    def offset(self, shape: ShapeClass, tensor: int) -> int:
        """The index of a tensor's first number in a value of class ``shape``."""
        return sum(math.prod(extent(shape, matrix)) for matrix in self.shapes[:tensor])

    @property
    def shift_size(self) -> int:
        """Number of entries of the tensor before a frozen end; 0 without one."""
        return self.shapes[self.shift_tensor][0] if self.n_outputs else 0

    def size(self, shape: ShapeClass) -> int:
        """Numbers per lane that a value of class ``shape`` holds."""
        name = EXTENT[shape][0]
        return getattr(self, name) if name else 1

    def tensors(self) -> ctypes.Array:
        """The table of tensors."""
        table = (Tensor * self.n_tensors)()
        offset = row = column = left = right = 0
        for entry, (rows, columns), *about in zip(
            table, self.shapes, self.roles, self.depths, self.param_indices, strict=True
        ):
            entry.offset, entry.row_offset, entry.column_offset = offset, row, column
            entry.left_offset, entry.right_offset = left, right
            entry.rows, entry.columns = rows, columns
            entry.roles, entry.depth_fraction, entry.param_index = about
            offset, row, column = offset + rows * columns, row + rows, column + columns
            left += math.prod(extent(ShapeClass.LEFT, (rows, columns)))
            right += columns * columns
        return table

    def tiles(self) -> list[tuple[int, int]]:
        """(tensor, first element within it) of each block of an element pass."""
        return [(k, start) for k, (rows, columns) in enumerate(self.shapes) for start in range(0, rows * columns, TILE)]

    def tensor_of(self, axis: int) -> list[int]:
        """The tensor of each row (``axis`` 0) or column (1)."""
        return [k for k, shape in enumerate(self.shapes) for _ in range(shape[axis])]


def seed_word(seed: bytes) -> int:
    """The hash of a lane's seed that its kernels get: `random_word` goes on from it with step, tensor and stream."""
    word = 0
    for k in range(0, len(seed), 4):
        word = scramble((word + 0x9E3779B9 * (int.from_bytes(seed[k : k + 4], "little") + 1)) & 0xFFFFFFFF)
    return word


@dataclass(frozen=True)
class Slab:
    """Where the values of some classes lie within a lane. ``values``: (number of a value, its class), in any order."""

    values: tuple[tuple[int, ShapeClass], ...]

    def index_text(self, value: int) -> str:
        """C text of the index of ``value``: the offset of its block plus the variable of its class. Raises KeyError."""
        terms: list[str] = []
        for shape, (size, variable) in EXTENT.items():
            block = [n for n, s in self.values if s is shape]
            before = block.index(value) if value in block else len(block)
            if before:
                terms.append(_times(before, size))
            if value in block:
                return " + ".join([*terms, variable] if variable else terms or ["0"])
        raise KeyError(value)

    def offset(self, value: int, model: Model) -> int:
        """The index of the first number of ``value``."""
        order = [(n, s) for shape in EXTENT for n, s in self.values if s is shape]
        before = [n for n, _ in order].index(value)
        return sum(model.size(shape) for _, shape in order[:before])

    def size(self, model: Model) -> int:
        """Numbers per lane."""
        return sum(model.size(shape) for _, shape in self.values)

    def size_text(self) -> str:
        """C text of ``size``."""
        return _sum_text(EXTENT[shape][0] for _, shape in self.values)

    def shape(self, value: int) -> ShapeClass:
        """The class of ``value``."""
        return dict(self.values)[value]


@dataclass(frozen=True)
class HostSlab:
    """Where double values of classes clock and role lie within a lane. ``clock``, ``role``: numbers of the values."""

    clock: tuple[int, ...]
    role: tuple[int, ...]

    def index_text(self, value: int) -> str:
        """C text of the index of ``value``; ``index`` is the tensor's number. Raises ValueError."""
        if value in self.clock:
            return str(self.clock.index(value))
        terms = [str(len(self.clock))] if self.clock else []
        if before := self.role.index(value):
            terms.append(_times(before, "n_tensors"))
        return " + ".join([*terms, "index"])

    def size(self, model: Model) -> int:
        """Numbers per lane."""
        return len(self.clock) + len(self.role) * model.n_tensors

    def size_text(self) -> str:
        """C text of ``size``."""
        return _sum_text([""] * len(self.clock) + ["n_tensors"] * len(self.role))


@dataclass(frozen=True)
class Launch:
    """One kernel of the text. ``unit``: what its threads or blocks stand for; see ``grid``."""

    kernel: str
    unit: str


@dataclass(frozen=True)
class Product:
    """A library call between two kernels: see `genomes.backends.cuda.products.carry_out`.

    ``op``: an operation of `program.MATRIX` or `program.SQUARE`; ``matrices``: the values in `Source.scratch` that it
    reads; ``result``: the value there that it writes, a matrix, which may be the one that it read, or one number per
    tensor; ``numbers``: for each time that it is done, the values in `Source.scratch` (one number per tensor) that it
    takes besides matrices; ``roles``: the ``roles`` of the tensors that need it.
    """

    op: str
    matrices: tuple[int, ...]
    result: int
    numbers: tuple[tuple[int, ...], ...]
    roles: frozenset[int]


@dataclass(frozen=True)
class Source:
    """A program's text. ``key``: hex digest of the text; ``step``: what to launch or to have a library do, in order;
    ``state`` ...: where values lie; ``partials``: reductions over tensors in the stage that has most."""

    text: str
    key: str
    start: tuple[Launch, ...]
    query: tuple[Launch, ...]
    step: tuple[Launch | Product, ...]
    state: Slab
    scratch: Slab
    partials: int
    host_state: HostSlab
    host_values: HostSlab

    def sizes(self, model: Model) -> dict[str, int]:
        """Numbers per lane of the arrays ``state``, ``scratch``, ``host_state``, ``host_values``."""
        return {
            "state": self.state.size(model),
            "scratch": self.scratch.size(model) + self.partials * model.n_tensors * PIECES,
            "host_state": self.host_state.size(model),
            "host_values": self.host_values.size(model),
        }


def grid(unit: str, model: Model, lanes: int) -> tuple[int, int]:
    """Blocks along x and y of a launch, of PIECES threads each. ``unit``: see `Launch`."""
    per_thread = {"tensor": model.n_tensors, "row": model.n_rows, "column": model.n_columns}
    if unit == "lane":
        return -(-lanes // PIECES), 1
    if unit in per_thread:
        return -(-per_thread[unit] // PIECES), lanes
    return (len(model.tiles()) if unit == "tile" else model.n_tensors), lanes


def _sum_text(sizes: Iterable[str]) -> str:
    counts: dict[str, int] = {}
    for size in sizes:
        counts[size] = counts.get(size, 0) + 1
    return " + ".join(_times(n, size) for size, n in counts.items()) or "0"


def _times(count: int, size: str) -> str:
    if not size:
        return str(count)
    return size if count == 1 else f"{count} * {size}"
