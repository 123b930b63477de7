"""Whatever a campaign is at, it stops within two seconds of Ctrl-C, SIGTERM, SIGHUP or the end of its minutes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from evo.campaign.folder import RunFolder
from evo.campaign.progress import Progress
from evo.campaign.run import Machine, launch, resume
from evo.campaign.status import status
from evo.campaign.stop import Stop, Stopped
from evo.errors import EvoError
from evo.ledger.ledger import Ledger
from evo.recipe import reader
from evo.search.protocol import algorithm
from harness.running_time import TICK
from tests.evo import fakes
from tests.evo.fake_campaign import folder

ROOT = Path(__file__).parents[3]
HUGE = ROOT / "tests" / "cases" / "huge_population.yaml"
SECONDS = 2.0
RECIPE = """\
name: bred
population: 10
generations: 2
epochs: 1
difficulty: {depths: [2]}
instances: {search: 2, final: 1}
gate: {instances: 8}
start: {catalogue: [adam], genomes: [], random: 1}
baselines: [adam]
"""


def run(verb, path, max_minutes=None, **options):
    machine = Machine(1, max_minutes, function="tests.evo.fake_worker:train")
    return (launch if verb == "launch" else resume)(path, machine=machine, **options)


def endless(*_, **__):
    """Work that never looks whether it is to stop; with pauses, for those who share the machine."""
    while True:
        sum(range(1000))
        time.sleep(0.002)


@pytest.fixture
def signalled():
    """Sends this process a signal while it is at endless work; returns the moment."""
    timers, sent = [], []

    def send(number, after=0.3):
        def now():
            sent.append(time.monotonic())
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)  # an impatient one

        timers.append(threading.Timer(after, now))
        timers[-1].start()
        return sent

    yield send
    for timer in timers:
        timer.join()


def stopped_in_time(sent):
    return time.monotonic() - sent[0] < SECONDS


class Endless(fakes.FakeSearch):
    _ask = endless


class NeverRestored(fakes.FakeSearch):
    __init__ = endless


@pytest.mark.parametrize("search", [Endless, NeverRestored])
@pytest.mark.parametrize("number", Stop.SIGNALS)
def test_a_signal_cuts_a_search_off(tmp_path, signalled, search, number):
    path = folder(tmp_path / "run")
    sent = signalled(number, after=1)
    outcome = run("launch", path, begin=search)
    assert stopped_in_time(sent)
    assert (outcome.finished, outcome.generation) == (False, 0)
    assert status(path).state == "stopped"


@pytest.mark.parametrize("search", [Endless, NeverRestored])
def test_the_end_of_the_minutes_cuts_a_search_off(tmp_path, search):
    path, start = folder(tmp_path / "run"), time.monotonic()
    outcome = run("launch", path, max_minutes=0.02, begin=search)
    assert 1 < time.monotonic() - start < 1.2 + SECONDS
    assert not outcome.finished
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_suspension_cuts_nothing_off_and_the_minutes_after_it_do(monkeypatch):
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], process_time=lambda: 0.0)
    monkeypatch.setattr("harness.running_time.time", clock)
    seconds = []

    def suspended_and_at_work():
        now[0] = 86_400.0
        while len(seconds) < 100:
            time.sleep(2 * TICK)  # rings
            now[0] += 0.5
            seconds.append(now[0] - 86_400.0)

    with Stop(max_minutes=0.05) as stop, pytest.raises(Stopped, match="the minutes are over"), stop.at_once():
        suspended_and_at_work()
    assert 2.5 <= seconds[-1] <= 4.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_recipe_is_read_leaves_nothing(tmp_path, monkeypatch, signalled, number):
    path = folder(tmp_path / "run")
    monkeypatch.setattr(reader, "load", endless)
    sent = signalled(number)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else EvoError) as caught:
        run("launch", path)
    assert stopped_in_time(sent)
    assert number == signal.SIGINT or "stopped by SIGTERM, and nothing has begun" in str(caught.value)
    assert not (path / "out").exists()


def test_the_minutes_may_be_over_before_a_campaign_begins(tmp_path, monkeypatch):
    path = folder(tmp_path / "run")
    monkeypatch.setattr(reader, "load", endless)
    with pytest.raises(EvoError, match="the minutes are over, and nothing has begun"):
        run("launch", path, max_minutes=0.005)
    assert not (path / "out").exists()


def test_a_signal_while_the_ledger_is_checked_changes_nothing(tmp_path, monkeypatch, signalled):
    path = folder(tmp_path / "run")
    run("launch", path, begin=fakes.FakeSearch)
    before = RunFolder(path).ledger.read_bytes()
    monkeypatch.setattr(Ledger, "verify", endless)
    sent = signalled(signal.SIGINT)
    with pytest.raises(Stopped, match="stopped by SIGINT; go on with: evo resume"):
        run("resume", path)
    assert stopped_in_time(sent)
    assert RunFolder(path).ledger.read_bytes() == before


class StoppedAt(Progress):
    """Sends SIGINT when so many individuals are bred."""

    def __init__(self, count=-1):
        super().__init__()
        self.count, self.said = count, []

    def bred(self, done, total):
        super().bred(done, total)
        self.said.append(self.under_way)
        if len(self.said) == self.count:
            signal.raise_signal(signal.SIGINT)


def digest(path):
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        return ledger.digest()


def test_stopped_at_any_child_the_same_children_are_bred_again(tmp_path):
    whole = folder(tmp_path / "whole", RECIPE)
    progress = StoppedAt()
    assert run("launch", whole, progress=progress).finished
    assert {"breeding 1 of 10", "breeding 7 of 10", "breeding 10 of 10"} <= set(progress.said)
    path, rng = folder(tmp_path / "run", RECIPE), random.Random(0)
    state = random.getstate()
    counts = [rng.randrange(1, 12) for _ in range(3)]
    assert not run("launch", path, progress=StoppedAt(counts[0])).finished
    for count in counts[1:]:
        run("resume", path, progress=StoppedAt(count))
    assert run("resume", path).finished
    assert digest(path) == digest(whole)
    assert random.getstate() == state, "DEAP draws from a generator of ours"


def test_what_bred_raises_ends_the_ask_and_the_next_is_the_same():
    recipe = reader.from_text(RECIPE)

    def stop(done, total):
        if done == 5:
            raise Stopped("enough")

    begin = algorithm(recipe)
    search = begin(recipe)
    with pytest.raises(Stopped):
        search.ask(stop)
    assert search.ask() == begin(recipe).ask()


def test_the_parent_computes_with_one_thread_while_a_campaign_runs(tmp_path):
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)

    class Looking(fakes.FakeSearch):
        def _ask(self, bred):
            seen.append(torch.get_num_threads())
            return super()._ask(bred)

    try:
        assert run("launch", folder(tmp_path / "run"), begin=Looking).finished
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


@pytest.mark.slow
def test_the_case_stops_as_a_command(tmp_path):
    """20,000 individuals take minutes to breed; Ctrl-C is to be heard at once."""
    shutil.copy(HUGE, tmp_path / "recipe.yaml")
    process = subprocess.Popen(
        [sys.executable, "-m", "evo", "launch", tmp_path, "--workers", "1"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    assert "20000" in process.stderr.readline()  # it has begun
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    said = process.stderr.readline()  # what it says of its end: Python's own end is not ours to hasten
    assert time.monotonic() - sent < SECONDS, said
    said += process.stderr.read()
    assert process.wait() == 75, said
    assert f"go on with: evo resume {tmp_path}" in said
    assert status(tmp_path).state == "stopped"
