"""What differs between two texts, line by line and, in lines that were changed, word by word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

_WORD = re.compile(r"\s+|\w+|.", re.DOTALL)


@dataclass(frozen=True)
class Line:
    """``sign``: ``-`` of the first text alone, ``+`` of the second alone, a space of both.

    ``parts``: its text in pieces, each with whether it differs from the line that stands for it in the other text.
    """

    sign: str
    parts: tuple[tuple[str, bool], ...]


def differences(first: Sequence[str], second: Sequence[str]) -> list[Line]:
    """All lines of both texts, in order; those of both once."""
    return list(_lines(first, second))


def _lines(first: Sequence[str], second: Sequence[str]) -> Iterator[Line]:
    for kind, a, b, c, d in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if kind == "equal":
            yield from (Line(" ", ((line, False),)) for line in first[a:b])
            continue
        pairs = [_parts(*lines) for lines in zip(first[a:b], second[c:d], strict=False)]
        befores = [before for before, _ in pairs] + [((line, False),) for line in first[a + len(pairs) : b]]
        afters = [after for _, after in pairs] + [((line, False),) for line in second[c + len(pairs) : d]]
        yield from (Line("-", parts) for parts in befores)
        yield from (Line("+", parts) for parts in afters)


def _parts(first: str, second: str) -> tuple[tuple[tuple[str, bool], ...], tuple[tuple[str, bool], ...]]:
    one, other = _WORD.findall(first), _WORD.findall(second)
    blocks = SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
    before = tuple(("".join(one[a:b]), kind != "equal") for kind, a, b, _, _ in blocks if b > a)
    after = tuple(("".join(other[c:d]), kind != "equal") for kind, _, _, c, d in blocks if d > c)
    return before, after
