"""Suspends processes as `kill -STOP` does, one after another."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path


def family(ancestor: int) -> list[int]:
    """A process and its descendants, the youngest last."""
    parents = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = [ancestor]
    for pid in found:  # which grows
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def suspend(pids: list[int], seconds: float) -> None:
    """Suspend ``pids`` for ``seconds``."""
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if number == signal.SIGSTOP:
            time.sleep(seconds)


def state(pid: int) -> str:
    """The letter of the system's process table; Z where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
