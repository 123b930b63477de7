"""Messages for people, on standard error."""

from __future__ import annotations

import sys


def say(message: str) -> None:
    """Write a message for people to standard error."""
    print(message, file=sys.stderr, flush=True)
