"""A campaign of the default algorithm, on computed qualities: wherever it is stopped, it ends as if it had not been."""

from __future__ import annotations

from pathlib import Path

import pytest

from evo.campaign.folder import RunFolder
from evo.campaign.loop import Outcome
from evo.campaign.run import Machine, launch, resume
from evo.campaign.status import status, summary
from evo.ledger.ledger import Ledger
from evo.recipe import reader
from evo.records import Purpose
from evo.report import page
from evo.search.protocol import Search, algorithm
from tests.evo.campaign.test_run import Interrupting, result

pytestmark = pytest.mark.usefixtures("without_pictures")
RECIPE = """\
name: raced
seed: 59
population: 14
generations: 6
epochs: 2
difficulty: {depths: [3, 4]}
instances: {search: 6, selection: 3}
search: {islands: 2, migration: 2, tuning: 1.0, keep: 0.5, proposals: 2}
gate: {instances: 16, error_rate: 0.3, confidence: 0.5}
start: {catalogue: [calibrated_adam, lion], random: 1}
baselines: [adam, cautious_adanw]
"""


@pytest.fixture(autouse=True, scope="module")
def quick():
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("FAKE_SECONDS", "0")
        yield


def folder(path: Path) -> Path:
    path.mkdir()
    (path / "recipe.yaml").write_text(RECIPE)
    return path


def run(verb, path: Path, workers: int = 1, **options) -> Outcome:
    return verb(path, machine=Machine(workers, function="tests.evo.fake_worker:climb"), **options)


@pytest.fixture(scope="module")
def through(tmp_path_factory) -> Path:
    path = folder(tmp_path_factory.mktemp("through") / "run")
    assert run(launch, path).finished
    return path


def test_it_is_the_default_and_has_races_trials_and_a_share(through):
    with Ledger.open_to_read(RunFolder(through).ledger) as ledger:
        assert reader.from_text(ledger.meta()["recipe"]).search.algorithm == reader.named("x").search.algorithm
        statistics = [generation.statistics for generation in ledger.past()]
        asked = {purpose for (purpose,) in ledger.rows("SELECT purpose FROM tells")}
        operators = {member.operator for member in ledger.members()}
    assert all(each.dismissed for each in statistics)
    trials = [trial for each in statistics for trial in each.trials]
    assert {trial.promoted for trial in trials} == {True, False}
    assert max(trial.count for trial in trials) > 8, "some need a second look"
    assert asked == {Purpose.SEARCH, Purpose.GATE, Purpose.SHARE}
    assert "tune_constants" in operators


@pytest.mark.slow
@pytest.mark.parametrize(("lanes", "workers"), [(19, 2), (61, 1)])
def test_stopped_anywhere_it_ends_the_same(through, tmp_path, lanes, workers):
    path = folder(tmp_path / "run")
    outcome = run(launch, path, workers, progress=Interrupting(lane=lanes))
    stops = 0
    while not outcome.finished:
        stops += 1
        outcome = run(resume, path, workers, progress=Interrupting(lane=lanes))
    assert stops > 2
    assert result(path) == result(through)


def test_the_ledger_knows_what_the_search_was_told(tmp_path):
    """After every stop the new search holds what the last one did, and so the same estimates."""
    path, searches = folder(tmp_path / "run"), list[Search]()

    def begin(recipe, *arguments, **options) -> Search:
        searches.append(algorithm(recipe)(recipe, *arguments, **options))
        return searches[-1]

    outcome = run(launch, path, begin=begin, progress=Interrupting(lane=70))
    while True:
        with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
            told, fame = ledger.observations(), ledger.checkpoint().hall_of_fame
        assert {(o.hash, o.instance): o for o in told} == searches[-1]._observed
        assert fame == searches[-1].hall_of_fame
        if outcome.finished:
            break
        outcome = run(resume, path, begin=begin, progress=Interrupting(lane=70))
    assert len(searches) > 3


def test_status_and_report_tell_what_it_did(through):
    found = status(through)
    assert found.lane_steps == sum(each.statistics.lane_steps for each in past(through))
    assert [trial.challenger for trial in found.trials] == [
        trial.challenger for each in past(through) for trial in each.statistics.trials
    ]
    assert found.statistics
    assert found.statistics.champion
    lines = summary(found).splitlines()
    assert lines[1].startswith(f"champion: {found.statistics.champion.name} ")
    assert " over adam" in lines[1]
    assert any(line.startswith(f"trials on fresh instances: {len(found.trials)}, ") for line in lines)
    text = page.write(through).read_text()
    assert "were dismissed before the end of their race" in text
    assert "not promoted" in text


def past(path: Path):
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        return ledger.past()
