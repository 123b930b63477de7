"""Where the command line writes: tables to standard output, messages and progress to standard error."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import Progress

from evo.cli.messages import say
from evo.events import Event
from evo.files import is_standard_output

LINE_SECONDS = 30.0  # between two lines of progress


def console(*, stderr: bool = False) -> Console:
    """Standard output for tables: as wide as the terminal, and wide enough where there is none.

    ``stderr``: standard error instead. No text is markup: ``[`` stands for itself.
    """
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 140, markup=False, emoji=False)


def warn(message: str) -> None:
    """Write a warning to standard error."""
    Console(stderr=True, highlight=False, markup=False, emoji=False).print(f"warning: {message}", style="yellow")


def print_written(path: Path) -> None:
    """Print where a file was written, unless that is standard output."""
    if not is_standard_output(path):
        print(path)


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
