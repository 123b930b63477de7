"""Trains lanes in parallel: worker processes, one thread each, whose deaths and delays become statuses.

Results do not depend on the number of workers or on the order in which they finish, with one exception: a lane
that takes longer than ``seconds_per_lane`` gets the status ``timeout``, and how long it takes depends on the
machine. So that limit should be generous: it is there for what would never end.
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
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from evo.errors import EvoError
from evo.records import Lane
from evo.worker import failed
from harness.train import Training

TRAIN_LANE = "evo.trainer:train_lane"
POLL_SECONDS = 0.2
_ROOT = Path(__file__).resolve().parent.parent


class EvaluatorError(EvoError):
    """No worker can be started."""


def available_cpus() -> int:
    """The CPUs that this process may use: the default number of workers."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def evaluate(lanes: Iterable[Lane], workers: int = 0, **options: Any) -> Iterator[tuple[Lane, Training]]:
    """Train ``lanes`` with a pool of its own; yields each with its training as it is done. See `Pool`."""
    with Pool(workers, **options) as pool:
        yield from pool.evaluate(lanes)


class Pool:
    """Worker processes, started when they are first needed and kept until ``close``.

    ``workers``: how many; 0 for one a CPU. ``patience``, ``device``, ``dtype``: for
    `harness.train.train`.
    ``seconds_per_lane``: wall time. ``log``: the file that takes what workers write to standard error.
    ``function``: what a worker calls, ``module:name``.
    """

    def __init__(
        self,
        workers: int = 0,
        *,
        patience: int = 50,
        device: str = "cpu",
        dtype: str = "float32",
        seconds_per_lane: float = 3600.0,
        log: Path | None = None,
        function: str = TRAIN_LANE,
    ):
        self.size = workers or available_cpus()
        self._options = {"patience": patience, "device": device, "dtype": dtype}
        self._seconds_per_lane = seconds_per_lane
        self._function = function
        self._log: IO[bytes] = open(log, "a+b") if log else tempfile.TemporaryFile()  # noqa: SIM115
        self._log_start = self._log.seek(0, os.SEEK_END)
        self._workers: list[_Worker] = []
        self._failed_starts = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill all workers, with all that they started, and wait until they are gone."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()
        self._log.close()

    def evaluate(
        self,
        lanes: Iterable[Lane],
        stop: Callable[[], bool] = lambda: False,
        drain: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[Lane, Training]]:
        """Train ``lanes``, each `Lane.key` once; yields each with its training as it is done.

        A lane whose worker dies is tried a second time, then has the status ``crashed``. ``stop``: end now,
        and leave what is running; ``drain``: start nothing more, and end when nothing runs. Raises
        EvaluatorError when workers die as they start.
        """
        unique: dict[tuple, Lane] = {}
        for lane in lanes:
            unique.setdefault(lane.key, lane)
        # deepest first, so that no long lane is left for the end; one instance after another, for the caches
        order = sorted(unique.values(), key=lambda lane: (-lane.instance.num_hidden_layers, lane.key[1:]))
        pending = deque(_Job(lane) for lane in order)
        while not stop():
            if drain():
                pending.clear()
            self._employ(pending)
            if not pending and not any(worker.job for worker in self._workers):
                return
            done = self._finished(pending)
            self._employ(pending)  # before the caller takes its time
            yield from done

    def _employ(self, pending: deque[_Job]) -> None:
        """Give work to the idle; hire as many as there is work for."""
        idle = [worker for worker in self._workers if worker.ready and not worker.job]
        while pending and idle:
            idle.pop().start(pending.popleft(), self._options)
        while len(self._workers) < self.size and len(pending) > sum(not w.ready for w in self._workers):
            self._workers.append(_Worker.hire(self._function, self._log))

    def _finished(self, pending: deque[_Job]) -> list[tuple[Lane, Training]]:
        """Wait for news for a moment. Jobs of workers that died go back to ``pending``, once."""
        done = []
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                selector.register(worker.output, selectors.EVENT_READ, worker)
            news = [key.data for key, _ in selector.select(POLL_SECONDS)]
        for worker in news:
            job = worker.job
            for answer in worker.answers():
                if "ready" in answer:
                    worker.ready, self._failed_starts = True, 0
                elif job:
                    done.append((job.lane, Training(**answer)))
                    worker.job = job = None
            if worker.alive:
                continue
            how = worker.kill()
            self._workers.remove(worker)
            if not worker.ready:
                self._note_failed_start(how)
            elif job and job.attempts < 2:
                pending.appendleft(job)
            elif job:
                message = f"its worker died twice, at last by {how}"
                done.append((job.lane, Training(**failed("crashed", message, job.seconds))))
        for worker in [worker for worker in self._workers if worker.job]:
            job = worker.job
            if job and job.seconds > self._seconds_per_lane:
                worker.kill()
                self._workers.remove(worker)
                message = f"stopped after {self._seconds_per_lane:g} s"
                done.append((job.lane, Training(**failed("timeout", message, job.seconds))))
        return done

    def _note_failed_start(self, how: str) -> None:
        self._failed_starts += 1
        if self._failed_starts >= 3:
            self._log.seek(self._log_start)
            lines = self._log.read().decode(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else f"ended by {how}"
            raise EvaluatorError(f"worker processes do not start: {reason}")


@dataclass
class _Job:
    lane: Lane
    attempts: int = 0
    started: float = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


@dataclass
class _Worker:
    """A worker process, its unread output, and what it is at."""

    process: subprocess.Popen[bytes]
    ready: bool = False
    alive: bool = True
    job: _Job | None = None
    _unread: bytearray = field(default_factory=bytearray)

    @classmethod
    def hire(cls, function: str, log: IO[bytes]) -> _Worker:
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        process = subprocess.Popen(
            [sys.executable, "-P", "-X", "faulthandler", "-m", "evo.worker", function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(paths)},
            process_group=0,  # so that Ctrl-C reaches the parent only, and one signal ends all that it started
        )
        return cls(process)

    @property
    def output(self) -> IO[bytes]:
        assert self.process.stdout
        return self.process.stdout

    def start(self, job: _Job, options: dict[str, Any]) -> None:
        instance = job.lane.instance
        fields = {
            "hash": job.lane.hash,
            "text": job.lane.genome,
            "task": instance.task,
            "num_hidden_layers": instance.num_hidden_layers,
            "seed": instance.seed.hex(),
            "init": instance.init,
            "accuracy_factor": instance.accuracy_factor,
            "epochs": job.lane.epochs,
            **options,
        }
        self.job = job
        job.attempts += 1
        job.started = time.monotonic()
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # it has just died, which its output will tell
            self.process.stdin.write(json.dumps(fields).encode() + b"\n")
            self.process.stdin.flush()

    def answers(self) -> list[dict[str, Any]]:
        """The answers that have arrived whole; notes the end of the output, which is the worker's."""
        received = os.read(self.output.fileno(), 1 << 20)
        self.alive = bool(received)
        *lines, rest = bytes(self._unread + received).split(b"\n")
        self._unread = bytearray(rest)
        return [json.loads(line) for line in lines]

    def kill(self) -> str:
        """End the worker and all that it started. Returns what ended it."""
        if self.process.returncode is None:  # not yet waited for, so its number is still its own
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        for pipe in filter(None, (self.process.stdin, self.process.stdout)):
            with contextlib.suppress(OSError):
                pipe.close()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
