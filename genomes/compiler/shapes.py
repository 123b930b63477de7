"""Shape classes: along which axes a value of an optimizer varies, and whether the host or the device holds it.

Every parameter tensor is seen as a matrix ``[out, in]``; a vector of n entries is ``[n, 1]``.

| class   | varies with           | held as                          |
|---------|-----------------------|----------------------------------|
| clock   | nothing but the step  | one Python float (float64)       |
| role    | the tensor            | a Python float per tensor        |
| model   | nothing but the step  | a device scalar ``[1, 1]``       |
| tensor  | the tensor            | a device scalar ``[1, 1]`` each  |
| row     | the tensor, its rows  | ``[out, 1]`` each                |
| column  | the tensor, its columns | ``[1, in]`` each               |
| element | the tensor, each entry | ``[out, in]`` each              |
| left    | the tensor, pairs of rows | ``[out, out]`` each          |
| right   | the tensor, pairs of columns | ``[in, in]`` each         |

The last two are the *square* classes. A tensor of one column has a left value as its diagonal alone, ``[out, 1]``:
what is done with whole matrices elsewhere is done entry by entry there.

``clock`` and ``role`` values are known without looking at a gradient: schedules and learning-rate multipliers live
there, in float64, whatever the precision of the training.
"""

from __future__ import annotations

from enum import Enum
from functools import reduce


class ShapeClass(Enum):
    """A shape class: its value holds the axes ``(per_tensor, per_row, per_column)`` and ``on_device``.

    Square classes hold ``rows`` or ``columns`` for both axes.
    """

    CLOCK = (False, False, False, False)
    ROLE = (True, False, False, False)
    MODEL = (False, False, False, True)
    TENSOR = (True, False, False, True)
    ROW = (True, True, False, True)
    COLUMN = (True, False, True, True)
    ELEMENT = (True, True, True, True)
    LEFT = (True, "rows", "rows", True)
    RIGHT = (True, "columns", "columns", True)

    @property
    def per_tensor(self) -> bool:
        """Whether the value may differ from tensor to tensor."""
        return self.value[0]

    @property
    def on_host(self) -> bool:
        """Whether the value is a Python float, known before any gradient."""
        return not self.value[3]

    @property
    def is_square(self) -> bool:
        """Whether the value is a matrix of rows by rows or columns by columns."""
        return self in (ShapeClass.LEFT, ShapeClass.RIGHT)

    @property
    def is_scalar(self) -> bool:
        """Whether the value is one number for each tensor, or one for all."""
        return self.value[1] is False and self.value[2] is False

    def __str__(self) -> str:
        return self.name.lower()


class LoweringError(ValueError):
    """An expression that parses but has no meaning in its place."""


def join(*classes: ShapeClass) -> ShapeClass:
    """The class of an elementwise result: it varies along every axis of its arguments (broadcasting).

    Raises LoweringError where a square value meets one that varies along other axes.
    """
    return reduce(_join, classes, ShapeClass.CLOCK)


def _join(a: ShapeClass, b: ShapeClass) -> ShapeClass:
    if a.is_square or b.is_square:
        square, other = (a, b) if a.is_square else (b, a)
        if other is not square and not other.is_scalar:
            raise LoweringError(
                f"a value of class {a} and one of class {b} have no entries in common: only matmul takes both"
            )
        return square
    merged = tuple(x or y for x, y in zip(a.value, b.value, strict=True))
    return ShapeClass(merged)
