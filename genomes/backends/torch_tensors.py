"""Lists of tensors on which one operation acts at a time: what the body of an exported `torch.optim` class needs.

An exported file holds those methods and functions of this module that its text uses; it reads like code for one tensor.
"""

# pyright: reportPrivateImportUsage=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Tensors:
    """A list of tensors that one operation changes at a time: as one kernel for all, where torch has it."""

    def __init__(self, tensors: Any):
        self.tensors = list(tensors)

    def __neg__(self):
        return Tensors(torch._foreach_neg(self.tensors))

    def __add__(self, other: Any):
        return Tensors(torch._foreach_add(self.tensors, listed(other)))

    def __sub__(self, other: Any):
        if isinstance(other, Tensor):
            return self + -other
        return Tensors(torch._foreach_sub(self.tensors, listed(other)))

    def __rsub__(self, other: Any):
        return (-self).add_(other)

    def __mul__(self, other: Any):
        return Tensors(torch._foreach_mul(self.tensors, listed(other)))

    def __truediv__(self, other: Any):
        return Tensors(torch._foreach_div(self.tensors, listed(other)))

    def __rtruediv__(self, other: Any):
        return Tensors(torch._foreach_reciprocal(self.tensors)).mul_(other)

    def __gt__(self, other: Any):
        return each(torch.gt, self, other)

    def __ge__(self, other: Any):
        return each(torch.ge, self, other)

    def __lt__(self, other: Any):
        return each(torch.lt, self, other)

    def __le__(self, other: Any):
        return each(torch.le, self, other)

    def __and__(self, other: Any):
        return each(lambda a, b: a & b, self, other)

    def __or__(self, other: Any):
        return each(lambda a, b: a | b, self, other)

    def __invert__(self):
        return each(torch.logical_not, self)

    def abs(self):
        """Magnitudes."""
        return Tensors(torch._foreach_abs(self.tensors))

    def sign(self):
        """Signs."""
        return Tensors(torch._foreach_sign(self.tensors))

    def sqrt(self):
        """Square roots."""
        return Tensors(torch._foreach_sqrt(self.tensors))

    def exp(self):
        """Exponentials."""
        return Tensors(torch._foreach_exp(self.tensors))

    def log(self):
        """Natural logarithms."""
        return Tensors(torch._foreach_log(self.tensors))

    def tanh(self):
        """Hyperbolic tangents."""
        return Tensors(torch._foreach_tanh(self.tensors))

    def sin(self):
        """Sines."""
        return Tensors(torch._foreach_sin(self.tensors))

    def cos(self):
        """Cosines."""
        return Tensors(torch._foreach_cos(self.tensors))

    def floor(self):
        """Largest whole numbers not above."""
        return Tensors(torch._foreach_floor(self.tensors))

    def maximum(self, other: Any):
        """The larger of two."""
        return Tensors(torch._foreach_maximum(self.tensors, listed(other, self)))

    def minimum(self, other: Any):
        """The smaller of two."""
        return Tensors(torch._foreach_minimum(self.tensors, listed(other, self)))

    def add_(self, other: Any, alpha=1):
        """Add ``alpha`` times another value."""
        if isinstance(alpha, Tensor):
            other, alpha = other * alpha, 1
        if alpha == 1:
            torch._foreach_add_(self.tensors, listed(other))
        else:
            torch._foreach_add_(self.tensors, listed(other), alpha=alpha)
        return self

    def sub_(self, other: Any):
        """Take another value away."""
        if isinstance(other, Tensor):
            return self.add_(-other)
        torch._foreach_sub_(self.tensors, listed(other))
        return self

    def mul_(self, other: Any):
        """Multiply by another value."""
        torch._foreach_mul_(self.tensors, listed(other))
        return self

    def div_(self, other: Any):
        """Divide by another value."""
        torch._foreach_div_(self.tensors, listed(other))
        return self

    def neg_(self):
        """Turn the sign."""
        torch._foreach_neg_(self.tensors)
        return self

    def abs_(self):
        """Take magnitudes."""
        torch._foreach_abs_(self.tensors)
        return self

    def sign_(self):
        """Take signs."""
        torch._foreach_sign_(self.tensors)
        return self

    def sqrt_(self):
        """Take square roots."""
        torch._foreach_sqrt_(self.tensors)
        return self

    def exp_(self):
        """Take exponentials."""
        torch._foreach_exp_(self.tensors)
        return self

    def log_(self):
        """Take natural logarithms."""
        torch._foreach_log_(self.tensors)
        return self

    def tanh_(self):
        """Take hyperbolic tangents."""
        torch._foreach_tanh_(self.tensors)
        return self

    def sin_(self):
        """Take sines."""
        torch._foreach_sin_(self.tensors)
        return self

    def cos_(self):
        """Take cosines."""
        torch._foreach_cos_(self.tensors)
        return self

    def floor_(self):
        """Round down."""
        torch._foreach_floor_(self.tensors)
        return self

    def maximum_(self, other: Any):
        """Take the larger of two."""
        torch._foreach_maximum_(self.tensors, listed(other, self))
        return self

    def minimum_(self, other: Any):
        """Take the smaller of two."""
        torch._foreach_minimum_(self.tensors, listed(other, self))
        return self

    def lerp_(self, end: Any, weight: Any):
        """Move by ``weight`` of the way to ``end``."""
        torch._foreach_lerp_(self.tensors, end.tensors, weight)
        return self

    def addcmul_(self, a: Any, b: Any, value=1):
        """Add ``value * a * b``."""
        if isinstance(value, Tensor):
            return self.add_(a * b, value)
        torch._foreach_addcmul_(self.tensors, a.tensors, b.tensors, value)
        return self

    def addcdiv_(self, a: Any, b: Any, value=1):
        """Add ``value * a / b``."""
        if isinstance(value, Tensor):
            return self.add_(a / b, value)
        torch._foreach_addcdiv_(self.tensors, a.tensors, b.tensors, value)
        return self

    def copy_(self, other: Any):
        """Take over another value."""
        torch._foreach_copy_(self.tensors, other.tensors)
        return self


def listed(value: Any, like=None) -> Any:
    """The tensors of a list; another value as it is, or as torch takes it beside the tensors ``like``."""
    if isinstance(value, Tensors):
        return value.tensors
    if like is None:
        return value
    if isinstance(value, Tensor):
        return [value.expand_as(tensor) for tensor in like.tensors]
    return bounded(value, like.tensors[0].dtype)


def each(function: Callable[..., Any], *values: Any) -> Tensors:
    """The results of a function, called for each of the tensors; a value that is no list is the same in all calls."""
    count = next(len(value.tensors) for value in values if isinstance(value, Tensors))
    columns = [value.tensors if isinstance(value, Tensors) else [value] * count for value in values]
    return Tensors([function(*row) for row in zip(*columns)])  # noqa: B905  equally long


def bounded(value: float, dtype: torch.dtype) -> float:
    """A number as ``dtype`` can hold it: infinite where it is too large."""
    if abs(value) > torch.finfo(dtype).max:
        return float("inf") if value > 0 else -float("inf")
    return value


def sum_all(x: Tensor) -> Tensor:
    """``[1, 1]``: sum over a matrix."""
    return x.sum(dim=(0, 1), keepdim=True)


def max_all(x: Tensor) -> Tensor:
    """``[1, 1]``: largest entry of a matrix."""
    return x.amax(dim=(0, 1), keepdim=True)


def sum_row(x: Tensor) -> Tensor:
    """``[rows, 1]``: sum over each row."""
    return x.sum(dim=1, keepdim=True)


def max_row(x: Tensor) -> Tensor:
    """``[rows, 1]``: largest entry of each row."""
    return x.amax(dim=1, keepdim=True)


def sum_column(x: Tensor) -> Tensor:
    """``[1, columns]``: sum over each column."""
    return x.sum(dim=0, keepdim=True)


def max_column(x: Tensor) -> Tensor:
    """``[1, columns]``: largest entry of each column."""
    return x.amax(dim=0, keepdim=True)


def as_number(mask: Tensor, like: Tensor) -> Tensor:
    """1 where the mask is true, else 0."""
    return mask.to(like.dtype)


def to_bfloat16(x: Tensor) -> Tensor:
    """The nearest numbers with 8 significant bits."""
    return x.to(torch.bfloat16).to(x.dtype)


def extent(theta: Tensor, kind: str) -> tuple[int, ...]:
    """The shape of a value beside the parameters ``theta`` ``[rows, columns]``: one per entry, row, tensor ..."""
    if kind == "element":
        return tuple(theta.shape)
    rows, columns = theta.shape
    shapes = {"tensor": (1, 1), "row": (rows, 1), "column": (1, columns), "right": (columns, columns)}
    return shapes.get(kind, (rows, rows if columns > 1 else 1))


def full(theta: Tensor, kind: str, value: float) -> Tensor:
    """A number as a tensor of a kind."""
    return theta.new_full(extent(theta, kind), bounded(value, theta.dtype))


def expanded(x: Tensor, theta: Tensor, kind: str) -> Tensor:
    """A value as one of a larger kind."""
    return x.expand(extent(theta, kind))


def scalar(value: float, batches: Any) -> Tensor:
    """A number as a tensor without axes."""
    theta = batches[0].theta.tensors[0]
    return theta.new_full((), bounded(value, theta.dtype))
