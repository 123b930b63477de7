"""What no campaign may lose anything by: kills, two launches at once, a full disk.

The core suite has a few of each. All of them, 300 kills, 60 races and 40 sizes of a disk: pytest -m slow on this file.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from evo.campaign.folder import RunFolder
from evo.campaign.status import has_progress
from evo.ledger.ledger import Ledger
from tests.evo.campaign.test_run import ROOT, result
from tests.evo.fake_campaign import RECIPE, folder, run

SHORT = RECIPE.replace("generations: 6", "generations: 2")


@pytest.fixture(scope="module")
def through(tmp_path_factory) -> dict[str, tuple[str, str]]:
    """By recipe, the result of a campaign that nothing happened to."""
    results = {}
    for recipe in (RECIPE, SHORT):
        path = folder(tmp_path_factory.mktemp("through") / "run", recipe)
        assert run("launch", path).finished
        results[recipe] = result(path)
    return results


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tests.evo.fake_campaign", *map(str, arguments)]


def stored(path: Path) -> tuple[int, int]:
    """How many evaluations and tells the ledger holds."""
    if not RunFolder(path).ledger.exists():
        return 0, 0
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        ((evaluations,),) = ledger.rows("SELECT count(*) FROM evaluations")
        return evaluations, ledger.tells()


def check_kills(tmp_path: Path, expected: tuple[str, str], kills: int, slowness: str, seed: int) -> None:
    """Kill a campaign ``kills`` times, now at a statement of its ledger, now at a moment; then let it end."""
    path, rng = folder(tmp_path / "run"), random.Random(seed)
    environment = {**os.environ, "FAKE_SECONDS": slowness, "OMP_NUM_THREADS": "1"}
    killed, before = 0, (0, 0)
    for number in range(10 * kills):
        verb = "resume" if RunFolder(path).ledger.exists() else "launch"
        if killed == kills:
            assert run(verb, path).finished
            break
        by_statement = number % 2 == 0
        statement = rng.randint(10, 40 + 500 // kills) if by_statement else 0
        process = subprocess.Popen(
            command(verb, path, 1 + number % 2, statement),
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stderr
        if not by_statement:
            process.stderr.readline()  # it has begun
            time.sleep(rng.uniform(0, 0.3))
            process.kill()
        _, errors = process.communicate(timeout=60)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors.decode()
        killed += 1
        after = stored(path)
        assert after >= before, "what was stored is lost"
        before = after
    assert killed >= kills
    assert result(path) == expected


def test_killed_at_a_random_moment_and_resumed_it_ends_the_same(tmp_path, through):
    check_kills(tmp_path, through[RECIPE], kills=1, slowness="0.01", seed=4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(15))
def test_killed_twenty_times_and_resumed_it_ends_the_same(tmp_path, through, seed):
    check_kills(tmp_path, through[RECIPE], kills=20, slowness="0.1", seed=seed)


def check_races(tmp_path: Path, expected: tuple[str, str], seeds: range) -> None:
    """Launch twice in one folder, nearly at once: one wins, and the other says why it does not begin."""
    for seed in seeds:
        path, rng = folder(tmp_path / str(seed), SHORT), random.Random(seed)
        both = []
        for _ in range(2):
            pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
            both.append(subprocess.Popen(command("launch", path), cwd=ROOT, text=True, **pipes))
            time.sleep(rng.choice((0, rng.uniform(0, 0.3))))
        ends = [(process.communicate(timeout=60)[1], process.returncode) for process in both]
        assert sum(code == 0 for _, code in ends) == 1, ends
        loser = next(text for text, code in ends if code != 0)
        assert "another evo is at work here (" in loser or "evo resume" in loser
        assert len(loser.splitlines()) == 1
        assert result(path) == expected


@pytest.mark.slow
def test_of_two_launches_one_wins(tmp_path, through):
    check_races(tmp_path, through[SHORT], range(1))


@pytest.mark.slow
@pytest.mark.parametrize("group", range(6))
def test_of_two_launches_one_wins_ten_times(tmp_path, through, group):
    check_races(tmp_path, through[SHORT], range(10 * group, 10 * group + 10))


def on_disk_of(kilobytes: int, path: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command on the folder at ``path`` while that is on a file system of that size; it is kept afterwards."""
    script = (
        'disk=$1 run=$2; shift 2; size=$1; shift; mount -t tmpfs -o size=${size}k tmpfs "$disk" || exit 77;'
        ' cp -a "$run" "$disk/run" || exit 77; "$@"; code=$?; rm -rf "$run"; cp -a "$disk/run" "$run"; exit $code'
    )
    disk = path.parent / "disk"
    disk.mkdir(exist_ok=True)
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", disk, path, kilobytes]
    whole = [*map(str, alone), *command(*arguments, disk / "run")]
    return subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def small_disks(tmp_path_factory) -> None:
    """Skips where a user may not mount a file system of his own."""
    path = folder(tmp_path_factory.mktemp("disk") / "run")
    if not shutil.which("unshare") or on_disk_of(1000, path, "resume").returncode == 77:
        pytest.skip("needs a file system of its own")


def check_disks(tmp_path: Path, expected: tuple[str, str], sizes: Iterable[int]) -> int:
    """On a disk that fills up a campaign ends with one line, and goes on where there is room. How many filled up.

    ``sizes``: in KiB.
    """
    full = 0
    for kilobytes in sizes:
        path = folder(tmp_path / str(kilobytes) / "run", SHORT)
        done = on_disk_of(kilobytes, path, "launch")
        last = (done.stderr.splitlines() or [""])[-1]
        assert "Traceback" not in done.stderr
        if done.returncode:
            assert done.returncode == 1, done.stderr
            assert "the disk is full; free space, then go on" in last or "No space left on device" in last
            full += 1
        before = stored(path)
        assert before[0] >= int(done.stdout), "what was stored is lost"
        assert run("resume" if has_progress(RunFolder(path)) else "launch", path).finished
        assert stored(path) >= before
        assert result(path) == expected
        assert not list(RunFolder(path).out.glob("damaged*")), "nothing was damaged"
    return full


@pytest.mark.slow
def test_a_disk_that_fills_up_costs_nothing(tmp_path, through, small_disks):
    assert check_disks(tmp_path, through[SHORT], (60, 140)) == 2


@pytest.mark.slow
def test_a_disk_of_any_of_forty_sizes_costs_nothing(tmp_path, through, small_disks):
    assert check_disks(tmp_path, through[SHORT], range(12, 12 + 8 * 40, 8)) >= 20
