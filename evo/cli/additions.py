"""What ``evo add`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evo.campaign.additions import queue
from evo.campaign.status import status
from evo.formatting import command


def add_genomes(run: Path, genomes: Sequence[str]) -> None:
    """Queue genomes, and say when they join."""
    added = queue(run, genomes)
    for each in added:
        print(f"{each.name} from {each.source} waits for the next generation")
    found = status(run)
    if found.state == "finished":
        more = f"generations={found.generation + 1}"
        print(f"the campaign is finished; go on with: {command('resume', run, '--set', more)}")
    elif found.state == "stopped":
        print(f"the campaign is stopped; go on with: {command('resume', run)}")
