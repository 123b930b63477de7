"""A worker process: reads jobs, answers with results, one JSON object per line.

Started by `pool`, as ``python -m evo.training.worker module:function``. A job is ``{"lanes": [...], option: value}``,
each lane as `jobs.fields` gives it. The function gets all of it as keyword arguments and is an iterator of (position
in ``lanes``, `Training.to_dict`), in any order. Each becomes an answer at once, a line ``{"position": ...,
"training": {...}}``; a job is done when all its lanes are answered. When the function raises an exception, all lanes
without an answer have the status ``error``.

The worker dies with its parent: a thread reads standard input, which ends when the parent does; the kernel is asked to
kill the worker too, for a computation that never lets that thread run.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TextIO

from harness.result import Training

# the functions of `evo.training.trainer`, by name: only a worker imports them, for they need torch
TRAIN_LANES = "evo.training.trainer:train_lanes"
TRAIN_LITERAL = "evo.training.trainer:train_lanes_literal"

UNUSABLE = 69  # exit code of a worker whose device failed before it tried any lane, so that no lane is the cause

Answers = Iterator[tuple[int, dict[str, Any]]]  # position of a lane in its job, fields of its training
Function = Callable[..., Answers]


def main() -> None:
    """Answer the jobs on standard input with the function that the first argument names, until input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what anyone prints goes to the log, not between the answers
    function = find(sys.argv[1])
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(jobs,), daemon=True).start()
    _answer(answers, {"ready": True})
    while True:
        for position, training in answers_to(json.loads(jobs.get()), function):
            _answer(answers, {"position": position, "training": training})


def find(name: str) -> Function:
    """The function of a name ``module:function``. Raises ImportError, AttributeError."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def answers_to(job: dict[str, Any], function: Function) -> Answers:
    """Exactly one answer for each lane of ``job``, whatever ``function`` does."""
    unanswered = set(range(len(job["lanes"])))
    try:
        for position, training in function(**job):
            unanswered.remove(position)
            yield position, training
        if unanswered:
            raise RuntimeError("its worker's function ended without an answer")
    except Exception as error:
        failure = failed_by(error).to_dict()
        for position in sorted(unanswered):
            yield position, failure


def one_by_one(train: Callable[..., dict[str, Any]], lanes: list[dict[str, Any]], **options: Any) -> Answers:
    """Train each of ``lanes`` with ``train(lane, **options)``; an exception is the ``error`` of its lane alone."""
    for position, lane in enumerate(lanes):
        try:
            training = train(lane, **options)
        except Exception as error:  # the lane's status, not the end of the campaign
            training = failed_by(error).to_dict()
        yield position, training


def failed_by(error: Exception) -> Training:
    """The training of a lane that ended in ``error``, whose traceback goes to the log."""
    with contextlib.suppress(OSError):
        traceback.print_exception(error)
    return Training.failed("error", f"{type(error).__name__}: {error}".splitlines()[0])


def exit_process(reason: str, code: int = 1) -> NoReturn:
    """End this process, which can train no more; the pool starts another. ``code``: see UNUSABLE."""
    print(reason.splitlines()[0], file=sys.stderr, flush=True)
    os._exit(code)  # without cleaning up, which may never end, and with an exit code that the pool is sure to see


def _read(jobs: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        jobs.put(line)
    os._exit(0)


def _answer(answers: TextIO, value: dict[str, Any]) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")  # when memory runs out, a worker goes, which is survived, and not the parent


if __name__ == "__main__":
    main()
