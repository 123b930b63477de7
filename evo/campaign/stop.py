"""When a campaign is to stop: signals, and a limit of minutes."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from harness.running_time import Stopwatch


class Stop:
    """Whether to stop: at once after SIGINT, SIGTERM or SIGHUP; softly after ``max_minutes`` of running time.

    Signals only raise a flag: nothing is interrupted half-way, and a second Ctrl-C does no harm.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self, max_minutes: float | None = None):
        self.signal: signal.Signals | None = None
        self._watch, self._max_minutes = Stopwatch(), max_minutes
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # elsewhere, signals are not ours to handle
            self._previous = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = signal.Signals(number)

    def now(self) -> bool:
        """Whether a signal came: what runs is to be left as it is."""
        return self.signal is not None

    def soon(self) -> bool:
        """No new work is to be begun; what runs may end."""
        return self.now() or (self._max_minutes is not None and self._watch.seconds() > 60 * self._max_minutes)
