"""What a training came to, as plain data; reading a result needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any, Self

NUMERICS_VERSION = 4  # stored with every result; raise it with any change of what a training or a genome computes


@dataclass(frozen=True)
class Training:
    """The outcome of one training.

    ``status``: ``finished`` (all epochs, or patience ran out), ``stopped`` (``on_epoch`` said so),
    ``diverged`` (the losses are no longer finite), ``invalid_update`` or ``error`` (the optimizer broke its
    contract), or one of `harness.submission`'s. ``message``: empty, or one line for people. ``best_epoch``:
    the epoch whose model was saved. ``train_loss``, ``val_loss``: mean squared errors ``[epoch]``, which may be NaN
    or infinite. ``test_loss``: of the saved model. ``target_loss``: eps*^2. ``quality``: of the saved model; None
    where no model was saved, as is ``test_loss``. ``passed``: for the task ``seed`` alone. ``seconds``: wall time.
    """

    status: str
    message: str
    epochs_run: int
    best_epoch: int | None
    train_loss: list[float]
    val_loss: list[float]
    test_loss: float | None
    target_loss: float
    quality: float | None
    passed: bool | None
    seconds: float

    @classmethod
    def failed(cls, status: str, message: str, *, target_loss: float = math.nan, seconds: float = 0.0) -> Self:
        """A training that produced nothing: no epoch, no model."""
        return cls(status, message, 0, None, [], [], None, target_loss, None, None, seconds)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON; the lists are shared."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of ``to_dict``. Raises TypeError for a missing or an unknown field."""
        return cls(**values)


def finished_quality(status: str, quality: float | None) -> float | None:
    """What a training counts as: its quality where it finished; one that was cut off has none, whatever it saved."""
    return quality if status == "finished" else None


def mean_quality(trainings: Iterable[Training]) -> float | None:
    """The mean quality; None where a training did not finish or has no quality, or where there is none at all."""
    qualities = []
    for training in trainings:
        quality = finished_quality(training.status, training.quality)
        if quality is None:
            return None
        qualities.append(quality)
    return fmean(qualities) if qualities else None
