"""``evo calibrate``: the figures that are known to be reachable, and what is said about the written challenge."""

from __future__ import annotations

import hashlib
from statistics import fmean, median

import numpy as np
import pytest
import torch

from evo.errors import UsageError
from evo.evaluation import pictures
from evo.evaluation.bounds import MEAN_BLIND, gaussian_process_loss, mean_blind_quality, zero_loss
from evo.evaluation.calibration import Calibration, calibrate_task, parse_calibration
from evo.evaluation.question import Question
from harness.data import TEST, TRAIN, load_data
from harness.model import forward, initial_parameters, network_layout
from harness.score import quality, target_loss
from harness.task import TASKS, Instance
from harness.xorwow import Xorwow

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


def mean_blind(seed: bytes) -> tuple[float, float]:
    """The bound, and quality of f itself less its mean over all inputs, from the features of f drawn anew."""
    data = load_data("tig", seed)
    features = Xorwow(int.from_bytes(seed[:8], "little"), np.arange(256))
    a, b, w = (features.normal(), features.uniform() * 2 * np.pi, features.normal() / 0.3**2)
    a, b, w = (np.asarray(values, dtype=np.float64).reshape(2, 128) for values in (a, b, w))
    f = np.sqrt(2 / 128) * np.einsum("kn,rkn->rk", a, np.cos(data.x.astype(np.float64)[:, :, None] * w + b))
    noise = data.y[1200:] - f[1200:]

    def score(mu: np.ndarray) -> float:
        return float(1 - np.mean((mu + noise) ** 2) / (4 / 250 * np.sum(noise**2)))

    everywhere = np.sqrt(2 / 128) * np.sum(a * np.cos(b) * np.sin(w) / w, axis=1)
    return score(sum(f[:1000]) / 1000), score(everywhere)


def test_the_bound_of_mean_blind_optimizers_is_that_of_the_function_less_its_mean():
    found = [mean_blind_quality(Instance("tig", 4, seed)) for seed in asked("tig").seeds]
    expected = [mean_blind(seed) for seed in asked("tig").seeds]
    np.testing.assert_allclose(found, [on_rows for on_rows, _ in expected], atol=1e-4)
    np.testing.assert_allclose(found, [everywhere for _, everywhere in expected], atol=0.25)
    assert np.std(np.subtract(found, [everywhere for _, everywhere in expected])) < 0.1


def test_the_bound_of_mean_blind_optimizers_is_on_average_what_the_mean_costs():
    """1 - (noise^2 + variance of means) / 8 noise^2; the variance is the kernel's mean over two inputs."""
    seeds = [hashlib.sha256(b"mean" + bytes([n])).digest() for n in range(128)]
    found = [mean_blind_quality(Instance("tig", 4, seed)) for seed in seeds]
    inputs = np.linspace(-1, 1, 1001)
    variance = np.mean(np.exp(-((inputs[:, None] - inputs) ** 2) / (2 * 0.09**2)))
    assert variance == pytest.approx(0.109, abs=0.001)
    assert fmean(found) == pytest.approx(1 - (0.04 + variance) / 0.32, abs=0.1)
    assert min(found) < 0
    assert max(found) > 0.85


def test_only_a_frozen_end_hides_the_mean(bounds):
    assert TASKS["tig"].hides_mean
    assert not TASKS["seed"].hides_mean
    assert mean_blind_quality(Instance("seed", 4, bytes(32))) is None
    assert bounds["seed"].mean_blind is None
    assert bounds["tig"].mean_blind.name == MEAN_BLIND
    assert "ignores the mean of the outputs" in bounds["tig"].verdict
    assert "ignores the mean of the outputs" not in bounds["seed"].verdict


def test_the_outputs_of_a_training_batch_have_mean_zero_whatever_is_trained():
    """What makes it a bound, shown on a network of random tensors."""
    instance = Instance("tig", 4, bytes(32))
    layout, generator = network_layout("tig", 4), torch.Generator().manual_seed(0)
    params = [
        torch.randn(shape, generator=generator) if trainable else torch.tensor(value)
        for shape, trainable, value in zip(layout.shapes, layout.trainable, initial_parameters(instance), strict=True)
    ]
    x = torch.tensor(load_data("tig", instance.seed).x[:128])
    outputs = forward(layout, params, x).prediction
    assert outputs.std() > 0.1
    assert outputs.mean(0).abs().max() < 1e-5


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


@pytest.mark.parametrize("task", TASKS)
def test_the_picture_of_bounds_alone_needs_no_training(bounds, tmp_path, task):
    pictures.write(lambda: pictures.draw_calibration(bounds[task]), tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").stat().st_size > 1000


def test_zero_is_worse_than_the_gaussian_process():
    assert zero_loss("seed", bytes(32)) > gaussian_process_loss("tig", bytes(32))


def test_a_calibration_is_of_all_depths_of_the_task_unless_told_otherwise():
    assert parse_calibration("tig").depths == TASKS["tig"].depths
    assert parse_calibration("tig", depths=4).depths == (4,)
    assert [target.name for target in parse_calibration("seed").targets] == ["adam", "cautious_adanw"]


def test_an_unknown_task_is_refused():
    with pytest.raises(UsageError, match="not one of tig, seed"):
        parse_calibration("tog")
