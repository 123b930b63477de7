"""The loop of a campaign: the search asks, the ledger or the workers answer, the ledger keeps what was told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from evo import files
from evo.campaign import start
from evo.campaign.folder import RunFolder
from evo.campaign.progress import Progress
from evo.campaign.stop import Stop
from evo.errors import UsageError
from evo.ledger import backup
from evo.ledger.ledger import Ledger
from evo.recipe.schema import Recipe
from evo.records import Fame, Generation, Request, Results
from evo.search.protocol import Search, algorithm
from evo.training.pool import Pool, check_workers
from evo.training.worker import TRAIN_LANES

Begin = Callable[..., Search]  # what makes a search: see `Search.__init__`


@dataclass(frozen=True)
class Machine:
    """How to run, which no result depends on.

    ``workers``, ``batch``, ``function``: see `Pool`; ``max_minutes``: see `Stop`.
    """

    workers: int = 0
    max_minutes: float | None = None
    batch: int = 0
    function: str = TRAIN_LANES

    def __post_init__(self) -> None:
        """Raises UsageError for numbers that make no sense: before anything has begun."""
        check_workers(self.workers)
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise UsageError(f"max_minutes: must be above 0, got {self.max_minutes}")


@dataclass(frozen=True)
class Outcome:
    """How a call of ``launch`` or ``resume`` ended. ``finished``: all generations are complete."""

    finished: bool
    generation: int
    generations: int
    champion: Fame | None

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        best = self.champion
        champion = best and {"id": best.individual.id, "name": best.individual.name, "quality": best.quality}
        return asdict(replace(self, champion=None)) | {"champion": champion}


def run(
    folder: RunFolder,
    recipe: Recipe,
    ledger: Ledger,
    machine: Machine,
    stop: Stop,
    progress: Progress,
    begin: Begin | None = None,
) -> Outcome:
    """Run the campaign from the ledger's checkpoint to its end, or until ``stop``.

    ``begin``: makes the search; by default the recipe's algorithm.
    """
    genomes = start.kept(ledger.meta(), recipe, needed=not ledger.tells())
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
    with pool, progress:
        begin = begin or algorithm(recipe)
        search = begin(recipe, ledger.checkpoint(), ledger.individual, genomes)
        _write_champion(folder, search)
        progress.begin(recipe, ledger.past(), begun=bool(ledger.statuses()))
        spent = ledger.seconds_of(search.generation)  # by the tells of the generation under way
        while search.generation < recipe.generations and not stop.soon():
            started = time.monotonic()
            request = search.ask()
            results = _answer(request, ledger, pool, stop, progress)
            if results is None:
                break
            told = search.tell(results)
            seconds = time.monotonic() - started
            ledger.save(told, search.checkpoint(), seconds)
            _write_champion(folder, search)
            spent += seconds
            if told.statistics:
                progress.generation(Generation(search.generation, told.statistics, spent))
                spent = 0.0
                if backup.due(search.generation):
                    backup.rotate(ledger)
    best = search.hall_of_fame[0] if search.hall_of_fame else None
    return Outcome(search.generation >= recipe.generations, search.generation, recipe.generations, best)


def _answer(request: Request, ledger: Ledger, pool: Pool, stop: Stop, progress: Progress) -> Results | None:
    """The results of a request, from the ledger or from the workers; None when stopped before all are there."""
    results = ledger.results(lane.key for lane in request.lanes)
    missing = [lane for lane in request.lanes if lane.key not in results]
    progress.request(request, len(results))
    for lane, training in pool.train(missing, stop=stop.now, drain=stop.soon):
        ledger.add([(lane, training)], request.purpose)
        results[lane.key] = training
        progress.lane(training)
    if len(results) < len(request.lanes) or stop.now():
        return None
    # in the order of the request and without times, so that the search cannot depend on either
    return {lane.key: replace(results[lane.key], seconds=0.0) for lane in request.lanes}


def _write_champion(folder: RunFolder, search: Search) -> None:
    if search.hall_of_fame:
        text = search.hall_of_fame[0].individual.text
        if not folder.champion.is_file() or folder.champion.read_bytes() != text.encode():
            files.write(folder.champion, text)
