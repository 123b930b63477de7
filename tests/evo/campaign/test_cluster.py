"""Campaigns on a real Ray cluster of several nodes, each a process here, some of which are killed.

The core suite loses two nodes. Killed coordinators, mixed hardware, real trainings: pytest -m slow on this file.
"""

from __future__ import annotations

import importlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evo.campaign.folder import RunFolder
from evo.campaign.progress import Progress
from evo.campaign.run import Machine, launch
from evo.errors import UsageError
from evo.ledger.ledger import Ledger
from tests.evo.campaign.test_run import ROOT, result
from tests.evo.campaign.test_survival import command, stored
from tests.evo.fake_campaign import folder, run

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

CLIENT_PORT = 10001  # of Ray's server for machines that are no nodes
MEMORY = 80 * 2**20  # bytes of a node's object store, which stays empty
SLOWNESS = 5  # of a machine that does other things too
REAL = """\
name: real
population: 4
generations: 2
epochs: 2
difficulty: {depths: [2]}
instances: {search: 2}
gate: {instances: 0}
start: {catalogue: [adam, lion], random: 0}
baselines: [adam]
"""


@pytest.fixture(scope="module", autouse=True)
def cluster_utils() -> Any:
    """The module of Ray; loaded here, because it takes a second."""
    pytest.importorskip("ray", reason="needs the extra ray: pip install 'evo-optimizers[ray]'")
    return importlib.import_module("ray.cluster_utils")


def add_node(cluster: Cluster, kind: str = "cpu, fake"):
    return cluster.add_node(num_cpus=1, object_store_memory=MEMORY, env_vars={"FAKE_KIND": kind})


@pytest.fixture(scope="module")
def cluster(cluster_utils) -> Iterator[Cluster]:
    """A head without CPUs for workers, to which tests add nodes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_SECONDS", "0.05")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
        patch.setenv("RAY_AUTH_MODE", "disabled")  # whatever token a user has
        patch.setenv("GRPC_ENABLE_FORK_SUPPORT", "0")  # else Ray's server for clients may not start
        head = {"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False}
        if find_spec("grpc"):
            head["ray_client_server_port"] = CLIENT_PORT
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="module")
def through(tmp_path_factory) -> tuple[str, str]:
    """The result of a campaign on this machine alone."""
    path = folder(tmp_path_factory.mktemp("through") / "run")
    assert run("launch", path, workers=2).finished
    return result(path)


class Coordinator:
    """A campaign on the cluster at ``address``, as a process."""

    def __init__(self, address: str, verb: str, path: Path) -> None:
        environment = {**os.environ, "FAKE_CLUSTER": address}
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command(verb, path, 0), cwd=ROOT, env=environment, text=True, **pipes)
        self.path = path

    def wait_for(self, evaluations: int) -> None:
        deadline = time.monotonic() + 60
        while stored(self.path)[0] < evaluations:
            assert time.monotonic() < deadline
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)

    def end(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=120)
        assert "Traceback" not in errors
        return self.process.returncode, errors


def trainers() -> list[str]:
    """Command lines of the processes that train for clusters."""
    return [line for *_, line in processes() if "evo.training.worker tests.evo.fake_worker:train" in line]


def processes() -> list[tuple[int, int, str]]:
    """All processes: number, that of the parent, command line."""
    listed = subprocess.run(["ps", "-ewwo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    lines = (line.split(maxsplit=2) for line in listed.splitlines())
    return [(int(process), int(parent), arguments) for process, parent, arguments in lines]


class Eventful(Progress):
    """Does something at certain lanes, counted from the start of a run."""

    def __init__(self, events: dict[int, Callable[[], object]]) -> None:
        super().__init__()
        self.events, self.lanes, self.said = events, 0, list[str]()

    def lane(self, training):
        super().lane(training)
        self.lanes += 1
        if self.lanes in self.events:
            self.events[self.lanes]()

    def _show(self, message):
        self.said.append(message)


@pytest.mark.slow
def test_nodes_are_lost_and_join_late_and_a_signal_stops_it(tmp_path, cluster, through, monkeypatch):
    """All in this process, whose imports are paid for."""
    monkeypatch.setenv("FAKE_CLUSTER", cluster.address)
    nodes, path, signaled = [add_node(cluster)], folder(tmp_path / "run"), []

    def lose() -> None:
        cluster.remove_node(nodes.pop(), allow_graceful=False)
        nodes.append(add_node(cluster))

    def stop() -> None:
        signaled.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)  # Ray's nodes, in this process, took the others

    events = Eventful({5: lose, 12: lose, 30: stop})
    assert not run("launch", path, workers=0, progress=events).finished
    assert time.monotonic() - signaled[0] < 2 * SLOWNESS
    assert sum("joins with 1 x cpu, fake" in said for said in events.said) == 3, events.said
    monkeypatch.delenv("FAKE_CLUSTER")
    shutil.move(path, tmp_path / "elsewhere")
    path = tmp_path / "elsewhere"
    deadline = time.monotonic() + 10 * SLOWNESS
    while trainers():
        assert time.monotonic() < deadline, trainers()
        time.sleep(0.1)
    assert run("resume", path, workers=1).finished  # on this machine
    assert result(path) == through
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        assert set(ledger.hardware().values()) == {"cpu, fake"}
        assert not any(key.startswith("hardware") for key in ledger.meta())
    cluster.remove_node(nodes.pop(), allow_graceful=False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_two_of_four_nodes_and_the_coordinator_are_killed(tmp_path, cluster, through, seed):
    rng = random.Random(seed)
    nodes = [add_node(cluster) for _ in range(4)]
    path = folder(tmp_path / "here" / "run")
    campaign = Coordinator(cluster.address, "launch", path)
    for event in sorted(rng.sample(range(1, 60), 3)):
        campaign.wait_for(event)
        if len(nodes) > 3 or (len(nodes) > 2 and path.parent.name == "elsewhere"):
            cluster.remove_node(nodes.pop(rng.randrange(len(nodes))), allow_graceful=False)
        else:
            campaign.process.kill()
            campaign.process.communicate()
            path = tmp_path / "elsewhere" / "run"
            shutil.move(tmp_path / "here", tmp_path / "elsewhere")
            campaign = Coordinator(cluster.address, "resume", path)
    code, errors = campaign.end()
    assert code == 0, errors
    assert result(path) == through
    for node in nodes:
        cluster.remove_node(node, allow_graceful=False)


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("grpc"), reason="needs grpcio, which the extra ray brings")
def test_a_machine_that_is_no_node_can_be_the_coordinator(tmp_path, cluster, through):
    node, path = add_node(cluster), folder(tmp_path / "run")
    address = f"ray://127.0.0.1:{CLIENT_PORT}"
    campaign = Coordinator(address, "launch", path)
    campaign.wait_for(20)
    campaign.process.send_signal(signal.SIGINT)
    signaled = time.monotonic()
    code, errors = campaign.end()
    assert code == 75, errors
    assert time.monotonic() - signaled < 2 * SLOWNESS
    campaign = Coordinator(address, "resume", path)
    code, errors = campaign.end()
    assert code == 0, errors
    assert result(path) == through
    cluster.remove_node(node, allow_graceful=False)


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("grpc"), reason="needs grpcio, which the extra ray brings")
def test_a_connection_that_is_lost_is_told_and_the_campaign_goes_on_later(tmp_path, cluster, through):
    node, path = add_node(cluster), folder(tmp_path / "run")
    campaign = Coordinator(f"ray://127.0.0.1:{CLIENT_PORT}", "launch", path)
    campaign.wait_for(20)
    for process in client_servers():
        os.kill(process, signal.SIGKILL)
    code, errors = campaign.end()
    assert code == 75, errors
    assert "the cluster cannot be reached: " in errors
    assert "Started a local Ray instance" not in errors
    campaign = Coordinator(cluster.address, "resume", path)
    assert campaign.end()[0] == 0
    assert result(path) == through
    cluster.remove_node(node, allow_graceful=False)


def client_servers() -> list[int]:
    """Ray's server for clients, which this process started, and those that it started for each of them."""
    found = {os.getpid()}
    for process, parent, arguments in processes():  # in the order of their start
        if parent in found and "ray.util.client.server" in arguments:
            found.add(process)
    return sorted(found - {os.getpid()})


@pytest.mark.slow
def test_kinds_of_hardware_never_meet_on_an_instance(tmp_path, cluster, through, monkeypatch):
    monkeypatch.setenv("FAKE_CLUSTER", cluster.address)
    nodes = [add_node(cluster, kind) for kind in ("cpu, old", "cpu, new", "cpu, new")]
    path = folder(tmp_path / "run")
    assert not run(
        "launch", path, workers=0, progress=Eventful({40: lambda: os.kill(os.getpid(), signal.SIGINT)})
    ).finished
    assert run("resume", path, workers=0).finished
    assert result(path) == through  # which fake trainings let us see
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        assert set(ledger.hardware().values()) == {"cpu, old", "cpu, new"}
        ((instances,),) = ledger.rows(
            "SELECT count(*) FROM (SELECT DISTINCT task, num_hidden_layers, seed FROM evaluations)"
        )
        assert len(ledger.hardware()) == instances
        assert ledger.audit().sound
    monkeypatch.delenv("FAKE_CLUSTER")
    with pytest.raises(UsageError, match="trained by a cluster with several kinds of hardware; go on with: evo resume"):
        run("resume", path, ("generations=7",))
    for node in nodes:
        cluster.remove_node(node, allow_graceful=False)


@pytest.mark.slow
def test_real_trainings_are_equal_on_a_cluster(tmp_path, cluster):
    nodes = [add_node(cluster), add_node(cluster)]
    results = []
    for address in (None, cluster.address):
        path = folder(tmp_path / str(len(results)), REAL)
        assert launch(path, machine=Machine(cluster=address)).finished
        results.append(result(path))
    assert results[0] == results[1]
    for node in nodes:
        cluster.remove_node(node, allow_graceful=False)


def test_an_address_without_a_cluster_and_a_wrong_one_are_told(tmp_path, evo):
    path = folder(tmp_path / "run")
    for address, problem in (
        ("127.0.0.1:1", "cannot connect: Connection refused"),
        ("everywhere", "must be auto, host:port or ray://host:port"),
    ):
        code, out, err = evo("launch", path, "--cluster", address)
        assert code in (1, 2)
        assert not out
        assert f"--cluster {address}: {problem}" in err or f"--cluster: {problem}" in err
        assert len(err.splitlines()) == 1
    assert not RunFolder(path).ledger.exists()
