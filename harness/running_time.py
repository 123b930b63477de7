"""Time limits that do not count suspension: by SIGSTOP, by Ctrl-Z, by a closed lid or a paused machine.

The one place that decides what counts. Whoever waits looks at its stopwatch every TICK or so; a gap between two looks
that is longer than GAP was no waiting of ours, so it counts as the processor time that we took in it.
"""

from __future__ import annotations

import os
import signal
import time

TICK = 0.1  # seconds between two looks, at least where a process waits for another
GAP = 1.0  # longest gap between two looks that counts in full


class Stopwatch:
    """Seconds for which this process ran since ``restart``: all of it, if it looks at ``seconds`` every GAP at least.

    Of a longer gap counts the processor time of this process in it, and TICK at least.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin at 0."""
        self._seconds = 0.0
        self._looked, self._worked = time.monotonic(), time.process_time()

    def seconds(self) -> float:
        """The seconds so far."""
        now, worked = time.monotonic(), time.process_time()
        passed, work = now - self._looked, worked - self._worked
        self._seconds += passed if passed <= GAP else min(passed, max(TICK, work))
        self._looked, self._worked = now, worked
        return self._seconds


def resume(child: int) -> bool:
    """Resume the child process ``child`` and its process group; whether it was suspended. Its limits go on counting."""
    if not hasattr(os, "waitid"):
        return False
    try:
        suspended = os.waitid(os.P_PID, child, os.WSTOPPED | os.WNOHANG)
        if suspended is not None:
            os.killpg(os.getpgid(child), signal.SIGCONT)
    except (ChildProcessError, ProcessLookupError):
        return False
    return suspended is not None
