"""What the operations of a program mean on Python floats: clock and role values, constant folding.

Never raises: division by 0 is 0, overflow is infinity, as the program form says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


def safe_div(a: float, b: float) -> float:
    return a / b if b else 0.0


def mod(a: float, b: float) -> float:
    return math.nan if math.isinf(a) or math.isnan(b) else (a % b if b else 0.0)


def power(a: float, b: float) -> float:
    if b == 0:
        return 1.0
    if a <= 0:
        return 0.0
    try:
        return a**b
    except OverflowError:
        return math.inf


def sqrt(a: float) -> float:
    return math.sqrt(a) if not a < 0 else math.nan


def exp(a: float) -> float:
    try:
        return math.exp(a)
    except OverflowError:
        return math.inf


def log(a: float) -> float:
    return math.log(a) if a > 0 else -math.inf if a == 0 else math.nan


def sign(a: float) -> float:
    return float((a > 0) - (a < 0))


def floor(a: float) -> float:
    return float(math.floor(a)) if math.isfinite(a) else a


def cos(a: float) -> float:
    return math.cos(a) if math.isfinite(a) else math.nan


def sin(a: float) -> float:
    return math.sin(a) if math.isfinite(a) else math.nan


def larger(a: float, b: float) -> float:
    """The larger one; NaN where either is NaN."""
    return a + b if math.isnan(a) or math.isnan(b) else max(a, b)


def smaller(a: float, b: float) -> float:
    """The smaller one; NaN where either is NaN."""
    return a + b if math.isnan(a) or math.isnan(b) else min(a, b)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": safe_div,
    "safe_div": safe_div,
    "mod": mod,
    "neg": lambda a: -a,
    "abs": abs,
    "sign": sign,
    "sqrt": sqrt,
    "exp": exp,
    "log": log,
    "power": power,
    "tanh": math.tanh,
    "sin": sin,
    "cos": cos,
    "atan2": math.atan2,
    "floor": floor,
    "max": larger,
    "min": smaller,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "not": lambda a: not a,
    "where": lambda mask, a, b: a if mask else b,
    "number": float,
    "expand": lambda a: a,
}
