"""What can go wrong with a ledger's file, and which errors of SQLite mean which."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from evo.errors import EvoError, UsageError

DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_TOOBIG")  # the last: a length that is nonsense
FULL = ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")  # the second for the index of the write-ahead log, which cannot grow
NO_LOCKS = ("SQLITE_PROTOCOL", "SQLITE_NOLFS", "SQLITE_IOERR_LOCK", "SQLITE_IOERR_RDLOCK", "SQLITE_IOERR_SHM")


class LedgerError(EvoError):
    """The ledger cannot be read or written; what it held before is intact."""


class DamagedError(LedgerError):
    """The file is not what we wrote."""


class VersionError(UsageError):
    """The file was written by a version whose ledgers we do not read, and is left untouched."""


READING = (sqlite3.Error, UnicodeDecodeError)  # the second from sqlite3, when it quotes what it read


def damages(error: Exception) -> bool:
    """Whether one of ``READING`` means that the file is not what was written, and nothing else."""
    return isinstance(error, UnicodeDecodeError) or _name(error).startswith(DAMAGE)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and of the disk into messages that say what to do.

    Raises DamagedError for damage alone; LedgerError for all that leaves the file as it is: locks, permissions, disk.
    """
    try:
        yield
    except sqlite3.Error as error:
        name = _name(error)
        if damages(error):
            raise DamagedError(f"{path}: damaged: {error}") from None
        if name in FULL:
            raise LedgerError(f"{path}: the disk is full; free space, then go on with evo resume") from None
        if name == "SQLITE_READONLY_DBMOVED":
            raise LedgerError(moved(path)) from None
        if name.startswith(NO_LOCKS):
            raise LedgerError(
                f"{path}: files cannot be locked here ({error}); is {path.parent} on a network file system? Nothing was"
                " changed: move the campaign's folder to a local disk, then go on"
            ) from None
        if name.startswith("SQLITE_READONLY") or name == "SQLITE_CANTOPEN":
            raise LedgerError(f"{path}: no permission to write here ({error})") from None
        if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
            raise
        raise LedgerError(f"{path}: {error} ({name}); once that is over, evo resume goes on") from None
    except UnicodeDecodeError as error:
        raise DamagedError(f"{path}: damaged: {error.reason}") from None
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror or error}") from None


def moved(path: Path) -> str:
    """The message for a ledger that is no longer at ``path``."""
    return (
        f"{path}: moved, deleted or replaced while the campaign ran; put it back, then go on with evo resume"
        " (what was trained since may be lost)"
    )


def _name(error: Exception) -> str:
    return getattr(error, "sqlite_errorname", "") or type(error).__name__
