"""Names of ``let`` lines where expressions of two genomes come together."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import count

from genomes.language.genome import Genome
from genomes.language.let import MAX_LETTERS, renamed
from genomes.language.primitives import TABLE


def with_names_of(first: Genome, second: Genome) -> tuple[Genome, Genome]:
    """Both genomes, so that an expression of the second means in the first what it meant.

    The second's names that the first has too are changed, and the second's lines stand before the first's.
    """
    if not second.let:
        return first, second
    own = {line.name for line in first.let}
    taken = own | {line.name for line in second.let}
    new: dict[str, str] = {}
    for line in second.let:
        if line.name in own:
            new[line.name] = next(name for name in _variants(line.name, taken))
            taken.add(new[line.name])
    second = second.mapped(lambda tree: renamed(tree, new))
    lines = tuple(replace(line, name=new.get(line.name, line.name)) for line in second.let)
    return replace(first, let=(*lines, *first.let)), replace(second, let=lines)


def _variants(name: str, taken: Collection[str]) -> Iterator[str]:
    """Other names than those taken, with a number at the end."""
    stem = re.sub(r"_\d+$", "", name)[: MAX_LETTERS - 4]
    return (new for k in count(2) if (new := f"{stem}_{k}") not in taken and new not in TABLE)
