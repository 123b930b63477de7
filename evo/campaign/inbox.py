"""The inbox of a campaign, ``out/inbox/``: genomes that wait to join it, a file each.

As a generation begins, those that wait join it: the ledger keeps them with their origin first, and from then on the
campaign depends on the ledger alone. A generation with a stored result has begun, and nothing joins it any more. So
whoever resumes, with whatever workers, gets the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from evo import files
from evo.campaign.folder import RunFolder
from evo.ledger.ledger import Ledger
from evo.recipe.limits import exceeded
from evo.recipe.schema import Limits, Recipe
from evo.records import Addition
from genomes.compiler.lowering import read_text
from genomes.language.genome import Genome, dump
from genomes.strict_yaml import escaped

LARGEST = 10_000_000  # characters of a file that are read
SHOWN = 200  # characters of what it says of its origin


def put(folder: RunFolder, addition: Addition) -> None:
    """Let a genome wait. Raises EvoError."""
    files.write(folder.inbox / f"{addition.key}.json", json.dumps(asdict(addition), ensure_ascii=False, indent=1))


def waiting(
    folder: RunFolder, ledger: Ledger, limits: Limits, say: Callable[[str], None] = lambda _: None
) -> list[Addition]:
    """What is in the inbox and has joined no generation, in order. ``say``: told of files that are no addition."""
    joined = {each.key for each in ledger.additions()}
    found = []
    for file in sorted(folder.inbox.glob("*.json")) if folder.inbox.is_dir() else ():
        if file.stem not in joined:
            try:
                found.append(_opened(file, limits))
            except (OSError, ValueError, TypeError, KeyError) as error:
                say(f"{file}: left aside, it is no genome that was added: {error}")
    return found


def join(
    folder: RunFolder, ledger: Ledger, recipe: Recipe, generation: int, say: Callable[[str], None]
) -> list[Genome]:
    """The genomes that join ``generation`` as it begins: those that wait, unless it has begun before, are kept first.

    Raises LedgerError.
    """
    if not ledger.begun() and (new := waiting(folder, ledger, recipe.limits, say)):
        ledger.join([replace(each, generation=generation) for each in new])
        for each in new:
            say(f"generation {generation + 1} takes in {each.name}, added from {each.origin}")
    joined = [each for each in ledger.additions() if each.generation == generation]
    return [read_text(each.text, f"{each.source} as added") for each in joined]


def excess(genome: Genome, limits: Limits) -> str:
    """What is wrong with the size of a genome; empty for nothing."""
    found = exceeded(genome, limits)
    if found is None:
        return ""
    name, count = found
    return (
        f"has {count} {name}, more than the {getattr(limits, name)} of limits.{name} in the campaign's recipe, which"
        " are fixed; try evo genome simplify"
    )


def _opened(file: Path, limits: Limits) -> Addition:
    """The addition of a file. Raises OSError, ValueError, TypeError, KeyError for what is none."""
    with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW), encoding="utf-8") as stream:
        text = stream.read(LARGEST)
    values = json.loads(text)
    genome = read_text(str(values["text"]), file.name)
    if problem := excess(genome, limits):
        raise ValueError(problem)
    source, by, time = (escaped(str(values[key]))[:SHOWN] for key in ("source", "by", "time"))
    return Addition(file.stem, genome.name, dump(genome), source, by, time)
