"""The frames of CUDA kernels: what the threads stand for, what the loop runs over, which local names are defined."""

from __future__ import annotations

import re
from dataclasses import dataclass

from genomes.backends.cuda.layout import PIECES, TILE
from genomes.compiler.shapes import ShapeClass

_CLOCK, _ROLE, _MODEL, _TENSOR = ShapeClass.CLOCK, ShapeClass.ROLE, ShapeClass.MODEL, ShapeClass.TENSOR
_OF_TENSOR = frozenset({_CLOCK, _ROLE, _MODEL, _TENSOR})


@dataclass(frozen=True)
class Frame:
    """A kernel without its statements.

    ``head``: finds lane, row and so on, and leaves where there is nothing to do; ``index``: where it finds the tensor's
    number, if not there; ``loop``: the head of its loop or ""; ``inner``: (name, definition) of what varies in the
    loop; ``outer``: classes of the values that do not; ``first``: whether this is the loop's first turn.
    """

    head: str
    index: str = ""
    loop: str = ""
    inner: tuple[tuple[str, str], ...] = ()
    outer: frozenset[ShapeClass] = frozenset(ShapeClass)
    first: str = ""

    def text(self, name: str, before: list[str], inside: list[str], after: list[str], sizes: dict[str, str]) -> str:
        """The text of a kernel with statements before, in and after its loop.

        ``sizes``: C text of the numbers per lane of each array; ``partials``: where the partial sums begin in scratch.
        """
        body = [*before]
        if inside:
            inner = _used(self.inner, inside)
            body += [self.loop, *(f"    {line}" for line in [*inner, *inside]), "}"]
        body += after
        common = [(n, d.format(sizes.get(n, ""))) for n, d in _COMMON if n not in dict(self.inner)]
        if self.index:
            common.insert(0, ("index", f"const int index = {self.index};"))
        lines = [*self.head.splitlines(), *_used(common, body), *body]
        return "\n".join([f'extern "C" __global__ void {name}(Arguments a) {{', *(f"    {x}" for x in lines), "}"])


def _used(definitions: tuple[tuple[str, str], ...] | list[tuple[str, str]], lines: list[str]) -> list[str]:
    """The definitions of names that occur in the lines, or in a definition that is used."""
    text = "\n".join(lines)
    kept: list[str] = []
    for name, definition in reversed(definitions):
        if re.search(rf"(?<![\w.]){name}\b", text):
            kept.insert(0, definition)
            text += definition
    return kept


# local names in the order of their definition; a kernel defines those that it uses
_COMMON = (
    ("n_params", "const int n_params = a.n_params;"),
    ("n_rows", "const int n_rows = a.n_rows;"),
    ("n_columns", "const int n_columns = a.n_columns;"),
    ("n_tensors", "const int n_tensors = a.n_tensors;"),
    ("n_left", "const int n_left = a.n_left;"),
    ("n_right", "const int n_right = a.n_right;"),
    ("params", "const long long params = (long long)lane * n_params;"),
    ("constants", "const double* constants = a.constants + (long long)lane * {0};"),
    ("state", "real* state = a.state + (long long)lane * ({0});"),
    ("scratch", "real* scratch = a.scratch + (long long)lane * ({0});"),
    ("partials", "real* partials = scratch + {0};"),
    ("host_state", "double* host_state = a.host_state + (long long)lane * ({0});"),
    ("host_values", "double* host_values = a.host_values + (long long)lane * ({0});"),
    ("tensor", "const Tensor tensor = a.tensors[index];"),
    (
        "pieces",
        f"const int pieces = tensor.rows * tensor.columns < {PIECES} ? tensor.rows * tensor.columns : {PIECES};",
    ),
)


def _thread(variable: str, extent: str) -> str:
    """The head of a kernel with a thread for each (lane, ``variable``)."""
    return f"""\
const int lane = blockIdx.y;
const int {variable} = blockIdx.x * blockDim.x + threadIdx.x;
if ({variable} >= a.{extent} || !a.alive[lane]) return;"""


_BLOCK = "const int lane = blockIdx.y;\nif (!a.alive[lane]) return;"  # a block for each (lane, part of a tensor)
_LANE = "const int lane = blockIdx.x * blockDim.x + threadIdx.x;\nif (lane >= a.lanes || !a.alive[lane]) return;"
_ROW = _thread("row", "n_rows"), "a.tensor_of_row[row]"
_COLUMN = _thread("column", "n_columns"), "a.tensor_of_column[column]"
_ENTRY = (
    ("element", "const int element = tensor.offset + i;"),
    ("row", "const int row = tensor.row_offset + i / tensor.columns;"),
    ("column", "const int column = tensor.column_offset + i % tensor.columns;"),
)
_TILE_LOOP = (
    f"for (int i = a.tile_start[blockIdx.x] + threadIdx.x, end = a.tile_start[blockIdx.x] + {TILE};\n"
    "         i < end && i < tensor.rows * tensor.columns; i += blockDim.x) {"
)


def _square(name: str, size: str) -> Frame:
    """A block for each (lane, tensor), whose threads go through the entries of its left or right values."""
    return Frame(
        _BLOCK,
        "blockIdx.x",
        f"for (int i = threadIdx.x; i < {size}; i += blockDim.x) {{",
        ((name, f"const int {name} = tensor.{name}_offset + i;"),),
        _OF_TENSOR,
    )


# the first word of a frame's name is the unit of its launches
FRAMES = {
    "lane": Frame(_LANE),
    "lane over tensors": Frame(
        _LANE,
        loop="for (int index = 0; index < a.n_tensors; ++index) {",
        inner=(("tensor", dict(_COMMON)["tensor"]),),
        outer=frozenset({_CLOCK, _MODEL}),
        first="index == 0",
    ),
    "tensor": Frame(_thread("index", "n_tensors")),
    "piece": Frame(
        f"{_BLOCK}\nconst int piece = threadIdx.x;",
        "blockIdx.x",
        f"for (int i = piece; i < tensor.rows * tensor.columns; i += {PIECES}) {{",
        _ENTRY,
        _OF_TENSOR,
        "i == piece",
    ),
    "row": Frame(*_ROW),
    "row over columns": Frame(
        *_ROW,
        "for (int j = 0; j < tensor.columns; ++j) {",
        (
            ("element", "const int element = tensor.offset + (row - tensor.row_offset) * tensor.columns + j;"),
            ("column", "const int column = tensor.column_offset + j;"),
        ),
        _OF_TENSOR | {ShapeClass.ROW},
        "j == 0",
    ),
    "column": Frame(*_COLUMN),
    "column over rows": Frame(
        *_COLUMN,
        "for (int j = 0; j < tensor.rows; ++j) {",
        (
            ("element", "const int element = tensor.offset + j * tensor.columns + column - tensor.column_offset;"),
            ("row", "const int row = tensor.row_offset + j;"),
        ),
        _OF_TENSOR | {ShapeClass.COLUMN},
        "j == 0",
    ),
    "tile": Frame(_BLOCK, "a.tile_tensor[blockIdx.x]", _TILE_LOOP, _ENTRY, _OF_TENSOR),
    "left": _square("left", "tensor.rows * (tensor.columns > 1 ? tensor.rows : 1)"),
    "right": _square("right", "tensor.columns * tensor.columns"),
}
