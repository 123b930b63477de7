"""When a campaign is to stop: signals, and a limit of minutes. Nothing else decides it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from evo.errors import EvoError
from harness.running_time import TICK, Stopwatch


class Stopped(EvoError):
    """Work was given up because the campaign is to stop; what the ledger holds goes on from there."""

    exit_code = 75


class Stop:
    """Whether to stop: at once after SIGINT, SIGTERM or SIGHUP; softly after ``max_minutes`` of running time.

    Signals raise a flag, which those who train and store look at: nothing of theirs is interrupted half-way, and a
    second Ctrl-C does no harm. Work that leaves nothing half-done runs `at_once` and is interrupted.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self, max_minutes: float | None = None):
        self.signal: signal.Signals | None = None
        self._watch, self._max_minutes = Stopwatch(), max_minutes
        self._previous: dict[signal.Signals, Any] = {}
        self._interrupts = False  # whether to raise Stopped where the program stands

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # elsewhere, signals are not ours to handle
            self._previous = {number: signal.signal(number, self._note) for number in self.SIGNALS}
            self._previous[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._ring)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._interrupt()

    def _ring(self, number: int, _: FrameType | None) -> None:
        if self.soon():
            self._interrupt()

    def _interrupt(self) -> None:
        if self._interrupts:
            self._interrupts = False  # once: who gives up is not disturbed
            self.check()

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, Stopped is raised as soon as the campaign is to stop, whatever runs there.

        It must be work that can be cut off anywhere: reading and reckoning, nothing that is written. In threads other
        than the main one only `check` raises.
        """
        self.check()
        if self._previous and self._max_minutes is not None:
            signal.setitimer(signal.ITIMER_REAL, TICK, TICK)  # rarer looks would be taken for a suspension
        self._interrupts = bool(self._previous)
        try:
            yield
        finally:
            self._interrupts = False
            if self._previous and self._max_minutes is not None:
                signal.setitimer(signal.ITIMER_REAL, 0)

    def check(self) -> None:
        """Raise Stopped where `soon`."""
        if self.soon():
            raise Stopped(f"stopped by {self.signal.name}" if self.signal else "stopped: the minutes are over")

    def now(self) -> bool:
        """Whether a signal came: what runs is to be left as it is."""
        return self.signal is not None

    def soon(self) -> bool:
        """No new work is to be begun; what runs may end."""
        return self.now() or (self._max_minutes is not None and self._watch.seconds() > 60 * self._max_minutes)
