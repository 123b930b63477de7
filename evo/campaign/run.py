"""A campaign: begun, gone on with, looked at.

Nothing is kept but what the ledger holds, so that a campaign can be stopped at any moment, by any means, and goes
on from there to the same end. What needs torch is imported late: a wrong recipe is refused at once.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evo.campaign.folder import RunFolder
from evo.campaign.progress import Progress
from evo.campaign.stop import Stop
from evo.errors import UsageError
from evo.ledger import backup
from evo.ledger.ledger import Ledger
from evo.recipe import reader as config
from evo.recipe.reader import Recipe
from evo.training import devices
from genomes import strict_yaml

if TYPE_CHECKING:
    from evo.campaign.loop import Search
    from evo.records import Fame


@dataclass(frozen=True)
class Outcome:
    """How a call of ``launch`` or ``resume`` ended. ``finished``: all generations are complete."""

    finished: bool
    generation: int
    generations: int
    champion: Fame | None

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, ready for JSON. ``quality``: on the selection instances."""
        best = self.champion
        champion = best and {"id": best.individual.id, "name": best.individual.name, "quality": best.quality}
        return {
            "finished": self.finished,
            "generation": self.generation,
            "generations": self.generations,
            "champion": champion,
        }


@dataclass(frozen=True)
class Machine:
    """How to run, which no result depends on.

    ``workers``, ``batch``, ``function``: see `Pool`; ``max_minutes``: see `Stop`.
    """

    workers: int = 0
    max_minutes: float | None = None
    batch: int = 0
    function: str = "evo.training.trainer:train_lanes"


def launch(
    path: Path | str,
    overrides: Sequence[str] = (),
    *,
    device: str = "auto",
    machine: Machine = Machine(),
    progress: Progress | None = None,
    search: Search | None = None,
) -> Outcome:
    """Begin the campaign whose recipe is in the folder at ``path``, and run it to its end or until stopped.

    ``overrides``: ``KEY=VALUE``, for the recipe's keys. Raises UsageError (wrong recipe, a folder that has
    progress already), LockedError, LedgerError, EvoError.
    """
    folder = RunFolder.find(path)
    progress = progress or Progress()
    with Stop(machine.max_minutes) as stop:
        _refuse_progress(folder)
        if not folder.recipe.is_file():
            raise UsageError(f"{folder.recipe}: there is no recipe; `evo recipe` prints one to start from")
        recipe = config.load(folder.recipe, overrides)
        from evo.campaign.loop import run
        from evo.search.genetic import check_start
        from harness.result import NUMERICS_VERSION

        check_start(recipe.located(folder.path))
        place = devices.for_campaign(device, progress.say)
        if recipe.precision == "tf32" and place == "cpu":
            raise UsageError(f"{folder.recipe}: precision: tf32 exists on GPUs alone, and this campaign is for the CPU")
        meta = {
            "recipe": config.dump(recipe),
            "numerics": str(NUMERICS_VERSION),
            "device": place,
            "overrides": json.dumps(list(overrides)),
            "versions": json.dumps(_versions()),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with folder.locked():
            _refuse_progress(folder)  # it may have come since
            progress.log = folder.log
            with Ledger.create(folder.ledger, meta) as ledger:
                return run(folder, recipe, ledger, machine, stop, progress, search)


def resume(
    path: Path | str,
    overrides: Sequence[str] = (),
    *,
    machine: Machine = Machine(),
    progress: Progress | None = None,
    search: Search | None = None,
) -> Outcome:
    """Go on with the campaign in the folder at ``path``, to its end or until stopped.

    Raises UsageError (nothing to resume, a recipe that has changed otherwise than it may), LockedError,
    LedgerError, EvoError.
    """
    folder = RunFolder.find(path)
    progress = progress or Progress()
    if not _has_progress(folder):
        raise UsageError(f"{folder.path}: nothing to resume; begin with: evo launch {folder.path}")
    with Stop(machine.max_minutes) as stop, folder.locked():
        from evo.campaign.loop import run

        progress.log = folder.log
        with backup.open_or_restore(folder.ledger, progress.say) as ledger:
            meta = ledger.meta()
            recipe = _recipe_to_resume(folder, meta, overrides, ledger, progress)
            devices.for_campaign(meta["device"], progress.say)  # is it still there?
            return run(folder, recipe, ledger, machine, stop, progress, search)


def status(path: Path | str) -> dict[str, Any]:
    """Where a campaign stands, as plain data; it may be running meanwhile."""
    folder = RunFolder.find(path)
    if not _has_progress(folder):
        return {"run": str(folder.path), "state": "not launched"}
    running = folder.in_use()
    with Ledger.open_to_read(folder.ledger) as ledger:
        recipe = config.from_text(ledger.meta()["recipe"])
        rows = ledger.rows("SELECT number, statistics, seconds FROM generations ORDER BY number DESC LIMIT 1")
        complete = rows[0][0] + 1 if rows else 0
        (seconds,) = ledger.rows("SELECT total(seconds) FROM generations")[0]
        finished = complete >= recipe.generations
        return {
            "run": str(folder.path),
            "name": recipe.name,
            "task": recipe.task,
            "state": "running" if running else "finished" if finished else "stopped",
            "generation": complete,
            "generations": recipe.generations,
            "population": recipe.population,
            "evaluations": dict(ledger.rows("SELECT status, count(*) FROM evaluations GROUP BY status")),
            "statistics": json.loads(rows[0][1]) if rows else {},
            "seconds": seconds,
            "created": ledger.meta()["created"],
        }


def _has_progress(folder: RunFolder) -> bool:
    return any(file.is_file() for file in (folder.ledger, *backup.copies(folder.ledger)))


def _refuse_progress(folder: RunFolder) -> None:
    if _has_progress(folder):
        raise UsageError(
            f"{folder.path}: this campaign has begun; go on with: evo resume {folder.path}"
            f" (to start over, move {folder.out} aside)"
        )


def _recipe_to_resume(
    folder: RunFolder, meta: dict[str, str], overrides: Sequence[str], ledger: Ledger, progress: Progress
) -> Recipe:
    """The recipe as launched, with the changes that a campaign under way may take. Raises UsageError."""
    from harness.result import NUMERICS_VERSION

    if meta["numerics"] != str(NUMERICS_VERSION):
        raise UsageError(
            f"{folder.path}: launched with version {meta['numerics']} of the harness's numerics, this is"
            f" {NUMERICS_VERSION}; results would not be comparable: go on with that version, or launch anew"
        )
    before, now = json.loads(meta["versions"]), _versions()
    for name in before:
        if before[name] != now.get(name):
            progress.say(f"launched with {name} {before[name]}, now {now.get(name)}: results may differ slightly")
    launched = config.from_text(meta["recipe"])
    if not folder.recipe.is_file():
        progress.say(f"{folder.recipe} is gone: going on with the recipe as launched")
        return launched
    overrides = [*json.loads(meta["overrides"]), *overrides]
    recipe = config.load(folder.recipe, overrides, launched=launched)
    changes = config.changes(launched, recipe)
    document = strict_yaml.load(folder.recipe)
    refused = [
        f"{folder.recipe}:{document.line(tuple(change.key.split('.')))}: {change}: a campaign under way keeps"
        " this; restore it, or launch another folder"
        for change in changes
        if not change.allowed
    ]
    if refused:
        raise UsageError("\n".join(refused))
    if changes:
        progress.say("; ".join(map(str, changes)))
        ledger.set_meta({"recipe": config.dump(recipe), "overrides": json.dumps(overrides)})
    return recipe


def _versions() -> dict[str, str]:
    names = {"evo": "evo-optimizers", "torch": "torch", "numpy": "numpy"}
    found = {"python": platform.python_version()}
    for name, package in names.items():
        try:
            found[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            continue
    return found
