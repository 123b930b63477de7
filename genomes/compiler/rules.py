"""Local simplifications: what an operation on given nodes comes to, where that is simpler than the operation.

Their results are those of the operations' records, `genomes.language.operations`, up to rounding and the sign of zero.
One rule per operation, listed in SIMPLIFY.
"""

from __future__ import annotations

from collections.abc import Callable

from genomes.compiler.nodes import SMALLEST_DIVISOR, Nodes, Numbers, Rule, is_ordinary
from genomes.compiler.shapes import join
from genomes.language.operations import ON_FLOATS, OPERATIONS

WHOLE_POWER = 16  # exponents up to here are products


def _add(b: Nodes, args: tuple[int, ...], numbers: Numbers) -> int | None:
    if numbers[0] == 0:
        return args[1]
    if numbers[1] == 0:
        return args[0]
    return None


def _sub(b: Nodes, args: tuple[int, ...], numbers: Numbers) -> int | None:
    if numbers[1] == 0:
        return args[0]
    if numbers[0] == 0:
        return b.op("neg", args[1])
    return b.const(0.0) if args[0] == args[1] else None


def _mul(b: Nodes, args: tuple[int, ...], numbers: Numbers) -> int | None:
    for n, other in ((numbers[0], args[1]), (numbers[1], args[0])):
        if n == 0:
            return b.const(0.0)
        if n == 1:
            return other
        if n == -1:
            return b.op("neg", other)
        if n is not None and (inner := b.nodes[other]).op == "mul":
            for x, y in (inner.arguments, inner.arguments[::-1]):
                if (m := b.number(x)) is not None and is_ordinary(m) and is_ordinary(n) and is_ordinary(m * n):
                    return b.op("mul", b.const(m * n), y)
        if b.nodes[other].op == "neg" and n is not None:
            return b.op("mul", b.const(-n), b.nodes[other].arguments[0])
    return None


def _neg(b: Nodes, args: tuple[int, ...], numbers: Numbers) -> int | None:
    inner = b.nodes[args[0]]
    if inner.op == "neg":
        return inner.arguments[0]
    if inner.op == "mul":
        for x, y in (inner.arguments, inner.arguments[::-1]):
            if (m := b.number(x)) is not None:
                return b.op("mul", b.const(-m), y)
    return None


def _safe_div(b: Nodes, args: tuple[int, ...], numbers: Numbers) -> int | None:
    x, y = args
    if numbers[1] == 1:
        return x
    if numbers[1] == 0:
        return b.const(0.0)
    if not (is_ordinary(numbers[1]) if numbers[1] is not None else b.bounds[y] >= SMALLEST_DIVISOR):
        return None
    if b.nodes[y].shape.on_host and not b.nodes[x].shape.on_host:
        return b.op("mul", x, b.op("safe_div", b.const(1.0), y))  # one host division, in float64
    return b.elementwise("div", x, y)


def _power(b: Nodes, args: tuple[int, ...], numbers: Numbers) -> int | None:
    base, exponent = args[0], numbers[1]
    if exponent is None:
        return None
    if exponent == 0:
        return b.const(1.0)
    if exponent < 0:
        return b.op("safe_div", b.const(1.0), b.op("power", base, b.const(-exponent)))
    if exponent == 0.5:
        return b.op("sqrt", base)
    if exponent <= WHOLE_POWER and exponent == int(exponent):
        half = b.op("power", base, b.const(exponent // 2)) if exponent > 1 else None
        whole = b.op("mul", half, half) if half is not None else b.const(1.0)
        return b.op("mul", whole, base) if exponent % 2 else whole
    return None


def _guarded(name: str, clamp: str, bound: float) -> Rule:
    def simplify(b: Nodes, args: tuple[int, ...], numbers: Numbers) -> int:
        inside = args[0]
        if not (clamp == "max" and bound == 0 and b.bounds[inside] >= 0):
            inside = b.op(clamp, inside, b.const(bound))
        return b.elementwise(name, inside)

    return simplify


def _extreme(b: Nodes, args: tuple[int, ...], numbers: Numbers) -> int | None:
    return args[0] if args[0] == args[1] else None


def _where(b: Nodes, args: tuple[int, ...], numbers: Numbers) -> int | None:
    mask, x, y = args
    if x == y:
        return x
    compared = [b.number(a) for a in b.nodes[mask].arguments]
    if compared and None not in compared:
        return x if ON_FLOATS[b.nodes[mask].op](*compared) else y
    shape = join(*(b.nodes[a].shape for a in args))
    if shape.on_host:
        return None
    if not b.nodes[mask].shape.on_host:
        if numbers[2] == 0 and is_ordinary(numbers[1]):
            return b.op("mul", x, b.elementwise("number", mask))
        if b.nodes[x].shape.on_host and b.nodes[y].shape.on_host:
            return b.elementwise("where", mask, b.expand(x, shape), y)
        return None
    return b.elementwise("where", mask, b.expand(x, shape), b.expand(y, shape))


def _atan2(b: Nodes, args: tuple[int, ...], numbers: Numbers) -> int | None:
    shape = join(*(b.nodes[a].shape for a in args))
    if shape.on_host:
        return None
    return b.elementwise("atan2", *(b.expand(a, shape) if b.nodes[a].shape.on_host else a for a in args))


def _matmul(b: Nodes, args: tuple[int, ...], numbers: Numbers) -> int | None:
    return b.op("mul", *args) if any(b.nodes[a].shape.is_scalar for a in args) else None


def _of_scalar(simplify: Callable[[Nodes, int], int]) -> Rule:
    """A rule for an operation on one square value: a number is that multiple of the identity."""
    return lambda b, args, numbers: simplify(b, args[0]) if b.nodes[args[0]].shape.is_scalar else None


def _inverse_root(b: Nodes, args: tuple[int, ...], numbers: Numbers) -> int | None:
    x, p, epsilon = args
    if not b.nodes[x].shape.is_scalar:
        return None
    damped = b.op("mul", x, b.op("add", b.const(1.0), epsilon))
    return b.op("power", damped, b.op("neg", b.op("safe_div", b.const(1.0), p)))


SIMPLIFY: dict[str, Rule] = {
    "add": _add, "sub": _sub, "mul": _mul, "neg": _neg, "safe_div": _safe_div, "power": _power,
    "max": _extreme, "min": _extreme, "where": _where, "atan2": _atan2,
    "matmul": _matmul, "inverse_root": _inverse_root, "transpose": _of_scalar(lambda b, x: x),
    "identity": _of_scalar(lambda b, x: b.const(1.0)), "matrix_trace": _of_scalar(lambda b, x: x),
    "gram_schmidt": _of_scalar(lambda b, x: b.op("sign", x)),
    **{o.name: _guarded(o.name, *o.guard) for o in OPERATIONS.values() if o.guard},
}  # fmt: skip
