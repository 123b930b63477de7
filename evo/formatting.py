"""Numbers as people read them, and commands as they copy them."""

from __future__ import annotations

import shlex
from typing import Protocol


class Uncertain(Protocol):
    """An estimate with its 95 % interval: see `evo.records.Estimate`."""

    @property
    def mean(self) -> float:
        """The most likely value."""
        ...

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        ...

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        ...


def command(*words: object) -> str:
    """``evo`` with arguments as a shell takes them: paths with spaces, ``$`` or quotes are quoted."""
    return shlex.join(["evo", *map(str, words)])


def quality(value: float | None) -> str:
    """A quality with three decimals; a dash for None."""
    return "–" if value is None else f"{value:.3f}"


def interval(estimate: Uncertain | None, sign: bool = False) -> str:
    """An estimate with half of its 95 % interval: ``0.412 ± 0.031``; a dash for None. ``sign``: always with one."""
    if estimate is None:
        return "–"
    return f"{estimate.mean:{'+' if sign else ''}.3f} ± {half_interval(estimate)}"


def half_interval(estimate: Uncertain) -> str:
    """Half of the 95 % interval, with three decimals."""
    return f"{(estimate.high - estimate.low) / 2:.3f}"


def gain(difference: Uncertain | None) -> str:
    """A difference with its sign and interval; ``(tie)`` is added where that holds 0."""
    return interval(difference, sign=True) + (" (tie)" if difference and difference.low <= 0 <= difference.high else "")


def steps(count: int) -> str:
    """Training steps as people read them: ``12,160``, ``3.41 M`` for millions."""
    return f"{count / 1e6:.3g} M" if count >= 1e6 else f"{count:,}"


def duration(seconds: float) -> str:
    """Seconds as people read them: ``8 s``, ``3:07``, ``2:10:00``."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
