"""Named values and named states of a genome: its ``let`` lines.

``name = expression`` names a value. ``name from start = expression`` names a state, a value that is kept for the next
step: before its line the name means what the last step kept (``start`` in the first), from its line on what this step
keeps. A value is used after its line alone, so no line can wait for itself.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from genomes.language.expressions import Expression, number
from genomes.language.parser import kind_of
from genomes.language.primitives import TABLE
from genomes.language.printer import show

MAX_LINES = 24
MAX_LETTERS = 32  # of a name
_NAME = re.compile(rf"[A-Za-z][A-Za-z0-9_]{{0,{MAX_LETTERS - 1}}}")
_LINE = re.compile(r"\s*(?P<name>[^\s=]+)(?:\s+from\s+(?P<start>[^\s=]+))?\s*=(?!=)", re.ASCII)


class LineError(ValueError):
    """A text that is no ``let`` line."""


@dataclass(frozen=True)
class Line:
    """A named value, or a state where ``start`` is given: a number, or ``theta`` for a copy of the first parameters."""

    name: str
    expr: Expression
    start: float | Literal["theta"] | None = None

    @property
    def is_state(self) -> bool:
        """Whether the value is kept for the next step."""
        return self.start is not None

    def __str__(self) -> str:
        """The line as it is written in a genome."""
        start = "" if self.start is None else f" from {shown_start(self.start)}"
        return f"{self.name}{start} = {show(self.expr)}"


def shown_start(start: float | str) -> str:
    """How the start of a state is written."""
    return start if isinstance(start, str) else show(number(start))


def head(text: str) -> tuple[str, float | Literal["theta"] | None, int]:
    """Name, start and length of what stands before a line's expression. Raises LineError."""
    match = _LINE.match(text)
    if not match:
        raise LineError("expected 'name = expression', or 'name from 0 = expression' for a state")
    name = match["name"]
    if not _NAME.fullmatch(name):
        raise LineError(f"{name[:40]!r} is no name: letters, digits and _, a letter first, at most {MAX_LETTERS}")
    if name in TABLE or keyword.iskeyword(name):
        raise LineError(f"{name} is a word already: choose another name")
    return name, _start(match["start"]), match.end()


def _start(text: str | None) -> float | Literal["theta"] | None:
    if text is None:
        return None
    if text == "theta":
        return "theta"
    try:
        start = float(text)
    except ValueError:
        start = math.nan
    if not math.isfinite(start):
        raise LineError(f"a state starts from a number or from theta, not from {text[:40]!r}")
    return start + 0.0  # -0.0 and 0.0 are one start


def names_in(expressions: Iterable[Expression]) -> set[str]:
    """The names of ``let`` lines that expressions use."""
    return {node.name for tree in expressions for node in tree.walk() if node.value is None and node.name not in TABLE}


def needed(lines: Iterable[Line], names: Collection[str]) -> tuple[Line, ...]:
    """The lines that ``names`` depend on, directly or by other lines, in order."""
    by_name = {line.name: line for line in lines}
    found: set[str] = set()
    stack = [name for name in names if name in by_name]
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack += by_name.keys() & names_in([by_name[name].expr])
    return tuple(line for line in by_name.values() if line.name in found)


def visible(lines: Iterable[Line], place: int | None = None) -> Iterator[Line]:
    """The lines whose names an expression may use: all, or in line ``place`` those before it and all states."""
    return (line for i, line in enumerate(lines) if place is None or i < place or line.is_state)


def kinds(lines: Iterable[Line]) -> dict[str, str]:
    """What each name gives: ``number``, ``mask`` or ``average``."""
    lines = list(lines)
    found = {line.name: "number" for line in lines}
    for line in lines:
        if not line.is_state:
            found[line.name] = kind_of(line.expr, found)
    return found


def renamed(tree: Expression, names: Mapping[str, str]) -> Expression:
    """The expression with other names for those of ``let`` lines."""
    if tree.value is None and not tree.arguments:
        return replace(tree, name=names.get(tree.name, tree.name))
    return replace(tree, arguments=tuple(renamed(argument, names) for argument in tree.arguments))
