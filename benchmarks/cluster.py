"""What a Ray cluster costs and survives, on this machine: writes benchmarks/results/cluster.json.

    python -m benchmarks.cluster [digest] [overhead] [trainings] [coordinator]

``digest``: a real campaign on four nodes, two of which are killed at random moments, and the coordinator once, against
one that nothing happens to on this machine alone. ``overhead``: lanes that sleep for a second, on the local pool and
on the cluster in turn; with one and two workers. ``trainings``: processor and wall seconds of real trainings on both.
``coordinator``: 1,000 simulated workers on the real pool and ledger, in virtual time: its own processor time is
measured, what Ray takes per job is measured on a real actor and added.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from evo.campaign.folder import RunFolder
from evo.ledger.ledger import Ledger
from evo.records import Lane, Purpose
from evo.training import ray_cluster
from evo.training.cluster import ClusterPool, Event, Joined, Replied
from evo.training.jobs import fields
from evo.training.pool import LocalPool, Pool
from evo.training.worker import TRAIN_LANES
from genomes import catalogue
from genomes.compiler.identity import genome_identity
from genomes.language.genome import dump
from harness.task import Instance, seed_bytes
from tests.evo.fake_worker import outcome

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "cluster.json"
MEMORY = 80 * 2**20  # bytes of a node's object store, which stays empty
RECIPE = """\
name: cluster
population: 8
generations: 3
epochs: 20
difficulty: {depths: [2, 3]}
instances: {search: 4}
gate: {instances: 8, error_rate: 0.4, confidence: 0.5}
start: {catalogue: [adam, lion], random: 2}
baselines: [adam]
"""


@contextlib.contextmanager
def local_cluster() -> Iterator[Cluster]:
    """A head without CPUs for workers; nodes are added by `add`."""
    os.environ |= {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    head = {"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def add(cluster: Cluster) -> Any:
    """A node of one CPU, which is processes on this machine."""
    return cluster.add_node(num_cpus=1, object_store_memory=MEMORY)


# --- digest ---------------------------------------------------------------------------------------------


def digest(seed: int = 15) -> dict[str, Any]:
    """The digests of a campaign with and without a cluster whose parts are killed."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as place, local_cluster() as cluster:
        alone, run = Path(place) / "alone", Path(place) / "here"
        for path in (alone, run):
            path.mkdir()
            (path / "recipe.yaml").write_text(RECIPE)
        assert evo("launch", alone, "--device", "cpu", "--workers", "2").wait() == 0
        total = evaluations(alone)
        nodes = [add(cluster) for _ in range(4)]
        moments = sorted(rng.sample(range(1, total * 3 // 4), 3))
        events = dict(zip(moments, rng.sample(["node", "node", "coordinator"], 3), strict=True))
        process = evo("launch", run, "--device", "cpu", "--cluster", cluster.address)
        for moment, victim in events.items():
            while evaluations(run) < moment:
                time.sleep(0.02)
                assert process.poll() is None
            if victim == "node":
                cluster.remove_node(nodes.pop(rng.randrange(len(nodes))), allow_graceful=False)
            else:
                process.kill()
                process.wait()
                run = run.rename(Path(place) / "elsewhere")
                process = evo("resume", run, "--cluster", cluster.address)
        assert process.wait() == 0
        found = [content(path) for path in (alone, run)]
        return {"evaluations": total, "killed_at": events, "digests": found, "equal": found[0] == found[1]}


def evo(*arguments: object) -> subprocess.Popen[bytes]:
    """The command ``evo``, as a process."""
    command = [sys.executable, "-m", "evo", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def evaluations(run: Path) -> int:
    """How many the ledger of a campaign holds."""
    if not RunFolder(run).ledger.exists():
        return 0
    with Ledger.open_to_read(RunFolder(run).ledger) as ledger:
        return ledger.rows("SELECT count(*) FROM evaluations")[0][0]


def content(run: Path) -> str:
    """The digest of a campaign's ledger."""
    with Ledger.open_to_read(RunFolder(run).ledger) as ledger:
        return ledger.digest()


# --- overhead -------------------------------------------------------------------------------------------


def overhead(lanes: int = 10, rounds: int = 3) -> dict[str, Any]:
    """Seconds per lane that sleeps for one second, in both pools, in turn."""
    os.environ["FAKE_SECONDS"] = "1"
    options = {"function": "tests.evo.fake_worker:train"}
    described = options | {"describe": "tests.evo.fake_computer"}
    seconds: dict[str, list[float]] = {"local, 1 worker": [], "cluster, 1 worker": [], "cluster, 2 workers": []}
    with local_cluster() as cluster, contextlib.ExitStack() as stack:
        add(cluster)
        add(cluster)
        ray = stack.enter_context(ray_cluster.connect(cluster.address))
        local = stack.enter_context(LocalPool(1, **options))
        pools: dict[str, Pool] = {"local, 1 worker": local}
        for workers, name in ((1, "cluster, 1 worker"), (2, "cluster, 2 workers")):
            remote = ray_cluster.RayCluster(ray, device="cpu", workers=workers, options=described)
            pools[name] = ClusterPool(remote, settled={})
            if workers == 1:
                measure(pools, seconds, lanes, rounds)
                pools.pop(name).__exit__()  # frees its CPU
        pools = {"cluster, 2 workers": stack.enter_context(pools["cluster, 2 workers"])}
        measure(pools, seconds, lanes, rounds)
        per_job = seconds_per_call(ray)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    one, two = medians["cluster, 1 worker"], medians["cluster, 2 workers"]
    return {
        "seconds_per_lane": seconds,
        "overhead": one / medians["local, 1 worker"] - 1,
        "speedup_of_2_workers": one / two,
        "coordinator_seconds_per_job_in_ray": per_job,
    }


def measure(pools: dict[str, Pool], seconds: dict[str, list[float]], lanes: int, rounds: int) -> None:
    """Add the seconds per lane of each pool, in turn; its workers are ready."""
    for pool in pools.values():
        ready(pool)
    for number in range(rounds):
        for name, pool in pools.items():
            started = time.perf_counter()
            assert len(list(pool.train(some(lanes, number)))) == lanes
            seconds[name].append((time.perf_counter() - started) / lanes)


def ready(pool: Pool) -> None:
    """Train until all workers have joined."""
    for number in range(3):
        list(pool.train(some(2, 1000 + number)))


def some(count: int, number: int = 0) -> list[Lane]:
    """Lanes of as many instances, whose results have the losses of 300 epochs."""
    return [Lane("0004", "", Instance("tig", 4, seed_bytes(number * 10_000 + i)), 300) for i in range(count)]


def seconds_per_call(ray: Any, calls: int = 2000) -> float:
    """Processor time of this process for a job's call of an actor and its answer, ten under way at any time."""
    text = json.dumps({"lanes": {0: fields(some(1)[0])}})

    class Echo:
        def work(self, text: str) -> str:
            return text

    actor = ray.remote(Echo).remote()
    ray.get(actor.work.remote(text))
    started = time.process_time()
    for _ in range(calls // 10):
        for future in [actor.work.remote(text).future() for _ in range(10)]:
            future.result()
    return (time.process_time() - started) / calls


# --- trainings ------------------------------------------------------------------------------------------


def trainings(lanes: int = 12, rounds: int = 3) -> dict[str, Any]:
    """Processor and wall seconds per real training, tig at depth 4 with 20 epochs, in both pools in turn.

    Processor seconds are those of this process and all that it started, the nodes of the cluster too.
    """
    options = {"function": TRAIN_LANES}
    described = options | {"describe": "tests.evo.fake_computer"}
    found: dict[str, list[tuple[float, float]]] = {}
    with local_cluster() as cluster:
        add(cluster)
        add(cluster)
        with ray_cluster.connect(cluster.address) as ray:
            for number in range(rounds):
                for workers in (1, 2):
                    remote = ray_cluster.RayCluster(ray, device="cpu", workers=workers, options=described)
                    pools: dict[str, Pool] = {"local": LocalPool(workers, **options)}
                    pools["cluster"] = ClusterPool(remote, settled={})
                    for name, pool in pools.items():
                        with pool:
                            list(pool.train(real(workers, 1000)))  # they have begun
                            cpu, wall = processor_seconds(), time.perf_counter()
                            assert len(list(pool.train(real(lanes, number)))) == lanes
                            wall = time.perf_counter() - wall
                            spent = sum(now - cpu.get(process, 0.0) for process, now in processor_seconds().items())
                            key = f"{name}, {workers} worker{'s'[: workers - 1]}"
                            found.setdefault(key, []).append((spent / lanes, wall / lanes))
    return {
        "seconds_per_lane": {
            name: {
                "processor": [round(cpu, 3) for cpu, _ in spent],
                "wall": [round(wall, 3) for _, wall in spent],
                "processor, median": round(statistics.median(cpu for cpu, _ in spent), 3),
                "wall, median": round(statistics.median(wall for _, wall in spent), 3),
            }
            for name, spent in found.items()
        }
    }


def real(count: int, number: int) -> list[Lane]:
    """Lanes that train Adam."""
    adam = catalogue.load("adam")
    seeds = (seed_bytes(number * 10_000 + each) for each in range(count))
    return [Lane(genome_identity(adam), dump(adam), Instance("tig", 4, seed), 20) for seed in seeds]


def processor_seconds() -> dict[int, float]:
    """Of this process and of all that descend from it and live, by process."""
    family = {os.getpid(): 0.0}
    for stat in sorted(Path("/proc").glob("[0-9]*/stat"), key=lambda path: int(path.parent.name)):
        with contextlib.suppress(OSError):
            words = stat.read_text().rpartition(")")[2].split()
            process, parent = int(stat.parent.name), int(words[1])
            if process in family or parent in family:
                family[process] = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    return family


# --- coordinator ----------------------------------------------------------------------------------------


class Simulated:
    """Workers in virtual time. The coordinator's own time is its processor time and ``per_job`` for each job."""

    def __init__(self, workers: int, lane_seconds: float, latency: float, per_job: float, seed: int) -> None:
        self._rng = random.Random(seed)
        self._lane_seconds, self._latency, self._per_job = lane_seconds, latency, per_job
        self._due: list[tuple[float, int, str]] = []
        self._joining: list[Event] = [Joined(number, "cpu, fake", "cpu") for number in range(workers)]
        self.now, self.busy, self.coordinator = 0.0, 0.0, 0.0
        self._mark = time.process_time()

    def events(self, seconds: float) -> list[Event]:
        """What is due after the time that the coordinator took; else the next."""
        self._pass()
        found, self._joining = self._joining, []
        if not found and self._due and self._due[0][0] > self.now:
            self.now = self._due[0][0]
        while self._due and self._due[0][0] <= self.now:
            _, worker, text = heapq.heappop(self._due)
            found.append(Replied(worker, text))
        self._mark = time.process_time()
        return found

    def send(self, worker: int, text: str) -> None:
        """A lane takes ``lane_seconds``, up to a fifth more or less, and its text ``latency`` each way."""
        self._pass(self._per_job)
        ((position, lane),) = json.loads(text)["lanes"].items()
        seconds = self._lane_seconds * self._rng.uniform(0.8, 1.2)
        self.busy += seconds
        answer = json.dumps({"answers": [(int(position), outcome(**lane))], "log": ""})
        heapq.heappush(self._due, (self.now + seconds + 2 * self._latency, worker, answer))
        self._mark = time.process_time()

    def dismiss(self, worker: int, reason: str) -> None:
        """No worker is dismissed."""
        raise AssertionError(reason)

    def close(self) -> None:
        """Nothing runs."""
        self._pass()

    def _pass(self, more: float = 0.0) -> None:
        spent = time.process_time() - self._mark + more
        self.now += spent
        self.coordinator += spent
        self._mark = time.process_time()


def coordinator(per_job: float, workers: int = 1000, lanes: int = 10_000, latency: float = 0.002) -> dict[str, Any]:
    """How busy 1,000 workers are, by the length of a lane, and how many lanes per second the coordinator manages."""
    rows = []
    for lane_seconds in (30.0, 10.0, 3.0, 1.0, 0.3, 0.1):
        simulated = Simulated(workers, lane_seconds, latency, per_job, seed=1)
        with (
            tempfile.TemporaryDirectory() as place,
            Ledger.create(Path(place) / "ledger.sqlite", {"recipe": ""}) as ledger,
            ClusterPool(simulated, settled={}) as pool,
        ):
            for lane, training in pool.train(some(lanes)):
                ledger.add([(lane, training)], Purpose.SEARCH, pool.hardware(lane.instance))
        rows.append(
            {
                "lane_seconds": lane_seconds,
                "lanes_per_second": round(lanes / simulated.now, 1),
                "workers_busy": round(simulated.busy / workers / simulated.now, 3),
                "coordinator_busy": round(simulated.coordinator / simulated.now, 3),
                "coordinator_ms_per_lane": round(1000 * simulated.coordinator / lanes, 3),
            }
        )
        print(rows[-1], file=sys.stderr)
    return {"workers": workers, "lanes": lanes, "latency": latency, "ray_seconds_per_job": per_job, "rows": rows}


def main() -> None:
    """Measure what is asked for, and keep what was measured before of the rest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["digest", "overhead", "trainings", "coordinator"])
    asked = parser.parse_args().what
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if "digest" in asked:
        results["digest"] = digest()
    if "overhead" in asked:
        results["overhead"] = overhead() | {"load": os.getloadavg()}
    if "trainings" in asked:
        results["trainings"] = trainings() | {"load": os.getloadavg()}
    if "coordinator" in asked:
        results["coordinator"] = coordinator(results["overhead"]["coordinator_seconds_per_job_in_ray"])
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps({name: results[name] for name in asked}, indent=1))


if __name__ == "__main__":
    main()
