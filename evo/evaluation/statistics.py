"""Statistics of two optimizers on the same instances: differences, their uncertainty, and how many would be needed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95
POWER = 0.8
RESAMPLES = 9_999


@dataclass(frozen=True)
class Paired:
    """Differences a - b over instances. ``low``, ``high``: bootstrap interval of the mean at LEVEL.

    ``wins``: share of instances on which a is better, ties counted as half. ``p``: two-sided Wilcoxon signed-rank
    test. ``needed``: instances that a mean difference and a spread like these need (see `needed`); None without a
    difference. Interval and ``needed`` are None for a single instance.
    """

    differences: tuple[float, ...]
    mean: float
    median: float
    low: float | None
    high: float | None
    wins: float
    p: float
    needed: int | None

    @property
    def count(self) -> int:
        """The number of instances."""
        return len(self.differences)


def paired(a: Sequence[float], b: Sequence[float]) -> Paired:
    """Compare ``a[i]`` with ``b[i]``, which must not be empty. The same input gives the same output, always."""
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    low, high = _interval(differences)
    return Paired(
        differences=tuple(differences.tolist()),
        mean=float(differences.mean()),
        median=float(np.median(differences)),
        low=low,
        high=high,
        wins=float(np.mean(differences > 0) + 0.5 * np.mean(differences == 0)),
        p=_wilcoxon(differences),
        needed=needed(differences),
    )


def needed(differences: np.ndarray) -> int | None:
    """Instances that find a difference like this one in POWER of all comparisons, at the level 1 - LEVEL.

    n = ((z(1 - (1 - LEVEL) / 2) + z(POWER)) * standard deviation / mean)^2, the normal approximation for paired
    differences: 7.85 * (standard deviation / mean)^2.
    """
    if len(differences) < 2 or differences.mean() == 0:
        return None
    from scipy import stats  # here alone: it takes a second to load

    z = stats.norm.ppf(0.5 + LEVEL / 2) + stats.norm.ppf(POWER)
    return max(2, math.ceil((z * differences.std(ddof=1) / differences.mean()) ** 2))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): the probability of any false alarm among all tests stays below the level."""
    order = np.argsort(p_values, kind="stable")
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def _interval(differences: np.ndarray) -> tuple[float | None, float | None]:
    if len(differences) < 2:
        return None, None
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    from scipy import stats  # here alone: it takes a second to load

    for method in ("BCa", "percentile"):  # the former is the better one, and not defined for some tiny samples
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = stats.bootstrap(
                (differences,),
                np.mean,
                n_resamples=RESAMPLES,
                confidence_level=LEVEL,
                method=method,
                rng=np.random.default_rng(0),
            )
        low, high = result.confidence_interval
        if math.isfinite(low) and math.isfinite(high):
            break
    return float(low), float(high)


def _wilcoxon(differences: np.ndarray) -> float:
    if not differences.any():
        return 1.0
    from scipy import stats  # here alone: it takes a second to load

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about small samples, which `needed` is for
        result: Any = stats.wilcoxon(differences)
    return float(result.pvalue)
