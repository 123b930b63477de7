"""Quality, its clamp and rounding, and bundles."""

import math

import numpy as np
import pytest

from harness.data import load_data
from harness.score import (
    bundle_qualities,
    median_quality,
    quality,
    target_loss,
)
from harness.task import Instance, seed_bytes


@pytest.mark.parametrize(
    ("test_loss", "expected"),
    [(0.0, 1.0), (0.16, 0.0), (0.08, 0.5), (0.32, -1.0), (0.1234567, 0.228396), (0.05, 0.6875)],
)
def test_quality_is_the_share_of_the_target_that_is_left(test_loss, expected):
    assert quality(test_loss, 0.16) == expected


@pytest.mark.parametrize("test_loss", [1.76, 1.77, 1e30, math.inf])
def test_quality_is_clamped_at_minus_ten(test_loss):
    assert quality(test_loss, 0.16) == -10.0


def test_quality_is_clamped_at_ten():
    assert quality(-5.0, 0.16) == 10.0


def test_quality_is_rounded_to_six_decimals_halves_away_from_zero():
    assert quality(1 - 0.12345649, 1.0) == 0.123456
    assert quality(1 - 0.12345651, 1.0) == 0.123457
    assert quality(1 + 0.12345651, 1.0) == -0.123457
    half = 2.0**-7  # 0.0078125: the seventh decimal is 5, and exact in binary
    assert quality(1 - half, 1.0) == 0.007813
    assert quality(1 + half, 1.0) == -0.007813


def test_quality_of_nan_is_none():
    assert quality(math.nan, 0.16) is None


def test_a_perfect_predictor_of_f_has_quality_0_875_in_tig_and_0_75_in_seed():
    for task, expected in (("tig", 0.875), ("seed", 0.75)):
        data, instance = load_data(task, seed_bytes(1)), Instance(task, 4, seed_bytes(1))
        loss = float(np.mean((data.y[1200:].astype(float) - data.f[1200:]) ** 2))
        assert quality(loss, target_loss(instance)) == pytest.approx(expected, abs=1e-6)


def test_the_accuracy_factor_lowers_the_target():
    at = {f: target_loss(Instance("seed", 4, seed_bytes(1), accuracy_factor=f)) for f in (0, 1000, -4000)}
    assert at[1000] == pytest.approx(at[0] * 3 / 4)
    assert at[-4000] == pytest.approx(at[0] * 8 / 4)


def test_a_bundle_scores_the_median():
    qualities = [0.1, 0.9, 0.2, 0.8, 0.5, 0.7, 0.3]
    assert bundle_qualities(qualities, 3) == [0.2, 0.7, 0.3]
    assert bundle_qualities(qualities[:4], 4) == [0.5]
    assert bundle_qualities([], 3) == []
    with pytest.raises(ValueError, match="bundle_size: must be at least 1, got 0"):
        bundle_qualities(qualities, 0)


def test_runs_without_a_quality_rank_last():
    assert median_quality([None, 0.5, 0.7]) == 0.5
    assert median_quality([None, None, 0.7]) is None
    assert median_quality([None, 0.7]) is None
    assert median_quality([]) is None
