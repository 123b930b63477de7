"""The operations of a program: one record each, and all that is derived from the records.

A word of the language (`primitives`) means one of these operations or a text made of words; a back end must know these
operations and nothing else. To add one, add its record here and its meaning in each back end: the tests take their
operations from this table, and fail where a back end lacks one.

Values are Python floats on the host (classes clock and role) and tensors on the device: see `genomes.compiler.shapes`.

An operation means the same on both, and its ``meaning`` says so for every value, but for the sign of zero. What it does
not say is IEEE 754's: a NaN argument gives NaN, what is too large gives an infinity, and subnormal numbers are numbers
like any other. A host number among device values is rounded to their precision first: 1e-60 is 0 beside float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from genomes.language import host_math

Kind = Literal[
    "constant", "load", "view", "clock source", "role source", "elementwise", "reduction", "model reduction", "matrix",
    "square", "noise", "readout",
]  # fmt: skip
UNKNOWN = -math.inf  # the bound of a value of which nothing is known


@dataclass(frozen=True)
class Operation:
    """One operation.

    ``meaning``: one line. ``arity``: number of arguments. ``shape``: class of the result, where it is not the smallest
    that holds all arguments. ``mask``: the result is true or false; ``masks``: which arguments are. ``bound``: a lower
    bound of the result, NaN aside, given those of the arguments; 0 where it is not negative. ``chooses``: it chooses or
    rounds, so that it may lie still on some inputs and act on others; true of masks. ``guard``: ``max`` or ``min`` and
    the bound to which lowering limits its argument. ``partial``: the reduction of each tensor that a reduction over the
    model starts from. ``matrices``: how many of a matrix or square operation's arguments are matrices; the others are
    host numbers. ``on_floats``: its meaning on Python floats; it never raises. None where it acts on tensors alone.
    """

    name: str
    kind: Kind
    arity: int
    meaning: str
    shape: Literal["", "clock", "role", "model", "tensor", "row", "column", "element", "left", "right"] = ""
    mask: bool = False
    commutative: bool = False
    bound: Callable[[Sequence[float]], float] = lambda bounds: UNKNOWN
    chooses: bool = False
    guard: tuple[Literal["max", "min"], float] | None = None
    masks: tuple[int, ...] = ()
    partial: str = ""
    matrices: int = 1
    on_floats: Callable[..., Any] | None = None


def _always(bound: float) -> Callable[[Sequence[float]], float]:
    return lambda bounds: bound


def _sum(bounds: Sequence[float]) -> float:
    return sum(bounds) if min(bounds) >= 0 else UNKNOWN


def _product(bounds: Sequence[float]) -> float:
    return math.prod(bounds) if min(bounds) >= 0 else UNKNOWN


def _quotient(bounds: Sequence[float]) -> float:
    return 0.0 if min(bounds) >= 0 else UNKNOWN


def _magnitude(bounds: Sequence[float]) -> float:
    return max(bounds[0], 0.0)


def _root(bounds: Sequence[float]) -> float:
    return math.sqrt(max(bounds[0], 0.0))


def _chosen(bounds: Sequence[float]) -> float:
    return min(bounds[1:])


def _nonnegative_as_before(bounds: Sequence[float]) -> float:
    return 0.0 if bounds[0] >= 0 else UNKNOWN


def _as_before(bounds: Sequence[float]) -> float:
    return bounds[0]


def _source(name: str, kind: Kind, meaning: str, bound: float = UNKNOWN, mask: bool = False) -> Operation:
    shape: Any = {"view": "element", "clock source": "clock", "role source": "role"}[kind]
    return Operation(name, kind, 0, meaning, shape=shape, mask=mask, chooses=mask, bound=_always(bound))


def _elementwise(name: str, arity: int, meaning: str, on_floats: Callable[..., Any] | None, **more: Any) -> Operation:
    return Operation(name, "elementwise", arity, meaning, on_floats=on_floats, **more)


def _mask(name: str, arity: int, meaning: str, on_floats: Callable[..., Any], **more: Any) -> Operation:
    return _elementwise(name, arity, meaning, on_floats, mask=True, chooses=True, **more)


def _reduction(name: str, shape: Any, meaning: str) -> Operation:
    return Operation(name, "reduction", 1, meaning, shape=shape, bound=_nonnegative_as_before)


_RECORDS = [
    Operation("const", "constant", 0, "the number `attribute`", shape="clock"),
    Operation("load", "load", 0, "content of slot `attribute`"),
    _source("g", "view", "gradients of the trainable tensors"),
    _source("theta", "view", "the trainable tensors before the step"),
    _source("t", "clock source", "number of the step, from 1", 1.0),
    _source("epoch", "clock source", "number of the epoch, from 0", 0.0),
    _source("has_loss", "clock source", "whether losses are known", mask=True),
    _source("train_loss", "clock source", "training loss of the last epoch; 1 while unknown"),
    _source("val_loss", "clock source", "validation loss of the last epoch; 1 while unknown"),
    _source("model_size", "clock source", "number of trainable parameters", 1.0),
    _source("layer_count", "clock source", "number of layers", 1.0),
    _source("steps_per_epoch", "clock source", "steps of an epoch; 0 where nobody has said", 0.0),
    _source("output_count", "clock source", "outputs behind a frozen end; 0 without one", 0.0),
    _source("is_weight", "role source", "whether the tensor's role is weight", mask=True),
    _source("is_bias", "role source", "whether the tensor's role is bias", mask=True),
    _source("is_norm_scale", "role source", "whether the tensor's role is norm_scale", mask=True),
    _source("is_norm_shift", "role source", "whether the tensor's role is norm_shift", mask=True),
    _source("is_first", "role source", "whether the tensor is of the first layer", mask=True),
    _source("is_last", "role source", "whether the tensor is of the last trainable layer", mask=True),
    _source("depth_fraction", "role source", "0 at the first layer, 1 at the last trainable one", 0.0),
    _source("rows", "role source", "rows of the tensor", 1.0),
    _source("columns", "role source", "columns of the tensor; 1 for a vector", 1.0),
    _elementwise("neg", 1, "-x", lambda a: -a),
    _elementwise("abs", 1, "magnitude", abs, bound=_magnitude),
    _elementwise("sign", 1, "-1, 0 or 1; 0 where x is 0 or NaN", host_math.sign, chooses=True),
    _elementwise("sqrt", 1, "square root", host_math.sqrt, bound=_root, guard=("max", 0.0)),
    _elementwise("exp", 1, "exponential", host_math.exp, bound=_always(0.0), guard=("min", 80.0)),
    _elementwise("log", 1, "natural logarithm", host_math.log, guard=("max", 1e-37)),
    _elementwise("tanh", 1, "hyperbolic tangent", math.tanh, bound=_nonnegative_as_before),
    _elementwise("sin", 1, "sine", host_math.sin),
    _elementwise("cos", 1, "cosine", host_math.cos),
    _elementwise("floor", 1, "largest whole number not above x", host_math.floor, bound=_nonnegative_as_before,
                 chooses=True),
    _mask("not", 1, "the opposite of a mask", lambda a: not a, masks=(0,)),
    _elementwise("number", 1, "1 where the mask is true, else 0", float, bound=_always(0.0), masks=(0,)),
    _elementwise("expand", 1, "the value as one of a larger class", lambda a: a, bound=_as_before),
    _elementwise("bfloat16", 1, "nearest number with 8 significant bits, ties to even", None, chooses=True),
    _elementwise("add", 2, "x + y", lambda a, b: a + b, commutative=True, bound=_sum),
    _elementwise("sub", 2, "x - y; a value less itself is 0, whatever it is", lambda a, b: a - b),
    _elementwise("mul", 2, "x y; the literal 0 times x is 0, whatever x is", lambda a, b: a * b, commutative=True,
                 bound=_product),
    _elementwise("div", 2, "x / y, where y is known to be away from 0", host_math.safe_div, bound=_quotient),
    _elementwise("safe_div", 2, "x / y; 0 where y is 0, whatever x is", host_math.safe_div, bound=_quotient),
    _elementwise("mod", 2, "remainder of x / y with the sign of y; 0 where y is 0, whatever x is, else NaN where x is "
                 "infinite",
                 host_math.mod, chooses=True),
    _elementwise("power", 2, "x^y for whole and infinite y, max(x, 0)^y for others; 1 where y is 0, whatever x is; for "
                 "y < 0 it is 1 / x^-y, and 0 where x^-y is 0", host_math.power, bound=_nonnegative_as_before),
    _elementwise("atan2", 2, "angle of (y, x), y first", math.atan2),
    _elementwise("max", 2, "the larger; NaN where either is NaN", host_math.larger, commutative=True, bound=max),
    _elementwise("min", 2, "the smaller; NaN where either is NaN", host_math.smaller, commutative=True, bound=min),
    _mask("gt", 2, "x > y; false with NaN", lambda a, b: a > b),
    _mask("ge", 2, "x >= y; false with NaN", lambda a, b: a >= b),
    _mask("eq", 2, "x = y; false with NaN", lambda a, b: a == b, commutative=True),
    _mask("and", 2, "both masks", lambda a, b: a and b, commutative=True, masks=(0, 1)),
    _mask("or", 2, "either mask", lambda a, b: a or b, commutative=True, masks=(0, 1)),
    _elementwise("where", 3, "x where the mask is true, else y, whatever the other is",
                 lambda mask, a, b: a if mask else b,  # with a host mask, both are of the result's class
                 bound=_chosen, chooses=True, masks=(0,)),
    _reduction("sum_tensor", "tensor", "sum over each tensor"),
    _reduction("max_tensor", "tensor", "largest entry of each tensor"),
    _reduction("sum_row", "row", "sum over each row"),
    _reduction("max_row", "row", "largest entry of each row"),
    _reduction("sum_column", "column", "sum over each column"),
    _reduction("max_column", "column", "largest entry of each column"),
    Operation("sum_model", "model reduction", 1, "sum of one value per tensor", shape="model", partial="sum_tensor",
              bound=_nonnegative_as_before),
    Operation("max_model", "model reduction", 1, "largest of one value per tensor", shape="model",
              partial="max_tensor", bound=_nonnegative_as_before),
    Operation("odd_polynomial", "matrix", 4, "a x + (b s + c s s) x with s = x x^T, or from the other side where that "
              "is smaller; x a matrix, a, b, c host numbers", shape="element"),
    Operation("order_statistic", "matrix", 2, "entry floor(k) of each tensor's entries in ascending order, k held to 0 "
              "... size - 1 (0 where it is NaN); NaN where any entry is NaN; infinities are in order like any other",
              shape="tensor", bound=lambda bounds: 0.0 if bounds[0] >= 0 else UNKNOWN),
    Operation("outer", "square", 2, "x y^T; the products x y of a tensor of one column", shape="left", matrices=2),
    Operation("inner", "square", 2, "x^T y", shape="right", matrices=2),
    Operation("matmul", "square", 2, "matrix product of a left value and an element value, of an element value and a "
              "right one, or of two square values of one class; x y of a tensor of one column", matrices=2),
    Operation("transpose", "square", 1, "x^T of a square value"),
    Operation("identity", "square", 1, "the identity matrix, of the class of x"),
    Operation("matrix_trace", "square", 1, "sum of the diagonal of a square value", shape="tensor"),
    Operation("gram_schmidt", "square", 1, "orthonormal columns of a square value, from the first to the last: each "
              "less its parts along those before, twice, over its norm; 0 where that is 0; the sign of a diagonal"),
    Operation("inverse_root", "square", 3, "(x + k |x| I)^(-1/floor(p)) of a symmetric square value without negative "
              "eigenvalues, |x| its Frobenius norm, by at most 32 steps of the coupled Newton iteration; 0 where |x| "
              "is 0; p from 1 to 4 and k host numbers"),
    Operation("uniform", "noise", 1, "pseudo-random numbers in (0, 1], multiples of 2^-24, from (seed, t, tensor, "
              "entry, stream): see `program.random_word`", shape="element", bound=_always(2.0**-24)),
    Operation("output_shift", "readout", 1, "change of the trainable tensors that moves the evaluated mean of output "
              "x by 1, in an epoch's last step; 0 in other steps: see `backends.readout`", shape="element"),
]  # fmt: skip

OPERATIONS: dict[str, Operation] = {record.name: record for record in _RECORDS}
ON_FLOATS: dict[str, Callable[..., Any]] = {o.name: o.on_floats for o in OPERATIONS.values() if o.on_floats is not None}
MASKS = tuple(o.name for o in OPERATIONS.values() if o.mask)
COMMUTATIVE = tuple(o.name for o in OPERATIONS.values() if o.commutative)


def of_kind(kind: Kind) -> tuple[str, ...]:
    """Names of the operations of one kind, in the order of the table."""
    return tuple(o.name for o in OPERATIONS.values() if o.kind == kind)


def folded(name: str, values: Sequence[float]) -> float:
    """An operation's value on numbers, with the guard that its word has on tensors.

    Operations on tensors alone leave numbers as they are.
    """
    operation = OPERATIONS[name]
    if operation.guard:
        bound, limit = operation.guard
        values = [ON_FLOATS[bound](values[0], limit)]
    return float(operation.on_floats(*values)) if operation.on_floats else float(*values)
