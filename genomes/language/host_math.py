"""Arithmetic on Python floats that never raises: division by 0 is 0, overflow is infinity, the rest NaN.

Operations of a program mean this on host values; `operations` says which function is whose.
"""

from __future__ import annotations

import math


def safe_div(a: float, b: float) -> float:
    """a / b; 0 where b is 0."""
    return a / b if b else 0.0


def mod(a: float, b: float) -> float:
    """Remainder of a / b with the sign of b; 0 where b is 0."""
    return math.nan if math.isinf(a) or math.isnan(b) else (a % b if b else 0.0)


def power(a: float, b: float) -> float:
    """max(a, 0) ** b; 1 where b is 0, else 0 where a <= 0."""
    if b == 0:
        return 1.0
    if a <= 0:
        return 0.0
    try:
        return a**b
    except OverflowError:
        return math.inf


def sqrt(a: float) -> float:
    """Square root; NaN where a < 0."""
    return math.sqrt(a) if not a < 0 else math.nan


def exp(a: float) -> float:
    """Exponential; infinity on overflow."""
    try:
        return math.exp(a)
    except OverflowError:
        return math.inf


def log(a: float) -> float:
    """Natural logarithm; -infinity at 0, NaN below."""
    return math.log(a) if a > 0 else -math.inf if a == 0 else math.nan


def sign(a: float) -> float:
    """-1, 0 or 1."""
    return float((a > 0) - (a < 0))


def floor(a: float) -> float:
    """Largest whole number not above a; a itself where it is not finite."""
    return float(math.floor(a)) if math.isfinite(a) else a


def cos(a: float) -> float:
    """Cosine; NaN where a is not finite."""
    return math.cos(a) if math.isfinite(a) else math.nan


def sin(a: float) -> float:
    """Sine; NaN where a is not finite."""
    return math.sin(a) if math.isfinite(a) else math.nan


def larger(a: float, b: float) -> float:
    """The larger; NaN where either is NaN."""
    return a + b if math.isnan(a) or math.isnan(b) else max(a, b)


def smaller(a: float, b: float) -> float:
    """The smaller; NaN where either is NaN."""
    return a + b if math.isnan(a) or math.isnan(b) else min(a, b)
