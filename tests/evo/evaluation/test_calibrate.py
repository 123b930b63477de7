"""``evo calibrate``: the figures that are known to be reachable, and what is said about the written challenge."""

from __future__ import annotations

import hashlib
import json
from statistics import fmean, median

import numpy as np
import pytest
from matplotlib.image import imread

from evo.errors import UsageError
from evo.evaluation import calibrate as module
from evo.evaluation.calibrate import calibrate, gaussian_process_loss, picture, run, verdict, zero_loss
from evo.evaluation.evaluate import Result
from evo.evaluation.pictures import save
from evo.evaluation.question import Question, question
from harness.data import TEST, TRAIN, load_data
from harness.score import quality, target_loss
from harness.task import TASKS, Instance
from tests.evo.trainings import training

SEEDS = ",".join("hex:" + hashlib.sha256(bytes([n])).hexdigest() for n in range(16))


def asked(task: str, *names: str, depths: str = "4,7") -> Question:
    return question(names or ("adam",), task=task, depths=depths, seeds=SEEDS)


@pytest.fixture(scope="module")
def bounds() -> dict:
    return {task: calibrate(asked(task), baseline_instances=0) for task in TASKS}


def test_the_bound_of_tig_is_the_one_measured_before(bounds):
    bound = bounds["tig"][0]
    assert fmean(bound.qualities) == pytest.approx(0.871, abs=0.002)
    assert min(bound.qualities) > 0.86
    assert max(bound.qualities) < 0.876


def test_seed_cannot_be_passed_as_written(bounds):
    bound = bounds["seed"][0]
    assert fmean(bound.losses) == pytest.approx(1.08, abs=0.1)
    assert median(bound.alphas) == pytest.approx(27, abs=3)
    assert median(bound.factors) == pytest.approx(-23_000, abs=3_000)
    assert max(bound.factors) < 0
    text = verdict(asked("seed"), bounds["seed"])
    assert text.startswith("As written, no optimizer can pass this task")
    assert "the target is 0.16 (alpha 4)" in text
    assert "Passing becomes possible from about accuracy_factor -2" in text


def test_a_factor_is_where_passing_begins(bounds):
    for seed, loss, factor in zip(
        asked("seed").seeds, bounds["seed"][0].losses, bounds["seed"][0].factors, strict=True
    ):
        hard = Instance("seed", 4, seed, accuracy_factor=int(np.ceil(factor)) + 1)
        easy = Instance("seed", 4, seed, accuracy_factor=int(np.floor(factor)) - 1)
        assert target_loss(hard) < loss < target_loss(easy)


def test_zero_agrees_with_the_harness(bounds):
    for task in TASKS:
        for seed, worth in zip(asked(task).seeds, bounds[task][1].qualities, strict=True):
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


def trained(question: Question, **_) -> list[Result]:
    """Pretended trainings: worse the deeper; the last instance fails."""
    found = []
    for target in question.targets:
        for instance in question.instances:
            failed = instance.seed == list(question.seeds)[-1]
            loss = None if failed else 0.1 * instance.num_hidden_layers
            target_value = target_loss(instance)
            worth = None if loss is None else quality(loss, target_value)
            found.append(Result(target.name, instance, training(worth, test_loss=loss, target_loss=target_value)))
    return found


@pytest.mark.parametrize("task", TASKS)
def test_optimizers_are_shown_beside_the_bound(task, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(module, "evaluate", trained)
    path = tmp_path / "picture.png"
    run(task, depths="4,7", seeds=SEEDS, baselines=["adam", "lion"], baseline_instances=3, out=path)
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:4]] for line in printed.splitlines() if line.startswith("│")]
    assert rows == [
        ["Gaussian process", "any", "16"], ["zero", "any", "16"],
        ["adam", "4", "3"], ["adam", "7", "3"], ["lion", "4", "3"], ["lion", "7", "3"],
    ]  # fmt: skip
    assert "a failed run counts as -10" in printed
    assert imread(path)[..., :3].std() > 0.01
    run(task, depths="4", seeds=SEEDS, baselines=["adam"], baseline_instances=2, json_output=True)
    answer = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in answer["reached"]] == ["Gaussian process", "zero", "adam"]
    assert answer["reached"][2]["test_loss"] == [0.4, None]
    assert answer["reached"][2]["quality"][1] == -10


def test_the_picture_of_bounds_alone_needs_no_training(bounds, tmp_path):
    question = Question(**{**vars(asked("seed")), "targets": ()})
    save(picture(question, bounds["seed"]), tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").stat().st_size > 1000
    assert zero_loss("seed", bytes(32)) > gaussian_process_loss("tig", bytes(32))


def test_an_unknown_task_is_refused():
    with pytest.raises(UsageError, match="not one of tig, seed"):
        run("tog")
