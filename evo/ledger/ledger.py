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
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from evo.ledger import codec, file
from evo.ledger.audit import Audit, audit, damaged_row
from evo.ledger.codec import CONTENT, TIMES
from evo.ledger.errors import DamagedError, LedgerError, explained, moved
from evo.ledger.schema import (
    ADDITIONS,
    COUNTS,
    EVALUATIONS,
    GENOMES,
    HARDWARE,
    INDIVIDUALS,
    META,
    TABLES,
    TELLS,
    UNHASHED_META,
    VERSION,
    Table,
    canonical,
    checksum,
)
from evo.records import (
    ADDED,
    Addition,
    Checkpoint,
    Estimate,
    Fame,
    Generation,
    Individual,
    Key,
    Lane,
    Observation,
    Purpose,
    Results,
    Statistics,
    Told,
)
from genomes.language.genome import Genome, parse
from harness.result import Training, finished_quality
from harness.task import Instance

BATCH = 2000  # rows


@dataclass(frozen=True)
class Member:
    """What reports want of every individual: all but its genome."""

    generation: int
    index: int
    hash: str
    parents: tuple[str, ...]
    operator: str
    name: str = ""

    @property
    def id(self) -> str:
        """As `Individual.id`."""
        return f"g{self.generation}i{self.index}"


class Ledger:
    """An open ledger, from ``create``, ``open_to_write`` (verified) or ``open_to_read``.

    Every row that is read is compared with its checksum; reading raises DamagedError where it differs.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection):
        self.path = path
        self._connection = connection
        self._place: tuple[int, int] | None = None  # device and inode of what is open to write
        self._checked: set[str] = set()  # tables whose pages are known to be in order
        self._counts: Counter[str] | None = None  # evaluations by status, once one was added

    # --- opening and closing ---------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path, meta: Mapping[str, str]) -> Ledger:
        """Make the file at ``path``, complete or not at all, and open it to write. Raises LedgerError."""
        unfinished = path.with_name(path.name + ".new")
        with explained(path):
            for remnant in (unfinished, *file.companions(path)):
                remnant.unlink(missing_ok=True)
            with contextlib.closing(file.make(unfinished)) as connection, file.transaction(connection):
                for key, value in {"schema": str(VERSION), **meta}.items():
                    connection.execute(META.insert, META.row(key, value))
            unfinished.replace(path)
        return cls.open_to_write(path)

    @classmethod
    def open_to_write(cls, path: Path) -> Ledger:
        """Open and verify. Raises DamagedError, VersionError (both leave the file as it is), LedgerError."""
        file.refuse_links(path)
        with cls.open_to_read(path) as look:
            look.verify()
        with explained(path):
            connection = file.connect(path)
            ledger = cls(path, connection)
            ledger._place, ledger._checked = _place(path), {table.name for table in TABLES}
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("PRAGMA foreign_keys = ON")
            except BaseException:
                ledger.close()
                raise
        return ledger

    @classmethod
    def open_to_read(cls, path: Path) -> Ledger:
        """Open without a right to write, while others may. Raises LedgerError, DamagedError, VersionError."""
        return cls(path, file.look(path))

    @classmethod
    def open_to_watch(cls, path: Path, *, header: bool = False) -> Ledger:
        """As `open_to_read`, for looks at a large file, of which one process may have several open.

        Pages are taken to be in order, rows are checked; ``header``: see `evo.ledger.file.look`.
        """
        ledger = cls(path, file.look(path, header=header))
        ledger._checked = {table.name for table in TABLES}
        return ledger

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def audit(self) -> Audit:
        """Read everything and say what of it is damaged. Raises LedgerError for what is not damage."""
        with explained(self.path):
            return audit(self.path, self._connection)

    def verify(self) -> None:
        """Read everything and compare it with its checksums. Raises DamagedError."""
        found = self.audit()
        if not found.sound:
            first, *others = found.damage
            more = f" (and {len(others)} more; evo verify lists them)" if others else ""
            raise DamagedError(f"{self.path}: damaged: {first}{more}")

    # --- writing ---------------------------------------------------------------------------------------

    def set_meta(self, values: Mapping[str, str]) -> None:
        """Set facts about the campaign, in one transaction. Raises LedgerError."""
        with self._writing():
            for key, value in values.items():
                self._connection.execute("DELETE FROM meta WHERE key = ?", (key,))
                self._connection.execute(META.insert, META.row(key, value))

    def join(self, additions: Sequence[Addition]) -> None:
        """Store genomes that join a generation. Raises LedgerError."""
        self.set_meta({ADDITIONS: json.dumps([asdict(each) for each in (*self.additions(), *additions)])})

    def add(self, results: Iterable[tuple[Lane, Training]], purpose: Purpose, hardware: str = "") -> None:
        """Store evaluations that the next tell is to be about, in one transaction.

        ``hardware``: the kind of machine that trained them, to be noted once per instance; empty for the machine of
        the launch.
        """
        tell, counts = self.tells(), Counter(self._counted() if self._counts is None else self._counts)
        with self._writing():
            for lane, training in results:
                genome = self._add_genome(lane.hash, lane.text)
                counts[training.status] += 1
                values = (*lane.key, genome, purpose.value, tell, *codec.to_row(training, CONTENT))
                row = EVALUATIONS.row(*values, times=codec.to_row(training, TIMES))
                self._connection.execute(EVALUATIONS.insert, row)
                if hardware:
                    self._note_hardware(lane.key, hardware)
            note = META.row(COUNTS, canonical(counts))
            self._connection.execute(META.insert.replace("INSERT", "INSERT OR REPLACE", 1), note)
        self._counts = counts

    def note_hardware(self, kinds: Mapping[Instance, str]) -> None:
        """Note the kind of machine that trains on each instance, where it is not noted yet. Raises LedgerError."""
        with self._writing():
            for instance, kind in kinds.items():
                self._note_hardware(Lane("", "", instance, 0).key, kind)

    def _note_hardware(self, key: Key, kind: str) -> None:
        note = META.row(_hardware_key(key), kind)
        self._connection.execute(META.insert.replace("INSERT", "INSERT OR IGNORE", 1), note)

    def save(self, told: Told, checkpoint: Checkpoint, seconds: float) -> None:
        """Store a tell: what came of it, and the checkpoint from which the search goes on."""
        number = self.tells()
        fame = [(f.individual.id, *astuple(f.estimate), f.since) for f in checkpoint.hall_of_fame]
        statistics = None if told.statistics is None else canonical(told.statistics.to_dict())
        with explained(self.path):
            with self._writing():
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
        with explained(path):
            unfinished.unlink(missing_ok=True)
            with contextlib.closing(sqlite3.connect(unfinished)) as copy:
                self._connection.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")  # a copy is one file, with no others beside it
            unfinished.replace(path)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with explained(self.path), file.transaction(self._connection):
            yield
            if self._place != _place(self.path):
                raise LedgerError(moved(self.path))

    def _add_genome(self, hash: str, text: str) -> str:
        identity = checksum((hash, text))
        if not self._connection.execute("SELECT 1 FROM genomes WHERE id = ?", (identity,)).fetchone():
            self._connection.execute(GENOMES.insert, GENOMES.row(identity, hash, text))
        return identity

    # --- reading ---------------------------------------------------------------------------------------

    def meta(self) -> dict[str, str]:
        """The facts about the campaign: recipe, numerics, device, versions and more, as text."""
        rows = self._rows(META, f"WHERE key NOT LIKE '{HARDWARE}%'")
        return {row["key"]: row["value"] for row in rows}

    def hardware(self, unnoted: str = "") -> dict[Instance, str]:
        """The kind of machine that trained on each instance, one for all of its evaluations.

        ``unnoted``: what stands for the machine of the launch; empty to leave its instances out.
        """
        noted = {row["key"]: row["value"] for row in self._rows(META, f"WHERE key LIKE '{HARDWARE}%'")}
        names = EVALUATIONS.key_names[1:-1]
        found = {}
        for values in self.rows(f"SELECT DISTINCT {', '.join(names)} FROM evaluations"):
            kind = noted.get(_hardware_key(("", *values, 0)), unnoted)
            if kind:
                found[_instance(dict(zip(names, values, strict=True)))] = kind
        return found

    def kinds(self) -> dict[str, int]:
        """How many instances each kind of machine trains on, those of a cluster; unchecked, for it is shown often."""
        query = (
            "SELECT value, count(*) FROM meta WHERE key > ? AND key < ? GROUP BY value ORDER BY count(*) DESC, value"
        )
        return dict(self.rows(query, (HARDWARE, f"{HARDWARE}~")))

    def results(self, keys: Iterable[Key]) -> Results:
        """The stored evaluations among ``keys`` (`Lane.key`)."""
        where = "WHERE " + " AND ".join(f"{name} = ?" for name in EVALUATIONS.key_names)
        return {key: codec.from_fields(row) for key in keys for row in self._rows(EVALUATIONS, where, key)}

    def shared(self, hashes: Iterable[str]) -> dict[str, list[tuple[Instance, Training]]]:
        """The trainings of some optimizers, by their identities, on the instances on which all of them were trained.

        In the order of the instances' keys.
        """
        found: dict[str, dict[Instance, Training]] = {hash: {} for hash in hashes}
        order = ", ".join(EVALUATIONS.key_names)
        for hash, trainings in found.items():
            for row in self._rows(EVALUATIONS, f"WHERE hash = ? ORDER BY {order}", (hash,)):
                trainings[_instance(row)] = codec.from_fields(row)
        common = set.intersection(*map(set, found.values())) if found else set()
        return {
            hash: [(instance, training) for instance, training in trainings.items() if instance in common]
            for hash, trainings in found.items()
        }

    def observations(self) -> list[Observation]:
        """What the search was told, training by training: all but results that the next tell is to be about."""
        tells = self.tells()
        # all rows, so that a damaged number of a tell hides none
        return [_observation(row) for row in self._rows(EVALUATIONS) if row["tell"] < tells]

    def evaluations(self) -> Iterator[tuple[int, str, Observation, Training | None]]:
        """All evaluations in the order of their keys, a batch at a time.

        Of each: the tell that it is about, its status, the observation, and the training where it did not finish.
        """
        for rows in self._batches(EVALUATIONS):
            for row in rows:
                training = None if row["status"] == "finished" else codec.from_fields(row)
                yield row["tell"], row["status"], _observation(row), training

    def unfinished(self) -> list[Training]:
        """All trainings that did not finish, in the order of their keys."""
        order = ", ".join(EVALUATIONS.key_names)
        return [
            codec.from_fields(row) for row in self._rows(EVALUATIONS, f"WHERE status <> 'finished' ORDER BY {order}")
        ]

    def additions(self) -> list[Addition]:
        """The genomes that joined after the launch, in order, with the individuals that they became."""
        added = [Addition(**values) for values in json.loads(self.meta().get(ADDITIONS, "[]"))]
        born: dict[int | None, list[str]] = {}
        for member in self.members() if added else ():
            if member.operator == ADDED:
                born.setdefault(member.generation, []).append(member.id)
        ids = {generation: iter(members) for generation, members in born.items()}
        return [replace(each, id=next(ids.get(each.generation, iter(())), "")) for each in added]

    def begun(self) -> bool:
        """Whether results are stored that the next tell is to be about."""
        return bool(self.rows("SELECT 1 FROM evaluations WHERE tell = ? LIMIT 1", (self.tells(),)))

    def tells(self) -> int:
        """How many tells are stored."""
        return self.rows("SELECT coalesce(max(number) + 1, 0) FROM tells")[0][0]

    def checkpoint(self) -> Checkpoint:
        """The checkpoint after the last tell; that of a search that has not begun where there is none."""
        for last in self._complete_tells()[-1:]:
            fame = json.loads(last["hall_of_fame"])
            generation = last["generation"] + (last["statistics"] is not None)
            hall_of_fame = tuple(
                Fame(self.individual(id), Estimate(mean, sd, count), since) for id, mean, sd, count, since in fame
            )
            return Checkpoint(generation, hall_of_fame, json.loads(last["state"]))
        return Checkpoint()

    def individual(self, id: str) -> Individual:
        """The individual with the id ``g<generation>i<index>``. Raises DamagedError where it is missing."""
        generation, index = map(int, id.removeprefix("g").split("i"))
        for row in self._rows(INDIVIDUALS, "WHERE generation = ? AND number = ?", (generation, index)):
            for genome in self._rows(GENOMES, "WHERE id = ?", (row["genome"],)):
                parents = tuple(json.loads(row["parents"]))
                return Individual(generation, index, _genome(genome["text"]), genome["hash"], parents, row["operator"])
        raise DamagedError(f"{self.path}: damaged: individual {id} or its genome is missing")

    def commits(self) -> int:
        """A number that differs from the last one, of this object, where something was committed between."""
        return self.rows("PRAGMA data_version")[0][0]

    def count_by_status(self) -> dict[str, int]:
        """As `statuses`, by what was noted with the last evaluation: for looks that come often."""
        noted = [json.loads(row["value"]) for row in self._rows(META, "WHERE key = ?", (COUNTS,))]
        counts = noted[0] if noted else self._counted()
        return dict(sorted(filter(lambda row: row[1], counts.items()), key=lambda row: (-row[1], row[0])))

    def _counted(self) -> dict[str, int]:
        """How many evaluations there are of each status, by the index alone.

        Those that finished, most of all, are what the others leave of the total, which SQLite counts by pages.
        """
        found = (
            "SELECT status, count(*) FROM evaluations INDEXED BY evaluations_by_status WHERE status {} GROUP BY status"
        )
        both = " UNION ALL ".join(found.format(side) for side in ("< 'finished'", "> 'finished'"))
        rows = self.rows(f"{both} UNION ALL SELECT '', count(*) FROM evaluations")
        counts = dict(rows[:-1])
        return counts | {"finished": rows[-1][1] - sum(counts.values())}

    def past_since(self, past: Sequence[Generation]) -> list[Generation]:
        """The complete generations, of which ``past`` are known: only what came after them is read."""
        return [*past, *_generations(self._rows(TELLS, "WHERE generation >= ? ORDER BY number", (len(past),)))]

    def members(self) -> list[Member]:
        """Every individual of every generation, in order. Raises DamagedError where a genome is missing."""
        self._complete_tells()
        rows = [row for batch in self._batches(INDIVIDUALS) for row in batch]  # before genomes: none is missing then
        hashes = {row["id"]: row["hash"] for batch in self._batches(GENOMES) for row in batch}
        members = []
        for row in rows:
            generation, index, genome = row["generation"], row["number"], row["genome"]
            if genome not in hashes:
                raise DamagedError(f"{self.path}: damaged: the genome of individual g{generation}i{index} is missing")
            parents = tuple(json.loads(row["parents"]))
            members.append(Member(generation, index, hashes[genome], parents, row["operator"], row["name"]))
        return members

    def past(self) -> list[Generation]:
        """The complete generations, in order."""
        return _generations(self._complete_tells())

    def seconds_of(self, generation: int) -> float:
        """Wall time of the tells of a generation, counted from 0; times have no checksum."""
        found = self.rows("SELECT seconds FROM tells WHERE generation = ? ORDER BY number", (generation,))
        return sum((seconds for (seconds,) in found), 0.0)

    def statuses(self) -> dict[str, int]:
        """How many evaluations there are of each status, the most frequent first.

        Counted twice in one statement, by the table and by its index: a flipped bit changes one of the two.
        """
        # that it needs another column, and groups by no column as it is, keeps SQLite to the table
        listed = "SELECT status, count(tell) FROM evaluations NOT INDEXED GROUP BY +status"
        indexed = "SELECT status, count(*) FROM evaluations INDEXED BY evaluations_by_status GROUP BY status"
        rows = self.rows(f"SELECT 0, * FROM ({listed}) UNION ALL SELECT 1, * FROM ({indexed})")
        first, second = (sorted((row[1:] for row in rows if row[0] == which), key=repr) for which in (0, 1))
        counts: dict[str, int] = dict(first)
        if first != second or len(counts) != len(first) or not all(isinstance(status, str) for status in counts):
            raise DamagedError(f"{self.path}: damaged: evaluations cannot be counted by their status")
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple]:
        """What an SQL ``query`` finds, unchecked: for counts. Raises LedgerError."""
        with explained(self.path):
            return self._connection.execute(query, values).fetchall()

    def _complete_tells(self) -> list[dict[str, Any]]:
        """All tells in order, none missing, each with as many individuals as it had."""
        tells = list(self._rows(TELLS, "ORDER BY number"))
        counts = dict(self.rows("SELECT tell, count(*) FROM individuals GROUP BY 1"))
        for number, tell in enumerate(tells):
            if tell["number"] != number or counts.get(number, 0) != tell["individuals"]:
                raise DamagedError(f"{self.path}: damaged: tell {number} is not complete")
        return tells

    def _rows(self, table: Table, where: str = "", values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Rows of a table by column, each compared with its checksum. Raises DamagedError."""
        if table.name not in self._checked:  # pages out of order could hide rows
            with explained(self.path):
                problem = file.structure(self._connection, table)
            if problem:
                raise DamagedError(f"{self.path}: damaged: {problem}")
            self._checked.add(table.name)
        rows = self.rows(f"{table.select} {where}", values)
        for row in rows:
            if not table.intact(row):
                raise DamagedError(f"{self.path}: damaged: {damaged_row(table, row)}")
        return [table.fields(row) for row in rows]

    def _batches(self, table: Table, size: int = BATCH) -> Iterator[list[dict[str, Any]]]:
        """The rows of a table in the order of its key, ``size`` at a time.

        Each batch is a read of its own: a campaign that runs meanwhile waits for none to truncate its log.
        """
        keys, width = ", ".join(table.key_names), len(table.key)
        order = f"ORDER BY {keys} LIMIT {size}"
        rows = self._rows(table, order)
        while rows:
            yield rows
            last = tuple(rows[-1][name] for name in table.key_names)
            rows = self._rows(table, f"WHERE ({keys}) > ({', '.join('?' * width)}) {order}", last)

    def digest(self) -> str:
        """sha256 of everything but times: equal for two campaigns with equal results, in whatever order."""
        sha = hashlib.sha256()
        with explained(self.path):
            for table in TABLES:
                width = len(table.key) + len(table.columns)
                for row in self._connection.execute(table.ordered):
                    if table is not META or not (row[0] in UNHASHED_META or row[0].startswith(HARDWARE)):
                        sha.update(f"{table.name}{canonical(row[:width])}\n".encode())
        return sha.hexdigest()


@lru_cache(maxsize=8192)
def _genome(text: str) -> Genome:
    return parse(text, "ledger")


def _generations(tells: Iterable[Mapping[str, Any]]) -> list[Generation]:
    """The generations that some tells completed, in order."""
    seconds: dict[int, float] = {}
    statistics: dict[int, Statistics] = {}
    for tell in tells:
        seconds[tell["generation"]] = seconds.get(tell["generation"], 0.0) + tell["seconds"]
        if tell["statistics"] is not None:
            statistics[tell["generation"]] = Statistics.from_dict(json.loads(tell["statistics"]))
    return [Generation(number + 1, found, seconds[number]) for number, found in sorted(statistics.items())]


def _observation(row: Mapping[str, Any]) -> Observation:
    """What a search keeps of a row of EVALUATIONS."""
    instance = tuple(row[name] for name in EVALUATIONS.key_names[1:])
    return Observation(row["hash"], instance, finished_quality(row["status"], codec.number(row["quality"])))


def _instance(row: Mapping[str, Any]) -> Instance:
    """The instance of a row of EVALUATIONS."""
    seed = bytes.fromhex(row["seed"])
    return Instance(row["task"], row["num_hidden_layers"], seed, row["init"], row["accuracy_factor"])


def _hardware_key(key: Key) -> str:
    """The key in META for the instance of a `Lane.key`."""
    return HARDWARE + " ".join(map(str, key[1:-1]))


def _place(path: Path) -> tuple[int, int] | None:
    """What stands at ``path``; None where nothing does."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
