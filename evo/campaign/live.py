"""The live table of a campaign on a terminal."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evo.campaign.progress import PlainProgress, Progress
from evo.formatting import duration, gain, uncertain

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
            best = self.champion
            over = f", {gain(best.gain)} over {self.recipe.baselines[0]}" if best.gain and self.recipe else ""
            parts.append(Text.assemble("champion ", (best.name, "bold"), f" {uncertain(best.estimate)}{over}"))
            parts.append(Text(f"  {self.champion.expr}", style="cyan", no_wrap=True, overflow="ellipsis"))
        return Group(*parts)

    def _table(self) -> Table:
        baselines = list(self.past[-1].statistics.baselines)
        recipe = self.recipe
        title = f"{recipe.name} · task {recipe.task} · quality, higher is better" if recipe else None
        table = Table(title=title, title_justify="left", title_style="", box=None, padding=(0, 2, 0, 0))
        table.add_column("generation", justify="right")
        for name in ("best", "champion"):
            table.add_column(name, justify="right", style="bold" if name == "champion" else "")
        for name in baselines:
            table.add_column(name, justify="right", style="dim")
        for name in ("trials", "trained", "diverged", "time"):
            table.add_column(name, justify="right")
        for generation in self.past[-ROWS:]:
            found = generation.statistics
            table.add_row(
                str(generation.number),
                uncertain(found.best),
                uncertain(found.champion and found.champion.estimate),
                *(uncertain(found.baselines.get(name)) for name in baselines),
                ", ".join("promoted" if trial.promoted else "failed" for trial in found.trials),
                *(str(count) for count in (found.trained, found.diverged)),
                duration(generation.seconds),
            )
        return table
