"""Adds genomes of people and other programs to a campaign that has begun: see `evo.campaign.inbox`."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from evo.campaign import inbox
from evo.campaign.folder import RunFolder
from evo.campaign.status import has_progress, open_to_read
from evo.errors import UsageError
from evo.formatting import command
from evo.recipe import reader
from evo.records import Addition
from genomes import catalogue
from genomes.compiler.lowering import read, read_text
from genomes.language.genome import Genome, GenomeError, dump


def queue(path: Path | str, genomes: Sequence[Genome | Path | str], by: str = "") -> list[Addition]:
    """Put genomes into the inbox of the campaign in the folder at ``path``: all of them, or none.

    ``genomes``: files (.yaml), known optimizers by name, or genomes. ``by``: who adds them; by default the user.
    Raises UsageError for a campaign that has not begun, and with all that is wrong with the genomes; EvoError.
    """
    folder = RunFolder.find(path)
    if not has_progress(folder):
        raise UsageError(
            f"{folder.path}: this campaign has not begun: name the genome in its recipe, under start.genomes or"
            f" start.catalogue; then: {command('launch', folder.path)}"
        )
    with open_to_read(folder, "add to") as ledger:
        limits = reader.from_text(ledger.meta()["recipe"]).limits
    if not genomes:
        raise UsageError("GENOME: name at least one: a file (.yaml) or a known optimizer")
    added: list[Addition] = []
    problems: list[str] = []
    by = by or _user()
    for number, given in enumerate(genomes):
        try:
            genome, source = _read(given)
        except GenomeError as error:
            problems += error.problems
            continue
        if problem := inbox.excess(genome, limits):
            problems.append(f"{source}: {problem}")
            continue
        # names sort by time, and within a call by place
        key = f"{time.time_ns():020}-{number:04}-{os.urandom(4).hex()}"
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        added.append(Addition(key, genome.name, dump(genome), source, by, moment))
    if problems:
        raise UsageError("\n".join(problems))
    for each in added:
        inbox.put(folder, each)
    return added


def _read(given: Genome | Path | str) -> tuple[Genome, str]:
    """A genome, and what it came from. Raises GenomeError, UsageError."""
    if isinstance(given, Genome):
        return read_text(dump(given), given.name), "a program"
    path = Path(given)
    if path.suffix not in (".yaml", ".yml"):
        return catalogue.load(str(given)), str(given)
    try:
        return read(path), path.name
    except OSError as error:
        raise GenomeError([f"{path}: cannot be read: {error.strerror or error}"]) from None


def _user() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        name = f"user {os.getuid()}"
    return f"{name}@{socket.gethostname()}"
