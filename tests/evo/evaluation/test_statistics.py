"""Paired statistics: known answers, uncertainty that is honest, and the rule for how many instances are needed."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest

from evo.evaluation.statistics import LEVEL, POWER, holm, needed, paired


@pytest.fixture(scope="module")
def stats():
    """The module of SciPy; loaded here, because it takes a second."""
    return importlib.import_module("scipy.stats")


def sample(seed: int, count: int, mean: float, spread: float) -> tuple[list[float], list[float]]:
    """Two targets whose differences are normal, on instances that differ far more."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, 3, count)
    return list(shared + rng.normal(mean, spread, count)), list(shared)


def test_a_difference_is_found_through_the_spread_of_instances(stats):
    a, b = sample(0, 40, 0.1, 0.1)
    result = paired(a, b)
    assert result.mean == pytest.approx(np.mean(a) - np.mean(b))
    assert result.median == pytest.approx(np.median(np.subtract(a, b)))
    assert result.low is not None
    assert result.high is not None
    assert 0 < result.low < result.mean < result.high
    assert result.p < 1e-4
    assert stats.mannwhitneyu(a, b).pvalue > 0.5  # unpaired, it is not


def test_the_other_way_round_is_the_mirror_image():
    a, b = sample(1, 20, 0.05, 0.2)
    one, other = paired(a, b), paired(b, a)
    assert one.mean == -other.mean
    assert one.wins == 1 - other.wins
    assert one.p == other.p
    assert one.needed == other.needed


def test_the_same_input_gives_the_same_interval():
    a, b = sample(2, 12, 0.0, 0.1)
    assert paired(a, b) == paired(a, b)


def test_intervals_cover_the_truth_about_as_often_as_they_claim():
    covered = 0
    for seed in range(40):
        result = paired(*sample(seed, 25, 0.1, 0.2))
        assert result.low is not None
        assert result.high is not None
        covered += result.low <= 0.1 <= result.high
    assert covered >= 34  # 38 expected; fewer than 34 has probability 0.3 %


@pytest.mark.parametrize(
    ("a", "b"), [([1.0], [0.5]), ([1.0, 2.0], [0.0, 1.0]), ([1.0] * 5, [1.0] * 5), ([2.0, 1.0], [1.0, 2.0])]
)
def test_tiny_and_constant_samples_have_an_answer_too(a, b):
    result = paired(a, b)
    assert 0 <= result.p <= 1
    if len(a) == 1:
        assert result.low is result.high is result.needed is None
    else:
        assert result.low is not None
        assert result.high is not None
        assert result.low <= result.mean <= result.high
    if a == b:
        assert result.p == 1
        assert result.wins == 0.5


def test_as_many_instances_as_needed_find_the_difference_as_often_as_stated(stats):
    count = needed(np.array([0.3, 0.1, -0.1]))
    assert count == math.ceil((stats.norm.ppf(1 - (1 - LEVEL) / 2) + stats.norm.ppf(POWER)) ** 2 * 0.04 / 0.01)
    rng = np.random.default_rng(0)
    draws = rng.normal(0.1, 0.2, (4000, count))
    found = np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 1 - LEVEL)
    assert POWER - 0.05 < found < POWER + 0.05
    assert needed(np.zeros(4)) is None


def test_holm_corrects_as_in_the_textbook():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
