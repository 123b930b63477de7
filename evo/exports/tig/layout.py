"""What the kernels and the host part of a bundle agree on: parameters, tiles, launches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genomes.backends.cuda.layout import Slab
from genomes.compiler.branches import ALL, Condition

THREADS = 256  # of a block
TILE = 1024  # entries of a tile
PARAMETERS = (
    ("const Tensor*", "tensors"), ("const int*", "tiles"), ("int", "n_tiles"), ("real* const*", "addresses"),
    ("const real*", "values"), ("real*", "state"), ("real*", "scratch"), ("int", "n_tensors"), ("int", "n_params"),
    ("int", "n_rows"), ("int", "n_columns"), ("int", "n_left"), ("int", "n_right"), ("int", "n_partials"),
    ("int", "last_layer"), ("int", "n_outputs"), ("unsigned", "seed"), ("unsigned", "t"), ("int", "turn"),
)  # fmt: skip
TENSOR_FIELDS = (
    "offset", "row_offset", "column_offset", "left_offset", "right_offset", "rows", "columns", "roles", "layer",
    "param_index", "first_tile", "shifted",
)  # fmt: skip


@dataclass(frozen=True)
class Tiles:
    """A list of tiles. ``extent``: what is divided, a key of `EXTENTS`; ``needed``: for which tensors."""

    extent: str
    needed: Condition = ALL


@dataclass(frozen=True)
class Launch:
    """One launch. ``kernel``: its name, without the bundle's; ``grid``: the tiles whose blocks it has, a thread per
    tensor, one block, or one thread. ``moments``: the masks of the clock under which it is made. ``turn``: its argument
    of that name."""

    kernel: str
    grid: Tiles | Literal["per_tensor", "block", "thread"]
    moments: Condition = ALL
    turn: int = 0


@dataclass(frozen=True)
class Kernel:
    """A kernel's statements; its name, without the bundle's."""

    name: str
    body: str


@dataclass(frozen=True)
class Device:
    """The kernels of a program. ``start``: before the first step; ``partials``: sums over tensors of a stage at most.

    ``readout``: before a step that is the last of an epoch; ``step``: in order; ``gains``: after an epoch's last step,
    write the scale of frozen features for queries behind ``state``; ``values``: what the host gives to the kernels, the
    numbers of clock values and of role values. ``uses_shift``: whether it asks for `readout`'s shifts.
    """

    kernels: tuple[Kernel, ...]
    start: tuple[Launch, ...]
    query: tuple[Launch, ...]
    readout: tuple[Launch, ...]
    step: tuple[Launch, ...]
    gains: tuple[Launch, ...]
    state: Slab
    scratch: Slab
    partials: int
    clock: tuple[int, ...]
    role: tuple[int, ...]
    uses_shift: bool


EXTENTS = {  # of a tensor's units, which tiles divide: their number as C and Rust text, and how many a tile has
    "elements": ("tensor.rows * tensor.columns", "x.rows * x.columns", TILE),
    "rows": ("tensor.rows", "x.rows", THREADS),
    "columns": ("tensor.columns", "x.columns", THREADS),
    "left": ("tensor.rows * (tensor.columns > 1 ? tensor.rows : 1)", "x.rows * if x.columns > 1 { x.rows } else { 1 }",
             TILE),
    "right": ("tensor.columns * tensor.columns", "x.columns * x.columns", TILE),
    "tensors": ("1", "1", 1),
    # blocks of 4 x 4 entries of a product
    "element_blocks": (
        "tensor.columns > 1 ? fours(tensor.rows) * fours(tensor.columns) : tensor.rows",
        "if x.columns > 1 { fours(x.rows) * fours(x.columns) } else { x.rows }",
        THREADS,
    ),
    "left_blocks": (
        "tensor.columns > 1 ? fours(tensor.rows) * fours(tensor.rows) : tensor.rows",
        "if x.columns > 1 { fours(x.rows) * fours(x.rows) } else { x.rows }",
        THREADS,
    ),
    "right_blocks": ("fours(tensor.columns) * fours(tensor.columns)", "fours(x.columns) * fours(x.columns)", THREADS),
    "side_blocks": (
        "fours(smaller(tensor.rows, tensor.columns)) * fours(smaller(tensor.rows, tensor.columns))",
        "fours(x.rows.min(x.columns)) * fours(x.rows.min(x.columns))",
        THREADS,
    ),
}  # fmt: skip
