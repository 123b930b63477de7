"""Arithmetic on Python floats that never raises: division by 0 is 0, overflow is infinity, the rest is NaN.

Operations of a program mean this on host values; `operations` says which function is whose.
"""

from __future__ import annotations

import math


def safe_div(a: float, b: float) -> float:
    """a / b; 0 where b is 0, whatever a is."""
    return a / b if b else 0.0


def mod(a: float, b: float) -> float:
    """Remainder of a / b with the sign of b; 0 where b is 0, whatever a is, else NaN where a is infinite."""
    if b == 0:
        return 0.0
    return math.nan if math.isinf(a) else a % b


def power(a: float, b: float) -> float:
    """a ** b for whole b, max(a, 0) ** b for others; 1 where b is 0, whatever a is, else NaN where either is NaN.

    For b < 0 it is safe_div(1, a ** -b). An infinite b counts as even.
    """
    if b == 0:
        return 1.0
    if math.isnan(a) or math.isnan(b):
        return math.nan
    base = max(a, 0.0) if math.isfinite(b) and b % 1 else a
    try:
        raised = math.pow(base, abs(b))
    except OverflowError:
        raised = -math.inf if base < 0 and b % 2 else math.inf
    return raised if b > 0 else safe_div(1.0, raised)


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
    """-1, 0 or 1; 0 where a is 0 or NaN."""
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
