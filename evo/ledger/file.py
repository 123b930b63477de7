"""The SQLite file of a ledger: how it is opened, and whether it is one of ours at all."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from evo.ledger.errors import READING, DamagedError, LedgerError, VersionError, damages, explained
from evo.ledger.schema import CHANGES, EVALUATIONS, INDEX, TABLES, VERSION, Table

MAGIC = b"SQLite format 3\0"
FORMAT = 4  # of the schema, in the header
UTF_8 = 1
JOURNALS = (1, 2)  # a rollback journal, a write-ahead log
SCHEMA = (  # as SQLite lists it: type, name, table, SQL
    *(("table", table.name, table.name, table.create) for table in TABLES),
    ("index", "evaluations_by_status", EVALUATIONS.name, INDEX),
)


def companions(path: Path) -> tuple[Path, Path]:
    """The files that SQLite keeps beside a ledger while it is open, or after a crash."""
    return Path(f"{path}-wal"), Path(f"{path}-shm")


def make(path: Path) -> sqlite3.Connection:
    """A new file with the tables of a ledger and no rows, open to write."""
    connection = connect(path)
    with transaction(connection):
        for table in TABLES:
            connection.execute(table.create)
        connection.execute(INDEX)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    return connection


def connect(path: Path, mode: str = "") -> sqlite3.Connection:
    """Open the file; ``mode``: parameters of an SQLite URI."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None, timeout=30)
    # what is no proper text fails its checksum, and ends nothing
    connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")
    return connection


def look(path: Path, *, header: bool = True) -> sqlite3.Connection:
    """Open without a right to write, while others may. Raises LedgerError, DamagedError, VersionError.

    ``header``: whether to check the file's header at first. Closing a file lets go of all locks that the process has on
    it, so that others that have it open in this process would lose theirs: they open it without.
    """
    if not path.is_file():
        raise LedgerError(f"{path}: there is no ledger")
    with explained(path):
        if header:
            _check_header(path)
        try:
            connection = _look(path, "mode=ro")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname not in ("SQLITE_CANTOPEN", "SQLITE_READONLY_DIRECTORY"):
                raise
            # a folder that we may not write in; if nobody can, the file stands still while we read
            connection = _look(path, "mode=ro&immutable=1")
        try:
            _check_version(path, connection)
        except BaseException:
            connection.close()
            raise
    return connection


def structure(connection: sqlite3.Connection, table: Table) -> str:
    """What is wrong with the pages of a table, which could hide rows; empty for nothing. Raises sqlite3.Error."""
    try:
        (found,) = connection.execute(f"PRAGMA quick_check({table.name})").fetchone()
    except READING as error:
        if not damages(error):
            raise
        return str(error)
    return "" if found == "ok" else found.splitlines()[-1]


def refuse_links(path: Path) -> None:
    """Raise LedgerError where the ledger, or what SQLite keeps beside it, is a symbolic link: we write no elsewhere."""
    for part in (path, *companions(path)):
        if part.is_symlink():
            raise LedgerError(f"{part}: a symbolic link, which is not followed; put the file itself here")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done inside, or none of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back by itself
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Read one state of the file inside, whatever others write meanwhile."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _look(path: Path, mode: str) -> sqlite3.Connection:
    connection = connect(path, mode)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _check_header(path: Path) -> None:
    """Raise DamagedError for values that SQLite would answer with something else than damage."""
    with path.open("rb") as file:
        header = file.read(100)
    format, encoding = (int.from_bytes(header[at : at + 4], "big") for at in (44, 56))
    if (
        len(header) < 100
        or not header.startswith(MAGIC)
        or header[18] not in JOURNALS
        or header[19] not in JOURNALS
        or (format, encoding) != (FORMAT, UTF_8)
    ):
        raise DamagedError(f"{path}: damaged: its header is not that of a ledger")


def _check_version(path: Path, connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    schema = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    ours = sorted(schema, key=repr) == sorted(SCHEMA, key=repr)
    if version == VERSION and not ours:
        raise DamagedError(f"{path}: damaged: its tables are not those of a ledger")
    try:
        stored = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname != "SQLITE_ERROR":  # which means that there is no such table
            raise
        stored = []
    if stored != [(str(version),)]:
        raise DamagedError(f"{path}: damaged: its version cannot be read")
    if version != VERSION:
        age = "a newer" if version > VERSION else "an older"
        changes = "".join(f"; since version {n}, {change}" for n, change in CHANGES.items() if n > version)
        raise VersionError(
            f"{path}: written by {age} evo (ledger version {version}, this one reads {VERSION}){changes}; it is left"
            " untouched: go on with that version, or launch the recipe in another folder"
        )
