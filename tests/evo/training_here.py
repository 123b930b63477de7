"""A pool that trains in this process, for tests of what is asked and answered: a worker takes seconds to start."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Self

import pytest

from evo.records import Lane
from evo.training.jobs import fields
from evo.training.worker import _answers
from harness.result import Training
from harness.task import Instance


class PoolHere:
    """As `evo.training.pool.LocalPool`, one lane after another; no limit of time, and a crash is this process's own."""

    def __init__(
        self,
        workers: int = 0,
        *,
        function: str,
        batch: int = 0,
        patience: int = 50,
        device: str = "cpu",
        dtype: str = "float32",
        seconds_per_lane: float = 0.0,
        log: object = None,
    ):
        module, _, name = function.partition(":")
        self._function = getattr(importlib.import_module(module), name)
        self._options = {"patience": patience, "device": device, "dtype": dtype}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def train(
        self,
        lanes: Iterable[Lane],
        stop: Callable[[], bool] = lambda: False,
        drain: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[Lane, Training]]:
        """Train each `Lane.key` once."""
        for lane in {lane.key: lane for lane in lanes}.values():
            if stop() or drain():
                return
            job = json.loads(json.dumps({"lanes": [fields(lane)], **self._options}))
            for _, training in _answers(self._function, job):
                yield lane, Training.from_dict(json.loads(json.dumps(training)))

    def hardware(self, instance: Instance) -> str:
        return ""


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
