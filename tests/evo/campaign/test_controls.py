"""Controls: the same founders, another search, as many training steps, in a folder beside the campaign's."""

from __future__ import annotations

from pathlib import Path

import pytest

from evo.campaign.controls import CONTROLS, prepare
from evo.campaign.folder import RunFolder
from evo.campaign.run import Machine, launch, resume
from evo.campaign.status import status, summary
from evo.cli.controls import run_controls
from evo.errors import UsageError
from evo.formatting import steps
from evo.ledger.ledger import Ledger
from evo.recipe import reader
from evo.records import Generation
from evo.report import page
from evo.report.data import collect, control
from genomes import catalogue
from genomes.language.genome import dump
from tests.evo.campaign.test_run import Interrupting, result

pytestmark = pytest.mark.usefixtures("without_pictures")
RECIPE = """\
recipe: 1
name: mine
population: 6
generations: 2
epochs: 2
difficulty: {depths: [3, 4]}
instances: {search: 4, selection: 2}
search: {algorithm: genetic}
gate: {instances: 0}
start: {catalogue: [adam, lion], genomes: [own.yaml], random: 1}
baselines: [adam]
"""
FAST = Machine(1, function="tests.evo.fake_worker:climb")


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FAKE_SECONDS", "0")
    path = tmp_path / "mine"
    path.mkdir()
    (path / "own.yaml").write_text(dump(catalogue.load("nesterov").renamed("own")))
    (path / "recipe.yaml").write_text(RECIPE)
    assert launch(path, machine=FAST).finished
    return path


def members(path: Path) -> set[str]:
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        return {ledger.individual(member.id).name for member in ledger.members()}


def test_controls_have_the_founders_and_the_budget_of_the_campaign(campaign: Path, capsys: pytest.CaptureFixture[str]):
    (campaign / "own.yaml").unlink()  # the ledger keeps it
    assert run_controls(campaign, (), machine=FAST)
    printed = capsys.readouterr().out
    budget = status(campaign).lane_steps
    for name in CONTROLS:
        found = status(campaign.with_name(f"mine-{name}"))
        assert found.state == "finished"
        assert budget <= found.lane_steps < budget + 2 * found.lane_steps / found.generation
        assert {"adam", "lion", "own"} <= members(campaign.with_name(f"mine-{name}"))
        assert name[:6] in printed
    text = page.write(campaign).read_text()
    assert "Beside its controls" in text
    with Ledger.open_to_read(RunFolder(campaign).ledger) as ledger:
        report = collect(ledger, [control(name, past(campaign.with_name(f"mine-{name}"))) for name in CONTROLS])
    assert [each.algorithm for each in report.controls] == list(CONTROLS)
    for each in report.controls:
        found = status(campaign.with_name(f"mine-{each.algorithm}"))
        assert (each.steps, len(each.points)) == (found.lane_steps, found.generation)
        assert found.statistics
        assert each.champion == found.statistics.champion
        assert each.points[-1].champion == each.champion.gain
    assert "Beside its controls" not in page.write(campaign.with_name("mine-random_search")).read_text()


def past(path: Path) -> list[Generation]:
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        return ledger.past()


def test_a_campaign_that_is_no_control_is_not_shown_as_one(campaign: Path):
    other = campaign.with_name("mine-random_search")
    other.mkdir()
    (other / "recipe.yaml").write_text(
        RECIPE.replace("genomes: [own.yaml], random: 1", "random: 0").replace("generations: 2", "generations: 1")
    )
    launch(other, machine=FAST)
    assert "Beside its controls" not in page.write(campaign).read_text()


def test_a_control_is_prepared_once_and_goes_on_from_where_it_was(campaign: Path):
    (control,) = prepare(RunFolder(campaign), ["random_search"])
    text = control.folder.recipe.read_text()
    assert not control.under_way
    straight = control.folder.path.with_name("straight")
    straight.mkdir()
    for file in control.folder.path.iterdir():
        (straight / file.name).write_bytes(file.read_bytes())
    launch(straight, machine=FAST)
    assert not launch(control.folder.path, machine=FAST, progress=Interrupting(lane=9)).finished
    (again,) = prepare(RunFolder(campaign), ["random_search"])
    assert again.under_way
    assert again.folder.recipe.read_text() == text
    assert run_controls(campaign, ["random_search"], machine=FAST)
    assert result(control.folder.path) == result(straight)


@pytest.mark.slow
def test_raised_steps_go_on(campaign: Path):
    (control,) = prepare(RunFolder(campaign), ["random_search"])
    launch(control.folder.path, machine=FAST)
    before = status(control.folder.path)
    resume(control.folder.path, [f"lane_steps={2 * before.lane_steps}"], machine=FAST)
    after = status(control.folder.path)
    assert after.generation > before.generation
    assert after.lane_steps >= 2 * before.lane_steps


def test_a_campaign_that_ends_by_steps_is_told_in_steps(campaign: Path, capsys: pytest.CaptureFixture[str]):
    (control,) = prepare(RunFolder(campaign), ["random_search"])
    path = control.folder.path
    outcome = launch(path, machine=FAST, progress=Interrupting(generation=1))
    budget = outcome.budget
    assert (outcome.generation, outcome.lane_steps) == (1, status(path).lane_steps)
    told = f"1 generations of 6, {steps(outcome.lane_steps)} of {steps(budget)} training steps"
    assert f"stopped, {told} (task tig)" in summary(status(path))
    assert told in page.write(path).read_text()


def test_what_cannot_have_controls_says_so(campaign: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="--algorithm 'magic': the algorithms are raced_evolution, "):
        prepare(RunFolder(campaign), ["magic"])
    new = tmp_path / "new"
    new.mkdir()
    (new / "recipe.yaml").write_text(RECIPE)
    with pytest.raises(UsageError, match="control"):
        prepare(RunFolder(new))
    changing = tmp_path / "changing"
    changing.mkdir()
    (changing / "recipe.yaml").write_text(
        RECIPE.replace("depths: [3, 4]", "depths: [3, 4], sampler: curriculum").replace("genomes: [own.yaml], ", "")
    )
    launch(changing, machine=FAST)
    with pytest.raises(UsageError, match="its difficulty grows"):
        prepare(RunFolder(changing))


def test_a_recipe_ends_by_what_comes_first():
    recipe = reader.from_text("recipe: 1\nname: x\ngenerations: 4\nlane_steps: 100\n")
    assert [recipe.ended(3, 99), recipe.ended(4, 0), recipe.ended(0, 100)] == [False, True, True]
    assert not reader.named("x").ended(3, 10**9)
