"""Lanes in worker processes: the same results for any number of them, and every mishap becomes a status."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from evo.ledger.ledger import Ledger
from evo.records import Lane
from evo.training.jobs import batches
from evo.training.pool import LocalPool, WorkerError, _Worker
from evo.training.worker import TRAIN_LANES
from genomes import catalogue
from genomes.language import genome
from harness.result import Training
from harness.task import Instance, seed_bytes
from tests.evo.training_here import PoolHere
from tests.suspension import family, suspend

ROOT = Path(__file__).parents[3]


def lane(hash: str, seed: int = 0, depth: int = 4) -> Lane:
    return Lane(hash, "", Instance("tig", depth, seed_bytes(seed)), 3)


def outcomes(lanes: list[Lane], workers: int = 2, **options) -> dict[tuple, Training]:
    options = {"function": "tests.evo.fake_worker:misbehave", **options}
    with LocalPool(workers, **options) as pool:
        return {lane.key: training for lane, training in pool.train(lanes)}


def test_every_mishap_becomes_a_status_and_the_rest_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_MARK", str(tmp_path / "mark"))
    died = "its worker died twice, at last by"
    names = ["segfault", "abort", "kill", "exit", "once", "sleep", "raise", "shout", "0005", "0006"]
    found = outcomes([lane(name) for name in names], seconds_per_lane=1.5, log=tmp_path / "log")
    said = {key[0]: (training.status, training.message) for key, training in found.items()}
    assert said == {
        "segfault": ("crashed", f"{died} SIGSEGV (segmentation fault: memory that is not its own)"),
        "abort": ("crashed", f"{died} SIGABRT (abort: a library found an error that it could not go on with)"),
        "kill": ("crashed", f"{died} SIGKILL (killed from outside, most likely because memory ran out)"),
        "exit": ("crashed", f"{died} exit code 7"),
        "once": ("finished", ""),
        "sleep": ("timeout", "stopped after 1.5 s"),
        "raise": ("error", "RuntimeError: genome 'x' is not to my taste"),
        "shout": ("finished", ""),
        "0005": ("finished", ""),
        "0006": ("finished", ""),
    }
    assert "this must not reach the protocol" in (tmp_path / "log").read_text()


def test_a_key_is_trained_once_and_the_deepest_go_first():
    lanes = [lane("0001", depth=4), lane("0001", depth=7), lane("0001", depth=4), lane("0002", depth=7)]
    with LocalPool(1, function="tests.evo.fake_worker:train") as pool:
        done = list(pool.train(lanes))
    assert [found.instance.num_hidden_layers for found, _ in done] == [7, 7, 4]
    assert len({found.key for found, _ in done}) == 3


def starts(monkeypatch) -> list[int]:
    """Grows by one entry for each worker that is started."""
    started, spawn = [], _Worker.spawn
    monkeypatch.setattr(_Worker, "spawn", lambda *args: started.append(1) or spawn(*args))
    return started


@pytest.mark.parametrize(("poison", "how"), [("exit", "exit code 7"), ("leave", "exit code 1")])
def test_a_lane_that_ends_its_worker_is_found_in_few_starts_and_all_others_have_results(monkeypatch, poison, how):
    started = starts(monkeypatch)
    lanes = [lane(poison if seed == 11 else "0001", seed) for seed in range(16)]
    found = outcomes(lanes, 1, batch=16, function="tests.evo.fake_worker:misbehave_together")
    said = [(found[lane.key].status, found[lane.key].message) for lane in lanes]
    assert said.pop(11) == ("crashed", f"its worker died twice, at last by {how}")
    assert said == [("finished", "")] * 15
    assert len(started) == 4 + 3  # the batches of 16, 8, 4 and 2, the lane alone, again, and one for the others


def test_what_was_answered_before_a_death_is_not_trained_again(monkeypatch):
    started = starts(monkeypatch)
    lanes = [lane(name, seed) for seed, name in enumerate(["0001", "0001", "0001", "segfault"])]
    found = outcomes(lanes, 1, batch=4)
    assert [found[lane.key].status for lane in lanes] == ["finished"] * 3 + ["crashed"]
    assert len(started) == 3  # the only one left of its batch is alone at once


def test_a_lane_that_never_ends_is_found_in_its_batch():
    lanes = [lane("0001", 0), lane("sleep", 1)]
    function = "tests.evo.fake_worker:misbehave_together"
    found = outcomes(lanes, 1, batch=2, function=function, seconds_per_lane=0.5)
    assert [(t.status, t.message) for t in found.values()] == [("finished", ""), ("timeout", "stopped after 0.5 s")]


def test_a_batch_may_take_its_time_while_answers_come(monkeypatch):
    monkeypatch.setattr("evo.training.jobs.SILENT_SECONDS", 2.0)
    monkeypatch.setenv("FAKE_SECONDS", "0.6")
    lanes, started = [lane("0001", seed) for seed in range(4)], starts(monkeypatch)
    found = outcomes(lanes, 1, batch=4, function="tests.evo.fake_worker:train", seconds_per_lane=2.0)
    assert {training.status for training in found.values()} == {"finished"}
    assert len(started) == 1


def test_the_wait_for_an_answer_is_limited_by_the_number_of_lanes_and_an_hour(monkeypatch):
    def limit(lanes: int, seconds_per_lane: float) -> int:
        (job,) = batches([lane("0001", seed) for seed in range(lanes)], 100)
        job.start()
        for seconds in (10, 50, 3600, 7200):
            monkeypatch.setattr(job, "_watch", SimpleNamespace(seconds=lambda seconds=seconds: seconds + 1))
            if job.overdue(seconds_per_lane):
                return seconds
        raise AssertionError("no limit")

    assert [limit(1, 10), limit(5, 10), limit(100, 50), limit(1, 7200), limit(100, 7200)] == [10, 50, 3600, 7200, 7200]


def test_an_exception_is_the_error_of_all_lanes_without_an_answer():
    lanes = [lane(name, seed) for seed, name in enumerate(["0001", "raise", "0001"])]
    found = outcomes(lanes, 1, batch=3)
    assert [found[lane.key].status for lane in lanes] == ["finished", "error", "error"]
    for first, message in (("0001", "ended without an answer"), ("0002", "KeyError: 0")):
        lanes = [lane(first), lane("0001", 1)]
        found = outcomes(lanes, 1, batch=2, function="tests.evo.fake_worker:answer_wrongly")
        assert [found[lane.key].status for lane in lanes] == ["finished", "error"]
        assert message in found[lanes[1].key].message


def test_the_device_sets_how_many_lanes_come_at_once():
    lanes = [lane("0001", seed, depth) for depth, count in ((4, 3), (7, 2)) for seed in range(count)]

    def said(**options) -> set[str]:
        found = outcomes(lanes, function="tests.evo.fake_worker:tell", **options)
        return {training.message for training in found.values()}

    assert said(workers=1) == {"1 on cpu at depth 4", "1 on cpu at depth 7"}
    assert said(workers=0, device="cuda") == {"3 on cuda at depth 4", "2 on cuda at depth 7"}
    with LocalPool(device="cuda", function=TRAIN_LANES) as pool:
        assert pool.size == 1  # it holds the GPU


def test_batches_hold_lanes_of_one_kind_whatever_their_order():
    kinds = [("tig", 4, "per_layer"), ("tig", 7, "per_layer"), ("tig", 7, "shared"), ("seed", 7, "shared")]
    lanes = [
        Lane(name, "", Instance(task, depth, seed_bytes(seed), init), epochs)
        for task, depth, init in kinds
        for epochs in (1, 2)
        for seed in range(2)
        for name in ("a", "b", "c")
    ]
    found = batches(lanes, 4)
    assert [len(job.lanes) for job in found] == [4, 2] * 8
    assert all(len({(replace(lane.instance, seed=bytes(32)), lane.epochs) for lane in job.lanes}) == 1 for job in found)
    assert [job.lanes for job in found] == [job.lanes for job in batches(reversed(lanes * 2), 4)]


def test_real_trainings_do_not_depend_on_workers_or_batches():
    names = ["adam", "lion"]
    texts = [genome.dump(catalogue.load(name)) for name in names]
    lanes = [
        Lane(name, text, Instance("tig", depth, seed_bytes(seed)), 1)
        for name, text in zip([*names, "broken"], [*texts, "broken"], strict=True)
        for depth, seed in ((2, 0), (3, 1))
    ]
    with PoolHere(function=TRAIN_LANES) as pool:
        here = {lane.key: training for lane, training in pool.train(lanes)}
    one, two = (
        {key: replace(training, seconds=0.0, target_loss=0.0) for key, training in found.items()}
        for found in (here, outcomes(lanes, 2, batch=4, function=TRAIN_LANES))
    )
    assert one == two
    errors = [one.pop(key) for key in list(one) if key[0] == "broken"]
    assert [training.status for training in errors] == ["error"] * 2
    assert errors[0].message.startswith("GenomeError: <text>:1: ")
    assert len(one) == 4
    assert all(training.status == "finished" and training.quality for training in one.values())


def test_stop_ends_at_once_and_drain_finishes_what_runs():
    with LocalPool(1, function="tests.evo.fake_worker:misbehave") as pool:
        started = time.monotonic()
        lanes = [lane("0001"), lane("0002"), lane("sleep", depth=2)]
        seen = []
        for found, _ in pool.train(lanes, stop=lambda: len(seen) == 2):
            seen.append(found.hash)
        assert seen == ["0001", "0002"]
    assert time.monotonic() - started < 30  # the sleeper did not hold us up
    with LocalPool(1, function="tests.evo.fake_worker:train") as pool:
        lanes = [lane(f"{i:04x}", seed=0) for i in range(1, 9)]
        seen = []
        for found, _ in pool.train(lanes, drain=lambda: len(seen) >= 2):
            seen.append(found.hash)
        assert len(seen) in (2, 3)


def test_stop_and_drain_in_batches(monkeypatch):
    with LocalPool(1, batch=3, function="tests.evo.fake_worker:misbehave") as pool:
        lanes = [lane(name, seed) for seed, name in enumerate(["0001", "0001", "sleep"])]
        seen = []
        for found, _ in pool.train(lanes, stop=lambda: len(seen) == 2):
            seen.append(found.hash)
        assert seen == ["0001", "0001"]  # answered before their batch was done
    monkeypatch.setenv("FAKE_SECONDS", "0.05")
    with LocalPool(1, batch=4, function="tests.evo.fake_worker:train") as pool:
        seen = []
        for found, _ in pool.train([lane("0001", seed) for seed in range(12)], drain=lambda: bool(seen)):
            seen.append(found.hash)
        assert len(seen) in (4, 8)  # a batch that has begun comes to its end


def test_workers_that_cannot_start_are_an_error_with_the_reason():
    with pytest.raises(WorkerError, match=r"do not start: AttributeError: .*no attribute 'nonesuch'"):
        outcomes([lane("x")], function="tests.evo.fake_worker:nonesuch")


def test_a_device_that_fails_ends_the_evaluation_and_no_lane_is_blamed(tmp_path, monkeypatch):
    with pytest.raises(WorkerError, match=r"do not start: device cuda does not work: it has gone$"):
        outcomes([lane("unusable"), lane("0001", 1)], 1, batch=2)
    monkeypatch.setenv("FAKE_MARK", str(tmp_path / "mark"))
    started = starts(monkeypatch)
    found = outcomes([lane("unusable once"), lane("exit", 1)], 1, batch=2)
    assert [training.status for training in found.values()] == ["finished", "crashed"]
    assert len(started) == 4  # the batch a second time, whole; then the lane that was left, twice


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_suspension_of_everything_loses_no_training():
    script = (
        "from tests.evo.training.test_pool import lane\n"
        "from evo.training.pool import LocalPool\n"
        "with LocalPool(2, function='tests.evo.fake_worker:train', seconds_per_lane=2.0) as pool:\n"
        "    statuses = []\n"
        "    for _, training in pool.train(lane('0001', seed) for seed in range(6)):\n"
        "        statuses or print('started', flush=True)\n"
        "        statuses.append(training.status)\n"
        "print(*statuses)\n"
    )
    environment = {**os.environ, "FAKE_SECONDS": "0.8"}
    parent = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout
        assert parent.stdout.readline() == "started\n"
        pids = family(parent.pid)
        assert len(pids) == 3
        suspend(pids, 3.0)
        suspend(pids[::-1], 3.0)
        assert parent.communicate(timeout=60) == (" ".join(["finished"] * 6) + "\n", None)
    finally:
        parent.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_that_is_suspended_alone_is_resumed(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_SECONDS", "0.3")
    with LocalPool(1, function="tests.evo.fake_worker:train", seconds_per_lane=30.0, log=tmp_path / "log") as pool:
        statuses = []
        for _, training in pool.train(lane("0001", seed) for seed in range(3)):
            statuses.append(training.status)
            os.kill(pool._workers[0].process.pid, signal.SIGSTOP)
    assert statuses == ["finished"] * 3
    assert "was suspended by a signal: resumed" in (tmp_path / "log").read_text()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_hundred_thousand_evaluations_leak_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_SECONDS", "0")
    sizes, handles, rounds, each = [], [], 10, 10_000
    with (
        Ledger.create(tmp_path / "ledger.sqlite", {"recipe": "name: x"}) as ledger,
        LocalPool(2, function="tests.evo.fake_worker:train") as pool,
    ):
        for number in range(rounds):
            lanes = (lane("0001", seed=number * each + i) for i in range(each))
            for found in pool.train(lanes):
                ledger.add([found], "search", 0)
            status = Path("/proc/self/status").read_text()
            sizes.append(int(status.split("VmRSS:")[1].split()[0]))
            handles.append(len(os.listdir("/proc/self/fd")))
        assert ledger.rows("SELECT count(*) FROM evaluations") == [(rounds * each,)]
    half = rounds // 2
    assert (sizes[-1] - sizes[half]) / (each * (rounds - half)) < 1, sizes  # KB an evaluation
    assert handles[-1] <= handles[0]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_die_with_a_parent_that_is_killed():
    script = (
        "from tests.evo.training.test_pool import lane\n"
        "from evo.training.pool import LocalPool\n"
        "pool = LocalPool(2, function='tests.evo.fake_worker:misbehave')\n"
        "told = False\n"
        "for _ in pool.train(lane('0001', seed) for seed in range(100_000)):\n"  # more than there is time for
        "    if not told and [w.ready for w in pool._workers] == [True, True]:\n"
        "        told = True\n"
        "        print(*[w.process.pid for w in pool._workers], flush=True)\n"
    )
    command = [sys.executable, "-c", script]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    try:
        assert len(workers) == 2
        for pid in workers:
            os.kill(pid, signal.SIGINT)  # as a terminal would send it
        time.sleep(0.2)
        assert all(map(alive, workers))
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 10
        while any(map(alive, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(map(alive, workers))
    finally:
        parent.kill()
        parent.stdout.close()
        parent.wait()
