"""The training loop, literally as deployed: every line follows a fact of the challenge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from harness.optimizer import Optimizer
from harness.task import Instance

NUMERICS_VERSION = 1


@dataclass(frozen=True)
class Training:
    """What came of one training.

    ``status``: ``finished`` (all epochs, or patience ran out), ``stopped`` (``on_epoch`` said so), ``diverged`` (a
    loss or parameter became non-finite for good), ``invalid_update`` or ``error`` (the optimizer broke its
    contract), or one of `harness.submission`'s. ``message``: empty, or one line for people. ``best_epoch``: the epoch
    whose model was saved. ``train_loss``, ``val_loss``: mean squared errors, one entry an epoch. ``test_loss``: of
    the saved model. ``target_loss``: the target eps*^2. ``quality``: of the saved model; None when none was saved.
    ``passed``: only for the task ``seed``.
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


def train(
    instance: Instance,
    optimizer: Optimizer,
    *,
    epochs: int = 1000,
    patience: int = 50,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[int, float, float], bool | None] | None = None,
) -> Training:
    """Train ``instance``'s network with ``optimizer`` for at most ``epochs`` epochs."""
    raise NotImplementedError("the loop follows in the next commits of this branch")
