"""Workers on a Ray cluster: an actor for each CPU or GPU of every node, also of nodes that join later.

What travels is JSON text, to actors and back. Ray (the extra ``ray``) is imported when a cluster is wanted.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import queue
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from evo.errors import EvoError, UsageError
from evo.training.agent import Agent
from evo.training.cluster import ClusterError, Event, Joined, Left, Replied
from evo.training.pool import WorkerError
from harness.result import NUMERICS_VERSION

CONNECTING_SECONDS = 10.0  # longest wait for the head of a cluster to answer
LOOK_SECONDS = 2.0  # between two looks at the nodes
FAILURES = 3  # workers of a place that are lost before they are ready, until it is given up
RESOURCES = {"cpu": "CPU", "cuda": "GPU"}  # what Ray counts, by device
MIXED = "mixed"  # the device of a campaign that takes both


@dataclass(eq=False)
class _Place:
    """The CPUs or GPUs of a node. ``kind``: empty until its first worker has told it."""

    node: str
    address: str
    device: str
    size: int
    kind: str = ""
    failures: int = 0
    given_up: bool = False
    workers: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class _Actor:
    place: _Place
    handle: Any


class RayCluster:
    """A `evo.training.cluster.Cluster`: one for a connection, see `connect`, which it does not end.

    ``device``: ``cpu``, ``cuda`` or MIXED; ``workers``: most at a time, 0 for no limit; ``options``: see `agent.Agent`,
    without ``device``; ``say`` is told of what joins and what is given up.
    """

    def __init__(
        self,
        ray: ModuleType,
        *,
        device: str,
        workers: int = 0,
        options: dict[str, Any],
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._ray, self._most, self._options, self._say = ray, workers, options, say
        self._devices = tuple(RESOURCES) if device == MIXED else (device,)
        self._events: queue.SimpleQueue[tuple[int, str | None, BaseException | None]] = queue.SimpleQueue()
        self._places: dict[tuple[str, str], _Place] = {}
        self._actors: dict[int, _Actor] = {}
        self._ready: set[int] = set()
        self._started = 0
        self._looked = float("-inf")

    def events(self, seconds: float) -> list[Event]:
        """What has happened; waits for something ``seconds`` at most.

        Raises WorkerError where every machine was given up, ClusterError where the cluster cannot be reached.
        """
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._look()
            self._looked = time.monotonic()
        found: list[Event] = []
        with contextlib.suppress(queue.Empty):
            message = self._events.get(timeout=seconds)
            while True:
                found += self._event(*message)
                message = self._events.get_nowait()
        return found

    def send(self, worker: int, text: str) -> None:
        """Give a worker a job, or with an empty text ask for further answers."""
        self._call(worker, self._actors[worker].handle.work, text)

    def dismiss(self, worker: int, reason: str) -> None:
        """End a worker that cannot train, and give up its place."""
        place = self._actors[worker].place
        self._forget(worker)
        self._give_up(place, reason)

    def close(self) -> None:
        """End all workers and what they have started."""
        for worker in list(self._actors):
            self._forget(worker)

    def _event(self, worker: int, text: str | None, error: BaseException | None) -> list[Event]:
        """What a worker's answer, or its loss, means."""
        if worker not in self._actors:
            return []
        place = self._actors[worker].place
        if text is None:
            reason = _reason(error)
            self._forget(worker)
            if worker in self._ready:
                return [Left(worker, reason)]
            place.failures += 1
            if place.failures >= FAILURES:
                self._give_up(place, reason)
            return []
        if worker in self._ready:
            return [Replied(worker, text)]
        hello = json.loads(text)
        if hello["numerics"] != NUMERICS_VERSION:
            self.dismiss(
                worker, f"it has version {hello['numerics']} of the harness's numerics, not {NUMERICS_VERSION}"
            )
            return []
        self._ready.add(worker)
        place.failures = 0
        if not place.kind:
            place.kind = hello["kind"]
            self._say(f"{place.address} joins with {place.size} x {place.kind}")
            self._start_all(place)
        return [Joined(worker, place.kind, place.device)]

    def _look(self) -> None:
        """Find nodes that have joined or gone, and start workers where some are missing."""
        with self._reaching():
            alive = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        for key in [key for key in self._places if key[0] not in alive]:
            self._say(f"{self._places.pop(key).address} is lost")
        for identity, node in alive.items():
            for device in self._devices:
                size = int(node["Resources"].get(RESOURCES[device], 0))
                if device == "cpu" and "cuda" in self._devices:
                    size -= int(node["Resources"].get("GPU", 0))  # each GPU needs a CPU
                if size > 0:
                    place = _Place(identity, node["NodeManagerAddress"], device, size)
                    self._start_all(self._places.setdefault((identity, device), place))
        if self._places and all(place.given_up for place in self._places.values()):
            raise WorkerError("no worker starts on any machine of the cluster; the reasons stand above")

    def _start_all(self, place: _Place) -> None:
        """Start the workers that a place lacks: one that tells its kind, then all others."""
        wanted = place.size if place.kind else 1
        while len(place.workers) < wanted and not place.given_up:
            if self._most and len(self._actors) >= self._most:
                return
            self._start(place)

    def _start(self, place: _Place) -> None:
        affinity = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        self._started += 1
        worker = self._started
        with self._reaching():
            remote = self._ray.remote(Agent).options(
                num_cpus=1,
                num_gpus=int(place.device == "cuda"),
                max_restarts=0,
                scheduling_strategy=affinity(place.node, soft=False),
            )
            handle = remote.remote(json.dumps(self._options | {"device": place.device}))
        self._actors[worker] = _Actor(place, handle)
        place.workers.add(worker)
        self._call(worker, self._actors[worker].handle.hello, not place.kind)

    def _call(self, worker: int, method: Any, argument: object) -> None:
        """Call a method of a worker's actor; its result becomes an event."""

        def done(future: Future[str]) -> None:
            error = future.exception()
            self._events.put((worker, None if error else future.result(), error))

        try:
            with self._reaching():
                method.remote(argument).future().add_done_callback(done)
        except ClusterError as error:  # or this worker alone is lost
            self._events.put((worker, None, error))

    def _forget(self, worker: int) -> None:
        actor = self._actors.pop(worker)
        actor.place.workers.discard(worker)
        with contextlib.suppress(ClusterError), self._reaching():  # it is gone already, or the cluster is
            self._ray.kill(actor.handle)

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """Around calls of Ray, whose client raises many classes of errors: raises ClusterError for all of them."""
        try:
            if not self._ray.is_initialized():  # a call would start a cluster here
                raise ConnectionError("the connection is lost")
            yield
        except Exception as error:
            raise ClusterError(f"the cluster cannot be reached: {_reason(error)}; resume when it can") from None

    def _give_up(self, place: _Place, reason: str) -> None:
        if not place.given_up:
            place.given_up = True
            self._say(f"{place.address} is given up: {reason}")


@contextlib.contextmanager
def connect(address: str) -> Iterator[ModuleType]:
    """The module ``ray``, connected inside with the cluster at ``address``.

    ``auto``: the cluster that this machine is a node of; ``host:port``: the same, by its head; ``ray://host:port``:
    from a machine that is none of its nodes. Raises UsageError for another address, EvoError where Ray is missing or
    connected already, or where there is no cluster.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address != "auto" and not (host and port.isdecimal()):
        raise UsageError(f"--cluster: must be auto, host:port or ray://host:port, got {address!r}")
    try:
        ray = importlib.import_module("ray")
        if address.startswith("ray://"):
            importlib.import_module("grpc")  # which Ray's client needs
    except ImportError as error:
        missing = f"--cluster: {error.name} is missing; install the extra: pip install 'evo-optimizers[ray]'"
        raise EvoError(missing) from None
    if ray.is_initialized():
        raise EvoError("--cluster: this process is connected with a Ray cluster already; call ray.shutdown() first")
    handlers = _handlers()
    try:
        if address != "auto":
            socket.create_connection((host, int(port)), CONNECTING_SECONDS).close()  # Ray would try for minutes
        with warnings.catch_warnings(action="ignore"):
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:  # another version of Ray, for one
        hint = f"{_reason(error)}; where the cluster wants a token, set RAY_AUTH_MODE=token"
        raise EvoError(f"--cluster {address}: cannot connect: {getattr(error, 'strerror', None) or hint}") from None
    finally:
        for number, handler in handlers.items():  # Ray takes SIGTERM for itself
            signal.signal(number, handler)
    try:
        yield ray
    finally:
        ray.shutdown()


def device(ray: ModuleType, name: str) -> str:
    """The device of a campaign on the connected cluster: ``auto`` is cuda where a node has a GPU, else cpu.

    Raises UsageError for another name than auto, cpu, cuda and MIXED.
    """
    if name == "auto":
        return "cuda" if ray.cluster_resources().get("GPU", 0) >= 1 else "cpu"
    if name not in (*RESOURCES, MIXED):
        raise UsageError(f"--device: must be auto, cpu, cuda or {MIXED}, got {name!r}")
    return name


def _handlers() -> dict[int, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}


def _reason(error: BaseException | None) -> str:
    """What happened, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
