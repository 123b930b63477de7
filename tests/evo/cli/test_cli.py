"""The command line as scripts rely on it: exit codes, streams, messages without tracebacks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evo.exports.formats import formats
from genomes import catalogue
from genomes.analysis.calibration import without_calibration
from genomes.language.genome import dump
from tests.evo.campaign.test_run import Interrupting
from tests.evo.fake_campaign import RECIPE, folder, run

ROOT = Path(__file__).parents[3]
CASES = ROOT / "tests" / "cases"
REAL = """\
name: tiny
population: 4
generations: 2
epochs: 1
difficulty: {depths: [2]}
instances: {search: 2}
gate: {instances: 8}
start: {catalogue: [adam, lion], random: 1}
baselines: [adam]
"""


def test_three_mistakes_give_three_lines_and_exit_2(evo, tmp_path):
    path = folder(tmp_path / "run", "name: X\npopulaton: 3\nepochs: 0\n")
    code, out, err = evo("launch", path)
    assert (code, out) == (2, "")
    assert [line.split(": ")[0:2] for line in err.splitlines()] == [
        [f"{path}/recipe.yaml:1", "name"],
        [f"{path}/recipe.yaml:2", "populaton"],
        [f"{path}/recipe.yaml:3", "epochs"],
    ]
    assert not (path / "out").exists()


def test_a_real_campaign_from_launch_to_report(evo, tmp_path):
    path = folder(tmp_path / "run", REAL)
    code, out, err = evo("launch", path, "--set", "seed=3", "--workers", "2")
    assert (code, out) == (0, ""), err
    assert "generation 2/2  best " in err
    assert f"evo export {path} --format python" in err
    assert "genome: 1" in (path / "out" / "champion.yaml").read_text()

    code, out, err = evo("launch", path)
    assert code == 2
    assert f"go on with: evo resume {path}" in err

    code, out, err = evo("status", path, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["state"] == "finished"
    code, out, _ = evo("status", path, "--watch")
    assert "tiny: finished, 2 of 2 generations of 4 (task tig)" in out

    code, out, err = evo("report", path)
    assert (code, out) == (0, f"{path}/out/report.html\n"), err
    page = (path / "out" / "report.html").read_text()
    assert page.count("adam</div>") == 1  # measured on the selection instances, beside the champion


def test_stopped_is_75_and_says_how_to_go_on(evo, tmp_path, monkeypatch):
    path = folder(tmp_path / "run")
    outcome = run("launch", path, progress=Interrupting(generation=1))
    monkeypatch.setattr("evo.cli.campaigns.resume", lambda *_, **__: outcome)
    code, out, err = evo("resume", path)
    assert (code, out) == (75, "")
    assert "stopped after 1 of 6 generations" in err
    assert err.endswith(f"go on with: evo resume {path}\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["launch", "nowhere"], 2, "nowhere: there is no such folder"),
        (["status", "nowhere"], 2, "nowhere: there is no such folder"),
        (["launch", "run", "--set", "epochs"], 2, "--set epochs: write KEY=VALUE"),
        (["launch", "run", "--device", "tpu"], 2, "must be auto, cpu or cuda, got 'tpu'"),
        (["launch", "run", "--workers", "-1"], 2, "--workers"),
        (["launch", "run", "--max-minutes", "0"], 2, "--max-minutes"),
        (["resume", "run"], 2, "run: nothing to resume; begin with: evo launch run"),
        (["report", "run"], 2, "run: nothing to report; begin with: evo launch run"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_mistakes_are_told_apart(evo, tmp_path, monkeypatch, arguments, code, message):
    folder(tmp_path / "run", RECIPE)
    monkeypatch.chdir(tmp_path)
    found, _, err = evo(*arguments)
    assert found == code
    assert message in err
    assert not (tmp_path / "run" / "out").exists()


def test_a_place_that_cannot_be_written_is_exit_1(evo, tmp_path):
    path = folder(tmp_path / "run", REAL)
    (path / "out").write_text("")
    code, _, err = evo("launch", path)
    assert code == 1
    assert err == f"{path}/out: cannot be written: File exists\n"


def test_the_printed_recipe_is_one(evo, tmp_path):
    code, out, _ = evo("recipe", "--name", "mine")
    path = folder(tmp_path / "run", out)
    assert code == 0
    code, _, err = evo("launch", path, "--set", "population=0")
    assert err == "--set population=0: population: must be at least 2, got 0\n"
    assert evo("recipe", "--name", "A b")[0] == 2


def imports_torch(*arguments: object, code: int) -> bool:
    """Whether ``evo`` with these arguments, in a process of its own, imports torch before it ends with ``code``."""
    script = (
        "import atexit, sys\nfrom evo.cli.app import main\n"
        "atexit.register(lambda: print('torch' in sys.modules))\nmain()"
    )
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout.splitlines()[-1] == "True"


def test_help_and_recipe_wait_for_nothing_heavy():
    done = subprocess.run([sys.executable, "-m", "evo", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for command in ("launch", "resume", "status", "report", "doctor"):
        assert f" {command} " in done.stdout
    assert not imports_torch("--help", code=0)
    assert not imports_torch("export", "--help", code=0)
    assert not imports_torch("recipe", code=0)


def test_status_waits_for_nothing_heavy(tmp_path):
    path = folder(tmp_path / "run")
    assert not imports_torch("status", path, code=0)
    run("launch", path)
    assert not imports_torch("status", path, code=0)


@pytest.mark.parametrize("recipe", ["name: X\n", "name: x\npopulaton: 3\n", "name: x\nbaselines: [adm]\n"])
def test_a_recipe_is_refused_before_anything_heavy(tmp_path, recipe):
    assert not imports_torch("launch", folder(tmp_path / "run", recipe), code=2)


def test_the_help_of_export_lists_the_formats(evo, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = evo("export", "--help")
    assert code == 0
    for format in formats().values():
        assert f"{format.name}: {format.description}" in out


def test_doctor_finds_this_machine_fit(evo):
    code, out, err = evo("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    assert code == 0, err
    assert checks["training"]["ok"]
    assert "epochs per second" in checks["training"]["found"]
    assert {"python", "torch", "disk", "sandbox", "cuda", "nvrtc", "device"} <= set(checks)


@pytest.mark.parametrize(
    ("expression", "warning"),
    [
        ("where(t % 16 == 0, ema(g, 0.9), 0)", ""),
        ("theta", "its updates do not read the gradient"),
        ("where(t < 0, g, 0)", "it never moves, in 406 steps of epochs 0 to 999, on networks of"),
    ],
    ids=str,
)
def test_a_check_warns_of_what_was_seen(evo, tmp_path, expression, warning):
    path = tmp_path / "g.yaml"
    path.write_text(f'genome: 1\nname: x\nlr: 1e-3\nterms: [{{expr: "{expression}"}}]\n')
    code, out, err = evo("genome", "check", path)
    assert (code, "x is sound" in out) == (0, True)
    assert err.startswith(f"{path}: warning: {warning}") if warning else err == ""


def test_genomes_that_differ_late_are_shown_with_different_identities(evo):
    shown = [
        json.loads(evo("genome", "show", CASES / f"{name}.yaml", "--json")[1])["identity"]
        for name in ("same_hash_plain", "same_hash_look20", "same_hash_bydepth", "la20", "la30")
    ]
    assert len(set(shown)) == len(shown)


def test_a_genome_is_written_without_its_calibration(evo):
    code, out, err = evo("genome", "without-calibration", "calibrated_adam")
    assert (code, err) == (0, "")
    assert out == dump(without_calibration(catalogue.load("calibrated_adam")))
    code, out, err = evo("genome", "without-calibration", "adam")
    assert (code, out) == (0, dump(catalogue.load("adam")))
    assert err == "adam: does not calibrate the outputs' mean; written as it is\n"


def test_the_catalogue_lists_known_and_discovered_optimizers(evo):
    code, out, _ = evo("catalogue", "--json")
    assert code == 0
    entries = {entry["name"]: entry for entry in json.loads(out)}
    assert list(entries) == catalogue.all_names()
    assert entries["adam"]["largest_error"] < 1e-9
    found = catalogue.evidence()["tuned_adam_depth4"]
    assert found.items() <= entries["tuned_adam_depth4"].items()
    assert "tuned_adam_depth4" in evo("catalogue")[1]
    assert evo("catalogue", "tuned_adam_depth4")[1] == catalogue.file("tuned_adam_depth4").read_text(encoding="utf-8")
    assert evo("catalogue", "adm")[0] == 2


def test_new_and_recipe_offer_the_presets_of_algorithms(evo, tmp_path):
    code, out, _ = evo("new", tmp_path / "mine", "--algorithm", "evolving_optimizers")
    assert code == 0
    text = Path(out.strip()).read_text()
    assert "algorithm: evolving_optimizers" in text
    assert "\npopulation: 50 " in text
    assert evo("recipe", "--name", "mine", "--algorithm", "evolving_optimizers")[1] == text
    code, out, err = evo("recipe", "--algorithm", "nsga")
    assert (code, out) == (2, "")
    assert err.strip() == "search.algorithm: there is no algorithm 'nsga'; did you mean nsga2?"
