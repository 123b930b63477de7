"""What long work tells its caller while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One piece of news.

    ``kind``: ``training`` (one more is done), ``generation`` (one more is complete), ``warning`` or ``message`` (text
    for people). ``done``, ``total``: trainings or generations; 0 where nothing is counted. ``message``: may be empty.
    """

    kind: str
    done: int = 0
    total: int = 0
    message: str = ""


Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The listener that does nothing."""
