"""The loop of a campaign: its workers answer what the search asks and the ledger does not know yet."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from evo.campaign.course import Begin, Course
from evo.campaign.folder import RunFolder
from evo.campaign.progress import Progress
from evo.campaign.stop import Stop, Stopped
from evo.errors import UsageError
from evo.ledger.ledger import Ledger
from evo.recipe.schema import Recipe
from evo.records import Fame, Request, Results, lane_steps, plain
from evo.training import ray_cluster
from evo.training.cluster import ClusterPool
from evo.training.computer import DESCRIBE, kind_of_cpu
from evo.training.pool import LocalPool, Pool, check_workers
from evo.training.worker import TRAIN_LANES


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
    """How a call of ``launch`` or ``resume`` ended. ``finished``: all is done, for the report too.

    ``lane_steps``: training steps of all complete generations; ``budget``: those that end the campaign, 0: no such end.
    """

    finished: bool
    generation: int
    generations: int
    champion: Fame | None
    lane_steps: int = 0
    budget: int = 0

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

    ``begin``: see `Course`. ``ray``: connected with the cluster that trains; by default this machine does.
    """
    course = Course(folder, recipe, ledger, stop, progress, begin)
    pool = _pool(folder, recipe, ledger, machine, progress, ray)
    finished = False
    with pool, progress, one_thread(), contextlib.suppress(Stopped):
        course.begin()
        while not course.ended:
            request, known = course.ask()
            course.tell(request, _trained(request, known, ledger, pool, stop, progress))
        finished = True
    return outcome(course, finished)


def outcome(course: Course, finished: bool) -> Outcome:
    """How far the course of a campaign has come."""
    reached = course.reached
    best = reached.hall_of_fame[0] if reached.hall_of_fame else None
    spent, recipe = lane_steps(course.ledger.past()), course.recipe
    return Outcome(finished, reached.generation, recipe.generations, best, spent, recipe.lane_steps)


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
    if meta["device"] == "cpu":
        ledger.note_hardware(settled)  # also what was trained here before
    return ClusterPool(cluster, settled=settled, batch=machine.batch, log=folder.log, say=progress.say)


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


def _trained(request: Request, known: Results, ledger: Ledger, pool: Pool, stop: Stop, progress: Progress) -> Results:
    """The results of a request, the ``known`` ones and those of the workers. Raises Stopped before all are there."""
    results = dict(known)
    missing = [lane for lane in request.lanes if lane.key not in results]
    for lane, training in pool.train(missing, stop=stop.now, drain=stop.soon):
        ledger.add([(lane, training)], request.purpose, pool.hardware(lane.instance))
        results[lane.key] = training
        progress.lane(training)
    if stop.now() or len(results) < len(request.lanes):
        stop.check()
    return results
