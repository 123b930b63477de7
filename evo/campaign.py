"""A campaign: drives the search through its generations, with the ledger as its memory.

The search asks, the ledger or the workers answer. Nothing is kept but what the ledger holds, so that a campaign
can be stopped at any moment, by any means, and goes on from there to the same end.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from evo import backup, config
from evo.config import Recipe
from evo.errors import EvoError, UsageError
from evo.evaluator import TRAIN_LANE, Pool
from evo.folder import RunFolder
from evo.ledger import Ledger
from evo.progress import Progress
from evo.records import Fame, Individual, Request, Results, SearchState
from genomes import strict_yaml
from harness.train import NUMERICS_VERSION

Steps = Generator[Request, Results, tuple[SearchState, tuple[Individual, ...]]]
Search = Callable[[Recipe, SearchState], Steps]


@dataclass(frozen=True)
class Outcome:
    """How a call of ``launch`` or ``resume`` ended. ``finished``: all generations are complete."""

    finished: bool
    generation: int
    generations: int
    champion: Fame | None


@dataclass(frozen=True)
class Machine:
    """How to run, which no result depends on. ``workers``, ``function``: see `Pool`; ``max_minutes``: see `Stop`."""

    workers: int = 0
    max_minutes: float | None = None
    function: str = TRAIN_LANE


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
        meta = {
            "recipe": config.dump(recipe),
            "numerics": str(NUMERICS_VERSION),
            "device": _device(device),
            "overrides": json.dumps(list(overrides)),
            "versions": json.dumps(_versions()),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with folder.locked():
            _refuse_progress(folder)  # it may have come since
            progress.log = folder.log
            with Ledger.create(folder.ledger, meta) as ledger:
                return _run(folder, recipe, ledger, machine, stop, progress, search)


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
        progress.log = folder.log
        with backup.open_or_restore(folder.ledger, progress.say) as ledger:
            meta = ledger.meta()
            recipe = _recipe_to_resume(folder, meta, overrides, ledger, progress)
            return _run(folder, recipe, ledger, machine, stop, progress, search)


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


class Stop:
    """Whether to stop: at once after SIGINT, SIGTERM or SIGHUP; softly when the minutes are over.

    Signals only raise a flag: nothing is interrupted half-way, and a second Ctrl-C does no harm.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self, max_minutes: float | None = None):
        self.signal: signal.Signals | None = None
        self._deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # elsewhere, signals are not ours to handle
            self._previous = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = signal.Signals(number)

    def now(self) -> bool:
        return self.signal is not None

    def soon(self) -> bool:
        """No new work is to be begun; what runs may end."""
        return self.now() or (self._deadline is not None and time.monotonic() > self._deadline)


def _run(
    folder: RunFolder,
    recipe: Recipe,
    ledger: Ledger,
    machine: Machine,
    stop: Stop,
    progress: Progress,
    search: Search | None,
) -> Outcome:
    if search is None:
        from evo.search import generation  # brings in deap

        search = generation
    pool = Pool(
        machine.workers,
        patience=recipe.patience,
        device=ledger.meta()["device"],
        seconds_per_lane=recipe.limits.seconds_per_lane,
        log=folder.log,
        function=machine.function,
    )
    located = recipe.located(folder.path)
    with pool, progress:
        state = ledger.state()
        _write_champion(folder, state)
        progress.begin(recipe, state, [s for (s,) in ledger.rows("SELECT seconds FROM generations")])
        while state.generation < recipe.generations and not stop.soon():
            started = time.monotonic()
            end = _generation(search(located, state), state.generation, ledger, pool, stop, progress)
            if end is None:
                break
            state, individuals = end
            seconds = time.monotonic() - started
            ledger.save(state, individuals, seconds)
            _write_champion(folder, state)
            progress.generation(state, seconds)
            if backup.due(state.generation):
                backup.rotate(ledger)
    champion = state.hall_of_fame[0] if state.hall_of_fame else None
    return Outcome(state.generation >= recipe.generations, state.generation, recipe.generations, champion)


def _generation(
    steps: Steps, number: int, ledger: Ledger, pool: Pool, stop: Stop, progress: Progress
) -> tuple[SearchState, tuple[Individual, ...]] | None:
    """Answer all requests of a generation: its individuals and the new state, or None when stopped before."""
    try:
        request = next(steps)
        while True:
            results = _answer(request, number, ledger, pool, stop, progress)
            if results is None:
                return None
            request = steps.send(results)
    except StopIteration as end:
        return end.value


def _answer(
    request: Request, generation: int, ledger: Ledger, pool: Pool, stop: Stop, progress: Progress
) -> Results | None:
    """The results of a request, from the ledger or from the workers; None when stopped before all are there."""
    keys = dict.fromkeys(lane.key for lane in request.lanes)
    results = ledger.results(keys)
    missing = [lane for lane in request.lanes if lane.key not in results]
    progress.request(request.purpose, len(keys), len(results))
    for lane, training in pool.evaluate(missing, stop=stop.now, drain=stop.soon):
        ledger.add([(lane, training)], request.purpose, generation)
        results[lane.key] = training
        progress.lane(training)
    if len(results) < len(keys) or stop.now():
        return None
    # in the order of the request and without times, so that the search cannot depend on either
    return {key: replace(results[key], seconds=0.0) for key in keys}


def _write_champion(folder: RunFolder, state: SearchState) -> None:
    if state.hall_of_fame:
        text = state.hall_of_fame[0].individual.genome
        if not folder.champion.is_file() or folder.champion.read_text(encoding="utf-8") != text:
            folder.write(folder.champion, text)


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


def _device(name: str) -> str:
    """``auto`` is the CPU: a lane by itself is quicker there."""
    if name in ("auto", "cpu"):
        return "cpu"
    if name != "cuda":
        raise UsageError(f"--device: must be auto, cpu or cuda, got {name!r}")
    import torch

    if not torch.cuda.is_available():
        raise EvoError("--device cuda: torch sees no CUDA device here")
    return "cuda"


def _versions() -> dict[str, str]:
    names = {"evo": "evo-optimizers", "torch": "torch", "numpy": "numpy"}
    found = {"python": platform.python_version()}
    for name, package in names.items():
        try:
            found[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            continue
    return found
