"""``evo evaluate``, ``evo compare`` and ``evo calibrate``: what they print."""

from __future__ import annotations

import json

import pytest
from matplotlib.image import imread
from rich.table import Table

from evo import api
from evo.cli.evaluations import print_calibration, print_comparison, print_evaluation
from evo.cli.tables import pair_table, summary_table
from evo.cli.terminal import TrainingProgress, console
from evo.errors import UsageError
from evo.evaluation import calibration
from evo.evaluation.bounds import MEAN_BLIND, mean_blind_quality
from evo.evaluation.comparison import compare_targets
from evo.evaluation.question import Question, parse_question
from evo.evaluation.trainings import Evaluation, Result
from evo.events import Event
from harness.score import quality, target_loss
from tests.evo.trainings import training

SEEDS = "0:160000:10000"


def trained(question: Question, **_) -> Evaluation:
    """Pretended trainings: worse the deeper, now this target better and now that one; the last instance fails."""
    found = []
    for target in question.targets:
        for k, instance in enumerate(question.instances):
            failed = instance.seed == list(question.seeds)[-1]
            loss = None if failed else 0.1 * instance.num_hidden_layers + 0.01 * (ord(target.name[0]) * (k + 1) % 7)
            aim = target_loss(instance)
            worth = None if loss is None else quality(loss, aim)
            found.append(Result(target.name, instance, training(worth, test_loss=loss, target_loss=aim)))
    return Evaluation(question, tuple(found))


@pytest.fixture(autouse=True)
def pretended(monkeypatch):
    monkeypatch.setattr(api, "evaluate_targets", trained)
    monkeypatch.setattr(calibration, "evaluate_targets", trained)


def rows(text: str, cells: slice) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[cells]] for line in text.splitlines() if line.startswith("│")]


def shown(table: Table) -> str:
    output = console()
    with output.capture() as captured:
        output.print(table)
    return captured.get()


def test_the_summary_has_a_row_for_each_target_and_depth():
    text = shown(summary_table(trained(parse_question(["adam", "lion"], depths="4,7", seeds="0:2"))))
    assert rows(text, slice(1, 4)) == [
        ["adam", "4", "2"], ["adam", "7", "2"], ["adam", "all", "4"],
        ["lion", "4", "2"], ["lion", "7", "2"], ["lion", "all", "4"],
        [MEAN_BLIND, "any", "2"],
    ]  # fmt: skip
    assert "a failed run counts as -10" in " ".join(text.split())


def test_the_table_of_pairs_shows_every_pair():
    question = parse_question(["adam", "lion", "sgd"], depths="4,7", seeds=SEEDS)
    found = rows(shown(pair_table(compare_targets(trained(question)))), slice(1, 4))
    assert len(found) == 9
    assert found[0] == ["adam − lion", "all", "32"]


def test_evaluate_prints_tables_or_json(capsys):
    print_evaluation(["adam"], as_json=False, verbose=True, seeds="0:3")
    printed = capsys.readouterr()
    assert printed.out.count("finished ") == 3
    assert "adam: 1 of 3 trainings diverged or failed:\n  1 finished: its test loss is NaN\n" in printed.out
    assert "bundle median" in printed.out
    assert printed.err.startswith("warning: seeds 0 and 1 share data")
    print_evaluation(["adam"], as_json=True, verbose=False, seeds=SEEDS)
    answer = json.loads(capsys.readouterr().out)
    assert answer == api.evaluate("adam", seeds=SEEDS).to_dict()
    bounds = map(mean_blind_quality, parse_question(["adam"], seeds=SEEDS).instances)
    assert [result["mean_blind_bound"] for result in answer["results"]] == list(bounds)


def test_a_fresh_label_is_printed_and_repeats(capsys):
    print_evaluation(["adam"], as_json=True, verbose=False)
    fresh = json.loads(capsys.readouterr().out)
    print_evaluation(["adam"], as_json=True, verbose=False, instances=fresh["instances"])
    assert json.loads(capsys.readouterr().out) == fresh
    assert all(result["seed"].startswith("hex:") for result in fresh["results"])
    print_comparison(["adam", "lion"], as_json=False, out=None, instances="unseen:8")
    printed = capsys.readouterr().out
    assert " ".join(printed.split()).count("instances unseen:8 (repeat with --instances unseen:8)") == 2
    print_calibration("tig", as_json=False, out=None, depths="4", instances="mine:2")
    assert "(repeat with --instances mine:2)" in " ".join(capsys.readouterr().out.split())


def test_integer_seeds_of_a_submission_are_warned_of_in_the_table(tmp_path, capsys):
    path = tmp_path / "theirs.py"
    path.write_text("")
    for seeds, warned in ((SEEDS, True), (None, False)):
        print_evaluation([str(path)], as_json=False, verbose=False, seeds=seeds)
        assert ("integer seeds can be guessed" in " ".join(capsys.readouterr().out.split())) is warned
        answer = api.compare(["adam", path], seeds=seeds).to_dict()
        assert any("can be guessed" in warning for warning in answer["warnings"]) is warned


def test_compare_prints_tables_or_json_and_writes_the_picture(tmp_path, capsys):
    options = {"depths": "4,7", "seeds": SEEDS}
    print_comparison(["adam", "sgd"], as_json=False, out=tmp_path / "picture.png", **options)
    printed = capsys.readouterr()
    assert "adam − sgd" in printed.out
    assert "too few" in printed.err
    assert (tmp_path / "picture.png").is_file()
    print_comparison(["adam", "sgd"], as_json=True, out=None, **options)
    assert json.loads(capsys.readouterr().out) == api.compare(["adam", "sgd"], **options).to_dict()


def test_where_no_picture_can_go_is_told_before_any_training(tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setattr(api, "evaluate_targets", never)
    with pytest.raises(UsageError, match="--out"):
        print_comparison(["adam", "lion"], as_json=False, out=tmp_path / "picture.txt")
    with pytest.raises(UsageError, match="--out"):
        print_calibration("tig", as_json=False, out=tmp_path / "nowhere" / "picture.png")


@pytest.mark.parametrize("task", ["tig", "seed"])
def test_optimizers_are_shown_beside_the_bound(task, capsys, tmp_path):
    path = tmp_path / "picture.png"
    options = {"seeds": SEEDS, "baselines": ["adam", "lion"], "baseline_instances": 3}
    print_calibration(task, as_json=False, out=path, depths="4,7", **options)
    printed = capsys.readouterr().out
    mean_blind = {"tig": [MEAN_BLIND], "seed": []}[task]
    assert rows(printed, slice(1, 4)) == [
        *([name, "any", "16"] for name in ("Gaussian process", "zero", *mean_blind)),
        ["adam", "4", "3"], ["adam", "7", "3"], ["lion", "4", "3"], ["lion", "7", "3"],
    ]  # fmt: skip
    assert "a failed run counts as -10" in " ".join(printed.split())
    assert imread(path)[..., :3].std() > 0.01
    print_calibration(task, as_json=True, out=None, depths="4", **options)
    answer = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in answer["reached"]] == ["Gaussian process", "zero", *mean_blind, "adam", "lion"]
    assert answer["reached"][-1]["test_loss"][-1] is None
    assert answer["reached"][-1]["quality"][-1] == -10
    assert all((r["above_mean_blind"] is None) == (task == "seed") for r in answer["reached"])


def test_progress_off_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    moments = iter((0.0, 1.0, 31.0, 31.0, 32.0))
    monkeypatch.setattr("evo.cli.terminal.time.monotonic", lambda: next(moments))
    monkeypatch.setattr("rich.progress.Progress.update", lambda *_, **__: None)  # it looks at the clock, too
    progress = TrainingProgress()
    for done in (1, 2, 3):
        progress(Event("training", done, 3))
    assert capsys.readouterr() == ("", "trained 2 of 3\n")


def test_a_genome_is_compared_with_itself_without_its_calibration(evo):
    options = ("--without-calibration", "--seeds", SEEDS, "--json")
    code, out, _ = evo("compare", "calibrated_adam", *options)
    assert code == 0
    (pair,) = json.loads(out)["pairs"]
    assert (pair["a"], pair["b"]) == ("calibrated_adam", "calibrated_adam without calibration")
    assert (
        len({entry["target"] for entry in json.loads(evo("evaluate", "calibrated_adam", *options)[1])["results"]}) == 2
    )
    code, _, err = evo("compare", "adam", "lion", *options)
    assert code == 2
    assert err.startswith("--without-calibration: no genome here calibrates the outputs' mean")
