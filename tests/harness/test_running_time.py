"""What counts of a time limit, and what wakes a child that a signal suspended."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from harness import running_time
from harness.running_time import GAP, TICK, Stopwatch, resume
from tests.suspension import state


@pytest.fixture
def clocks(monkeypatch):
    """The clock on the wall and the processor time of this process, to be set."""
    set_to = SimpleNamespace(wall=1000.0, worked=5.0)
    fake = SimpleNamespace(monotonic=lambda: set_to.wall, process_time=lambda: set_to.worked)
    monkeypatch.setattr(running_time, "time", fake)
    return set_to


def test_time_counts_while_one_looks(clocks):
    watch = Stopwatch()
    for _ in range(1000):
        clocks.wall += 0.2
        watch.seconds()
    assert watch.seconds() == pytest.approx(200)
    watch.restart()
    assert watch.seconds() == 0


@pytest.mark.parametrize(
    ("wall", "worked", "counted"),
    [(GAP, 0, GAP), (3600, 0, TICK), (3600, 50, 50), (3600, 0.01, TICK), (10, 40, 10)],
    ids=[
        "short gap",
        "suspended",
        "busy without a look, then suspended",
        "suspended at once",
        "busy with four threads",
    ],
)
def test_of_a_long_gap_counts_what_we_worked(clocks, wall, worked, counted):
    watch = Stopwatch()
    clocks.wall += wall
    clocks.worked += worked
    assert watch.seconds() == pytest.approx(counted)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_suspended_child_is_resumed_and_no_other():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], process_group=0) as child:
        try:
            assert not resume(child.pid)
            child.send_signal(signal.SIGSTOP)
            deadline = time.monotonic() + 10
            while state(child.pid) != "T" and time.monotonic() < deadline:
                time.sleep(0.01)
            assert resume(child.pid)
            assert not resume(child.pid)
            assert state(child.pid) != "T"
        finally:
            child.kill()
    assert not resume(child.pid)
