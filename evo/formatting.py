"""Numbers as people read them, and commands as they copy them."""

from __future__ import annotations

import shlex
from typing import Protocol


class Uncertain(Protocol):
    """An estimate with its 95 % interval: see `evo.records.Estimate`."""

    @property
    def mean(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def command(*words: object) -> str:
    """``evo`` with arguments as a shell takes them: paths with spaces, ``$`` or quotes are quoted."""
    return shlex.join(["evo", *map(str, words)])


def quality(value: float | None) -> str:
    """A quality with three decimals; a dash for None."""
    return "–" if value is None else f"{value:.3f}"


def uncertain(estimate: Uncertain | None) -> str:
    """An estimate with half of its 95 % interval: ``0.412 ± 0.031``; a dash for None."""
    return "–" if estimate is None else f"{estimate.mean:.3f} ± {(estimate.high - estimate.low) / 2:.3f}"


def gain(difference: Uncertain | None) -> str:
    """A difference as `uncertain`, with its sign; ``tie`` is added where its interval holds 0."""
    if difference is None:
        return "–"
    tie = " (tie)" if difference.low <= 0 <= difference.high else ""
    return f"{difference.mean:+.3f} ± {(difference.high - difference.low) / 2:.3f}{tie}"


def duration(seconds: float) -> str:
    """Seconds as people read them: ``8 s``, ``3:07``, ``2:10:00``."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
