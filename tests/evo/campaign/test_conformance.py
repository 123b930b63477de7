"""What every algorithm's campaigns promise: the same ledger with any workers, after any stop, and after kills.

A new algorithm is held to it by being listed in `evo.recipe.search_settings`; what its requests and checkpoints
promise is in `tests/evo/search/test_algorithms.py`. Further stops, and kills: pytest -m slow on this file.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from evo.campaign.folder import RunFolder
from evo.ledger.ledger import Ledger
from evo.recipe.search_settings import ALGORITHMS
from tests.evo.campaign.test_run import ROOT, Interrupting, result
from tests.evo.conforming_campaign import ADDED, begun, go_on

KILLED = ("raced_evolution", "constants_only")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "0")


@pytest.fixture(scope="module")
def through(tmp_path_factory):
    """By algorithm, the result of a campaign of three generations that nothing happened to, with one worker."""
    results = {}

    def of(name: str) -> tuple[str, str]:
        if name not in results:
            path = begun(tmp_path_factory.mktemp("through") / "run", name)
            assert go_on(path).finished
            with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
                assert [each.generation for each in ledger.additions() if each.id] == [1] * len(ADDED)
            results[name] = result(path)
        return results[name]

    return of


def check_stops(
    tmp_path: Path, name: str, expected: tuple[str, str], workers: int, seed: str, lanes: tuple[int, int] = (5, 45)
) -> None:
    """Stop a campaign again and again, after random numbers of trainings, until it ends."""
    rng = random.Random(seed)
    path = begun(tmp_path / "run", name, workers)
    stops = 0
    while not go_on(path, workers, progress=Interrupting(lane=rng.randint(*lanes))).finished:
        stops += 1
    assert stops
    assert result(path) == expected


@pytest.mark.parametrize("name", ALGORITHMS)
def test_two_workers_and_stops_give_the_ledger_of_one_worker(name, through, tmp_path):
    check_stops(tmp_path, name, through(name), workers=2, seed=name, lanes=(35, 50))


@pytest.mark.slow
@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("seed", range(4))
def test_stopped_at_other_moments_it_ends_the_same(name, seed, through, tmp_path):
    check_stops(tmp_path, name, through(name), workers=1 + seed % 3, seed=f"{name} {seed}")


def check_kills(tmp_path: Path, name: str, expected: tuple[str, str], kills: int, seed: int) -> None:
    """Kill a campaign before random statements of its ledger, in a transaction or between; then let it end."""
    path, rng, killed = begun(tmp_path / "run", name), random.Random(seed), 0
    while True:
        statement = rng.randint(20, 200) if killed < kills else 0
        command = [
            sys.executable,
            "-m",
            "tests.evo.conforming_campaign",
            str(path),
            str(1 + killed % 2),
            str(statement),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        killed += 1
    assert killed
    assert result(path) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLED)
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments_it_ends_the_same(name, seed, through, tmp_path):
    check_kills(tmp_path, name, through(name), kills=6, seed=seed)
