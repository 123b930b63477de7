"""Two rotating copies of a ledger, and what to do when the ledger itself is found damaged."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

from evo.ledger import file
from evo.ledger.audit import Damage, sound_rows
from evo.ledger.errors import DamagedError, LedgerError, explained
from evo.ledger.ledger import Ledger
from evo.ledger.schema import COUNTS, EVALUATIONS, GENOMES, META, TABLES

EVERY = 5  # generations; the first one is copied too


def due(generation: int) -> bool:
    """Whether to copy the ledger when ``generation`` generations are complete."""
    return generation == 1 or generation % EVERY == 0


def rotate(ledger: Ledger) -> None:
    """Copy the ledger beside itself; the copy before the last is kept too. Raises LedgerError."""
    newest, older = copies(ledger.path)
    with explained(newest):
        if newest.is_file():
            newest.replace(older)
    ledger.back_up(newest)


def copies(path: Path) -> tuple[Path, Path]:
    """Where the copies of the ledger at ``path`` are, newest first."""
    return path.with_name("backup-1.sqlite"), path.with_name("backup-2.sqlite")


def open_or_restore(
    path: Path,
    say: Callable[[str], None],
    reading: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> Ledger:
    """The ledger at ``path``; when it is damaged or gone, what is sound of it and of its copies, in its place.

    The damaged file is kept beside it. ``say`` is told what happened. ``reading``: entered around work that may take
    long, and that may be cut off anywhere by what it raises. Raises LedgerError where nothing can be made of
    it, and for all that is not damage (locks, permissions, disk); then no file is touched.
    """
    try:
        if path.is_file() or not any(copy.is_file() for copy in copies(path)):
            with reading():
                return Ledger.open_to_write(path)
        problem = f"{path}: it is gone"
    except DamagedError as error:
        problem = str(error)
    say(problem)
    restored = path.with_name(path.name + ".restored")
    try:
        with reading():
            names, damage = _gather(restored, (path, *copies(path)), say)
        if not names:
            raise LedgerError(f"{problem}; no copy of it is good either: set {path.parent} aside and launch anew")
        aside = _set_aside(path)
        with explained(path):
            restored.replace(path)
    finally:
        restored.unlink(missing_ok=True)
    ledger = Ledger.open_to_write(path)
    held = ledger.audit()
    kept = f"{held.generations} complete generations, {held.rows[EVALUATIONS.name]} evaluations"
    say(f"{path}: restored from {' and '.join(names)}, which gives {kept}{_counted(damage)}{aside}")
    return ledger


def _gather(target: Path, sources: Sequence[Path], say: Callable[[str], None]) -> tuple[list[str], list[Damage]]:
    """Write the sound rows of all ``sources`` to ``target``; rows never change, so that it matters not whose they are.

    Tells are kept up to the first that lacks something; evaluations beyond are kept too, so that the search is told
    again what was trained already. Returns what gave rows, none where the campaign's facts are lost, and the damage.
    """
    names: list[str] = []
    damage: list[Damage] = []
    whole = False
    with explained(target):
        target.unlink(missing_ok=True)
        with contextlib.closing(file.make(target)) as connection, file.transaction(connection):
            for source in filter(Path.is_file, sources):
                try:
                    look = file.look(source)
                except DamagedError as error:
                    if source != sources[0]:
                        say(str(error))
                    continue
                before, found = connection.total_changes, list[Damage]()
                with contextlib.closing(look), explained(source), file.snapshot(look):
                    # where evaluations are lost nobody knows which: what rests on them is told again
                    hidden = file.structure(look, EVALUATIONS)
                    for table in (META, GENOMES, EVALUATIONS) if hidden else TABLES:
                        insert = table.insert.replace("INSERT", "INSERT OR IGNORE", 1)
                        connection.executemany(insert, sound_rows(look, table, found))
                    facts = not any(each.table == META.name for each in found) and not file.structure(look, META)
                whole |= facts
                damage += found
                if connection.total_changes > before:
                    names.append(source.name)
            _drop_what_lacks_something(connection)
    return (names if whole else []), damage


def _drop_what_lacks_something(connection: sqlite3.Connection) -> None:
    genomes = "(SELECT id FROM genomes)"
    connection.execute(f"DELETE FROM evaluations WHERE genome NOT IN {genomes}")
    connection.execute(f"DELETE FROM individuals WHERE genome NOT IN {genomes}")
    members = dict(connection.execute("SELECT tell, count(*) FROM individuals GROUP BY 1"))
    told = dict(connection.execute("SELECT number, individuals FROM tells"))
    complete = next(number for number in count() if told.get(number) != members.get(number, 0))
    connection.execute("DELETE FROM individuals WHERE tell >= ?", (complete,))
    connection.execute("DELETE FROM tells WHERE number >= ?", (complete,))
    used = "SELECT genome FROM evaluations UNION SELECT genome FROM individuals"
    connection.execute(f"DELETE FROM genomes WHERE id NOT IN ({used})")
    connection.execute("DELETE FROM meta WHERE key = ?", (COUNTS,))


def _counted(damage: Sequence[Damage]) -> str:
    rows = Counter(each.table for each in damage if each.key)
    listed = ", ".join(f"{number} of {table}" for table, number in rows.items())
    return f"; damaged rows are left out ({listed}) and made again when they are needed" if rows else ""


def _set_aside(path: Path) -> str:
    number = 1
    while (aside := path.with_name(f"damaged-{number}.sqlite")).exists():
        number += 1
    for part in file.companions(path):  # SQLite would apply them to whatever stands at ``path``
        if part.exists():
            shutil.move(part, f"{aside}{part.name.removeprefix(path.name)}")
    if not path.is_file():
        return ""
    shutil.move(path, aside)
    return f"; the damaged file is kept as {aside.name}"
