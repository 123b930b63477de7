"""The pool for many machines: one coordinator gives jobs to remote workers, which come, work, are lost, and come again.

What connects it with them is a `Cluster`: Ray's is in `ray_cluster`. A remote worker (`agent`) is a pool of one local
worker, so that what a lane does to its process ends as it does on one machine. What is lost with a machine is no lane's
fault and is repeated: results are those of one machine, whatever happens to the others.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, Self

from evo import files
from evo.records import Lane
from evo.training.claims import Claims
from evo.training.jobs import CUDA_BATCH, Job, fields
from evo.training.pool import POLL_SECONDS, WorkerError
from harness.result import Training
from harness.task import Instance

LOSSES = 5  # lost machines after which a job is no longer repeated whole; a lane that was alone has failed
WAIT_SECONDS = 600.0  # longest wait for a machine that can train what is left
TELL_SECONDS = 10.0  # after which a wait is told


class ClusterError(WorkerError):
    """The cluster cannot go on now; the campaign can, when it is resumed."""

    exit_code = 75


@dataclass(frozen=True)
class Joined:
    """A worker is ready. ``kind``: of its hardware; ``device``: ``cpu`` or ``cuda``."""

    worker: int
    kind: str
    device: str


@dataclass(frozen=True)
class Replied:
    """A worker sends ``text``: see `evo.training.agent`."""

    worker: int
    text: str


@dataclass(frozen=True)
class Left:
    """A worker is lost."""

    worker: int
    reason: str


Event = Joined | Replied | Left


class Cluster(Protocol):
    """Workers on other machines, by number."""

    def events(self, seconds: float) -> list[Event]:
        """What has happened; waits for something ``seconds`` at most. Raises WorkerError where no machine is usable."""
        ...

    def send(self, worker: int, text: str) -> None:
        """Give a worker a job, or with an empty text ask for further answers."""
        ...

    def dismiss(self, worker: int, reason: str) -> None:
        """End a worker that cannot train, which is not told as `Left`; its machine may be given up."""
        ...

    def close(self) -> None:
        """End all workers and what they have started."""
        ...


@dataclass
class _Worker:
    kind: str
    device: str
    job: Job | None = None


class ClusterPool:
    """A `evo.training.pool.Pool` on a ``cluster``, which it closes.

    ``settled``: the kind of hardware of each instance that has results. ``batch``: most lanes that a worker takes at
    once; 0 for one on a CPU, CUDA_BATCH on a GPU. ``log``: the file that takes what workers write to standard error.
    ``say`` is told what people should know.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        settled: Mapping[Instance, str],
        batch: int = 0,
        log: Path | None = None,
        say: Callable[[str], None] = lambda _: None,
    ):
        self._cluster, self._claims, self._batch, self._say = cluster, Claims(settled), batch, say
        self._workers: dict[int, _Worker] = {}
        self._idle: dict[int, _Worker] = {}
        self._running = 0  # lanes
        self._log: IO[bytes] | None = open(log, "ab", opener=files.no_follow) if log else None  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.close()
        if self._log:
            self._log.close()

    def hardware(self, instance: Instance) -> str:
        """The kind of machine that trains on ``instance``."""
        return self._claims.kind(instance)

    def train(
        self,
        lanes: Iterable[Lane],
        stop: Callable[[], bool] = lambda: False,
        drain: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[Lane, Training]]:
        """Train ``lanes``: see `Pool.train`.

        The job of a worker that is lost is repeated. After LOSSES it is tried in halves, and a lane that was alone then
        has the status ``crashed``. Raises ClusterError where for WAIT_SECONDS no machine could train what is left.
        """
        self._claims.add(lanes)
        patience = _Patience(self._say)
        while not stop():
            if drain():
                self._claims.clear()
            self._assign()
            if not self._claims.lanes and not self._running:
                return
            if not self._running:
                patience.wait(self._claims.wanted())
            else:
                patience.end()
            done = []
            for event in self._cluster.events(POLL_SECONDS):
                done += self._take(event)
            self._assign()  # before the caller takes its time
            yield from done

    def _assign(self) -> None:
        """Give jobs to idle workers."""
        if not self._claims.lanes or not self._idle:
            return
        capacity: Counter[str] = Counter()
        for worker in self._workers.values():
            capacity[worker.kind] += self._batch_of(worker)
        without: set[str] = set()  # kinds for which there is nothing
        for number, worker in list(self._idle.items()):
            if worker.kind in without:
                continue
            outstanding = self._claims.lanes + self._running
            worker.job = self._claims.take(worker.kind, self._batch_of(worker), capacity, outstanding)
            if worker.job is None:
                without.add(worker.kind)
                continue
            del self._idle[number]
            self._running += len(worker.job.unanswered)
            worker.job.start()
            sent = {position: fields(lane) for position, lane in worker.job.unanswered.items()}
            self._cluster.send(number, json.dumps({"lanes": sent}))

    def _batch_of(self, worker: _Worker) -> int:
        return self._batch or (1 if worker.device == "cpu" else CUDA_BATCH)

    def _take(self, event: Event) -> list[tuple[Lane, Training]]:
        """Note an event; returns what was trained."""
        if isinstance(event, Joined):
            self._workers[event.worker] = self._idle[event.worker] = _Worker(event.kind, event.device)
            return []
        worker = self._workers.get(event.worker)
        if worker is None:  # it was lost, or dismissed, before its last words arrived
            return []
        if isinstance(event, Left):
            return self._lost(event.worker, event.reason)
        try:
            return self._answered(event.worker, worker, json.loads(event.text))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"its answer cannot be read: {type(error).__name__}: {error}"
            self._cluster.dismiss(event.worker, reason)
            return self._lost(event.worker, reason)

    def _answered(self, number: int, worker: _Worker, reply: dict) -> list[tuple[Lane, Training]]:
        """What a reply says; raises KeyError, TypeError, ValueError, with nothing noted, for what is none."""
        said = reply["log"]
        if self._log and said:
            self._log.write(said.encode(errors="replace"))
            self._log.flush()
        if "unusable" in reply:
            self._cluster.dismiss(number, reply["unusable"])
            self._remove(number, [worker.job] if worker.job else [])
            return []
        results = {position: Training.from_dict(training) for position, training in reply["answers"]}
        job = worker.job
        if job is None or not results or not results.keys() <= job.unanswered.keys():
            raise ValueError("it does not answer what was asked for")
        done = [(job.answered(position), training) for position, training in results.items()]
        self._running -= len(done)
        for lane, _ in done:
            self._claims.settle(lane.instance)
        if job.unanswered:
            self._cluster.send(number, "")
        else:
            worker.job = None
            self._idle[number] = worker
        return done

    def _lost(self, number: int, reason: str) -> list[tuple[Lane, Training]]:
        """Repeat what a lost worker was at; or, after many losses, halve it or let it fail."""
        job = self._workers[number].job
        failed = []
        if job:
            job.losses += 1
            repeated = [job] if job.losses < LOSSES else job.retries(attempts=0)
            if not repeated:
                (lane,) = job.lanes
                self._claims.settle(lane.instance)
                message = f"its machine was lost {job.losses} times, at last: {reason}"
                failed = [(lane, Training.failed("crashed", message, seconds=job.seconds))]
            self._remove(number, repeated)
        else:
            self._remove(number)
        return failed

    def _remove(self, number: int, repeated: Sequence[Job] = ()) -> None:
        """Forget a worker; ``repeated``: what of its job is to be tried again."""
        worker = self._workers.pop(number)
        self._idle.pop(number, None)
        if worker.job:
            self._running -= len(worker.job.unanswered)
        self._claims.repeat(worker.kind, repeated)
        if not any(other.kind == worker.kind for other in self._workers.values()):
            self._claims.release(worker.kind)


class _Patience:
    """Waits for machines: tells what for, and gives up after WAIT_SECONDS."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.end()

    def end(self) -> None:
        self._since, self._told = time.monotonic(), False

    def wait(self, wanted: list[str]) -> None:
        """Note that nothing runs, though lanes wait for one of the kinds ``wanted``. Raises ClusterError."""
        waited = time.monotonic() - self._since
        what = " or ".join(wanted) or "any machine"
        if waited > TELL_SECONDS and not self._told:
            self._told = True
            self._say(f"waiting for the cluster: none of its workers can train what is left, which is for {what}")
        if waited > WAIT_SECONDS:
            raise ClusterError(f"the cluster had no worker for {what} in {waited / 60:.0f} minutes; resume when it has")
