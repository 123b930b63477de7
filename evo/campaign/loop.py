"""The loop of a campaign: the search asks, the ledger or the workers answer, the ledger keeps every generation."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import replace

from evo import files
from evo.campaign.folder import RunFolder
from evo.campaign.progress import Progress
from evo.campaign.run import Machine, Outcome
from evo.campaign.stop import Stop
from evo.ledger import backup
from evo.ledger.ledger import Ledger
from evo.recipe.reader import Recipe
from evo.records import Individual, Request, Results, SearchState
from evo.search.genetic import generation
from evo.training.pool import Pool

Steps = Generator[Request, Results, tuple[SearchState, tuple[Individual, ...]]]
Search = Callable[[Recipe, SearchState], Steps]


def run(
    folder: RunFolder,
    recipe: Recipe,
    ledger: Ledger,
    machine: Machine,
    stop: Stop,
    progress: Progress,
    search: Search | None,
) -> Outcome:
    """Run the campaign from the ledger's state to its end, or until ``stop``. ``search``: by default evo's own."""
    search = search or generation
    pool = Pool(
        machine.workers,
        batch=machine.batch,
        patience=recipe.patience,
        device=ledger.meta()["device"],
        dtype=recipe.precision,
        seconds_per_lane=recipe.limits.seconds_per_lane,
        log=folder.log,
        function=machine.function,
    )
    located = recipe.located(folder.path)
    with pool, progress:
        state = ledger.state()
        _write_champion(folder, state)
        progress.begin(recipe, state, ledger.past())
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
    for lane, training in pool.train(missing, stop=stop.now, drain=stop.soon):
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
            files.write(folder.champion, text)
