"""A campaign on the fake search and the fake training, as a process that can be killed:

python -m tests.evo.fake_campaign launch|resume FOLDER [WORKERS [STATEMENT]]

STATEMENT: the process kills itself with SIGKILL before its ledger runs that many SQL statements. Prints how many
trainings it stored. FAKE_CLUSTER in the environment: the address of the Ray cluster that trains.
"""

import itertools
import os
import signal
import sys
from pathlib import Path

from evo.campaign.progress import PlainProgress
from evo.campaign.run import Machine, Outcome, launch, resume
from evo.errors import EvoError
from evo.ledger.ledger import Ledger
from evo.training import computer
from tests.evo import fakes

RECIPE = """\
name: fake
population: 8
generations: 6
epochs: 3
difficulty: {depths: [4, 7]}
gate: {instances: 8, error_rate: 0.4, confidence: 0.5}
start: {catalogue: [adam], random: 2}
baselines: [adam]
"""


def folder(path: Path, recipe: str = RECIPE) -> Path:
    path.mkdir(parents=True)
    (path / "recipe.yaml").write_text(recipe)
    return path


def run(
    verb: str, path: Path, overrides=(), workers: int = 1, batch: int = 0, max_minutes: float | None = None, **options
) -> Outcome:
    begin = launch if verb == "launch" else resume
    cluster = os.environ.get("FAKE_CLUSTER")
    function, describe = "tests.evo.fake_worker:train", "tests.evo.fake_computer"
    machine = Machine(workers, max_minutes, batch, function=function, cluster=cluster, describe=describe)
    return begin(path, overrides, machine=machine, begin=fakes.FakeSearch, **options)


def kill_at(statement: int) -> None:
    """SIGKILL this process at an SQL statement, wherever it stands: in a transaction, a checkpoint, a copy."""
    made, count = Ledger.__init__, itertools.count(1)

    def traced(self, path, connection):
        made(self, path, connection)
        connection.set_trace_callback(
            lambda _: os.kill(os.getpid(), signal.SIGKILL) if next(count) == statement else None
        )

    Ledger.__init__ = traced


class Counting(PlainProgress):
    """Counts the trainings that are stored."""

    stored = 0

    def lane(self, training):
        super().lane(training)
        self.stored += 1


if __name__ == "__main__":
    computer.processor = dict  # without torch, whose start would outlast the campaign
    verb, path, workers, statement = (*sys.argv[1:], *("1", "0")[len(sys.argv) - 3 :])
    if int(statement):
        kill_at(int(statement))
    progress = Counting(sys.stderr)
    try:
        outcome = run(verb, Path(path), workers=int(workers), progress=progress)
    except EvoError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    finally:
        print(progress.stored)
    sys.exit(0 if outcome.finished else 75)
