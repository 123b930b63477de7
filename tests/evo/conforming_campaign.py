"""Campaigns of any algorithm in moments: real ledger and workers, computed qualities, genomes that are bred at once.

python -m tests.evo.conforming_campaign FOLDER WORKERS STATEMENT

goes on with one, and kills itself with SIGKILL before its ledger runs that many SQL statements; 0: never.
"""

from __future__ import annotations

import sys
from pathlib import Path

from evo.campaign import run
from evo.campaign.additions import queue
from evo.campaign.loop import Machine, Outcome
from evo.campaign.progress import Progress
from evo.search.protocol import Search, algorithm
from evo.training import computer
from tests.evo.fake_campaign import folder, kill_at
from tests.evo.search.played import GATED, RECIPE, QuickBreeder

FOR_EIGHT = {"regularized_evolution": "children: 4"}  # settings that a population of eight needs
ADDED = ["nesterov", "sgd"]


def begin(recipe, *arguments, **options) -> Search:
    return algorithm(recipe)(recipe, *arguments, **options, breeder=QuickBreeder(recipe))


def begun(path: Path, name: str, workers: int = 1) -> Path:
    """A campaign of one generation at ``path``, and genomes that wait to join the next."""
    settings = ", ".join((name, *filter(None, [FOR_EIGHT.get(name)])))
    folder(path, RECIPE.format(settings, GATED).replace("generations: 4", "generations: 1"))
    assert go_on(path, workers, "launch").finished
    queue(path, ADDED)
    (path / "recipe.yaml").write_text((path / "recipe.yaml").read_text().replace("generations: 1", "generations: 3"))
    return path


def go_on(path: Path, workers: int = 1, verb: str = "resume", progress: Progress | None = None) -> Outcome:
    machine = Machine(workers, function="tests.evo.fake_worker:climb")
    return getattr(run, verb)(path, machine=machine, begin=begin, progress=progress)


if __name__ == "__main__":
    computer.processor = dict
    path, workers, statement = sys.argv[1:]
    if int(statement):
        kill_at(int(statement))
    sys.exit(0 if go_on(Path(path), int(workers)).finished else 75)
