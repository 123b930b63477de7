"""The ledger of a campaign: one SQLite file with every genome, evaluation and generation; nothing is deleted.

One process writes, any number read (WAL mode). Evaluations are committed as they arrive; a generation's
individuals and the search's state go in together, in one transaction. Every row has a checksum, by which
damage is seen when the ledger is opened to write. Two campaigns are compared by their digests. Times, in
seconds, are the only columns outside checksums and digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evo.errors import EvoError, UsageError
from evo.ledger.schema import (
    EVALUATIONS,
    GENERATIONS,
    GENOMES,
    INDEX,
    INDIVIDUALS,
    META,
    TABLES,
    UNHASHED_META,
    VERSION,
    canonical,
    checksum,
    real,
)

if TYPE_CHECKING:  # torch comes with these, and `evo status` need not wait for it
    from evo.records import Individual, Lane, Results, SearchState
    from harness.result import Training


class LedgerError(EvoError):
    """The ledger cannot be read or written; what it held before is intact."""


class DamagedError(LedgerError):
    """The file is not what we wrote."""


class NewerError(UsageError):
    """The file was written by a later version, and is left untouched."""


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
        """Open and verify. Raises DamagedError, NewerError (both leave the file as it is), LedgerError."""
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
        """Open without a right to write, while others may. Raises LedgerError, DamagedError, NewerError."""
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
        if header > VERSION:
            raise NewerError(
                f"{self.path}: written by a newer evo (ledger version {header}, this one reads up to"
                f" {VERSION}); it is left untouched: go on with that version"
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
            counts = dict(self._connection.execute("SELECT generation, count(*) FROM individuals GROUP BY 1"))
            rows = self._connection.execute("SELECT number, individuals FROM generations ORDER BY 1")
            for expected, (number, individuals) in enumerate(rows):
                if number != expected or counts.get(number, 0) != individuals:
                    raise DamagedError(f"{self.path}: damaged: generation {expected} is not complete")

    # --- writing ---------------------------------------------------------------------------------------

    def set_meta(self, values: Mapping[str, str]) -> None:
        with _explained(self.path), _transaction(self._connection):
            for key, value in values.items():
                self._connection.execute("DELETE FROM meta WHERE key = ?", (key,))
                self._connection.execute(META.insert, META.row(key, value))

    def add(self, results: Iterable[tuple[Lane, Training]], purpose: str, generation: int) -> None:
        """Store evaluations for which ``generation`` was the first to ask, in one transaction."""
        with _explained(self.path), _transaction(self._connection):
            for lane, training in results:
                values = (
                    *lane.key,
                    self._add_genome(lane.hash, lane.text),
                    purpose,
                    generation,
                    training.status,
                    training.message.encode(errors="replace").decode(),  # SQLite takes no lone surrogates
                    training.epochs_run,
                    training.best_epoch,
                    json.dumps(training.train_loss, separators=(",", ":")),
                    json.dumps(training.val_loss, separators=(",", ":")),
                    real(training.test_loss),
                    real(training.target_loss),
                    real(training.quality),
                    None if training.passed is None else int(training.passed),
                )
                row = EVALUATIONS.row(*values, times=(training.seconds,))
                self._connection.execute(EVALUATIONS.insert, row)

    def save(self, state: SearchState, individuals: Sequence[Individual], seconds: float) -> None:
        """Store a complete generation: its individuals and the state from which the search goes on."""
        number = state.generation - 1
        fitness = {member.id: value for member, value in zip(state.population, state.fitness, strict=True)}
        new = [member for member in individuals if member.generation == number]
        kept = {field: value for field, value in asdict(state).items() if field != "statistics"}
        kept["population"] = [member.id for member in state.population]
        kept["hall_of_fame"] = [(f.individual.id, f.quality, f.since) for f in state.hall_of_fame]
        with _explained(self.path):
            with _transaction(self._connection):
                values = (number, len(new), canonical(kept), canonical(state.statistics))
                self._connection.execute(GENERATIONS.insert, GENERATIONS.row(*values, times=(seconds,)))
                for member in new:
                    genome = self._add_genome(member.hash, member.genome)
                    values = (member.name, genome, canonical(member.parents), member.operator)
                    row = INDIVIDUALS.row(number, member.index, *values, real(fitness.get(member.id)))
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
        return dict(self.rows("SELECT key, value FROM meta"))

    def results(self, keys: Iterable[tuple]) -> Results:
        """The stored evaluations among ``keys`` (`Lane.key`)."""
        where = " AND ".join(f"{column.split()[0]} = ?" for column in EVALUATIONS.key)
        found = {}
        for key in keys:
            for row in self.rows(f"{EVALUATIONS.select} WHERE {where}", key):
                found[key] = training(row)
        return found

    def state(self) -> SearchState:
        """The state after the last complete generation; the empty one where there is none."""
        from evo.records import Fame, SearchState

        last = self.rows("SELECT state, statistics FROM generations ORDER BY number DESC LIMIT 1")
        if not last:
            return SearchState()
        kept = json.loads(last[0][0])
        return SearchState(
            **{
                **kept,
                "population": tuple(self.individual(id) for id in kept["population"]),
                "fitness": tuple(kept["fitness"]),
                "elites": tuple(kept["elites"]),
                "hall_of_fame": tuple(
                    Fame(self.individual(id), quality, since) for id, quality, since in kept["hall_of_fame"]
                ),
                "statistics": json.loads(last[0][1]),
            }
        )

    def individual(self, id: str) -> Individual:
        """The individual with the id ``g<generation>i<index>``. Raises KeyError."""
        from evo.records import Individual

        place = id.removeprefix("g").split("i")
        query = (
            "SELECT individuals.name, text, hash, parents, operator FROM individuals"
            " JOIN genomes ON genomes.id = genome WHERE generation = ? AND place = ?"
        )
        generation, index = map(int, place)
        for name, text, hash, parents, operator in self.rows(query, (generation, index)):
            ancestors = tuple(json.loads(parents))
            return Individual(generation, index, name, text, hash, ancestors, operator)
        raise KeyError(id)

    def past(self) -> list[tuple[int, dict[str, Any], float]]:
        """The complete generations, in order: number (from 1), statistics, seconds."""
        rows = self.rows("SELECT number + 1, statistics, seconds FROM generations ORDER BY number")
        return [(number, json.loads(statistics), seconds) for number, statistics, seconds in rows]

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


def training(row: Sequence[Any]) -> Training:
    """The training in a row that `EVALUATIONS.select` gave."""
    from harness.result import Training

    status, message, epochs_run, best_epoch, train, val, test, target, quality, passed = row[10:20]
    return Training(
        status=status,
        message=message,
        epochs_run=epochs_run,
        best_epoch=best_epoch,
        train_loss=json.loads(train),
        val_loss=json.loads(val),
        test_loss=None if test is None else float(test),  # NaN is kept as a word
        target_loss=float(target),
        quality=None if quality is None else float(quality),
        passed=None if passed is None else bool(passed),
        seconds=row[-1],
    )


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
