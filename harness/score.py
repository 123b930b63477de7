"""Scores test losses: quality on one instance, and over many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from harness.data import load_data
from harness.task import Instance

QUALITY_BOUND = 10.0
QUALITY_DECIMALS = 6


def quality(test_loss: float, target_loss: float) -> float | None:
    """clamp((target_loss - test_loss) / target_loss, -10, 10) to 6 decimals, halves away from 0; NaN: None"""
    ratio = (target_loss - test_loss) / target_loss
    if math.isnan(ratio):
        return None
    clamped = max(-QUALITY_BOUND, min(QUALITY_BOUND, ratio))
    scale = 10**QUALITY_DECIMALS
    return math.copysign(math.floor(abs(clamped) * scale + 0.5) / scale, clamped)


def target_loss(instance: Instance) -> float:
    """eps*^2 of an instance: the loss at which quality is 0."""
    return load_data(instance.task, instance.seed).target_loss(instance.alpha)


def median_quality(qualities: Sequence[float | None]) -> float | None:
    """The median, where runs without a quality rank last; None when the middle falls on such a run."""
    if not qualities:
        return None
    middle = median(-math.inf if q is None else q for q in qualities)
    return None if middle == -math.inf else middle


def bundle_qualities(qualities: Sequence[float | None], bundle_size: int) -> list[float | None]:
    """The median of each bundle of ``bundle_size`` consecutive qualities, as the protocol scores; the last
    may be smaller.

    Raises ValueError when ``bundle_size`` is not positive.
    """
    if bundle_size < 1:
        raise ValueError(f"bundle_size: must be at least 1, got {bundle_size}")
    return [median_quality(qualities[i : i + bundle_size]) for i in range(0, len(qualities), bundle_size)]
