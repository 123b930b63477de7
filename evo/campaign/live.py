"""The live table of a campaign on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evo.campaign import wording
from evo.campaign.progress import PlainProgress, Progress
from evo.formatting import duration
from evo.records import Generation

ROWS = 10


def on(stream: TextIO | None = None) -> Progress:
    """The live table where ``stream`` (standard error) is a terminal that can show it, else plain lines."""
    output: TextIO = sys.stderr if stream is None else stream
    console = Console(file=output, markup=False, emoji=False)
    return LiveProgress(console) if console.is_terminal and not console.is_dumb_terminal else PlainProgress(output)


class LiveProgress(Progress):
    """A table of the latest generations, with what of the next one is bred or trained below it."""

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
            line = Table.grid(padding=(0, 2))
            bar = ProgressBar(total=self.total or 1, completed=self.done, width=30)
            line.add_row(f"generation {self.done_generations + 1}/{self.generations}", bar, self.under_way)
            parts.append(line)
        left = self.seconds_left()
        times = [f"elapsed {duration(time.monotonic() - self.started)}"]
        if left is not None and self.done_generations < self.generations:
            times.append(f"about {duration(left)} left")
        parts.append(Text(" · ".join(times), style="dim"))
        if self.champion:
            best, last = self.champion, self.past[-1].statistics
            parts.append(Text.assemble("champion ", (best.name, "bold"), f" {wording.quality_of(best, last)}"))
            parts.append(Text(f"  {best.expr}", style="cyan", no_wrap=True, overflow="ellipsis"))
            if best.founder:
                parts.append(Text(f"  {wording.FOUNDER_STAYS}", style="dim"))
            if last.baselines:
                parts.append(Text("  ".join(wording.baselines(last)), style="dim"))
        return Group(*parts)

    def _table(self) -> Table:
        recipe = self.recipe
        return generations_table(self.past, f"{recipe.name} · task {recipe.task}" if recipe else "")


def generations_table(past: Sequence[Generation], title: str) -> Table:
    """The latest generations: gains over the reference, or estimates without one. Fits 80 columns."""
    what = f"{title} · {wording.what_is_shown(past[-1].statistics)}, higher is better"
    table = Table(title=what, title_justify="left", title_style="", box=None, padding=(0, 2, 0, 0))
    for name in wording.GENERATION_COLUMNS:
        table.add_column(name, justify="right", style="bold" if name == "champion" else "")
    for generation in past[-ROWS:]:
        table.add_row(*wording.generation_row(generation))
    return table
