"""Begins a campaign, and goes on with one.

Nothing is kept but what the ledger holds, so that a campaign can be stopped at any moment, by any means, and goes
on from there to the same end.
"""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import ModuleType

from evo.campaign import loop, start
from evo.campaign.folder import RunFolder
from evo.campaign.loop import Begin, Machine, Outcome
from evo.campaign.progress import Progress
from evo.campaign.status import has_progress
from evo.campaign.stop import Stop, Stopped
from evo.errors import EvoError, UsageError
from evo.formatting import command
from evo.ledger import backup
from evo.ledger.ledger import Ledger
from evo.recipe import reader
from evo.recipe.rules import Known
from evo.recipe.schema import MAY_CHANGE, Recipe
from evo.training import computer, devices, ray_cluster
from genomes import strict_yaml
from harness.result import NUMERICS_VERSION


def _operators() -> Collection[str]:
    from evo.search.variation.registry import OPERATORS  # brings in DEAP, for the few recipes that name some

    return OPERATORS


KNOWN = Known(_operators)


def launch(
    path: Path | str,
    overrides: Sequence[str] = (),
    *,
    device: str = "auto",
    machine: Machine | None = None,
    progress: Progress | None = None,
    begin: Begin | None = None,
) -> Outcome:
    """Begin the campaign whose recipe is in the folder at ``path``, and run it to its end or until stopped.

    ``overrides``: ``KEY=VALUE``, for the recipe's keys. ``begin``: see `loop.run`. Raises UsageError (wrong recipe, a
    folder that has progress already), LockedError, LedgerError, EvoError.
    """
    folder = RunFolder.find(path)
    machine, progress = machine or Machine(), progress or Progress()
    with Stop(machine.max_minutes) as stop, contextlib.ExitStack() as connection:
        ray: ModuleType | None = None

        def trains_on() -> str:
            nonlocal ray
            try:
                with stop.at_once():
                    ray = connection.enter_context(_connected(machine))
            except Stopped as stopped:
                raise EvoError(f"{folder.path}: {stopped}, and nothing has begun; launch it again") from None
            return ray_cluster.device(ray, device) if ray else devices.for_campaign(device, progress.say)

        with launched(folder, overrides, trains_on, stop, progress) as (recipe, ledger):
            return loop.run(folder, recipe, ledger, machine, stop, progress, begin, ray)


def resume(
    path: Path | str,
    overrides: Sequence[str] = (),
    *,
    machine: Machine | None = None,
    progress: Progress | None = None,
    begin: Begin | None = None,
) -> Outcome:
    """Go on with the campaign in the folder at ``path``, to its end or until stopped.

    Raises UsageError (nothing to resume, a recipe that has changed otherwise than it may), LockedError,
    LedgerError, Stopped (while it was read what there is), EvoError.
    """
    folder = RunFolder.find(path)
    machine, progress = machine or Machine(), progress or Progress()
    with (
        Stop(machine.max_minutes) as stop,
        reopened(folder, overrides, stop, progress) as (recipe, ledger),
        contextlib.ExitStack() as connection,
    ):
        trains_on = ledger.meta()["device"]
        if not machine.cluster or trains_on == devices.OTHER_PROGRAM:
            _expect_to_train_here(folder, ledger, trains_on, progress)
        with _read(folder, stop):
            ray = connection.enter_context(_connected(machine))
        return loop.run(folder, recipe, ledger, machine, stop, progress, begin, ray)


@contextlib.contextmanager
def launched(
    folder: RunFolder, overrides: Sequence[str], device: Callable[[], str], stop: Stop, progress: Progress
) -> Iterator[tuple[Recipe, Ledger]]:
    """Hold a folder whose campaign begins: its recipe, and its new ledger. ``device``: the one to train on.

    Raises as `launch` does.
    """
    _refuse_progress(folder)
    if not folder.recipe.is_file():
        raise UsageError(f"{folder.recipe}: there is no recipe; write one with: {command('new', folder.path)}")
    try:
        with stop.at_once():
            recipe = reader.load(folder.recipe, overrides, known=KNOWN)
            genomes = start.read(recipe, folder.path)
    except Stopped as stopped:
        if stop.signal is signal.SIGINT:
            raise KeyboardInterrupt from None
        raise EvoError(f"{folder.path}: {stopped}, and nothing has begun; launch it again") from None
    trains_on = device()
    if recipe.precision == "tf32" and trains_on in ("cpu", ray_cluster.MIXED):
        where = reader.location(strict_yaml.load(folder.recipe), overrides, "precision")
        raise UsageError(f"{where}: precision: tf32 exists on GPUs alone, and this campaign is for the CPU")
    meta = {
        "recipe": reader.dump(recipe),
        "numerics": str(NUMERICS_VERSION),
        "device": trains_on,
        "overrides": json.dumps(list(overrides)),
        "versions": json.dumps(computer.description()),
        **genomes,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with folder.locked():
        _refuse_progress(folder)  # it may have come since
        progress.log = folder.log
        with Ledger.create(folder.ledger, meta) as ledger:
            yield recipe, ledger


@contextlib.contextmanager
def reopened(
    folder: RunFolder, overrides: Sequence[str], stop: Stop, progress: Progress
) -> Iterator[tuple[Recipe, Ledger]]:
    """Hold a folder whose campaign goes on: its recipe, and its ledger. Raises as `resume` does."""
    if not has_progress(folder):
        raise UsageError(f"{folder.path}: nothing to resume; begin with: {command('launch', folder.path)}")
    with folder.locked():
        progress.log = folder.log
        with backup.open_or_restore(folder.ledger, progress.say, partial(_read, folder, stop)) as ledger:
            meta = ledger.meta()
            with _read(folder, stop):
                recipe = _recipe_to_resume(folder, meta, overrides, ledger, progress)
            yield recipe, ledger


def _connected(machine: Machine) -> contextlib.AbstractContextManager[ModuleType | None]:
    """The module ``ray``, connected with the machine's cluster; None where it has none."""
    return ray_cluster.connect(machine.cluster) if machine.cluster else contextlib.nullcontext()


def _expect_to_train_here(folder: RunFolder, ledger: Ledger, device: str, progress: Progress) -> None:
    """Raise EvoError where a campaign cannot go on without a cluster."""
    if device == ray_cluster.MIXED or len(set(ledger.hardware().values())) > 1:
        raise UsageError(
            f"{folder.path}: trained by a cluster with several kinds of hardware; go on with:"
            f" {command('resume', folder.path, '--cluster', 'auto')}"
        )
    devices.for_campaign(device, progress.say)  # is it still there?


@contextlib.contextmanager
def _read(folder: RunFolder, stop: Stop) -> Iterator[None]:
    try:
        with stop.at_once():
            yield
    except Stopped as stopped:
        raise Stopped(f"{folder.path}: {stopped}; go on with: {command('resume', folder.path)}") from None


def _refuse_progress(folder: RunFolder) -> None:
    if has_progress(folder):
        raise UsageError(
            f"{folder.path}: this campaign has begun; go on with: {command('resume', folder.path)}"
            f" (to start over, move {folder.out} aside)"
        )


def _recipe_to_resume(
    folder: RunFolder, meta: dict[str, str], overrides: Sequence[str], ledger: Ledger, progress: Progress
) -> Recipe:
    """The recipe as launched, with the changes that a campaign under way may take. Raises UsageError."""
    if meta["numerics"] != str(NUMERICS_VERSION):
        raise UsageError(
            f"{folder.path}: launched with version {meta['numerics']} of the harness's numerics, this is"
            f" {NUMERICS_VERSION}; results would not be comparable: go on with that version, or launch anew"
        )
    for difference in computer.differences(json.loads(meta["versions"])):
        progress.say(difference)
    launched = reader.from_text(meta["recipe"])
    stored = json.loads(meta["overrides"])
    both = [*stored, *overrides]
    if folder.recipe.is_file():
        recipe = reader.load(folder.recipe, both, known=KNOWN, launched=launched)
        document = strict_yaml.load(folder.recipe)
        _tell_hidden(document, stored, overrides, progress)
    else:
        progress.say(f"{folder.recipe} is gone: going on with the recipe as launched")
        recipe = reader.reload(launched, overrides, known=KNOWN)
        document = strict_yaml.parse("", "the recipe as launched")
    changes = reader.changes(launched, recipe)
    refused = [
        f"{reader.location(document, both, change.key)}: {change}: a campaign under way keeps this; restore it, or"
        " launch another folder"
        for change in changes
        if not change.allowed
    ]
    complete = len(ledger.past())
    if recipe.generations < complete:
        where = reader.location(document, both, "generations")
        refused.append(f"{where}: generations: {recipe.generations} is fewer than the {complete} that are complete")
    if refused:
        raise UsageError("\n".join(refused))
    if changes:
        progress.say("; ".join(map(str, changes)))
        ledger.set_meta({"recipe": reader.dump(recipe), "overrides": json.dumps(both)})
    return recipe


def _tell_hidden(
    document: strict_yaml.Document, stored: Sequence[str], overrides: Sequence[str], progress: Progress
) -> None:
    """Say which keys of the file an override of the launch hides, though a campaign under way may change them."""
    given = {text.partition("=")[0].strip() for text in overrides}
    for text in stored:
        key = text.partition("=")[0].strip()
        if key in MAY_CHANGE and key not in given and tuple(key.split(".")) in document.lines:
            progress.say(f"{key}: --set {text} of the launch holds, not the file; change it with: --set {key}=...")
