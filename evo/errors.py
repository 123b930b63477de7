"""Errors meant for people: one plain message each, and the exit code that the command line gives for it."""

from __future__ import annotations


class EvoError(Exception):
    """Something outside the program went wrong (disk, lock, damaged file). ``str()`` is the whole message."""

    exit_code = 1


class UsageError(EvoError):
    """What the user asked for cannot be done as asked: a recipe, an option, a file name."""

    exit_code = 2
