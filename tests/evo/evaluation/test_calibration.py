"""``evo calibrate``: the figures that are known to be reachable, and what is said about the written challenge."""

from __future__ import annotations

import hashlib
from statistics import fmean, median

import numpy as np
import pytest

from evo.errors import UsageError
from evo.evaluation import pictures
from evo.evaluation.bounds import gaussian_process_loss, zero_loss
from evo.evaluation.calibration import Calibration, calibrate_task, parse_calibration
from evo.evaluation.question import Question
from harness.data import TEST, TRAIN, load_data
from harness.score import quality, target_loss
from harness.task import TASKS, Instance

SEEDS = ",".join("hex:" + hashlib.sha256(bytes([n])).hexdigest() for n in range(16))


def asked(task: str) -> Question:
    return parse_calibration(task, depths=(4, 7), seeds=SEEDS, baselines=())


@pytest.fixture(scope="module")
def bounds() -> dict[str, Calibration]:
    return {task: calibrate_task(asked(task)) for task in TASKS}


def test_the_bound_of_tig_is_the_one_measured_before(bounds):
    bound = bounds["tig"].reached[0]
    assert fmean(bound.qualities) == pytest.approx(0.871, abs=0.002)
    assert min(bound.qualities) > 0.86
    assert max(bound.qualities) < 0.876


def test_seed_cannot_be_passed_as_written(bounds):
    bound = bounds["seed"].reached[0]
    assert fmean(bound.losses) == pytest.approx(1.08, abs=0.1)
    assert median(bound.alphas) == pytest.approx(27, abs=3)
    assert median(bound.factors) == pytest.approx(-23_000, abs=3_000)
    assert max(bound.factors) < 0
    text = bounds["seed"].verdict
    assert text.startswith("As written, no optimizer can pass this task")
    assert "the target is 0.16 (alpha 4)" in text
    assert "Passing becomes possible from about accuracy_factor -2" in text


def test_a_factor_is_where_passing_begins(bounds):
    for seed, loss, factor in zip(
        asked("seed").seeds, bounds["seed"].reached[0].losses, bounds["seed"].reached[0].factors, strict=True
    ):
        hard = Instance("seed", 4, seed, accuracy_factor=int(np.ceil(factor)) + 1)
        easy = Instance("seed", 4, seed, accuracy_factor=int(np.floor(factor)) - 1)
        assert target_loss(hard) < loss < target_loss(easy)


def test_zero_agrees_with_the_harness(bounds):
    for task in TASKS:
        for seed, worth in zip(asked(task).seeds, bounds[task].reached[1].qualities, strict=True):
            loss = float(np.mean(load_data(task, seed).y[TEST].astype(np.float64) ** 2))
            assert worth == pytest.approx(quality(loss, target_loss(Instance(task, 4, seed))), abs=1e-6)


def test_the_bound_is_the_best_of_its_kind():
    """Neither another length scale nor another noise does better on average: the process knows both."""
    seeds = list(asked("tig").seeds)[:6]

    def ridge(seed: bytes, length: float, noise: float) -> float:
        data = load_data("tig", seed)
        x, y = data.x.astype(float), data.y.astype(float)
        kernel = np.exp(-((x - x.T) ** 2) / (2 * length**2))
        weights = np.linalg.solve(kernel[TRAIN, TRAIN] + noise**2 * np.eye(1000), y[TRAIN])
        return float(np.mean((kernel[TEST, TRAIN] @ weights - y[TEST]) ** 2))

    bound = fmean(gaussian_process_loss("tig", seed) for seed in seeds)
    assert bound == pytest.approx(fmean(ridge(seed, 0.09, 0.2) for seed in seeds), rel=1e-4)
    for length, noise in ((0.03, 0.2), (0.27, 0.2), (0.09, 0.02), (0.09, 1.0)):
        assert bound < fmean(ridge(seed, length, noise) for seed in seeds)


def test_the_picture_of_bounds_alone_needs_no_training(bounds, tmp_path):
    pictures.write(lambda: pictures.draw_calibration(bounds["seed"]), tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").stat().st_size > 1000
    assert zero_loss("seed", bytes(32)) > gaussian_process_loss("tig", bytes(32))


def test_a_calibration_is_of_all_depths_of_the_task_unless_told_otherwise():
    assert parse_calibration("tig").depths == TASKS["tig"].depths
    assert parse_calibration("tig", depths=4).depths == (4,)
    assert [target.name for target in parse_calibration("seed").targets] == ["adam", "cautious_adanw"]


def test_an_unknown_task_is_refused():
    with pytest.raises(UsageError, match="not one of tig, seed"):
        parse_calibration("tog")
