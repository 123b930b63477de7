"""All genomes of a campaign as a table that is filtered, sorted and paged here, so that a browser sees a page of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from urllib.parse import urlencode

import numpy as np

from evo.ledger.ledger import Member
from evo.records import Estimate
from evo.search.evidence import Evidence

PER_PAGE = 100
SORTS = ("born", "operator", "quality", "instances")
STATES = ("estimated", "failed", "untrained")
LONGEST_SEARCH = 200  # characters


@dataclass(frozen=True)
class Query:
    """What of the table is wanted. ``sort``: one of SORTS; ``down``: the greatest first. ``page``: from 1.

    ``search``: a part of id, name or operator; ``state``: one of STATES, or empty for all. ``first``, ``last``:
    generations, inclusive. ``distinct``: each program once.
    """

    search: str = ""
    operator: str = ""
    state: str = ""
    first: int = 0
    last: int | None = None
    distinct: bool = False
    sort: str = "quality"
    down: bool = True
    page: int = 1

    @classmethod
    def parse(cls, values: Mapping[str, str]) -> Query:
        """The query of an address's parameters; what makes no sense counts as not given."""
        sort, last = values.get("sort", ""), _whole(values.get("last"), -1)
        state = values.get("state", "")
        return cls(
            search=values.get("search", "")[:LONGEST_SEARCH].strip(),
            operator=values.get("operator", "")[:LONGEST_SEARCH],
            state=state if state in STATES else "",
            first=_whole(values.get("first"), 0),
            last=None if last < 0 else last,
            distinct=values.get("distinct") == "1",
            sort=sort if sort in SORTS else "quality",
            down=values.get("down", "1") != "0",
            page=max(1, _whole(values.get("page"), 1)),
        )

    def address(self, **changes: object) -> str:
        """The parameters of an address for this query with some changes, from ``?`` on."""
        query = replace(self, **changes)
        given = {
            "search": query.search,
            "operator": query.operator,
            "state": query.state,
            "first": query.first or "",
            "last": "" if query.last is None else query.last,
            "distinct": "1" if query.distinct else "",
            "sort": "" if query.sort == "quality" else query.sort,
            "down": "" if query.down else "0",
            "page": query.page if query.page > 1 else "",
        }
        return "?" + urlencode({key: value for key, value in given.items() if value != ""})


@dataclass(frozen=True)
class Row:
    """A genome in the table. ``estimate``: None where it failed or was not trained, as ``state`` says."""

    member: Member
    estimate: Estimate | None
    state: str


@dataclass(frozen=True)
class Page:
    """A page of what a query finds. ``total``: how many there are; ``number``: of ``pages``, from 1."""

    rows: Sequence[Row]
    total: int
    number: int
    pages: int


class GenomeTable:
    """The genomes of a campaign as of one reading of its ledger."""

    def __init__(self, members: Sequence[Member], evidence: Evidence, version: int = 0):
        self.version = version
        self._members = members
        self._evidence = evidence
        self._orders: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._members)

    @property
    def estimates(self) -> Mapping[str, Estimate]:
        """Of expected qualities, by the hashes of programs."""
        return self._evidence.estimates

    def page(self, query: Query) -> Page:
        """The rows of one page; of the last one where there are fewer."""
        order = self._order(query.sort)
        found = order[self._chosen(query)[order]]
        if query.down:
            known = int(self._known(query.sort)[found].sum())  # what is not known stands last in either direction
            found = np.concatenate([found[:known][::-1], found[known:]])
        pages = max(1, -(-len(found) // PER_PAGE))
        number = min(query.page, pages)
        shown = found[(number - 1) * PER_PAGE : number * PER_PAGE]
        return Page([self._row(int(index)) for index in shown], len(found), number, pages)

    def children(self, id: str) -> list[Member]:
        """The individuals made from that one, in order."""
        return [member for member in self._members if id in member.parents]

    @cached_property
    def operators(self) -> list[str]:
        """The operators that made the genomes, in the order of their names."""
        return sorted({member.operator for member in self._members})

    def _row(self, index: int) -> Row:
        member = self._members[index]
        return Row(member, self._evidence.estimates.get(member.hash), STATES[self._states[index]])

    def _chosen(self, query: Query) -> np.ndarray:
        chosen = np.ones(len(self._members), dtype=bool)
        if query.search:
            wanted = query.search.casefold()
            chosen &= np.fromiter((wanted in text for text in self._texts), bool, len(chosen))
        if query.operator:
            chosen &= np.fromiter((m.operator == query.operator for m in self._members), bool, len(chosen))
        if query.state:
            chosen &= self._states == STATES.index(query.state)
        if query.first:
            chosen &= self._generations >= query.first
        if query.last is not None:
            chosen &= self._generations <= query.last
        if query.distinct:
            chosen &= self._first_of_program
        return chosen

    def _order(self, sort: str) -> np.ndarray:
        """All rows, the least first; of equals, the one that was born first."""
        if sort not in self._orders:
            match sort:
                case "quality":
                    values = np.nan_to_num(self._means, nan=np.inf)
                case "instances":
                    values = self._counts
                case "operator":
                    values = np.unique([member.operator for member in self._members], return_inverse=True)[1]
                case _:
                    values = np.arange(len(self._members))
            self._orders[sort] = np.argsort(values, kind="stable")
        return self._orders[sort]

    def _known(self, sort: str) -> np.ndarray:
        return self._states == 0 if sort == "quality" else np.ones(len(self._members), dtype=bool)

    @cached_property
    def _texts(self) -> list[str]:
        return [f"{m.id} {m.name} {m.operator}".casefold() for m in self._members]

    @cached_property
    def _generations(self) -> np.ndarray:
        return np.array([member.generation for member in self._members], dtype=np.int64)

    @cached_property
    def _states(self) -> np.ndarray:
        known, failed = self._evidence.estimates, self._evidence.failed
        states = (0 if m.hash in known else 1 if m.hash in failed else 2 for m in self._members)
        return np.fromiter(states, np.int8, len(self._members))

    @cached_property
    def _means(self) -> np.ndarray:
        estimates = map(self._evidence.estimates.get, (member.hash for member in self._members))
        return np.array([np.nan if e is None else e.mean for e in estimates], dtype=np.float64)

    @cached_property
    def _counts(self) -> np.ndarray:
        estimates = map(self._evidence.estimates.get, (member.hash for member in self._members))
        return np.array([0 if e is None else e.count for e in estimates], dtype=np.int64)

    @cached_property
    def _first_of_program(self) -> np.ndarray:
        seen: set[str] = set()
        return np.array([not (m.hash in seen or seen.add(m.hash)) for m in self._members], dtype=bool)


def _whole(text: str | None, default: int) -> int:
    """The whole number that a text says, if it is one of at most nine digits."""
    return int(text) if text and len(text) < 10 and text.isascii() and text.isdigit() else default
