"""Numbers as people read them, and commands as they copy them."""

from __future__ import annotations

import shlex


def command(*words: object) -> str:
    """``evo`` with arguments as a shell takes them: paths with spaces, ``$`` or quotes are quoted."""
    return shlex.join(["evo", *map(str, words)])


def quality(value: float | None) -> str:
    """A quality with three decimals; a dash for None."""
    return "–" if value is None else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Seconds as people read them: ``8 s``, ``3:07``, ``2:10:00``."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
