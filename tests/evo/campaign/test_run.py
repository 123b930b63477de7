"""A campaign goes on from wherever it was stopped, and ends as if it had never been."""

import json
import os
import platform
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from evo.campaign.folder import LockedError, RunFolder
from evo.campaign.progress import Progress
from evo.campaign.status import status
from evo.campaign.stop import Stop
from evo.errors import EvoError, UsageError
from evo.ledger.ledger import Ledger, LedgerError
from evo.records import Purpose
from evo.training.computer import description, differences
from tests.evo import fakes
from tests.evo.fake_campaign import RECIPE, folder, run

ROOT = Path(__file__).parents[3]


def result(path: Path) -> tuple[str, str]:
    """What a campaign came to: the digest of its ledger, and its champion."""
    place = RunFolder(path)
    with Ledger.open_to_read(place.ledger) as ledger:
        return ledger.digest(), place.champion.read_text()


@pytest.fixture(scope="module")
def through(tmp_path_factory) -> tuple[str, str]:
    """The result of a campaign that ran through, with one worker."""
    path = folder(tmp_path_factory.mktemp("through") / "run")
    assert run("launch", path).finished
    return result(path)


class Interrupting(Progress):
    """Sends this process a signal at certain generations or lanes, counted from the start of a run."""

    def __init__(self, generation: int = 0, lane: int = 0, number: signal.Signals = signal.SIGINT):
        super().__init__()
        self.at, self.number, self.seen, self.said = (generation, lane), number, [0, 0], []

    def _count(self, what: int) -> None:
        self.seen[what] += 1
        if self.seen[what] == self.at[what]:
            os.kill(os.getpid(), self.number)
            os.kill(os.getpid(), signal.SIGINT)  # an impatient second Ctrl-C

    def generation(self, generation):
        super().generation(generation)
        self._count(0)

    def lane(self, training):
        super().lane(training)
        self._count(1)

    def _show(self, message):
        self.said.append(message)


def test_workers_batches_and_shuffled_completion_change_nothing(tmp_path, through):
    for workers, batch in ((2, 3), (4, 1)):
        path = folder(tmp_path / str(workers))
        assert run("launch", path, workers=workers, batch=batch).finished
        assert result(path) == through


def test_stopped_after_every_generation_none_is_repeated_or_skipped(tmp_path, through):
    path = folder(tmp_path / "run")
    seen = [run("launch", path, progress=Interrupting(generation=1)).generation]
    while (outcome := run("resume", path, progress=Interrupting(generation=1))) and not outcome.finished:
        seen.append(outcome.generation)
    assert seen == [1, 2, 3, 4, 5]
    assert outcome.generation == 6
    assert result(path) == through


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_at_once_and_loses_nothing(tmp_path, through, number):
    path = folder(tmp_path / "run")
    handlers = [signal.getsignal(n) for n in Stop.SIGNALS]  # not Python's own in a background shell job
    outcome = run("launch", path, progress=Interrupting(lane=20, number=number))
    assert (outcome.finished, outcome.generation) == (False, 1)
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        assert ledger.rows("SELECT count(*) FROM evaluations") == [(20,)]
    assert status(path).state == "stopped"
    assert run("resume", path, workers=2).finished
    assert result(path) == through
    assert [signal.getsignal(n) for n in Stop.SIGNALS] == handlers


def test_max_minutes_checkpoints_between_evaluations(tmp_path, through):
    path = folder(tmp_path / "run")
    rounds, finished = 0, False
    while not finished and rounds < 50:
        rounds += 1
        with suppress(EvoError):  # on a busy machine they may be over before it has begun
            verb = "resume" if RunFolder(path).ledger.exists() else "launch"
            finished = run(verb, path, max_minutes=0.004 * 1.1**rounds).finished
    assert rounds > 1
    assert result(path) == through


def test_a_lock_lives_as_long_as_its_owner(tmp_path, through):
    place = RunFolder(folder(tmp_path / "run"))
    with place.locked():
        assert place.in_use()
        with pytest.raises(LockedError, match=f"at work here .process {os.getpid()} on"):
            run("launch", place.path)
    assert not place.in_use()  # the file is still there, the lock is not
    assert run("launch", place.path).finished
    assert result(place.path) == through


def test_launch_refuses_progress_and_resume_refuses_none(tmp_path):
    path = folder(tmp_path / "run")
    with pytest.raises(UsageError, match="nothing to resume; begin with: evo launch"):
        run("resume", path)
    run("launch", path, progress=Interrupting(lane=3))
    before = RunFolder(path).ledger.read_bytes()
    with pytest.raises(UsageError, match=f"has begun; go on with: evo resume {path}"):
        run("launch", path)
    assert RunFolder(path).ledger.read_bytes() == before
    with pytest.raises(UsageError, match="there is no such folder"):
        run("launch", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="there is no recipe"):
        run("launch", tmp_path / "empty")


def test_more_generations_go_on_as_if_launched_with_them(tmp_path, through):
    path = folder(tmp_path / "run", RECIPE.replace("generations: 6", "generations: 4"))
    assert run("launch", path).generation == 4
    assert run("resume", path).finished  # nothing to do, and no harm
    (path / "recipe.yaml").write_text(RECIPE)
    progress = Interrupting()
    assert run("resume", path, progress=progress).generation == 6
    assert "generations: 4 -> 6" in progress.said
    assert result(path) == through


def test_a_search_sees_no_times(tmp_path, monkeypatch):
    told, tell = [], fakes.FakeSearch.tell
    monkeypatch.setattr(fakes.FakeSearch, "tell", lambda search, results: told.append(results) or tell(search, results))
    path = folder(tmp_path / "run")
    run("launch", path, progress=Interrupting(lane=3))
    run("resume", path, progress=Interrupting(generation=1))  # three of its results come from the ledger
    assert {training.seconds for results in told for training in results.values()} == {0.0}
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        assert ledger.rows("SELECT min(seconds) > 0 FROM evaluations") == [(1,)], "the ledger keeps them"


def test_a_changed_recipe_is_refused_with_the_difference(tmp_path):
    path = folder(tmp_path / "run")
    run("launch", path, ["population=6"], progress=Interrupting(lane=3))
    (path / "recipe.yaml").write_text(RECIPE.replace("epochs: 3", "epochs: 4"))
    with pytest.raises(UsageError) as refused:
        run("resume", path, ["seed=5"])
    assert str(refused.value).replace(f"{path}/", "") == (
        "--set seed=5: seed: 0 -> 5: a campaign under way keeps this; restore it, or launch another folder\n"
        "recipe.yaml:4: epochs: 3 -> 4: a campaign under way keeps this; restore it, or launch another folder"
    )
    (path / "recipe.yaml").write_text(RECIPE)
    assert run("resume", path).finished
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        assert (
            ledger.rows("SELECT individuals FROM tells WHERE individuals > 0") == [(6,)] * 6
        )  # as overridden at launch


@pytest.mark.slow
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="there is nothing less")
def test_another_cpu_capability_at_resume_is_told_as_versions_are(tmp_path):
    path = folder(tmp_path / "run")
    run("launch", path, ["generations=2"])
    run("resume", path, ["generations=3"])
    assert "launched with" not in (path / "out" / "log.txt").read_text()
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}
    source = f"from tests.evo.fake_campaign import *; run('resume', Path({str(path)!r}))"
    subprocess.run([sys.executable, "-c", source], cwd=ROOT, env=environment, check=True, capture_output=True)
    told = [
        line.partition(" ")[2] for line in (path / "out" / "log.txt").read_text().splitlines() if "launched" in line
    ]
    capability = torch.backends.cpu.get_cpu_capability()
    assert told == [
        f"launched with cpu {capability}, now DEFAULT: results may differ slightly",
        "launched with settings none, now ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE: results may differ slightly",
    ]


def test_what_an_older_ledger_did_not_note_is_no_difference():
    assert differences({}) == []
    assert differences({"python": "2.7", "settings": description()["settings"]}) == [
        f"launched with python 2.7, now {platform.python_version()}: results may differ slightly"
    ]


def test_suspension_counts_for_no_minutes(monkeypatch):
    clock = SimpleNamespace(monotonic=lambda: now[0], process_time=lambda: 0.0)
    monkeypatch.setattr("harness.running_time.time", clock)
    now = [0.0]
    stop = Stop(max_minutes=1)
    for seconds, over in ((0.5, False), (86_400, False), *[(1, False)] * 59, (1, True)):
        now[0] += seconds
        assert stop.soon() == over


def test_other_numerics_are_refused(tmp_path, monkeypatch):
    path = folder(tmp_path / "run")
    run("launch", path, progress=Interrupting(lane=3))
    monkeypatch.setattr("evo.campaign.run.NUMERICS_VERSION", 99)
    with pytest.raises(UsageError, match="numerics, this is 99"):
        run("resume", path)


def test_a_damaged_ledger_is_restored_and_the_end_is_the_same(tmp_path, through):
    path = folder(tmp_path / "run")
    run("launch", path, progress=Interrupting(generation=3))
    ledger = RunFolder(path).ledger
    ledger.write_bytes(ledger.read_bytes()[:-5000])
    progress = Interrupting()
    assert run("resume", path, progress=progress).finished
    assert "restored from backup-1.sqlite, which gives 1 complete generations" in progress.said[1]
    assert result(path) == through


def test_a_full_disk_is_a_clear_error_and_loses_nothing(tmp_path, through, monkeypatch):
    path = folder(tmp_path / "run")
    original = Ledger.open_to_write

    def full(place: Path) -> Ledger:
        ledger = original(place)
        ledger.rows("PRAGMA max_page_count = 14")
        return ledger

    monkeypatch.setattr(Ledger, "open_to_write", full)
    with pytest.raises(LedgerError, match="the disk is full; free space, then go on with evo resume"):
        run("launch", path)
    monkeypatch.undo()
    assert run("resume", path).finished
    assert result(path) == through


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path):
    path = folder(tmp_path / "run")
    (path / "out").write_text("in the way")
    with pytest.raises(EvoError, match="out: cannot be written: File exists"):
        run("launch", path)


def test_status_is_plain_data_at_every_stage(tmp_path):
    path = folder(tmp_path / "run")
    assert status(path).to_dict() == {"run": str(path), "state": "not launched"}
    run("launch", path, progress=Interrupting(generation=2))
    found = json.loads(json.dumps(status(path).to_dict()))
    assert (found["state"], found["generation"], found["generations"]) == ("stopped", 2, 6)
    assert sum(found["evaluations"].values()) > 20
    assert found["statistics"]["champion"]["name"].startswith("fake")
    with RunFolder(path).locked():
        assert status(path).state == "running"
    run("resume", path)
    assert status(path).state == "finished"


def test_the_log_keeps_what_was_said(tmp_path):
    path = folder(tmp_path / "run")
    run("launch", path)
    lines = RunFolder(path).log.read_text().splitlines()
    assert sum(" generation " in line for line in lines) == 6
    assert " fake begins: task tig, 6 generations of 8" in lines[0]


def test_overrides_count_when_the_recipe_is_gone(tmp_path, through):
    path = folder(tmp_path / "run", RECIPE.replace("generations: 6", "generations: 4"))
    run("launch", path)
    (path / "recipe.yaml").unlink()
    with pytest.raises(UsageError, match="--set nonsense=4: nonsense: there is no such key"):
        run("resume", path, ["nonsense=4"])
    with pytest.raises(UsageError, match="--set seed=5: seed: 0 -> 5: a campaign under way keeps this"):
        run("resume", path, ["seed=5"])
    assert run("resume", path, ["generations=6"]).generation == 6
    assert result(path) == through


def test_fewer_generations_than_are_complete_are_refused(tmp_path):
    path = folder(tmp_path / "run")
    run("launch", path, progress=Interrupting(generation=2))
    with pytest.raises(UsageError, match="--set generations=1: generations: 1 is fewer than the 2 that are complete"):
        run("resume", path, ["generations=1"])


def test_an_override_of_the_launch_that_hides_the_file_is_told(tmp_path):
    path = folder(tmp_path / "run")
    run("launch", path, ["generations=1"])
    progress = Interrupting()
    run("resume", path, progress=progress)
    assert "generations: --set generations=1 of the launch holds, not the file" in progress.said[0]


@pytest.mark.parametrize("numbers", [{"workers": -1}, {"workers": 1.5}, {"max_minutes": 0}])
def test_numbers_of_no_sense_are_refused_before_anything_has_begun(tmp_path, numbers):
    path = folder(tmp_path / "run")
    with pytest.raises(UsageError, match=f"{next(iter(numbers))}: must be"):
        run("launch", path, **numbers)
    assert not (path / "out").exists()


def test_what_is_shown_of_a_generation_is_what_the_ledger_keeps(tmp_path):
    path = folder(tmp_path / "run")
    with pytest.raises(AssertionError, match="stop here"):
        run("launch", path, progress=Halting())  # after the first tell of the second generation
    progress = Interrupting()
    assert run("resume", path, progress=progress).finished
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        assert progress.past == ledger.past()


class Halting(Progress):
    """Fails as the second generation asks again: its first tell is saved then."""

    def request(self, request, known):
        super().request(request, known)
        assert not (self.done_generations == 1 and request.purpose is Purpose.RETEST), "stop here"
