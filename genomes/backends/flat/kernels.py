"""The operations of a program on whole vectors: few passes over memory, results written into a given buffer.

A kernel is made once for given tensors and then called every step: ``make(out, *inputs)`` returns a function without
arguments. Clock values change from step to step, so a kernel reads them from ``host``, a list with one entry per node.

Masks are vectors of 0 and 1 in the training's dtype: torch compares and multiplies such vectors with the widest
instructions, but neither makes nor reads bool vectors so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genomes.backends.torch_reference import OPERATIONS, chosen_shift, uniform

Action = Callable[[], Any]
Make = Callable[..., Action]
zero_where_at_most = torch.ops.aten.threshold_backward.grad_input  # (x, y, c): x, but 0 where y <= c; exact, any x


@dataclass(frozen=True)
class Number:
    """A clock value: entry ``index`` of ``host``; infinite where it is beyond ``limit``, the largest of the dtype."""

    host: list[Any]
    index: int
    limit: float

    def __call__(self) -> Any:
        value = self.host[self.index]
        return math.copysign(math.inf, value) if abs(value) > self.limit else value


def _commutative(tensors: Callable[..., Any], scalar: Callable[..., Any]) -> Callable[[Any, Any], Make]:
    """Kernels of an operation for whichever argument is a number. ``scalar(x, number, out=out)``."""

    def choose(a: Any, b: Any) -> Make:
        if not isinstance(a, Number) and not isinstance(b, Number):
            return lambda out, x, y: lambda: tensors(x, y, out=out)
        number = a if isinstance(a, Number) else b
        return lambda out, x: lambda: scalar(x, number(), out=out)

    return choose


def _ordered(operation: Callable[..., Any]) -> Callable[[Any, Any], Make]:
    """Kernels of an operation that takes numbers second only: a first number becomes a tensor."""

    def choose(a: Any, b: Any) -> Make:
        if isinstance(a, Number):

            def make(out: Tensor, y: Tensor) -> Action:
                held = out.new_empty(())
                return lambda: operation(held.fill_(a()), y, out=out)

            return make
        if isinstance(b, Number):
            return lambda out, x: lambda: operation(x, b(), out=out)
        return lambda out, x, y: lambda: operation(x, y, out=out)

    return choose


def _unary(operation: Callable[..., Any]) -> Callable[[Any], Make]:
    return lambda a: lambda out, x: lambda: operation(x, out=out)


def _safe_div(a: Any, b: Any) -> Make:
    """a / b; 0 where b is 0, whatever a is. Needs one more buffer, for the magnitude of b, unless that is a number."""
    if isinstance(b, Number):
        return _by_reference("safe_div")(a, b)
    divide = _ordered(torch.div)(a, b)

    def make(out: Tensor, *rest: Tensor) -> Action:
        *inputs, magnitude = rest
        quotient, divisor = divide(out, *inputs), inputs[-1]
        if divisor.numel() != magnitude.numel():  # one number for the whole model
            magnitude = torch.empty_like(divisor)

        def act() -> None:
            torch.abs(divisor, out=magnitude)
            quotient()
            zero_where_at_most(out, magnitude, 0, grad_input=out)

        return act

    return make


def _by_reference(op: str) -> Callable[..., Make]:
    """The reference's own operation, for those that are rare and slow in any case."""

    def choose(*given: Any) -> Make:
        def make(out: Tensor, *inputs: Tensor) -> Action:
            def act() -> None:
                tensors = iter(inputs)
                out.copy_(OPERATIONS[op](*(g() if isinstance(g, Number) else next(tensors) for g in given)))

            return act

        return make

    return choose


KERNELS: dict[str, Callable[..., Make]] = {
    "add": _commutative(torch.add, torch.add),
    "mul": _commutative(torch.mul, torch.mul),
    "sub": _ordered(torch.sub),
    "div": _ordered(torch.div),
    "safe_div": _safe_div,
    "max": _commutative(torch.maximum, torch.clamp_min),
    "min": _commutative(torch.minimum, torch.clamp_max),
    "gt": _ordered(torch.gt),
    "ge": _ordered(torch.ge),
    "eq": _commutative(torch.eq, torch.eq),
    "and": _commutative(torch.mul, torch.mul),
    "or": _commutative(torch.maximum, lambda x, mask, out: torch.clamp_min(x, float(mask), out=out)),
    "not": lambda a: lambda out, x: lambda: torch.eq(x, 0, out=out),
    **{name: _unary(getattr(torch, name)) for name in (
        "neg", "abs", "sign", "sqrt", "exp", "log", "tanh", "sin", "cos", "floor",
    )},
    "bfloat16": lambda a: lambda out, x: lambda: out.copy_(x.to(torch.bfloat16)),
    **{name: _by_reference(name) for name in ("mod", "power", "atan2")},
}  # fmt: skip


# --- several operations in one pass ----------------------------------------------------------------------------------


def lerp(weight: Number) -> Make:
    """(1 - weight) * x + weight * y"""
    return lambda out, x, y: lambda: torch.lerp(x, y, weight(), out=out)


def add_scaled(scale: Number | None, sign: float) -> Make:
    """x + sign * scale * y"""
    if scale is None:
        return lambda out, x, y: lambda: torch.add(x, y, alpha=sign, out=out)
    return lambda out, x, y: lambda: torch.add(x, y, alpha=sign * scale(), out=out)


def add_quotient(divisor: Number, sign: float) -> Make:
    """x + sign * y / divisor, by the rule of division"""

    def make(out: Tensor, x: Tensor, y: Tensor) -> Action:
        def act() -> None:
            b = divisor()
            inverse = 1 / b if b else math.inf
            if abs(inverse) <= divisor.limit:
                torch.add(x, y, alpha=sign * inverse, out=out)
            else:
                torch.add(x, OPERATIONS["safe_div"](y, b), alpha=sign, out=out)

        return act

    return make


def add_product(scale: Number | None, sign: float) -> Make:
    """x + sign * scale * y * z"""
    if scale is None:
        return lambda out, x, y, z: lambda: torch.addcmul(x, y, z, value=sign, out=out)
    return lambda out, x, y, z: lambda: torch.addcmul(x, y, z, value=sign * scale(), out=out)


# --- choosing by a mask ----------------------------------------------------------------------------------------------


def select(out: Tensor, mask: Tensor, x: Tensor, y: Tensor, kept: Tensor) -> Action:
    """x where the mask is 1, else y, whatever the other is. Needs one more buffer, ``kept``.

    One pass and a sum where all of both are finite.
    """

    def act() -> None:
        torch.lerp(y, x, mask, out=out)
        if math.isfinite(out.sum().item()):
            return
        zero_where_at_most(x, mask, 0, grad_input=kept)
        torch.eq(mask, 0, out=out)
        zero_where_at_most(y, out, 0, grad_input=out)
        out.add_(kept)

    return act


def select_or_zero(out: Tensor, mask: Tensor, x: Tensor) -> Action:
    """x where the mask is 1, else 0"""
    return lambda: zero_where_at_most(x, mask, 0, grad_input=out)


def select_number(a: Number, b: Number) -> Make:
    """a where the mask is 1, else b. Needs one more buffer, for the opposite mask."""

    def make(out: Tensor, mask: Tensor, other: Tensor) -> Action:
        def act() -> None:
            x, y = a(), b()
            if math.isfinite(x) and math.isfinite(y):
                torch.eq(mask, 0, out=other)
                torch.mul(mask, x, out=out).add_(other, alpha=y)
            else:
                out.copy_(torch.where(mask != 0, out.new_tensor(x), out.new_tensor(y)))

        return act

    return make


def select_by_host(mask: Number) -> Make:
    """All of x where the mask is true, else all of y."""
    return lambda out, x, y: lambda: out.copy_(x if mask() else y)


def select_by_tensor(mask: Callable[[int], float]) -> Callable[[list[Tensor], list[Tensor], list[Tensor]], Action]:
    """x of the tensors whose mask is true, y of the others. ``out`` may be either's memory."""

    def make(x: list[Tensor], y: list[Tensor], out: list[Tensor]) -> Action:
        places = list(enumerate(zip(x, y, out, strict=True)))

        def act() -> None:
            for k, (a, b, chosen) in places:
                source = a if mask(k) else b
                if source.data_ptr() != chosen.data_ptr():
                    chosen.copy_(source)

        return act

    return make


# --- between shape classes -------------------------------------------------------------------------------------------


def fill(number: Number) -> Make:
    """out = number"""
    return lambda out: lambda: out.fill_(number())


def copy(out: Tensor, x: Tensor) -> Action:
    """out = x"""
    return lambda: out.copy_(x)


def sum_model(out: Tensor, x: Tensor) -> Action:
    """out ``[1]`` = the sum of ``x`` ``[tensors]``"""
    return lambda: torch.sum(x, 0, keepdim=True, out=out)


def max_model(out: Tensor, x: Tensor) -> Action:
    """out ``[1]`` = the largest of ``x`` ``[tensors]``"""
    return lambda: torch.amax(x, 0, keepdim=True, out=out)


_AXES = {"tensor": (0, 1), "row": (1,), "column": (0,)}


def reduce(op: str, inputs: list[Tensor], outputs: list[Tensor]) -> Action:
    """Reduce each tensor: ``op`` is ``sum_tensor`` ... ``max_column``, ``inputs`` a matrix ``[rows, columns]`` each."""
    name, _, axis = op.partition("_")
    function, axes = (torch.sum if name == "sum" else torch.amax), _AXES[axis]
    pairs = list(zip(inputs, outputs, strict=True))

    def act() -> None:
        for x, out in pairs:
            function(x, axes, keepdim=True, out=out)

    return act


def matrix(op: str, numbers: Callable[[int], list[float]], needed: Callable[[int], bool]) -> Callable[..., Action]:
    """An operation on whole matrices, of ``make(*inputs, outputs)``. ``numbers``: its further arguments for each
    tensor; ``needed``: whether the result for a tensor is, else it is 0."""

    def make(*lists: list[Tensor]) -> Action:
        *inputs, outputs = lists

        def act() -> None:
            for k, out in enumerate(outputs):
                if needed(k):
                    out.copy_(OPERATIONS[op](*(x[k] for x in inputs), *numbers(k)))
                else:
                    out.zero_()

        return act

    return make


def noise(word: Callable[[int], int]) -> Callable[[list[Tensor]], Action]:
    """Fresh uniform numbers in every step. ``word``: of this step, for each tensor."""

    def make(outputs: list[Tensor]) -> Action:
        def act() -> None:
            for k, out in enumerate(outputs):
                out.copy_(uniform(word(k), out))

        return act

    return make


def expand(inputs: list[Tensor], outputs: list[Tensor]) -> Action:
    """Spread each tensor's rows, columns or scalar over its matrix."""
    pairs = list(zip(inputs, outputs, strict=True))

    def act() -> None:
        for x, out in pairs:
            out.copy_(x)

    return act


@dataclass(frozen=True)
class OutputShifts:
    """Where `output_shift` comes from. ``tensor``: which trainable tensor is shifted; ``values``: the shifts
    ``[outputs, n]``; ``known``: whether this is a step in which they are known."""

    tensor: int
    values: Callable[[], Tensor]
    known: Callable[[], bool] = lambda: False


def output_shift(shifts: OutputShifts | None, output: Callable[[int], float]) -> Make:
    """A kernel by tensor: the shift of output ``output(tensor)`` for the tensor that is shifted, 0 for all others."""

    def make(out: list[Tensor]) -> Action:
        def act() -> None:
            for matrix in out:
                matrix.zero_()
            if shifts is not None and shifts.known():
                values, k = shifts.values(), output(shifts.tensor)
                out[shifts.tensor].copy_(chosen_shift(values, k, out[shifts.tensor]))

        return act

    return make
