"""What a person is told to do next can be copied into a shell, and is worth doing."""

import re
import shlex
import shutil

import pytest

from evo.campaign.folder import RunFolder
from evo.campaign.run import Machine, launch
from evo.formatting import command
from evo.ledger import backup
from evo.recipe import reader
from tests.evo.campaign.test_run import Interrupting
from tests.evo.fake_campaign import RECIPE, folder, run

ODD = 'my run\'s $HOME "x"'


def commands(text: str) -> list[list[str]]:
    """The words of each command that a text tells, as a shell would read them."""
    return [shlex.split(line[line.index("evo ") :]) for line in text.splitlines() if re.search(r"(: |^)evo ", line)]


@pytest.fixture
def odd(tmp_path):
    return folder(tmp_path / ODD, RECIPE)


def test_a_command_is_what_a_shell_takes():
    assert command("resume", "runs/mine") == "evo resume runs/mine"
    assert shlex.split(command("resume", ODD, 3)) == ["evo", "resume", ODD, "3"]


def test_paths_in_hints_are_quoted(evo, odd, monkeypatch):
    told = [evo(verb, odd) for verb in ("resume", "report", "export", "verify", "status")]
    assert [commands(out + err) for _, out, err in told] == [[["evo", "launch", str(odd)]]] * 5
    outcome = run("launch", odd, progress=Interrupting(generation=1))
    monkeypatch.setattr("evo.cli.campaigns.resume", lambda *_, **__: outcome)
    assert commands(evo("resume", odd)[2]) == [["evo", "resume", str(odd)]]
    assert ["evo", "resume", str(odd)] in commands(evo("status", odd)[1])
    finished = run("resume", odd)
    monkeypatch.setattr("evo.cli.campaigns.resume", lambda *_, **__: finished)
    assert commands(evo("resume", odd)[2]) == [
        ["evo", "report", str(odd)],
        ["evo", "export", str(odd), "--format", "python", "--out", "champion.py"],
    ]
    assert shlex.quote(str(odd)) in evo("launch", odd)[2]


def test_a_ledger_that_is_gone_is_not_a_campaign_that_has_not_begun(evo, odd):
    run("launch", odd, progress=Interrupting(generation=1))
    place = RunFolder(odd)
    assert backup.copies(place.ledger)[0].is_file()
    shutil.move(place.ledger, place.out / "aside")
    for verb in ("status", "report", "export"):
        code, _, err = evo(verb, odd)
        assert code == 1
        assert err.startswith(f"{place.ledger}: gone, and a copy is left")
        assert commands(err) == [["evo", "resume", str(odd)]]


NO_CHAMPION = """\
name: none
population: 3
generations: 1
epochs: 1
difficulty: {depths: [2]}
instances: {search: 1}
search: {islands: 1}
start: {catalogue: [adam, lion], random: 1}
baselines: []
"""


def test_without_a_champion_nobody_is_sent_to_export(evo, tmp_path, monkeypatch):
    path = folder(tmp_path / "run", NO_CHAMPION)
    outcome = launch(path, machine=Machine(1, function="tests.evo.fake_worker:diverge"))
    assert outcome.finished
    assert outcome.champion is None
    monkeypatch.setattr("evo.cli.campaigns.resume", lambda *_, **__: outcome)
    _, _, err = evo("resume", path)
    assert "evo export" not in err
    assert "no champion" in err
    code, _, err = evo("export", path)
    assert (code, commands(err)) == (2, [["evo", "report", str(path)]])
    assert ["evo", "report", str(path)] in commands(evo("status", path)[1])
    evo("report", path)
    page = (path / "out" / "report.html").read_text()
    assert "running_mean of layer 0 is NaN" in page
    assert "epoch 0" in page


def test_new_makes_the_folder_and_a_recipe_that_can_be_launched(evo, tmp_path):
    path = tmp_path / "runs" / "My run"
    code, out, err = evo("new", path)
    assert (code, out) == (0, f"{path}/recipe.yaml\n")
    assert commands(err) == [["evo", "launch", str(path)]]
    text = (path / "recipe.yaml").read_text()
    assert text == reader.dump(reader.named("my-run"), comments=True)
    code, _, err = evo("new", path, "--name", "other")
    assert (code, commands(err)) == (2, [["evo", "launch", str(path)]])
    assert "overwrite it with --force" in err
    assert (path / "recipe.yaml").read_text() == text
    assert evo("new", path, "--name", "other", "--force")[0] == 0
    assert reader.from_text((path / "recipe.yaml").read_text()).name == "other"
    code, _, err = evo("new", tmp_path / "bad", "--name", "A b")
    assert code == 2
    assert not (tmp_path / "bad").exists()
    (tmp_path / "file").write_text("")
    code, _, err = evo("new", tmp_path / "file" / "run")
    assert (code, err) == (1, f"{tmp_path}/file/run: cannot be made: Not a directory\n")
    (tmp_path / "empty").mkdir()
    assert commands(evo("launch", tmp_path / "empty")[2]) == [["evo", "new", str(tmp_path / "empty")]]


@pytest.mark.parametrize(
    ("text", "told"),
    [("# mine\n{}", True), ("{}  # mine\n", True), ('source: "a # b"\n{}', False), ("{}", False)],
    ids=["above", "behind", "in a text", "none"],
)
def test_simplify_says_that_it_leaves_comments_out(evo, tmp_path, text, told):
    genome = 'genome: 1\nname: x\nlr: 1e-3\nterms: [{expr: "g + 0"}]'
    (path := tmp_path / "g.yaml").write_text(text.replace("{}", genome))
    code, out, err = evo("genome", "simplify", path, "--out", "-")
    assert code == 0
    assert "expr" in out
    assert ("its comments are left out" in err) == told
