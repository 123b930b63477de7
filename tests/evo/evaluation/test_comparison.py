"""``evo compare``: who is better, how sure that is, and how failed runs count."""

from __future__ import annotations

import json

import pytest
from matplotlib.image import imread

from evo.errors import UsageError
from evo.evaluation import pictures
from evo.evaluation.comparison import Pair, compare_targets, parse_comparison, too_few
from evo.evaluation.pictures import draw_comparison
from evo.evaluation.question import Question, parse_question
from evo.evaluation.trainings import FAILED_QUALITY, Evaluation, Result
from tests.evo.trainings import training

SEEDS = "0:80000:10000"
QUALITIES = {
    "adam": [0.50, 0.60, 0.40, 0.70, 0.55, 0.65, 0.45, 0.75],
    "lion": [0.40, 0.52, 0.31, 0.58, 0.43, 0.56, 0.34, 0.63],
    "sgd": [0.51, 0.58, 0.42, 0.69, 0.56, 0.63, 0.47, 0.74],
}


def asked(*names: str, depths: str = "4,7") -> Question:
    return parse_question(names or tuple(QUALITIES), depths=depths, seeds=SEEDS)


def evaluation(question: Question, **changed: list[float | None]) -> Evaluation:
    found = []
    for target in question.targets:
        qualities = {**QUALITIES, **changed}[target.name] * len(question.depths)
        found += [Result(target.name, i, training(q)) for i, q in zip(question.instances, qualities, strict=True)]
    return Evaluation(question, tuple(found))


def compare(question: Question, **changed: list[float | None]) -> tuple[Pair, ...]:
    return compare_targets(evaluation(question, **changed)).pairs


def test_every_pair_is_compared_over_all_depths_and_at_each():
    pairs = compare(asked())
    assert [(p.a, p.b) for p in pairs if p.depth is None] == [("adam", "lion"), ("adam", "sgd"), ("lion", "sgd")]
    assert [p.depth for p in pairs if (p.a, p.b) == ("adam", "lion")] == [None, 4, 7]
    assert [p.paired.count for p in pairs[:4]] == [16, 16, 16, 8]
    assert all(p.p_holm >= p.paired.p for p in pairs)
    best = pairs[0].paired
    assert best.wins == 1
    assert best.low is not None
    assert best.low > 0


def test_pairing_is_by_instance_whatever_the_order_of_results():
    shuffled = Evaluation(asked(), evaluation(asked()).results[::-1])
    assert compare_targets(shuffled).pairs == compare(asked())


def test_a_failed_run_counts_as_the_worst_quality_and_ranks_last():
    failing: list[float | None] = [None, *QUALITIES["adam"][1:]]
    question = asked("adam", "lion", depths="4")
    (pair,) = compare(question, adam=failing)
    assert pair.paired.differences[0] == pytest.approx(FAILED_QUALITY - QUALITIES["lion"][0])
    assert pair.paired.mean < 0 < pair.paired.median  # the mean shows the failure, the median does not
    (whole,) = compare(question)
    assert pair.paired.p > whole.paired.p


def test_too_few_instances_for_the_difference_seen_are_warned_of():
    pairs = compare(asked())
    warned = too_few(pairs)
    assert any(w.startswith("adam − sgd: 16 instances are too few") for w in warned)
    assert not any("adam − lion" in w for w in warned)
    question = Question(**{**vars(asked("adam", "lion", depths="4")), "seeds": {bytes(32): 0}})
    alone = Evaluation(
        question,
        tuple(
            Result(t.name, question.instances[0], training(q))
            for t, q in zip(question.targets, (0.5, 0.4), strict=True)
        ),
    )
    assert too_few(compare_targets(alone).pairs) == ["adam − lion: one instance says nothing about others"]


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_picture_is_written_and_repeats(kind, tmp_path):
    failing: list[float | None] = [None, *QUALITIES["adam"][1:]]
    comparison = compare_targets(evaluation(asked(), adam=failing))
    first, second = tmp_path / f"first.{kind}", tmp_path / f"second.{kind}"
    for path in (first, second):
        pictures.write(lambda: draw_comparison(comparison), path)
    assert first.read_bytes() == second.read_bytes()
    if kind == "png":
        assert imread(first)[..., :3].std() > 0.01  # something is drawn


def test_where_no_picture_can_go(tmp_path):
    for path in (tmp_path / "picture.txt", tmp_path / "nowhere" / "picture.png"):
        with pytest.raises(UsageError, match="--out"):
            pictures.check_path(path, force=False)
    pictures.check_path(tmp_path / "picture.png", force=False)


def test_a_comparison_needs_two_targets():
    with pytest.raises(UsageError, match="at least two"):
        parse_comparison(["adam"])


def test_the_json_is_that_of_an_evaluation_and_more():
    question = asked("adam", "sgd")
    answer = json.loads(json.dumps(compare_targets(evaluation(question)).to_dict(), allow_nan=False))
    assert answer.items() >= evaluation(question).to_dict().items()
    assert len(answer["results"]) == 32
    assert [s["n_hidden"] for s in answer["summaries"]] == [None, 4, 7] * 2
    assert [p["n_hidden"] for p in answer["pairs"]] == [None, 4, 7]
    assert answer["pairs"][0]["count"] == 16
    assert len(answer["warnings"]) == 3


def test_trainings_without_a_test_loss_do_not_break_the_json():
    nothing = training(None, status="crashed", train_loss=[], val_loss=[], epochs_run=0, best_epoch=None)
    question = asked("adam", "lion")
    crashed = tuple(Result(t.name, i, nothing) for t in question.targets for i in question.instances)
    answer = json.loads(json.dumps(compare_targets(Evaluation(question, crashed)).to_dict(), allow_nan=False))
    assert answer["pairs"][0]["p"] == 1
    assert answer["summaries"][0]["failed"] == 1
