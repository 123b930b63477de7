"""What is seen while a campaign runs: a live table on a terminal, a line per generation elsewhere, and the log."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evo.formatting import duration, quality
from evo.recipe.schema import Recipe
from evo.records import Champion, Generation, Request
from harness.result import Training

HEARTBEAT_SECONDS = 60
ROWS = 10


def on(stream: TextIO | None = None) -> Progress:
    """The live table where ``stream`` (standard error) is a terminal that can show it, else plain lines."""
    output: TextIO = sys.stderr if stream is None else stream
    console = Console(file=output)
    return LiveProgress(console) if console.is_terminal and not console.is_dumb_terminal else PlainProgress(output)


class Progress:
    """Keeps count of a campaign and writes its log; subclasses show it."""

    def __init__(self) -> None:
        self.log: Path | None = None
        self.recipe: Recipe | None = None
        self.done_generations = 0
        self.past: list[Generation] = []
        self.purpose, self.total, self.done = "", 0, 0  # lanes of the request under way
        self._generation_started = self.started = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    # --- told by the campaign --------------------------------------------------------------------------

    def say(self, message: str) -> None:
        """A message for people."""
        if self.log:
            moment = datetime.now().astimezone().isoformat(timespec="seconds")
            with suppress(OSError), self.log.open("a", encoding="utf-8") as file:
                file.writelines(f"{moment} {line}\n" for line in message.splitlines())
        self._show(message)

    def begin(self, recipe: Recipe, past: Sequence[Generation]) -> None:
        """A campaign starts, or goes on after the complete generations ``past``."""
        self.recipe, self.done_generations, self.past = recipe, len(past), list(past)
        self._generation_started = self.started = time.monotonic()
        verb = f"goes on after generation {len(past)}" if past else "begins"
        self.say(f"{recipe.name} {verb}: task {recipe.task}, {recipe.generations} generations of {recipe.population}")

    def request(self, request: Request, known: int) -> None:
        """The search asks for lanes, ``known`` of which are in the ledger."""
        self.purpose, self.total, self.done = request.purpose.value, len(request.lanes), known

    def lane(self, training: Training) -> None:
        """A lane is trained."""
        self.done += 1

    def generation(self, generation: Generation) -> None:
        """A generation is complete and saved."""
        self.done_generations = generation.number
        self.past.append(generation)
        self._generation_started = time.monotonic()
        self.purpose, self.total, self.done = "", 0, 0
        self.say(self._line(generation))

    @property
    def champion(self) -> Champion | None:
        """The best of the hall of fame after the last complete generation."""
        return self.past[-1].statistics.champion if self.past else None

    # --- shown by subclasses ---------------------------------------------------------------------------

    def _show(self, message: str) -> None:
        pass

    @property
    def generations(self) -> int:
        """How many generations the campaign is to have; 0 before it begins."""
        return self.recipe.generations if self.recipe else 0

    def seconds_left(self) -> float | None:
        """An estimate: from the median of past generations, or from the lanes of the first one."""
        spent = time.monotonic() - self._generation_started
        left = self.generations - self.done_generations
        if self.past:
            usual = median(generation.seconds for generation in self.past[-9:])
            return max(0.0, usual - spent) + usual * (left - 1) if left else 0.0
        if self.done and self.total and spent > 2:
            return max(0.0, spent * self.total / self.done * left - spent)
        return None

    def _line(self, generation: Generation) -> str:
        found = generation.statistics
        parts = [f"generation {self.done_generations}/{self.generations}"]
        parts += [f"best {quality(found.best)}", f"median {quality(found.median)}"]
        parts += [f"{name} {quality(value)}" for name, value in (found.baselines or {}).items()]
        if found.champion:
            parts.append(f"champion {found.champion.name} {quality(found.champion.quality)}")
        parts.append(f"trained {found.trained}, saved {found.saved}")
        if found.diverged:
            parts.append(f"diverged {found.diverged}")
        left = self.seconds_left()
        parts.append(f"{duration(generation.seconds)}{f', {duration(left)} left' if left else ''}")
        return "  ".join(parts)


class PlainProgress(Progress):
    """A line per generation, and one per minute while a generation lasts."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._last = time.monotonic()

    def _show(self, message: str) -> None:
        with suppress(OSError, ValueError):  # nobody reads any more: no reason to stop
            print(message, file=self._stream, flush=True)
        self._last = time.monotonic()

    def lane(self, training: Training) -> None:
        """A lane is trained; says so where nothing was said for a minute."""
        super().lane(training)
        if time.monotonic() - self._last > HEARTBEAT_SECONDS:
            number = f"{self.done_generations + 1}/{self.generations}"
            self._show(f"generation {number}: {self.purpose} lanes {self.done}/{self.total}")


class LiveProgress(Progress):
    """A table of the latest generations, with the lanes of the one under way below it."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=4)

    def __enter__(self) -> LiveProgress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _show(self, message: str) -> None:
        if not message.startswith("generation "):  # the table says that
            self._live.console.print(message, highlight=False, markup=False)

    def render(self) -> Group:
        """What stands on the terminal now."""
        parts: list[Any] = [self._table()] if self.past else []
        if self.done_generations < self.generations:
            lanes = f"{self.purpose} lanes {self.done}/{self.total}" if self.total else "the search is thinking"
            line = Table.grid(padding=(0, 2))
            bar = ProgressBar(total=self.total or 1, completed=self.done, width=30)
            line.add_row(f"generation {self.done_generations + 1}/{self.generations}", bar, lanes)
            parts.append(line)
        left = self.seconds_left()
        times = [f"elapsed {duration(time.monotonic() - self.started)}"]
        if left is not None and self.done_generations < self.generations:
            times.append(f"about {duration(left)} left")
        parts.append(Text(" · ".join(times), style="dim"))
        if self.champion:
            name, value = self.champion.name, quality(self.champion.quality)
            parts.append(Text.assemble("champion ", (name, "bold"), f" {value} on the selection instances"))
            parts.append(Text(f"  {self.champion.expr}", style="cyan", no_wrap=True, overflow="ellipsis"))
        return Group(*parts)

    def _table(self) -> Table:
        baselines = list(self.past[-1].statistics.baselines or {})
        recipe = self.recipe
        title = f"{recipe.name} · task {recipe.task} · quality, higher is better" if recipe else None
        table = Table(title=title, title_justify="left", title_style="", box=None, padding=(0, 2, 0, 0))
        table.add_column("generation", justify="right")
        for name in ("best", "median"):
            table.add_column(name, justify="right", style="bold" if name == "best" else "")
        for name in baselines:
            table.add_column(name, justify="right", style="dim")
        for name in ("trained", "saved", "diverged", "time"):
            table.add_column(name, justify="right")
        for generation in self.past[-ROWS:]:
            found = generation.statistics
            measured = found.baselines or {}
            table.add_row(
                str(generation.number),
                quality(found.best),
                quality(found.median),
                *(quality(measured.get(name)) for name in baselines),
                *(str(count) for count in (found.trained, found.saved, found.diverged)),
                duration(generation.seconds),
            )
        return table
