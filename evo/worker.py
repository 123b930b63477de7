"""A worker process: reads jobs, answers with results, one JSON object a line.

Started by `evo.evaluator`, as ``python -m evo.worker module:function``. The function gets a job's fields as
keyword arguments and returns the fields of a `harness.train.Training`. The worker dies with its parent: a thread reads
standard input, which ends when the parent does, however that came; and the kernel is asked to see to it too, for
a computation that never lets that thread run.
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
from collections.abc import Callable
from typing import Any, TextIO


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what anyone prints goes to the log, not between the answers
    module, _, name = sys.argv[1].partition(":")
    function: Callable[..., dict[str, Any]] = getattr(importlib.import_module(module), name)
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(jobs,), daemon=True).start()
    _answer(answers, {"ready": True})
    while True:
        job = json.loads(jobs.get())
        try:
            result = function(**job)
        except Exception as error:  # the lane's status, not the end of the campaign
            with contextlib.suppress(OSError):
                traceback.print_exc()
            result = failed("error", f"{type(error).__name__}: {error}".splitlines()[0])
        _answer(answers, result)


def failed(status: str, message: str, seconds: float = 0.0) -> dict[str, Any]:
    """The fields of a `Training` that came to nothing."""
    return {
        "status": status,
        "message": message,
        "epochs_run": 0,
        "best_epoch": None,
        "train_loss": [],
        "val_loss": [],
        "test_loss": None,
        "target_loss": float("nan"),
        "quality": None,
        "passed": None,
        "seconds": seconds,
    }


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
