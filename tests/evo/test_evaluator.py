"""Lanes in worker processes: the same results for any number of them, and every mishap becomes a status."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evo.evaluator import EvaluatorError, Pool, evaluate
from evo.ledger import Ledger
from evo.records import Lane
from genomes import catalogue, genome
from harness.task import Instance, seed_bytes
from harness.train import Training

ROOT = Path(__file__).parents[2]


def lane(hash: str, seed: int = 0, depth: int = 4) -> Lane:
    return Lane(hash, "", Instance("tig", depth, seed_bytes(seed)), 3)


def outcomes(lanes: list[Lane], workers: int = 2, **options) -> dict[tuple, Training]:
    options = {"function": "tests.evo.fake_worker:misbehave", **options}
    return {lane.key: training for lane, training in evaluate(lanes, workers, **options)}


def test_every_mishap_becomes_a_status_and_the_rest_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_MARK", str(tmp_path / "mark"))
    names = ["segfault", "exit", "once", "sleep", "raise", "shout", "0005", "0006"]
    found = outcomes([lane(name) for name in names], seconds_per_lane=1.5, log=tmp_path / "log")
    said = {key[0]: (training.status, training.message) for key, training in found.items()}
    assert said == {
        "segfault": ("crashed", "its worker died twice, at last by SIGSEGV"),
        "exit": ("crashed", "its worker died twice, at last by exit code 7"),
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
    done = list(evaluate(lanes, 1, function="tests.evo.fake_worker:train"))
    assert [found.instance.num_hidden_layers for found, _ in done] == [7, 7, 4]
    assert len({found.key for found, _ in done}) == 3


def test_real_trainings_do_not_depend_on_the_number_of_workers():
    names = ["adam", "lion"]
    texts = [genome.dump(catalogue.load(name)) for name in names]
    lanes = [
        Lane(name, text, Instance("tig", depth, seed_bytes(seed)), 1)
        for name, text in zip(names, texts, strict=True)
        for depth, seed in ((2, 0), (3, 1))
    ]
    one, two = ({k: replaced(t) for k, t in outcomes(lanes, n, function=TRAIN).items()} for n in (1, 2))
    assert one == two
    assert len(one) == 4
    assert all(training.status == "finished" and training.quality for training in one.values())


TRAIN = "evo.trainer:train_lanes"


def replaced(training: Training) -> Training:
    return Training(**{**vars(training), "seconds": 0.0})


def test_an_unreadable_genome_is_an_error_of_its_lane():
    (training,) = outcomes([lane("x")], function=TRAIN).values()
    assert training.status == "error"
    assert training.message.startswith("GenomeError: <text>:1: ")


def test_stop_ends_at_once_and_drain_finishes_what_runs():
    with Pool(1, function="tests.evo.fake_worker:misbehave") as pool:
        started = time.monotonic()
        lanes = [lane("0001"), lane("0002"), lane("sleep", depth=2)]
        seen = []
        for found, _ in pool.evaluate(lanes, stop=lambda: len(seen) == 2):
            seen.append(found.hash)
        assert seen == ["0001", "0002"]
    assert time.monotonic() - started < 30  # the sleeper did not hold us up
    with Pool(1, function="tests.evo.fake_worker:train") as pool:
        lanes = [lane(f"{i:04x}", seed=0) for i in range(1, 9)]
        seen = []
        for found, _ in pool.evaluate(lanes, drain=lambda: len(seen) >= 2):
            seen.append(found.hash)
        assert len(seen) in (2, 3)


def test_workers_that_cannot_start_are_an_error_with_the_reason():
    with pytest.raises(EvaluatorError, match=r"do not start: AttributeError: .*no attribute 'nonesuch'"):
        outcomes([lane("x")], function="tests.evo.fake_worker:nonesuch")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_hundred_thousand_evaluations_leak_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_SECONDS", "0")
    sizes, handles, rounds, each = [], [], 10, 10_000
    with (
        Ledger.create(tmp_path / "ledger.sqlite", {"recipe": "name: x"}) as ledger,
        Pool(2, function="tests.evo.fake_worker:train") as pool,
    ):
        for number in range(rounds):
            lanes = (lane("0001", seed=number * each + i) for i in range(each))
            for found in pool.evaluate(lanes):
                ledger.add([found], "search", 0)
            status = Path("/proc/self/status").read_text()
            sizes.append(int(status.split("VmRSS:")[1].split()[0]))
            handles.append(len(os.listdir("/proc/self/fd")))
        assert ledger.rows("SELECT count(*) FROM evaluations") == [(rounds * each,)]
    half = rounds // 2
    assert (sizes[-1] - sizes[half]) / (each * (rounds - half)) < 1, sizes  # KB an evaluation
    assert handles[-1] == handles[0]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_die_with_a_parent_that_is_killed():
    script = (
        "from tests.evo.test_evaluator import lane\n"
        "from evo.evaluator import Pool\n"
        "pool = Pool(2, function='tests.evo.fake_worker:misbehave')\n"
        "for _ in pool.evaluate([lane('sleep'), lane('0001'), lane('sleep', 1)]):\n"
        "    print(*[w.process.pid for w in pool._workers], flush=True)\n"
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
