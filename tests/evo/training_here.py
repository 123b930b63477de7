"""A pool that trains in this process, for tests of what is asked and answered: a worker takes seconds to start."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pytest

from evo.records import Lane
from evo.training import worker
from evo.training.jobs import fields
from evo.training.pool import LocalPool
from harness.result import Training


class PoolHere(LocalPool):
    """Trains one lane after another; there is no limit of time, and a crash is this process's own."""

    def rounds(
        self,
        lanes: Iterable[Lane],
        stop: Callable[[], bool] = lambda: False,
        drain: Callable[[], bool] = lambda: False,
    ) -> Iterator[list[tuple[Lane, Training]]]:
        """Train each `Lane.key` once."""
        function = worker.find(self._function)
        for lane in {lane.key: lane for lane in lanes}.values():
            if stop() or drain():
                return
            job = json.loads(json.dumps({"lanes": [fields(lane)], **self._options}))
            for _, training in worker.answers_to(job, function):
                yield [(lane, Training.from_dict(json.loads(json.dumps(training))))]


@contextmanager
def training_here() -> Iterator[None]:
    """Campaigns and evaluations train in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for user in ("evo.campaign.loop", "evo.evaluation.trainings"):
            patch.setattr(f"{user}.LocalPool", PoolHere)
        yield


@pytest.fixture
def train_here() -> Iterator[None]:
    with training_here():
        yield
