"""Two rotating copies of a ledger, and what to do when the ledger itself is found damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from evo.ledger.ledger import DamagedError, Ledger, LedgerError, companions

EVERY = 5  # generations; the first one is copied too


def due(generation: int) -> bool:
    """Whether to copy the ledger when ``generation`` generations are complete."""
    return generation == 1 or generation % EVERY == 0


def rotate(ledger: Ledger) -> None:
    """Copy the ledger beside itself; the copy before the last is kept too. Raises LedgerError."""
    newest, older = copies(ledger.path)
    if newest.is_file():
        newest.replace(older)
    ledger.back_up(newest)


def copies(path: Path) -> tuple[Path, Path]:
    """Where the copies of the ledger at ``path`` are, newest first."""
    return path.with_name("backup-1.sqlite"), path.with_name("backup-2.sqlite")


def open_or_restore(path: Path, say: Callable[[str], None]) -> Ledger:
    """The ledger at ``path``; when it is damaged or gone, its newest good copy, which takes its place.

    The damaged file is kept beside it. ``say`` is told what happened. Raises LedgerError if no copy is good.
    """
    try:
        if path.is_file() or not any(copy.is_file() for copy in copies(path)):
            return Ledger.open_to_write(path)
        problem = f"{path}: it is gone"
    except DamagedError as error:
        problem = str(error)
    say(problem)
    for copy in copies(path):
        restored = path.with_name(path.name + ".restored")
        try:
            with Ledger.open_to_read(copy) as look:
                look.verify()
                look.back_up(restored)
                generations = look.checkpoint().generation
        except LedgerError as error:
            say(f"{error}" if copy.is_file() else f"{copy}: there is no such copy")
            continue
        aside = _set_aside(path)
        restored.replace(path)
        say(f"{path}: restored from {copy.name}, which has {generations} complete generations{aside}")
        return Ledger.open_to_write(path)
    raise LedgerError(f"{problem}; no copy of it is good either: set {path.parent} aside and launch anew")


def _set_aside(path: Path) -> str:
    number = 1
    while (aside := path.with_name(f"damaged-{number}.sqlite")).exists():
        number += 1
    for part in companions(path):  # SQLite would apply them to whatever stands at ``path``
        if part.exists():
            shutil.move(part, f"{aside}{part.name.removeprefix(path.name)}")
    if not path.is_file():
        return ""
    shutil.move(path, aside)
    return f"; the damaged file is kept as {aside.name}"
