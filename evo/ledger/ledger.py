"""The ledger of a campaign: one SQLite file with every genome, evaluation and tell; nothing is deleted.

One process writes, any number read (WAL mode). Evaluations are committed as they arrive. What a search makes of the
results that it is told goes in as one transaction: new individuals, statistics, and the search's state, from which
it goes on. Every row has a checksum, by which damage is seen when the ledger is opened to write. Two campaigns are
compared by their digests. Times, in seconds, are the only columns outside checksums and digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from evo.errors import EvoError, UsageError
from evo.ledger import codec
from evo.ledger.codec import COLUMNS, CONTENT, TIMES
from evo.ledger.schema import (
    CHANGES,
    EVALUATIONS,
    GENOMES,
    INDEX,
    INDIVIDUALS,
    META,
    TABLES,
    TELLS,
    UNHASHED_META,
    VERSION,
    canonical,
    checksum,
)
from evo.records import Checkpoint, Fame, Generation, Individual, Key, Lane, Purpose, Results, Statistics, Told
from genomes.language.genome import Genome, parse
from harness.result import Training


class LedgerError(EvoError):
    """The ledger cannot be read or written; what it held before is intact."""


class DamagedError(LedgerError):
    """The file is not what we wrote."""


class VersionError(UsageError):
    """The file was written by a version whose ledgers we do not read, and is left untouched."""


class Ledger:
    """An open ledger, from ``create``, ``open_to_write`` (verified) or ``open_to_read`` (a quick look)."""

    def __init__(self, path: Path, connection: sqlite3.Connection):
        self.path = path
        self._connection = connection

    # --- opening and closing ---------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path, meta: Mapping[str, str]) -> Ledger:
        """Make the file at ``path``, complete or not at all, and open it to write. Raises LedgerError."""
        unfinished = path.with_name(path.name + ".new")
        with _explained(path):
            for remnant in (unfinished, *companions(path)):
                remnant.unlink(missing_ok=True)
            connection = sqlite3.connect(unfinished, isolation_level=None)
            with contextlib.closing(connection), _transaction(connection):
                for table in TABLES:
                    connection.execute(table.create)
                connection.execute(INDEX)
                connection.execute(f"PRAGMA user_version = {VERSION}")
                for key, value in {"schema": str(VERSION), **meta}.items():
                    connection.execute(META.insert, META.row(key, value))
            unfinished.replace(path)
        return cls.open_to_write(path)

    @classmethod
    def open_to_write(cls, path: Path) -> Ledger:
        """Open and verify. Raises DamagedError, VersionError (both leave the file as it is), LedgerError."""
        with cls.open_to_read(path) as look:
            look.verify()
        with _explained(path):
            connection = sqlite3.connect(path, isolation_level=None, timeout=30)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
        return cls(path, connection)

    @classmethod
    def open_to_read(cls, path: Path) -> Ledger:
        """Open without a right to write, while others may. Raises LedgerError, DamagedError, VersionError."""
        if not path.is_file():
            raise LedgerError(f"{path}: there is no ledger")
        with _explained(path):
            try:
                ledger = cls(path, _look(path, "mode=ro"))
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname not in ("SQLITE_CANTOPEN", "SQLITE_READONLY_DIRECTORY"):
                    raise
                # a folder that we may not write in; if nobody can, the file stands still while we read
                ledger = cls(path, _look(path, "mode=ro&immutable=1"))
            try:
                ledger._check_version()
            except BaseException:
                ledger.close()
                raise
        return ledger

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_version(self) -> None:
        (header,) = self._connection.execute("PRAGMA user_version").fetchone()
        stored = self._connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchall()
        if stored != [(str(header),)]:
            raise DamagedError(f"{self.path}: damaged: its version cannot be read")
        if header != VERSION:
            age = "a newer" if header > VERSION else "an older"
            changes = "".join(f"; since version {n}, {change}" for n, change in CHANGES.items() if n > header)
            raise VersionError(
                f"{self.path}: written by {age} evo (ledger version {header}, this one reads {VERSION}){changes};"
                " it is left untouched: go on with that version, or launch the recipe in another folder"
            )

    def verify(self) -> None:
        """Read everything and compare it with its checksums. Raises DamagedError."""
        with _explained(self.path):
            (found,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise DamagedError(f"{self.path}: damaged: {found.splitlines()[-1]}")
            for table in TABLES:
                for row in self._connection.execute(table.select):
                    if not table.intact(row):
                        raise DamagedError(f"{self.path}: damaged: a row of {table.name} ({row[0]})")
            counts = dict(self._connection.execute("SELECT tell, count(*) FROM individuals GROUP BY 1"))
            rows = self._connection.execute("SELECT number, individuals FROM tells ORDER BY 1")
            for expected, (number, individuals) in enumerate(rows):
                if number != expected or counts.get(number, 0) != individuals:
                    raise DamagedError(f"{self.path}: damaged: tell {expected} is not complete")

    # --- writing ---------------------------------------------------------------------------------------

    def set_meta(self, values: Mapping[str, str]) -> None:
        """Set facts about the campaign, in one transaction. Raises LedgerError."""
        with _explained(self.path), _transaction(self._connection):
            for key, value in values.items():
                self._connection.execute("DELETE FROM meta WHERE key = ?", (key,))
                self._connection.execute(META.insert, META.row(key, value))

    def add(self, results: Iterable[tuple[Lane, Training]], purpose: Purpose) -> None:
        """Store evaluations that the next tell is to be about, in one transaction."""
        tell = self.tells()
        with _explained(self.path), _transaction(self._connection):
            for lane, training in results:
                genome = self._add_genome(lane.hash, lane.text)
                values = (*lane.key, genome, purpose.value, tell, *codec.to_row(training, CONTENT))
                row = EVALUATIONS.row(*values, times=codec.to_row(training, TIMES))
                self._connection.execute(EVALUATIONS.insert, row)

    def save(self, told: Told, checkpoint: Checkpoint, seconds: float) -> None:
        """Store a tell: what came of it, and the checkpoint from which the search goes on."""
        number = self.tells()
        fame = [(f.individual.id, f.quality, f.since) for f in checkpoint.hall_of_fame]
        statistics = None if told.statistics is None else canonical(told.statistics.to_dict())
        with _explained(self.path):
            with _transaction(self._connection):
                values = (number, told.generation, told.purpose.value, len(told.individuals))
                values = (*values, canonical(fame), canonical(checkpoint.state), statistics)
                self._connection.execute(TELLS.insert, TELLS.row(*values, times=(seconds,)))
                for member, fitness in zip(told.individuals, told.fitness, strict=True):
                    genome = self._add_genome(member.hash, member.text)
                    values = (number, member.name, genome, canonical(member.parents), member.operator)
                    row = INDIVIDUALS.row(member.generation, member.index, *values, codec.real(fitness))
                    self._connection.execute(INDIVIDUALS.insert, row)
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()  # survives power loss

    def back_up(self, path: Path) -> None:
        """Copy the ledger to ``path``, complete or not at all. Raises LedgerError."""
        unfinished = path.with_name(path.name + ".new")
        with _explained(path):
            unfinished.unlink(missing_ok=True)
            with contextlib.closing(sqlite3.connect(unfinished)) as copy:
                self._connection.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")  # a copy is one file, with no others beside it
            unfinished.replace(path)

    def _add_genome(self, hash: str, text: str) -> str:
        identity = checksum((hash, text))
        if not self._connection.execute("SELECT 1 FROM genomes WHERE id = ?", (identity,)).fetchone():
            self._connection.execute(GENOMES.insert, GENOMES.row(identity, hash, text))
        return identity

    # --- reading ---------------------------------------------------------------------------------------

    def meta(self) -> dict[str, str]:
        """The facts about the campaign: recipe, numerics, device, versions and more, as text."""
        return dict(self.rows("SELECT key, value FROM meta"))

    def results(self, keys: Iterable[Key]) -> Results:
        """The stored evaluations among ``keys`` (`Lane.key`)."""
        where = " AND ".join(f"{column.split()[0]} = ?" for column in EVALUATIONS.key)
        return {key: training for key in keys for training in self._trainings(where, key)}

    def on_selection(self, hash: str) -> list[Training]:
        """All trainings of an optimizer, by its identity, on the campaign's selection instances."""
        return self._trainings("hash = ? AND purpose = ?", (hash, Purpose.SELECTION.value))

    def tells(self) -> int:
        """How many tells are stored."""
        return self.rows("SELECT coalesce(max(number) + 1, 0) FROM tells")[0][0]

    def checkpoint(self) -> Checkpoint:
        """The checkpoint after the last tell; that of a search that has not begun where there is none."""
        last = self.rows(
            "SELECT generation + (statistics IS NOT NULL), hall_of_fame, state FROM tells ORDER BY number DESC LIMIT 1"
        )
        for generation, fame, state in last:
            hall_of_fame = (Fame(self.individual(id), quality, since) for id, quality, since in json.loads(fame))
            return Checkpoint(generation, tuple(hall_of_fame), json.loads(state))
        return Checkpoint()

    def individual(self, id: str) -> Individual:
        """The individual with the id ``g<generation>i<index>``. Raises KeyError."""
        generation, index = map(int, id.removeprefix("g").split("i"))
        query = (
            "SELECT text, hash, parents, operator FROM individuals JOIN genomes ON genomes.id = genome"
            " WHERE generation = ? AND number = ?"
        )
        for text, hash, parents, operator in self.rows(query, (generation, index)):
            return Individual(generation, index, _genome(text), hash, tuple(json.loads(parents)), operator)
        raise KeyError(id)

    def past(self) -> list[Generation]:
        """The complete generations, in order."""
        rows = self.rows(
            "SELECT generation + 1, max(statistics), sum(seconds) FROM tells GROUP BY generation"
            " HAVING max(statistics) IS NOT NULL ORDER BY generation"
        )
        return [
            Generation(number, Statistics.from_dict(json.loads(statistics)), seconds)
            for number, statistics, seconds in rows
        ]

    def statuses(self) -> dict[str, int]:
        """How many evaluations there are of each status, the most frequent first."""
        return dict(self.rows("SELECT status, count(*) FROM evaluations GROUP BY status ORDER BY 2 DESC, 1"))

    def _trainings(self, where: str, values: Sequence[Any]) -> list[Training]:
        return [
            codec.from_row(row)
            for row in self.rows(f"SELECT {', '.join(COLUMNS)} FROM evaluations WHERE {where}", values)
        ]

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple]:
        """What an SQL ``query`` finds, for reports. Raises LedgerError."""
        with _explained(self.path):
            return self._connection.execute(query, values).fetchall()

    def digest(self) -> str:
        """sha256 of everything but times: equal for two campaigns with equal results, in whatever order."""
        sha = hashlib.sha256()
        with _explained(self.path):
            for table in TABLES:
                width = len(table.key) + len(table.columns)
                for row in self._connection.execute(table.ordered):
                    if table is not META or row[0] not in UNHASHED_META:
                        sha.update(f"{table.name}{canonical(row[:width])}\n".encode())
        return sha.hexdigest()


def companions(path: Path) -> tuple[Path, Path]:
    """The files that SQLite keeps beside a ledger while it is open, or after a crash."""
    return Path(f"{path}-wal"), Path(f"{path}-shm")


@lru_cache(maxsize=8192)
def _genome(text: str) -> Genome:
    return parse(text, "ledger")


def _look(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back by itself
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns the errors of SQLite and of the disk into messages that say what to do."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name == "SQLITE_FULL":
            raise LedgerError(f"{path}: the disk is full; free space, then go on with evo resume") from None
        if name.startswith("SQLITE_READONLY") or name == "SQLITE_CANTOPEN":
            raise LedgerError(f"{path}: no permission to write here ({error})") from None
        if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
            raise
        if name.startswith(("SQLITE_IOERR", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_NOMEM")):
            raise LedgerError(f"{path}: {error} ({name}); once that is over, evo resume goes on") from None
        raise DamagedError(f"{path}: damaged: {error}") from None
    except UnicodeDecodeError as error:  # from sqlite3, when it quotes what it read
        raise DamagedError(f"{path}: damaged: {error.reason}") from None
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror or error}") from None
