"""Controls of a campaign: what other searches find from the same founders with as many training steps.

A control is a campaign of its own in a sibling folder, ``RUN-ALGORITHM``: the recipe of the campaign with another
algorithm, and an end by training steps. Whoever launches or resumes it by hand gets the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from evo import files
from evo.campaign.folder import RunFolder
from evo.campaign.status import has_progress, open_to_read
from evo.errors import UsageError
from evo.ledger.schema import START_GENOMES
from evo.recipe import reader
from evo.recipe.schema import Recipe
from evo.recipe.search_settings import ALGORITHMS
from evo.recipe.validation import shown
from evo.records import lane_steps

CONTROLS = {"random_search": {"mutants": 0.5}, "constants_only": {}}  # with their settings
_ENDLESS = 1_000_000  # generations: the end is by steps


@dataclass(frozen=True)
class Control:
    """A control that is ready to be launched, or under way. ``device``: that of the campaign."""

    algorithm: str
    folder: RunFolder
    device: str
    under_way: bool


def prepare(folder: RunFolder, algorithms: Sequence[str] = tuple(CONTROLS)) -> list[Control]:
    """Write the folders of the controls that are not there yet.

    The budget is what the complete generations of the campaign took; it is fixed when a control is first prepared.
    Raises UsageError for an unknown algorithm, for a campaign without a complete generation, and for one whose
    difficulty grows with the generations, which mean something else in another algorithm; LedgerError.
    """
    for name in algorithms:
        if name not in ALGORITHMS:
            raise UsageError(f"--algorithm {shown(name)}: the algorithms are {', '.join(ALGORITHMS)}")
    with open_to_read(folder, "control") as ledger:
        meta, past = ledger.meta(), ledger.past()
    recipe = reader.from_text(meta["recipe"])
    spent = lane_steps(past)
    if not spent:
        raise UsageError(f"{folder.path}: no generation is complete, so there is no budget to give to a control")
    if recipe.difficulty.sampler == "curriculum":
        raise UsageError(f"{folder.path}: its difficulty grows with the generations: a control would have an other one")
    controls = []
    for name in algorithms:
        own = _folder(folder, name)
        if not own.recipe.is_file():
            own.path.mkdir(parents=True, exist_ok=True)
            texts = json.loads(meta.get(START_GENOMES, "{}"))
            founders = {path: f"founder{i}.yaml" for i, path in enumerate(recipe.start.genomes, 1)}
            for path, file in founders.items():
                files.write(own.path / file, texts[path])
            files.write(own.recipe, _recipe(recipe, name, spent, list(founders.values())))
        controls.append(Control(name, own, meta["device"], has_progress(own)))
    return controls


def beside(folder: RunFolder) -> list[tuple[str, RunFolder]]:
    """The controls of a campaign that have begun: their algorithms and folders."""
    found = [(name, _folder(folder, name)) for name in ALGORITHMS]
    return [(name, own) for name, own in found if has_progress(own)]


def _folder(folder: RunFolder, algorithm: str) -> RunFolder:
    path = folder.path if folder.path.name not in ("", "..") else folder.path.resolve()
    return RunFolder(path.with_name(f"{path.name}-{algorithm}"))


def _recipe(recipe: Recipe, algorithm: str, budget: int, founders: list[str]) -> str:
    """The campaign's recipe with another algorithm and an end by steps."""
    document = recipe.model_dump(mode="json")
    document["search"] = {"algorithm": algorithm, **CONTROLS.get(algorithm, {})}
    document["start"] |= {"genomes": founders}
    document |= {"name": f"{document['name'][:40]}-{algorithm}", "generations": _ENDLESS, "lane_steps": budget}
    return reader.dump(reader.from_text(json.dumps(document)))
