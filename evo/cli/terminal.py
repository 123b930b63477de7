"""Where the command line writes: tables to standard output, messages and progress to standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import Progress

from evo.events import Event

LINE_SECONDS = 30.0  # between two lines of progress


def console() -> Console:
    """Standard output for tables: as wide as the terminal, and wide enough where there is none."""
    return Console(width=None if sys.stdout.isatty() else 140)


def say(message: str) -> None:
    """Write a message for people to standard error."""
    print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Write a warning to standard error."""
    Console(stderr=True, highlight=False).print(f"warning: {message}", style="yellow")


class TrainingProgress:
    """Shows events on standard error: a bar where it is a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._bar = Progress(console=Console(stderr=True), disable=not self._terminal)
        self._task = self._bar.add_task("training", total=None, visible=False)
        self._told = time.monotonic()

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event.kind == "warning":
            warn(event.message)
        elif event.kind == "training":
            self._bar.update(self._task, total=event.total, completed=event.done, visible=True)
            if not self._terminal and time.monotonic() - self._told > LINE_SECONDS:
                self._told = time.monotonic()
                say(f"trained {event.done} of {event.total}")
