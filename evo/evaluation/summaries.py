"""The summary of one target's trainings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from evo.evaluation.reasons import Reason, reasons
from evo.evaluation.trainings import Result, finite
from harness.score import bundle_qualities

BUNDLE_SIZE = 4  # instances whose median is one score


@dataclass(frozen=True)
class Summary:
    """One target on some instances. ``mean``, ``median``: of qualities, failed runs counted as FAILED_QUALITY.

    ``bundle_median``: mean over bundles of BUNDLE_SIZE instances of one depth, each scored by its median.
    ``failed``: share of runs without a quality. ``loss_ratio``: median of test loss / target loss. ``passed``: share
    of runs that reach the target; None for a task that has no threshold. ``reasons``: why runs did not finish.
    """

    count: int
    mean: float
    median: float
    bundle_median: float
    failed: float
    loss_ratio: float | None
    passed: float | None
    reasons: list[Reason]


def summarize(results: Sequence[Result]) -> Summary:
    """Summarize one target's ``results``, which must not be empty."""
    qualities = [result.counted_quality for result in results]
    bundles: list[float | None] = []
    for depth in dict.fromkeys(result.instance.num_hidden_layers for result in results):
        of_depth = [r.counted_quality for r in results if r.instance.num_hidden_layers == depth]
        bundles += bundle_qualities(of_depth, BUNDLE_SIZE)
    losses = [(r.training.test_loss, r.training.target_loss) for r in results]
    ratios = [math.inf if test is None else test / target for test, target in losses]
    passed = [result.training.passed for result in results]
    return Summary(
        count=len(results),
        mean=fmean(qualities),
        median=median(qualities),
        bundle_median=fmean(bundle for bundle in bundles if bundle is not None),
        failed=sum(result.training.quality is None for result in results) / len(results),
        loss_ratio=finite(median(ratios)),
        passed=None if None in passed else sum(map(bool, passed)) / len(passed),
        reasons=reasons(result.training for result in results),
    )
