"""The tables of the ledger, and how rows become the canonical text that checksums and digest are taken of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from evo.ledger.codec import COLUMNS, CONTENT, TIMES

VERSION = 4
# by version: why ledgers of the one before cannot be read
CHANGES = {
    2: "every request that was answered is saved, no longer whole generations",
    3: "results belong to exact programs; before, different genomes could share one training",
    4: "champions are chosen by the evidence of all trainings, with its uncertainty; before, by one mean",
}
LONGEST = 1e9  # seconds: no time is as long, and a damaged one often is


@dataclass(frozen=True)
class Table:
    """A table and its columns. ``key``: the primary key. ``times``: columns outside checksum and digest."""

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    times: tuple[str, ...] = ()
    references: tuple[str, ...] = ()

    @property
    def create(self) -> str:
        """The SQL that makes the table."""
        columns = [*self.key, *self.columns, "checksum TEXT NOT NULL", *self.times]
        body = ", ".join([*columns, self._primary, *self.references])
        # with a rowid, keys would stand twice, in the table and in its index, and only one copy be checked
        return f"CREATE TABLE {self.name} ({body}) WITHOUT ROWID"

    @property
    def insert(self) -> str:
        """The SQL that adds one `row`."""
        names = self._names
        return f"INSERT INTO {self.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"

    @cached_property
    def select(self) -> str:
        """All columns, in the order that ``row`` makes and ``intact`` takes."""
        return f"SELECT {', '.join(self._names)} FROM {self.name}"

    @property
    def ordered(self) -> str:
        """``select``, in the order of the key."""
        return f"{self.select} ORDER BY {', '.join(self.key_names)}"

    def row(self, *values: Any, times: Sequence[float] = ()) -> tuple:
        """A row from the values of key and columns: with its checksum, then its times."""
        return *values, checksum(values), *times

    def intact(self, row: Sequence[Any]) -> bool:
        """Whether a row that ``select`` gave has the checksum that it was written with, and times that can be."""
        width = len(self.key) + len(self.columns)
        try:
            sound = checksum(row[:width]) == row[width]
        except (TypeError, ValueError):  # a flipped bit turned text into bytes, or into no text at all
            return False
        return sound and all(isinstance(time, float | int) and 0 <= time < LONGEST for time in row[width + 1 :])

    def fields(self, row: Sequence[Any]) -> dict[str, Any]:
        """The values of a row that ``select`` gave, by column."""
        return dict(zip(self._names, row, strict=True))

    @cached_property
    def key_names(self) -> tuple[str, ...]:
        """The columns of the key."""
        return tuple(map(_name, self.key))

    @cached_property
    def _names(self) -> list[str]:
        return [_name(column) for column in (*self.key, *self.columns, "checksum", *self.times)]

    @property
    def _primary(self) -> str:
        return f"PRIMARY KEY ({', '.join(self.key_names)})"


META = Table("meta", ("key TEXT NOT NULL",), ("value TEXT NOT NULL",))
START_GENOMES = "start_genomes"  # a key of META: JSON, path -> text; absent where an earlier evo launched
ADDITIONS = "additions"  # a key of META: JSON, the genomes that joined later, with their origin; absent without any
COUNTS = "counts"  # a key of META: JSON, evaluations by status; absent where an earlier evo stored the last one
# of the machine and the moment, or what other tables say too; what genomes from outside lead to stands in those tables
UNHASHED_META = ("created", "versions", "overrides", START_GENOMES, ADDITIONS, COUNTS)
HARDWARE = "hardware "  # begins a key of META: the kind of machine that trains on an instance, where a cluster did

GENOMES = Table("genomes", ("id TEXT NOT NULL",), ("hash TEXT NOT NULL", "text TEXT NOT NULL"))

EVALUATIONS = Table(
    "evaluations",
    key=(
        "hash TEXT NOT NULL",
        "task TEXT NOT NULL",
        "num_hidden_layers INTEGER NOT NULL",
        "seed TEXT NOT NULL",
        "init TEXT NOT NULL",
        "accuracy_factor INTEGER NOT NULL",
        "epochs INTEGER NOT NULL",
    ),
    columns=(
        "genome TEXT NOT NULL",
        "purpose TEXT NOT NULL",
        "tell INTEGER NOT NULL",  # the first one that it was asked for
        *(f"{name} {COLUMNS[name].type}" for name in CONTENT),
    ),
    times=tuple(f"{name} {COLUMNS[name].type}" for name in TIMES),
    references=("FOREIGN KEY (genome) REFERENCES genomes (id)",),
)

# What the search was told, in order. ``statistics``: JSON, where a tell completed a generation.
TELLS = Table(
    "tells",
    key=("number INTEGER NOT NULL",),
    columns=(
        "generation INTEGER NOT NULL",
        "purpose TEXT NOT NULL",
        "individuals INTEGER NOT NULL",
        "hall_of_fame TEXT NOT NULL",
        "state TEXT NOT NULL",
        "statistics TEXT",
    ),
    times=("seconds REAL NOT NULL",),
)

INDIVIDUALS = Table(
    "individuals",
    key=("generation INTEGER NOT NULL", "number INTEGER NOT NULL"),
    columns=(
        "tell INTEGER NOT NULL",
        "name TEXT NOT NULL",
        "genome TEXT NOT NULL",
        "parents TEXT NOT NULL",
        "operator TEXT NOT NULL",
        "fitness REAL",
    ),
    references=(
        "FOREIGN KEY (tell) REFERENCES tells (number)",
        "FOREIGN KEY (genome) REFERENCES genomes (id)",
    ),
)

INDEX = "CREATE INDEX evaluations_by_status ON evaluations (status)"  # a second record, to count by

TABLES = (META, GENOMES, EVALUATIONS, TELLS, INDIVIDUALS)


def canonical(value: Any) -> str:
    """One text for one value: sorted keys, exact numbers, NaN and Infinity as words."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def checksum(values: Sequence[Any]) -> str:
    """24 hex digits that stand for the values' canonical text."""
    return hashlib.blake2b(canonical(values).encode(), digest_size=12).hexdigest()


def _name(column: str) -> str:
    return column.split()[0]
