"""A campaign on the fake search and the fake training, as a process that can be killed:

python -m tests.evo.fake_campaign launch|resume FOLDER [WORKERS]
"""

import sys
from pathlib import Path

from evo import campaign
from evo.campaign import Machine, Outcome
from evo.errors import EvoError
from evo.progress import PlainProgress
from tests.evo import fakes

RECIPE = """\
name: fake
population: 8
generations: 6
epochs: 3
difficulty: {depths: [4, 7]}
selection: {tournament: 2, elites: 1, contenders: 2}
start: {catalogue: [adam], random: 2}
baselines: [adam]
"""


def folder(path: Path, recipe: str = RECIPE) -> Path:
    path.mkdir(parents=True)
    (path / "recipe.yaml").write_text(recipe)
    return path


def run(verb: str, path: Path, workers: int = 1, **options) -> Outcome:
    begin = campaign.launch if verb == "launch" else campaign.resume
    machine = Machine(workers, options.pop("max_minutes", None), function="tests.evo.fake_worker:train")
    return begin(path, machine=machine, search=fakes.generation, **options)


if __name__ == "__main__":
    try:
        outcome = run(sys.argv[1], Path(sys.argv[2]), int((*sys.argv, 1)[3]), progress=PlainProgress())
    except EvoError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(0 if outcome.finished else 75)
