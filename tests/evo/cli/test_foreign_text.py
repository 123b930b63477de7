"""Text of others is shown as it is, and neither it nor Ctrl-C costs what was found."""

from __future__ import annotations

import json
import runpy
import signal
import subprocess
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from evo import api
from evo.cli import terminal
from evo.cli.app import INTERRUPTED, main
from evo.cli.evaluations import print_calibration, print_comparison, print_evaluation
from evo.errors import EvoError, UsageError
from evo.evaluation import pictures
from evo.evaluation.question import parse_question
from evo.evaluation.trainings import Evaluation, Interrupted, Result
from tests.evo.trainings import training

ROOT = Path(__file__).parents[3]
CASES = ROOT / "tests" / "cases"


def pretended(targets, message: str = "", finished: int = 1_000, **_) -> Evaluation:
    question = parse_question(targets, depths="2,3", seeds="0:40000:10000")
    found = [
        Result(target.name, i, training(0.5, message=message))
        for target in question.targets
        for i in question.instances
    ]
    evaluation = Evaluation(question, tuple(found[:finished]))
    if not evaluation.complete:
        raise Interrupted(evaluation)
    return evaluation


@pytest.mark.parametrize(("file", "part"), [("error_markup", "[/decay]"), ("error_markup2", "[decay]")])
def test_messages_of_submissions_are_shown_as_they_are(monkeypatch, capsys, file, part):
    path = CASES / f"{file}.py"
    with pytest.raises(KeyError) as caught:
        runpy.run_path(str(path))["optimizer_init_state"](0, [])
    monkeypatch.setattr(api, "evaluate_targets", lambda question, **_: pretended([str(path)], str(caught.value)))
    print_evaluation([str(path)], as_json=False, verbose=True)
    assert part in capsys.readouterr().out


def test_names_with_dollars_are_compared_and_drawn_where_output_is_ascii(tmp_path, monkeypatch):
    names, picture = [str(CASES / "a$x{$.yaml"), "adam"], tmp_path / "c.png"
    monkeypatch.setattr(api, "evaluate_targets", lambda question, **_: pretended(names))
    output, errors = (TextIOWrapper(BytesIO(), encoding="ascii") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "stderr", errors)
    monkeypatch.setattr(sys, "argv", ["evo", "compare", *names, "--out", str(picture)])
    for code in (0, 2):  # the second time, the picture is there
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == code
    output.flush()
    errors.flush()
    assert b"a$x{$" in b"".join(output.buffer.getvalue().split())
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"--out {picture}: there is such a file; overwrite it with --force" in errors.buffer.getvalue().decode()


def test_what_a_terminal_obeys_is_escaped(monkeypatch, capsys):
    monkeypatch.setattr(api, "evaluate_targets", lambda question, **_: pretended(["adam"], "[red]\x1b[31m :boom:\ntwo"))
    print_evaluation(["adam"], as_json=False, verbose=True)
    shown = capsys.readouterr().out
    assert "\x1b[31m" not in shown
    for part in ("[red]", "\\u001b[31m", ":boom:", "two"):
        assert part in shown
    terminal.warn("seeds [/b] and [b]")
    assert "seeds [/b] and [b]" in capsys.readouterr().err


@pytest.mark.parametrize("as_json", [False, True])
def test_results_are_printed_before_a_picture_that_fails(tmp_path, monkeypatch, capsys, as_json):
    def failing(_):
        raise ValueError("no\nway")

    monkeypatch.setattr(api, "evaluate_targets", lambda question, **_: pretended(["adam", "lion"]))
    monkeypatch.setattr(pictures, "draw_comparison", failing)
    path = tmp_path / "c.png"
    with pytest.raises(EvoError) as caught:
        print_comparison(["adam", "lion"], as_json=as_json, out=path)
    assert (str(caught.value), caught.value.exit_code) == (f"{path}: the picture cannot be drawn: no way", 1)
    assert "lion" in capsys.readouterr().out
    assert not path.exists()


def test_a_picture_may_go_to_standard_output(monkeypatch, capfdbinary):
    monkeypatch.setattr(api, "evaluate_targets", lambda question, **_: pretended(["adam", "lion"]))
    print_comparison(["adam", "lion"], as_json=False, out=Path("-"))
    printed = capfdbinary.readouterr()
    assert printed.out.startswith(b"\x89PNG")
    assert "lion" in printed.err.decode()
    for call in (lambda: print_comparison(["adam", "lion"], as_json=True, out=Path("-")),
                 lambda: print_calibration("tig", as_json=True, out=Path("-"))):  # fmt: skip
        with pytest.raises(UsageError, match="--json"):
            call()


@pytest.mark.parametrize(("finished", "pairs"), [(0, 0), (3, 0), (10, 4)])
def test_after_an_interruption_what_is_finished_is_shown_as_partial(monkeypatch, capsys, tmp_path, finished, pairs):
    targets = ["adam", "lion"]
    monkeypatch.setattr(api, "evaluate_targets", lambda question, **_: pretended(targets, finished=finished))
    assert print_evaluation(targets, as_json=False, verbose=True) is False
    printed = capsys.readouterr()
    assert printed.err == f"interrupted after {finished} of 16 trainings\n"
    assert printed.out.count("finished") == finished
    assert (f"partial: {finished} of 16" in printed.out) is (finished > 0)
    assert print_comparison(targets, as_json=False, out=tmp_path / "c.png") is False
    assert not (tmp_path / "c.png").exists()
    assert capsys.readouterr().out.count("partial") == (2 if finished else 0)
    assert print_comparison(targets, as_json=True, out=None) is False
    answer = json.loads(capsys.readouterr().out)
    assert answer["complete"] is False
    assert len(answer["results"]) == finished
    assert sum(pair["count"] for pair in answer["pairs"]) == pairs


@pytest.mark.slow
def test_ctrl_c_prints_the_table_and_ends_with_130():
    command = [sys.executable, "-m", "evo", "evaluate", "adam", "lion", "--depths", "2", "--epochs", "20", "--seeds"]
    command += ["0:9000000:3000", "--workers", "1"]
    waits = "import sys, evo.cli.terminal as t, evo.cli.app as a; t.LINE_SECONDS = 0; sys.argv = sys.argv[1:]; a.main()"
    command[1:3] = ["-c", waits, "evo"]
    deaf = signal.signal(signal.SIGINT, signal.default_int_handler)  # nohup and "&" leave SIGINT ignored to children
    try:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, deaf)
    with process:
        assert process.stderr.readline().startswith("trained 1 of")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert "; partial: " in out
    assert "of 6000 trainings" in err
    assert "Traceback" not in err
