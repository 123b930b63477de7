"""Pools, which train lanes in parallel; the one for this machine: worker processes of one thread each.

The death of a worker, or its delay, becomes a status. `evo.training.cluster` has the pool for many machines.

A worker takes a batch of lanes and answers each as it is done. On a CPU a batch is one lane, since one model per
process and thread is the fastest there; on a GPU one worker holds the device and trains many lanes together.

Results do not depend on the number of workers or on the order in which they finish (nor, on a CPU, on batches), with
one exception: a lane that takes longer than ``seconds_per_lane`` gets the status ``timeout``, and how long it takes
depends on the machine. That limit should be generous: it is there for what would never end.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol, Self

from evo import files
from evo.errors import EvoError, UsageError
from evo.records import Lane
from evo.training.jobs import CUDA_BATCH, Job, batches, fields
from evo.training.worker import UNUSABLE
from harness import running_time
from harness.endings import ending
from harness.result import Training
from harness.task import Instance

POLL_SECONDS = 0.2
_ROOT = Path(__file__).resolve().parents[2]


class WorkerError(EvoError):
    """Worker processes do not start, or their device does not work."""


def available_cpus() -> int:
    """Number of CPUs that this process may use: the default number of workers."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment() -> dict[str, str]:
    """The environment of a child process that imports this package and computes with one thread."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(paths)}


def check_workers(workers: int) -> None:
    """Raises UsageError unless ``workers`` is a number of processes; 0 stands for one per CPU."""
    if type(workers) is not int or workers < 0:
        raise UsageError(f"workers: must be a whole number, 0 or more, got {workers!r}")


class Pool(Protocol):
    """What trains lanes for a campaign. Its results depend neither on the number of workers nor on their order."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None:
        """End all that runs."""

    def train(
        self,
        lanes: Iterable[Lane],
        stop: Callable[[], bool] = lambda: False,
        drain: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[Lane, Training]]:
        """Train ``lanes``, each `Lane.key` once; yields each with its training as it is done.

        ``stop``: end now, and leave what is running; ``drain``: start nothing more, and end when nothing runs. Raises
        WorkerError where nothing can be trained.
        """
        ...

    def hardware(self, instance: Instance) -> str:
        """The kind of machine that trains on ``instance`` (`evo.training.computer.kind`); empty for this machine."""
        ...


class LocalPool:
    """Worker processes, started when they are first needed and kept until ``close``.

    ``workers``: their number; 0 for one per CPU, or one that holds the GPU. ``function``: what a worker calls,
    ``module:name``; see `evo.training.worker`. ``batch``: most lanes that a worker takes at once; 0 for one on a CPU,
    CUDA_BATCH on a GPU. ``patience``, ``device``, ``dtype``: for `harness.train.train`. ``seconds_per_lane``: limit
    of time for a lane alone, while this process runs; for a batch see `Job.overdue`. ``log``: the file that takes what
    workers write to standard error.
    """

    def __init__(
        self,
        workers: int = 0,
        *,
        function: str,
        batch: int = 0,
        patience: int = 50,
        device: str = "cpu",
        dtype: str = "float32",
        seconds_per_lane: float = 3600.0,
        log: Path | None = None,
    ):
        check_workers(workers)
        on_gpu = device != "cpu"
        self.size = workers or (1 if on_gpu else available_cpus())
        self._batch = batch or (CUDA_BATCH if on_gpu else 1)
        self._options = {"patience": patience, "device": device, "dtype": dtype}
        self._seconds_per_lane = seconds_per_lane
        self._function = function
        self._log: IO[bytes] = open(log, "a+b", opener=files.no_follow) if log else tempfile.TemporaryFile()  # noqa: SIM115
        self._log_start = self._said = self._log.seek(0, os.SEEK_END)
        self._workers: list[_Worker] = []
        self._failed_starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill all workers and their child processes, and wait until they are gone."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()
        self._log.close()

    def train(
        self,
        lanes: Iterable[Lane],
        stop: Callable[[], bool] = lambda: False,
        drain: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[Lane, Training]]:
        """Train ``lanes``: see `Pool.train`.

        When a worker dies, what its batch has not answered is tried again in halves; a lane that was alone is tried
        once more, then it has the status ``crashed``. A worker that is silent for too long is killed: its batch is
        halved too, and a lane that was alone has the status ``timeout``. Raises WorkerError when workers die as they
        start or find that their device does not work.
        """
        for done in self.rounds(lanes, stop, drain):
            yield from done

    def rounds(
        self,
        lanes: Iterable[Lane],
        stop: Callable[[], bool] = lambda: False,
        drain: Callable[[], bool] = lambda: False,
    ) -> Iterator[list[tuple[Lane, Training]]]:
        """Train as `train` does; yields what was done within POLL_SECONDS at most, which may be nothing."""
        pending = deque(batches(lanes, self._batch))
        while not stop():
            if drain():
                pending.clear()
            self._assign(pending)
            if not pending and not any(worker.job for worker in self._workers):
                return
            done = self._finished(pending)
            self._assign(pending)  # before the caller takes its time
            yield done

    def hardware(self, instance: Instance) -> str:
        """Empty: what this machine is stands in the ledger for all trainings."""
        return ""

    def said(self, most: int = 100_000) -> str:
        """What workers wrote to standard error since the last call, ``most`` bytes of it at most."""
        end = os.fstat(self._log.fileno()).st_size
        start, self._said = max(self._said, end - most), end
        return os.pread(self._log.fileno(), end - start, start).decode(errors="replace")  # moves no one's position

    def _assign(self, pending: deque[Job]) -> None:
        """Give jobs to idle workers, and start as many workers as there are jobs for."""
        idle = [worker for worker in self._workers if worker.ready and not worker.job]
        while pending and idle:
            idle.pop().start(pending.popleft(), self._options)
        while len(self._workers) < self.size and len(pending) > sum(not w.ready for w in self._workers):
            self._workers.append(_Worker.spawn(self._function, self._log))

    def _finished(self, pending: deque[Job]) -> list[tuple[Lane, Training]]:
        """Wait for answers for a moment. What is to be tried again goes back to the front of ``pending``."""
        done = []
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                selector.register(worker.output, selectors.EVENT_READ, worker)
            readable = [key.data for key, _ in selector.select(POLL_SECONDS)]
        for worker in readable:
            for answer in worker.answers():
                if "ready" in answer:
                    worker.ready = True
                elif worker.job:
                    self._failed_starts = 0
                    done.append((worker.job.answered(answer["position"]), Training.from_dict(answer["training"])))
                    if not worker.job.unanswered:
                        worker.job = None
            if worker.alive:
                continue
            how = self._stop(worker)
            if not worker.ready or worker.process.returncode == UNUSABLE:
                if worker.job:
                    worker.job.uncount_start()
                    pending.appendleft(worker.job)
                self._note_failed_start(how)
            elif worker.job:
                message = f"its worker died twice, at last by {how}"
                done += _retry_or_fail(worker.job, pending, "crashed", message, attempts=2)
        for worker in list(self._workers):
            worker.keep_running()
            if worker.job and worker.job.overdue(self._seconds_per_lane):
                self._stop(worker)
                message = f"stopped after {self._seconds_per_lane:g} s"
                done += _retry_or_fail(worker.job, pending, "timeout", message, attempts=1)
        return done

    def _stop(self, worker: _Worker) -> str:
        """End ``worker``; returns what ended it."""
        self._workers.remove(worker)
        return worker.kill()

    def _note_failed_start(self, how: str) -> None:
        self._failed_starts += 1
        if self._failed_starts >= 3:
            self._log.seek(self._log_start)
            lines = self._log.read().decode(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else f"ended by {how}"
            raise WorkerError(f"worker processes do not start: {reason}")


def _retry_or_fail(
    job: Job, pending: deque[Job], status: str, message: str, attempts: int
) -> list[tuple[Lane, Training]]:
    """Put what can be tried again back to ``pending``; else the lane, which is alone, has ``status``."""
    retries = job.retries(attempts)
    pending.extendleft(reversed(retries))
    return [] if retries else [(job.lanes[0], Training.failed(status, message, seconds=job.seconds))]


@dataclass
class _Worker:
    """A worker process, its unread output, and the job that it works on."""

    process: subprocess.Popen[bytes]
    log: IO[bytes]
    ready: bool = False
    alive: bool = True
    job: Job | None = None
    _unread: bytearray = field(default_factory=bytearray)

    @classmethod
    def spawn(cls, function: str, log: IO[bytes]) -> _Worker:
        process = subprocess.Popen(
            [sys.executable, "-P", "-X", "faulthandler", "-m", "evo.training.worker", function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment(),
            process_group=0,  # so that Ctrl-C reaches the parent only, and one signal ends all that it started
        )
        return cls(process, log)

    @property
    def output(self) -> IO[bytes]:
        assert self.process.stdout
        return self.process.stdout

    def start(self, job: Job, options: dict[str, Any]) -> None:
        self.job = job
        job.start()
        line = json.dumps({"lanes": [fields(lane) for lane in job.lanes], **options})
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # it has just died, which the end of its output shows
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def answers(self) -> list[dict[str, Any]]:
        """The answers that have arrived whole; notes the end of the output, which is the worker's."""
        received = os.read(self.output.fileno(), 1 << 20)
        self.alive = bool(received)
        *lines, rest = bytes(self._unread + received).split(b"\n")
        self._unread = bytearray(rest)
        return [json.loads(line) for line in lines]

    def keep_running(self) -> None:
        """Resume the worker if it alone is suspended: it would be waited for until its limit, or for good."""
        if self.process.returncode is None and running_time.resume(self.process.pid):
            self.log.write(f"worker {self.process.pid} was suspended by a signal: resumed\n".encode())

    def kill(self) -> str:
        """End the worker and its child processes. Returns what ended it."""
        if self.process.returncode is None:  # not yet waited for, so its number is still its own
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        for pipe in filter(None, (self.process.stdin, self.process.stdout)):
            with contextlib.suppress(OSError):
                pipe.close()
        return ending(code)
