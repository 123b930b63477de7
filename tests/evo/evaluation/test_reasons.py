"""Why trainings did not finish: counted by reason, whatever the epoch."""

import json
from dataclasses import replace

from evo.evaluation.reasons import Reason, listed, reasons
from tests.evo.fakes import training


def failed(status: str, message: str):
    return replace(training(None, status=status), message=message)


def test_messages_that_differ_in_the_epoch_alone_are_one_reason():
    found = reasons(
        [
            failed("diverged", "epoch 3: weight of layer 1 is NaN"),
            failed("diverged", "epoch 12: weight of layer 1 is NaN"),
            failed("diverged", "epoch 3: bias of layer 1 is NaN"),
            failed("killed", "optimizer_step, epoch 7: ended by SIGABRT"),
            failed("killed", "optimizer_step, epoch 7: ended by SIGABRT"),
            failed("killed", "optimizer_step, epoch 9: ended by SIGABRT"),
            failed("crashed", "its worker died twice"),
            training(0.5),
        ]
    )
    assert found == [
        Reason("killed", "optimizer_step: ended by SIGABRT", 3, 7, 9),
        Reason("diverged", "weight of layer 1 is NaN", 2, 3, 12),
        Reason("crashed", "its worker died twice", 1),
        Reason("diverged", "bias of layer 1 is NaN", 1, 3, 3),
    ]
    assert listed(found) == [
        "3 killed: optimizer_step: ended by SIGABRT (epochs 7 to 9)",
        "2 diverged: weight of layer 1 is NaN (epochs 3 to 12)",
        "1 crashed: its worker died twice",
        "1 diverged: bias of layer 1 is NaN (epoch 3)",
    ]


def test_a_finished_run_without_a_quality_counts():
    assert listed(reasons([training(None)])) == ["1 finished: its test loss is NaN"]


def test_many_reasons_are_cut_and_no_training_is_lost_from_the_count():
    lines = listed(reasons(failed("error", f"raised {n}") for n in range(9)))
    assert lines[-1] == "4 for 4 more reasons"
    assert len(lines) == 6


def test_foreign_messages_keep_to_one_line():
    (line,) = listed(reasons([failed("error", "a\nb\x1b[31m")]))
    assert line == r"1 error: a\u000ab\u001b[31m"


def test_evaluate_and_compare_say_why(evo, cases, train_here):
    target = str(cases / "diverge.yaml")
    code, out, _ = evo("evaluate", target, "--depths", "2", "--epochs", "2", "--seeds", "0", "--workers", "1")
    assert code == 0
    assert (
        f"{target}: 1 of 1 trainings diverged or failed:\n  1 diverged: running_mean of layer 0 is NaN (epoch 0)" in out
    )
    arguments = ("compare", target, "adam", "--depths", "2", "--epochs", "2", "--seeds", "0,10000", "--workers", "1")
    assert "\n  2 diverged: running_mean of layer 0 is NaN (epoch 0)\n" in evo(*arguments)[1]
    first, second = json.loads(evo(*arguments, "--json")[1])["summaries"]
    assert [reason["count"] for reason in first["reasons"]] == [2]
    assert second["reasons"] == []


def test_a_depth_without_a_layer_to_train_is_refused_as_in_recipes(evo):
    code, out, err = evo("evaluate", "adam", "--depths", "4,1")
    assert (code, out) == (2, "")
    assert err == "--depths 4,1: with depth 1 the task tig trains no layer; the least is 2\n"
