"""Whether a ledger is what was written, row by row."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evo.ledger import file
from evo.ledger.errors import READING, damages
from evo.ledger.schema import EVALUATIONS, GENOMES, INDIVIDUALS, TABLES, TELLS, Table

MOST = 100  # messages of SQLite on one file


@dataclass(frozen=True)
class Damage:
    """What is wrong in one place. ``table``: empty for the file as a whole; ``key``: of a row, by column."""

    table: str
    key: dict[str, Any]
    problem: str

    def __str__(self) -> str:
        key = ", ".join(f"{name} {value}" for name, value in self.key.items())
        place = f"a row of {self.table} ({key})" if key else self.table
        return f"{place}: {self.problem}" if place else self.problem


@dataclass(frozen=True)
class Audit:
    """What a ledger holds. ``rows``: how many are sound, by table; ``generations``: how many are complete."""

    path: Path
    rows: dict[str, int] = field(default_factory=dict)
    generations: int = 0
    damage: tuple[Damage, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether everything is what was written."""
        return not self.damage

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self) | {"path": str(self.path), "sound": self.sound}


def audit(path: Path, connection: sqlite3.Connection) -> Audit:
    """Read everything in the file at ``path`` and compare it with its checksums, in one snapshot.

    Raises sqlite3.Error for what is not damage.
    """
    with file.snapshot(connection):
        found = _structure(connection)
        rows = {table.name: 0 for table in TABLES}
        genomes: set[str] = set()
        generations = 0
        tells: dict[int, int] = {}
        members: Counter[int] = Counter()
        for table in TABLES:  # genomes before what refers to them
            damaged = {each.key["id"] for each in found if each.table == GENOMES.name and each.key}
            for row in sound_rows(connection, table, found):
                rows[table.name] += 1
                values = table.fields(row)
                if table is GENOMES:
                    genomes.add(values["id"])
                elif table is TELLS:
                    tells[values["number"]] = values["individuals"]
                    generations += values["statistics"] is not None
                elif table is INDIVIDUALS:
                    members[values["tell"]] += 1
                if (
                    table in (EVALUATIONS, INDIVIDUALS)
                    and values["genome"] not in genomes
                    and values["genome"] not in damaged
                ):
                    found.append(damaged_row(table, row, "its genome is missing"))
    for number in range(max([-1, *tells, *members]) + 1):
        if tells.get(number) != members.get(number, 0):
            found.append(Damage(TELLS.name, {"number": number}, "it is not complete"))
    return Audit(path, rows, generations, tuple(found))


def sound_rows(connection: sqlite3.Connection, table: Table, found: list[Damage]) -> Iterator[tuple]:
    """The rows of a table that are as they were written; what is damaged is added to ``found``."""
    try:
        for row in connection.execute(table.select):
            if table.intact(row):
                yield row
            else:
                found.append(damaged_row(table, row))
    except READING as error:
        if not damages(error):
            raise
        found.append(Damage(table.name, {}, f"cannot be read further: {error}"))


def _structure(connection: sqlite3.Connection) -> list[Damage]:
    try:
        lines = [line for (line,) in connection.execute(f"PRAGMA integrity_check({MOST})")]
    except READING as error:
        if not damages(error):
            raise
        lines = [str(error)]
    return [Damage("", {}, line.splitlines()[-1]) for line in lines if line != "ok"]


def damaged_row(table: Table, row: tuple, problem: str = "its checksum does not match") -> Damage:
    """What to say of a row that ``table.select`` gave."""
    values = table.fields(row)
    key = {name: values[name] for name in table.key_names}
    return Damage(table.name, {name: v if isinstance(v, int) else _shown(v) for name, v in key.items()}, problem)


def _shown(value: Any) -> str:
    """A damaged value as text that every terminal can show."""
    return ascii(value)[1:-1] if isinstance(value, str) else ascii(value)
