"""``evo evaluate``: options, and the JSON that scripts rely on."""

from __future__ import annotations

import hashlib
import json
import math
import re
from contextlib import nullcontext

import numpy as np
import pytest

from evo.errors import UsageError
from evo.evaluation.calibration import parse_calibration
from evo.evaluation.comparison import parse_comparison
from evo.evaluation.defaults import COMPARISON_INSTANCES, INSTANCES
from evo.evaluation.question import parse_depths, parse_question
from evo.evaluation.seeds import labeled_seed, parse_instances, parse_seeds, shared_streams
from evo.evaluation.summaries import summarize
from evo.evaluation.trainings import Evaluation, Result, evaluate_targets
from evo.recipe.schema import Recipe
from evo.records import Purpose
from evo.search.instances import instances as search_instances
from harness.data import load_data
from harness.result import NUMERICS_VERSION
from harness.task import Instance, seed_bytes
from tests.evo.training_here import training_here
from tests.evo.trainings import training

KEYS = (
    "target n_hidden seed mean_blind_bound status message epochs_run best_epoch train_loss val_loss test_loss "
    "target_loss quality passed"
)
SUBMISSION = """
def optimizer_init_state(seed, param_sizes): return None
def optimizer_step(state, model_params, gradients, epoch, train_loss, val_loss):
    if epoch == 1: raise ValueError("enough")
    return [-1e-6 * g for g in gradients]
"""


def results(target: str, qualities: list[float | None], depth: int = 4) -> list[Result]:
    return [Result(target, Instance("tig", depth, seed_bytes(n)), training(q)) for n, q in enumerate(qualities)]


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("3", {3: 3}),
        ("0:3", {0: 0, 1: 1, 2: 2}),
        ("5:7, 6, 0", {5: 5, 6: 6, 0: 0}),
        ("1:8:3", {1: 1, 4: 4, 7: 7}),
        ("hex:01" + "00" * 31, {1: "hex:01" + "00" * 31}),
        ("HEX".lower() + ":" + "FF" * 32, {2**256 - 1: "hex:" + "ff" * 32}),
    ],
)
def test_seeds_are_numbers_ranges_and_hexadecimal_bytes(text, seeds):
    assert parse_seeds(text) == {seed_bytes(n): label for n, label in seeds.items()}


@pytest.mark.parametrize(
    "text", ["", "3:3", "4:1", "a", "1:", "-1", "hex:00", "hex:" + "0g" * 32, "0:999999999", "0:8:0", "1,,2"]
)
def test_seeds_that_are_none_are_refused(text):
    with pytest.raises(UsageError, match="--seeds"):
        parse_seeds(text)


def test_a_label_gives_the_same_seeds_to_everybody():
    label, seeds = parse_instances("unseen:8")
    assert (label, len(seeds)) == ("unseen", 8)
    assert list(parse_instances("unseen:3")[1]) == list(seeds)[:3]
    assert list(seeds)[2] == hashlib.sha256(b"('instances', 'unseen', 2)").digest()
    assert parse_seeds(list(seeds.values())) == seeds
    assert not seeds.keys() & parse_instances("unseen2:8")[1].keys()


def test_without_a_label_a_fresh_one_is_drawn_that_repeats_the_instances():
    first, second = parse_instances(8), parse_instances("8")
    assert first[0] != second[0]
    assert re.fullmatch("[0-9a-f]{16}", first[0])
    assert parse_instances(f"{first[0]}:8") == first
    asked = parse_question(["adam"])
    assert parse_question(["adam"], instances=asked.labeled) == asked
    assert len(asked.instances) == INSTANCES
    assert len(parse_comparison(["adam", "lion"]).instances) == COMPARISON_INSTANCES
    assert parse_calibration("tig") == parse_calibration("tig")


@pytest.mark.parametrize(
    "text", ["", "a", "a:", ":8", "a:0", "a:b", "a b:8", "-a:8", "a:8:2", "a:100001", 0, -1, True, "é:1"]
)
def test_instances_that_are_none_are_refused(text):
    with pytest.raises(UsageError, match="--instances"):
        parse_instances(text)


def test_instances_are_named_once():
    with pytest.raises(UsageError, match="--instances unseen:8: --seeds names the instances already"):
        parse_question(["adam"], instances="unseen:8", seeds="0")
    with pytest.raises(UsageError, match="--instances unseen:60000: more than 100000 instances"):
        parse_question(["adam"], depths="4,7", instances="unseen:60000")


@pytest.mark.parametrize("purpose", [p for p in Purpose if p is not Purpose.SHARE])  # it has none of its own
def test_no_search_meets_the_instances_of_a_label(purpose):
    recipe = Recipe(name="unseen", task="tig")
    searched = {i.seed for generation in range(9) for i in search_instances(recipe, purpose, generation)}
    labels = (recipe.name, str(recipe.seed), purpose.value)
    assert searched
    assert not searched & {labeled_seed(label, index) for label in labels for index in range(100)}


@pytest.mark.parametrize(
    ("seeds", "warned"), [("7", True), ("hex:" + "ab" * 32, False), ("hex:07" + "00" * 31, True), (None, False)]
)
def test_seeds_that_a_submission_can_guess_are_warned_of(tmp_path, seeds, warned):
    path = tmp_path / "theirs.py"
    path.write_text(SUBMISSION)
    assert bool(parse_question(["adam", str(path)], seeds=seeds).warnings) is warned
    assert not parse_question(["adam"], seeds=seeds).warnings


def test_depths_are_numbers_of_hidden_layers():
    assert parse_depths("4, 7,4") == (4, 7)
    for text in ("", "0", "65", "x", "4,,7", "4.0"):
        with pytest.raises(UsageError, match="--depths"):
            parse_depths(text)


def test_depths_and_seeds_may_be_sequences():
    assert parse_depths(4) == (4,)
    assert parse_depths((7, 4, 7)) == (7, 4)
    assert parse_seeds(range(0, 30_000, 10_000)) == parse_seeds("0:30000:10000")
    assert parse_seeds([5, "hex:" + "FF" * 32, "0:2"]) == parse_seeds("5,hex:" + "ff" * 32 + ",0,1")
    for value in ((), [0], (4, -1), [True], (4.5,)):
        with pytest.raises(UsageError, match="--depths"):
            parse_depths(value)
    with pytest.raises(UsageError, match="--seeds"):
        parse_seeds([-1])


def test_every_mistake_in_a_question_is_told_at_once():
    with pytest.raises(UsageError) as caught:
        parse_question(["adm"], task="tig", depths="x", seeds="y", epochs=0, init="zeros", accuracy_factor=3)
    text = str(caught.value)
    for part in ("adm", "--depths x", "--seeds y", "--epochs 0", "--init zeros", "--accuracy-factor 3"):
        assert part in text
    with pytest.raises(UsageError, match="TARGET"):
        parse_question([])


@pytest.mark.parametrize(
    ("text", "warned"),
    [("0:8", True), ("0,2899", True), ("0,2900", False), ("0:160000:10000", False), ("5", False)],
)
def test_instances_that_share_data_are_warned_of(text, warned):
    assert bool(shared_streams(parse_seeds(text))) is warned


def test_the_data_of_the_next_seed_are_those_of_this_one_moved_by_a_row():
    """Why neighboring seeds are no independent instances."""
    this, following = load_data("tig", seed_bytes(70)), load_data("tig", seed_bytes(71))
    assert (this.x[1:] == following.x[:-1]).all()
    assert np.corrcoef(this.f[1:, 0], following.f[:-1, 0])[0, 1] > 0.9


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The standard output of ``evo evaluate --json``: all in this process, the first target with two workers."""
    path = tmp_path_factory.mktemp("targets") / "theirs.py"
    path.write_text(SUBMISSION)
    options = {"task": "seed", "depths": "3,2", "seeds": "7,hex:" + "ab" * 32, "epochs": 2, "accuracy_factor": -9000}
    texts = []
    for here, targets in ((True, ["lion", str(path)]), (False, ["lion"])):
        with training_here() if here else nullcontext():
            answer = evaluate_targets(parse_question(targets, **options), workers=2)
        texts.append(json.dumps(answer.to_dict()))
    return str(path), texts


def test_the_json_holds_one_entry_for_each_training_in_the_order_asked(outputs):
    path, texts = outputs
    answer = json.loads(texts[0])
    assert answer["task"] == "seed"
    assert answer["numerics_version"] == NUMERICS_VERSION
    assert answer["instances"] is None
    asked = [(t, d, s) for t in ("lion", path) for d in (3, 2) for s in (7, "hex:" + "ab" * 32)]
    assert [(r["target"], r["n_hidden"], r["seed"]) for r in answer["results"]] == asked
    for result in answer["results"]:
        assert list(result) == KEYS.split()
        assert result["mean_blind_bound"] is None
    lion, theirs = answer["results"][0], answer["results"][-1]
    assert lion["status"] == "finished"
    assert lion["epochs_run"] == len(lion["train_loss"]) == len(lion["val_loss"]) == 2
    assert lion["passed"] is (lion["test_loss"] <= lion["target_loss"])
    assert theirs["status"] == "error"
    assert "theirs.py:4: ValueError: enough" in theirs["message"]
    assert theirs["quality"] is None
    assert theirs["target_loss"] > 0


def test_the_same_question_gives_the_same_json_whatever_the_number_of_workers(outputs):
    first, second = map(json.loads, outputs[1])
    assert first["results"][:4] == second["results"]
    assert first | {"results": []} == second | {"results": []}


def test_numbers_that_are_not_finite_become_null():
    asked = parse_question(["adam"], seeds="0")
    diverged = training(None, status="diverged", train_loss=[math.nan, 1.0], val_loss=[math.inf, -math.inf])
    text = json.dumps(Evaluation(asked, (Result("adam", asked.instances[0], diverged),)).to_dict(), allow_nan=False)
    (entry,) = json.loads(text)["results"]
    assert entry["train_loss"] == [None, 1.0]
    assert entry["val_loss"] == [None, None]
    assert entry["quality"] is None


def test_a_failed_run_counts_as_the_worst_quality():
    summary = summarize(results("adam", [0.5, 0.7, 0.6, None]))
    assert summary.failed == 0.25
    assert summary.mean == pytest.approx((0.5 + 0.7 + 0.6 - 10) / 4)
    assert summary.median == pytest.approx(0.55)


def test_bundles_stay_within_a_depth():
    mixed = results("adam", [0.1, 0.2, 0.3, 0.4, 0.9]) + results("adam", [0.5, 0.5, 0.5], depth=7)
    assert summarize(mixed).bundle_median == pytest.approx((0.25 + 0.9 + 0.5) / 3)


def test_loss_ratio_and_passes_are_told_for_a_task_with_a_threshold():
    runs = [Result("adam", Instance("seed", 4, seed_bytes(n)), training(-5.0, passed=n == 0)) for n in range(4)]
    summary = summarize(runs)
    assert summary.passed == 0.25
    assert summary.loss_ratio == pytest.approx(6)
