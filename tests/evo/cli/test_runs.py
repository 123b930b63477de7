"""What `evo runs`, `evo diff`, `evo serve` and shell completion print."""

import json
import subprocess
import sys

import pytest

from evo.campaign.status import facts, status
from tests.evo.fake_campaign import RECIPE, folder, run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs")
    run("launch", folder(path / "one"), ["generations=2"])
    folder(path / "two", RECIPE.replace("name: fake", "name: two").replace("population: 8", "population: 9"))
    folder(path / "bad")
    (path / "bad/out").mkdir()
    (path / "bad/out/ledger.sqlite").write_bytes(b"x" * 200)
    return path


def test_runs_lists_campaigns_whatever_their_state(evo, runs, tmp_path):
    code, out, _ = evo("runs", runs)
    assert code == 0
    found = status(runs / "one")
    row = next(line for line in out.splitlines() if " one " in line)
    assert f"{found.statistics.champion.estimate.mean:.3f}" in row
    assert "finished" in row
    assert "2 of 2" in row
    assert "over adam" in row
    assert "not launched" in next(line for line in out.splitlines() if " two " in line)
    assert "cannot be read" in next(line for line in out.splitlines() if " bad " in line)
    listed = json.loads(evo("runs", runs, "--json")[1])
    assert [each["state"] for each in listed] == ["stopped", "finished", "not launched"]
    assert "damaged" in listed[0]["problem"]
    code, out, err = evo("runs", tmp_path)
    assert (code, out, err) == (0, "", f"{tmp_path}: there is no campaign in this folder, nor right below it\n")
    assert evo("runs", tmp_path / "none")[0] == 2


def test_diff_compares_recipes_and_results(evo, runs, tmp_path):
    code, out, _ = evo("diff", runs / "one", runs / "two")
    assert code == 0
    assert [line.split()[1::2] for line in out.splitlines() if " population " in line] == [["population", "8", "9"]]
    champion = dict(facts(status(runs / "one")))["champion"]
    assert champion.split(",")[0] in out
    assert "- u = g" in out
    found = json.loads(evo("diff", runs / "one", runs / "two", "--json")[1])
    assert {"key": "population", "values": [8, 9]} in found["recipes"]
    assert [each["state"] for each in found["results"]] == ["finished", "not launched"]
    assert "the recipes are the same" in evo("diff", runs / "one", runs / "one")[1]
    code, _, err = evo("diff", runs / "one", tmp_path)
    assert (code, err) == (2, f"{tmp_path}: there is neither a recipe nor a campaign in it\n")


def test_serve_refuses_what_others_could_reach_without_a_token(evo, runs):
    code, _, err = evo("serve", runs, "--host", "0.0.0.0")
    assert (code, "with --token" in err) == (2, True)
    assert evo("serve", runs, "--host", "0.0.0.0", "--token", "short")[0] == 2
    assert evo("serve", runs / "none")[0] == 2


def test_shells_can_complete(tmp_path):
    environment = {"_EVO_COMPLETE": "complete_bash", "COMP_WORDS": "evo ser", "COMP_CWORD": "1", "PATH": "/bin"}
    program = "import sys; sys.argv = ['evo']; from evo.cli.app import app; app(prog_name='evo')"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["serve"]
