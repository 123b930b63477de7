"""The loop of a campaign: the search asks, the ledger or the workers answer, the ledger keeps what was told."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from evo import files
from evo.campaign import start
from evo.campaign.folder import RunFolder
from evo.campaign.progress import Progress
from evo.campaign.stop import Stop, Stopped
from evo.errors import UsageError
from evo.ledger import backup
from evo.ledger.ledger import Ledger
from evo.recipe.schema import Recipe
from evo.records import Checkpoint, Fame, Generation, Request, Results, plain
from evo.training import ray_cluster
from evo.training.cluster import ClusterPool
from evo.training.computer import DESCRIBE, kind_of_cpu
from evo.training.pool import LocalPool, Pool, check_workers
from evo.training.worker import TRAIN_LANES

if TYPE_CHECKING:
    from evo.search.protocol import Search

Begin = Callable[..., "Search"]  # what makes a search: see `Search.__init__`


@dataclass(frozen=True)
class Machine:
    """How to run, which no result depends on.

    ``workers``, ``batch``, ``function``: see `LocalPool`; ``max_minutes``: see `Stop`; ``cluster``: where there are
    others to train, see `ray_cluster.connect`, whose workers are then at most ``workers``; ``describe``: see `Agent`.
    """

    workers: int = 0
    max_minutes: float | None = None
    batch: int = 0
    function: str = TRAIN_LANES
    cluster: str | None = None
    describe: str = DESCRIBE

    def __post_init__(self) -> None:
        """Raises UsageError for numbers that make no sense: before anything has begun."""
        check_workers(self.workers)
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise UsageError(f"max_minutes: must be above 0, got {self.max_minutes}")


@dataclass(frozen=True)
class Outcome:
    """How a call of ``launch`` or ``resume`` ended. ``finished``: all is done, for the report too."""

    finished: bool
    generation: int
    generations: int
    champion: Fame | None

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        best = self.champion
        champion = best and {
            "id": best.individual.id,
            "name": best.individual.name,
            "estimate": plain(best.estimate),
            "founder": best.individual.is_founder,
        }
        return plain(replace(self, champion=None)) | {"champion": champion}


def run(
    folder: RunFolder,
    recipe: Recipe,
    ledger: Ledger,
    machine: Machine,
    stop: Stop,
    progress: Progress,
    begin: Begin | None = None,
    ray: ModuleType | None = None,
) -> Outcome:
    """Run the campaign from the ledger's checkpoint to its end, or until ``stop``.

    ``begin``: makes the search; by default the recipe's algorithm. ``ray``: connected with the cluster that trains; by
    default this machine does.
    """
    genomes = start.kept(ledger.meta(), recipe, needed=not ledger.tells())
    pool = _pool(folder, recipe, ledger, machine, progress, ray)
    reached, finished = ledger.checkpoint(), False
    with pool, progress, one_thread(), contextlib.suppress(Stopped):
        _write_champion(folder, reached)
        begin = begin or _algorithm(recipe)
        with stop.at_once():
            genomes = start.kept(ledger.meta(), recipe, needed=not ledger.tells())
            past, begun = ledger.past(), bool(ledger.statuses())
            spent = ledger.seconds_of(reached.generation)  # by the tells of the generation under way
        progress.begin(recipe, past, begun)
        with stop.at_once():
            search = begin(recipe, reached, ledger.individual, genomes, ledger.observations())
        while not search.ended:
            started = time.monotonic()
            results = _answer(search, ledger, pool, stop, progress)
            told = search.tell(results)
            reached = search.checkpoint()
            seconds = time.monotonic() - started
            ledger.save(told, reached, seconds)
            _write_champion(folder, reached)
            spent += seconds
            if told.statistics:
                progress.generation(Generation(reached.generation, told.statistics, spent))
                spent = 0.0
                if backup.due(reached.generation):
                    backup.rotate(ledger)
        finished = True
    best = reached.hall_of_fame[0] if reached.hall_of_fame else None
    return Outcome(finished, reached.generation, recipe.generations, best)


def _pool(
    folder: RunFolder, recipe: Recipe, ledger: Ledger, machine: Machine, progress: Progress, ray: ModuleType | None
) -> Pool:
    meta = ledger.meta()
    options: dict[str, Any] = {
        "function": machine.function,
        "batch": machine.batch,
        "patience": recipe.patience,
        "dtype": recipe.precision,
        "seconds_per_lane": recipe.limits.seconds_per_lane,
    }
    if ray is None:
        return LocalPool(machine.workers, device=meta["device"], log=folder.log, **options)
    cluster = ray_cluster.RayCluster(
        ray,
        device=meta["device"],
        workers=machine.workers,
        options=options | {"describe": machine.describe},
        say=progress.say,
    )
    here = kind_of_cpu(json.loads(meta["versions"])) if meta["device"] == "cpu" else meta["device"]
    settled = ledger.hardware(unnoted=here)
    return ClusterPool(cluster, settled=settled, batch=machine.batch, log=folder.log, say=progress.say)


def _algorithm(recipe: Recipe) -> Begin:
    from evo.search.protocol import algorithm  # here alone: it brings in torch and SciPy

    return algorithm(recipe)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch computes with one thread: its tensors are small here, and workers want the other CPUs."""
    import torch  # here alone: it takes seconds to load

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _answer(search: Search, ledger: Ledger, pool: Pool, stop: Stop, progress: Progress) -> Results:
    """The results that the search asks for, from the ledger or from the workers.

    Raises Stopped where it is to stop before all are there.
    """

    def bred(done: int, total: int) -> None:
        progress.bred(done, total)
        stop.check()

    with stop.at_once():
        request = search.ask(bred)
    return _trained(request, ledger, pool, stop, progress)


def _trained(request: Request, ledger: Ledger, pool: Pool, stop: Stop, progress: Progress) -> Results:
    """The results of a request, from the ledger or from the workers. Raises Stopped before all are there."""
    with stop.at_once():
        results = ledger.results(lane.key for lane in request.lanes)
    missing = [lane for lane in request.lanes if lane.key not in results]
    progress.request(request, len(results))
    for lane, training in pool.train(missing, stop=stop.now, drain=stop.soon):
        ledger.add([(lane, training)], request.purpose, pool.hardware(lane.instance))
        results[lane.key] = training
        progress.lane(training)
    if stop.now() or len(results) < len(request.lanes):
        stop.check()
    # in the order of the request and without times, so that the search cannot depend on either
    return {lane.key: replace(results[lane.key], seconds=0.0) for lane in request.lanes}


def _write_champion(folder: RunFolder, reached: Checkpoint) -> None:
    if reached.hall_of_fame:
        text = reached.hall_of_fame[0].individual.text
        if not folder.champion.is_file() or folder.champion.read_bytes() != text.encode():
            files.write(folder.champion, text)
