"""Where an individual comes from: its ancestors, and the rails that join them in a drawing."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from evo.ledger.ledger import Ledger
from evo.records import Estimate, Individual

MOST = 60


@dataclass(frozen=True)
class Ancestor:
    """A row of the drawing. ``estimate``: of its quality, None where a training failed.

    ``parents``: ids of rows further down; ``kept``: in how many generations it was copied; ``source``: of one that was
    added, where from.
    """

    individual: Individual
    estimate: Estimate | None
    parents: tuple[str, ...]
    kept: int
    source: str = ""


@dataclass(frozen=True)
class Rail:
    """A line from a child to a parent, each as (row, column); it runs down in the parent's column."""

    start: tuple[int, int]
    end: tuple[int, int]


@dataclass(frozen=True)
class Drawing:
    """``columns[i]``: where the dot of row i stands. ``more``: how many ancestors are left out."""

    rows: tuple[Ancestor, ...]
    columns: tuple[int, ...]
    rails: tuple[Rail, ...]
    more: int


def ancestors(
    ledger: Ledger, individual: Individual, estimates: Mapping[str, Estimate], most: float = math.inf
) -> list[Ancestor]:
    """The individual and its ancestors, latest first, at most ``most``. Copies of an elite count as the one first made.

    ``estimates``: of qualities, by hash.
    """
    kept: dict[str, int] = {}
    sources = {each.id: each.source for each in ledger.additions()}

    def origin(id: str) -> Individual:
        first, copies = ledger.individual(id), 0
        while first.operator == "elite" and first.parents:
            first, copies = ledger.individual(first.parents[0]), copies + 1
        kept[first.id] = max(kept.get(first.id, 0), copies)
        return first

    first = origin(individual.id)
    found: dict[str, Ancestor] = {}
    known = {_order(first): first}
    waiting = [_order(first)]  # a heap: who comes out of it is later than all that are in it
    while waiting and len(found) < most:
        member = known[heapq.heappop(waiting)]
        parents = list({parent.id: parent for parent in map(origin, member.parents)}.values())
        found[member.id] = Ancestor(member, estimates.get(member.hash), tuple(p.id for p in parents), 0)
        for parent in parents:
            if _order(parent) not in known:
                known[_order(parent)] = parent
                heapq.heappush(waiting, _order(parent))
    members = [replace(row, kept=kept.get(id, 0), source=sources.get(id, "")) for id, row in found.items()]
    return sorted(members, key=lambda row: _order(row.individual))


def _order(individual: Individual) -> tuple[int, int]:
    return -individual.generation, individual.index


def draw(rows: list[Ancestor], most: int = MOST) -> Drawing:
    """Place each row's dot in a column, so that lines to parents do not run through other dots."""
    shown = rows[:most]
    row_of = {row.individual.id: number for number, row in enumerate(shown)}
    awaited: list[str | None] = []  # the id that each column waits for
    columns: list[int] = []
    rails: list[Rail] = []
    for number, row in enumerate(shown):
        id = row.individual.id
        column = awaited.index(id) if id in awaited else _free(awaited)
        awaited[column] = None
        columns.append(column)
        for parent in row.parents:
            if parent not in row_of:
                continue
            if parent not in awaited:  # the first takes over this row's column
                awaited[column if awaited[column] is None else _free(awaited)] = parent
            rail_column = awaited.index(parent)
            rails.append(Rail((number, column), (row_of[parent], rail_column)))
    return Drawing(tuple(shown), tuple(columns), tuple(rails), len(rows) - len(shown))


def _free(awaited: list[str | None]) -> int:
    if None in awaited:
        return awaited.index(None)
    awaited.append(None)
    return len(awaited) - 1
