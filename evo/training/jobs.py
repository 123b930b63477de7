"""Jobs: the lanes that a worker gets at once, and what is tried again when the worker dies or hangs.

Lanes of a job differ in genome and instance only, so that a GPU can train them together. What a failed job left
unanswered is tried again in two halves: a lane that ends its process is alone after log2(n) deaths, and all others
have their results.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from evo.records import Lane
from harness.running_time import Stopwatch
from harness.task import Instance

SILENT_SECONDS = 3600.0  # longest wait for an answer from a batch, unless a lane alone is given more
CUDA_BATCH = 4096  # most lanes of a job on a GPU; `evo.training.batches` divides them further to fit the memory


@dataclass
class Job:
    """Lanes that one worker trains together.

    ``unanswered``: those without a result, by their position in ``lanes``. ``losses``: how often the machine that
    was to train them was lost.
    """

    lanes: tuple[Lane, ...]
    unanswered: dict[int, Lane] = field(init=False)
    losses: int = 0
    _attempts: int = field(init=False, default=0)
    _watch: Stopwatch = field(init=False, default_factory=Stopwatch)
    _heard: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.unanswered = dict(enumerate(self.lanes))

    def start(self) -> None:
        """Count an attempt, and start the time of `overdue`."""
        self._attempts += 1
        self._heard = 0.0
        self._watch.restart()

    def answered(self, position: int) -> Lane:
        """Note the answer for the lane at ``position``, and return that lane."""
        self._heard = self._watch.seconds()
        return self.unanswered.pop(position)

    @property
    def seconds(self) -> float:
        """Running time of this process (`Stopwatch`) since the last start."""
        return self._watch.seconds()

    def overdue(self, seconds_per_lane: float) -> bool:
        """Whether the wait since the start or the last answer was too long.

        The limit is ``seconds_per_lane`` for one lane and n times that for n lanes, which a GPU trains together, but
        at most the greater of SILENT_SECONDS and ``seconds_per_lane``: what hangs should be found on the same day.
        """
        limit = min(len(self.unanswered) * seconds_per_lane, max(seconds_per_lane, SILENT_SECONDS))
        return self.seconds - self._heard > limit

    def uncount_start(self) -> None:
        """Do not count the last start as an attempt: it failed before any lane was tried."""
        self._attempts -= 1

    def retries(self, attempts: int) -> list[Job]:
        """The jobs to try again: the halves of what is unanswered; for a lane alone, itself until ``attempts``."""
        if len(self.lanes) == 1:
            return [self] if self._attempts < attempts else []
        rest = tuple(self.unanswered.values())
        middle = (len(rest) + 1) // 2
        return [Job(half, self.losses) for half in (rest[:middle], rest[middle:]) if half]


def batches(lanes: Iterable[Lane], size: int) -> list[Job]:
    """The jobs for ``lanes``, each `Lane.key` once; up to ``size`` lanes of one task, depth, init and epochs in each.

    Deepest first, so that no long lane is left for the end; lanes of one instance together, for the caches. The jobs
    do not depend on the order of ``lanes``.
    """
    jobs = []
    for _, similar in groupby(ordered(lanes), key=group):
        alike = tuple(similar)
        jobs += [Job(alike[start : start + size]) for start in range(0, len(alike), size)]
    return jobs


def ordered(lanes: Iterable[Lane]) -> list[Lane]:
    """``lanes``, each `Lane.key` once, in the order in which they are to be trained."""
    unique: dict[tuple, Lane] = {}
    for lane in lanes:
        unique.setdefault(lane.key, lane)
    return sorted(unique.values(), key=_order)


def fields(lane: Lane) -> dict[str, Any]:
    """The fields of a lane as a worker's function gets them, ready for JSON; ``seed``: 64 hex digits."""
    instance = lane.instance
    return {
        "hash": lane.hash,
        "text": lane.text,
        "task": instance.task,
        "num_hidden_layers": instance.num_hidden_layers,
        "seed": instance.seed.hex(),
        "init": instance.init,
        "accuracy_factor": instance.accuracy_factor,
        "epochs": lane.epochs,
    }


def lane(fields: Mapping[str, Any]) -> Lane:
    """The inverse of `fields`. Raises KeyError, TypeError, ValueError for what is none."""
    seed = bytes.fromhex(fields["seed"])
    place = fields["task"], fields["num_hidden_layers"], seed, fields["init"], fields["accuracy_factor"]
    return Lane(fields["hash"], fields["text"], Instance(*place), fields["epochs"])


def group(lane: Lane) -> tuple:
    """Equal for lanes that can be trained together."""
    return -lane.instance.num_hidden_layers, lane.instance.task, lane.instance.init, lane.epochs


def _order(lane: Lane) -> tuple:
    return *group(lane), lane.instance.seed, lane.instance.accuracy_factor, lane.hash
