"""The training loop, literally as deployed: every line follows a fact of the challenge.

One difference shows only after a run has diverged: the deployed ReLU turns NaN into 0, so that a network full
of NaN goes on and predicts a constant; here NaN stays NaN and ends the run.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from harness.data import TEST, TRAIN_SIZE, VALIDATION, load_data, sample_orders
from harness.model import (
    RUNNING_ROLES,
    backward,
    forward,
    initial_parameters,
    move_running_stats,
    network_layout,
    predict,
)
from harness.optimizer import GuardedOptimizer, Optimizer, OptimizerFault, optimizer_seed
from harness.result import Training
from harness.score import quality, target_loss
from harness.task import TASKS, Instance

BATCH_SIZE = 128
STEPS_PER_EPOCH = -(-TRAIN_SIZE // BATCH_SIZE)  # the last batch of an epoch is smaller
MIN_IMPROVEMENT = 1e-7


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
    """Train ``instance``'s network with ``optimizer`` for at most ``epochs`` epochs of eight batches.

    It ends early after ``patience`` epochs in a row without a better validation loss, when ``on_epoch(epoch,
    train_loss, val_loss)`` returns True, or when going on could not change the saved model. Whatever the
    optimizer does wrong becomes a status. On one thread (the caller's to set) results are bit-equal between
    runs.
    """
    return run(
        LiteralLoop(instance, GuardedOptimizer(optimizer), dtype, torch.device(device)),
        epochs=epochs,
        patience=patience,
        on_epoch=on_epoch,
    )


def run(
    loop: Loop,
    *,
    epochs: int,
    patience: int,
    on_epoch: Callable[[int, float, float], bool | None] | None = None,
) -> Training:
    """Train ``loop``'s network as `train` says, whatever way the loop goes through the batches."""
    target = target_loss(loop.instance)
    best_params, best_epoch, best_loss = None, None, math.inf
    stale_epochs = 0
    status, message = "finished", ""
    with torch.no_grad():
        try:
            loop.start()
            for epoch in range(epochs):
                train_loss, val_loss = loop.run_epoch(epoch)
                if val_loss < best_loss - MIN_IMPROVEMENT:
                    best_params, best_epoch, best_loss = loop.snapshot(), epoch, val_loss
                    stale_epochs = 0
                else:
                    stale_epochs += 1
                stop = on_epoch is not None and on_epoch(epoch, train_loss, val_loss)
                if stop:
                    status = "stopped"
                if stop or loop.lost or stale_epochs >= patience:
                    break
            if loop.val_loss and not math.isfinite(loop.val_loss[-1]):
                reason = loop.lost or "the validation loss is not finite"
                status, message = "diverged", f"epoch {len(loop.val_loss) - 1}: {reason}"
        except OptimizerFault as fault:
            status, message = fault.status, fault.message
            best_params, best_epoch = None, None  # a run that broke the contract has no result
        test_loss = None if best_params is None else loop.loss(best_params, TEST)
    return Training(
        status=status,
        message=message,
        epochs_run=len(loop.val_loss),
        best_epoch=best_epoch,
        train_loss=loop.train_loss,
        val_loss=loop.val_loss,
        test_loss=test_loss,
        target_loss=target,
        quality=None if test_loss is None else quality(test_loss, target),
        passed=(test_loss is not None and test_loss <= target) if loop.task.threshold else None,
        seconds=time.perf_counter() - loop.started,
    )


class Loop(ABC):
    """A network in training: batches, losses and what has gone wrong. Subclasses define how to train on a batch.

    ``params``: all tensors, in the parameter order. ``lost``: empty, or what has become NaN for good: NaN survives
    every update and every later batch in a trainable tensor or in running statistics, and makes every validation
    loss NaN, so that no model is saved again.
    """

    def __init__(self, instance: Instance, dtype: torch.dtype, device: torch.device) -> None:
        self.started = time.perf_counter()
        self.instance = instance
        self.task = TASKS[instance.task]
        self.layout = network_layout(instance.task, instance.num_hidden_layers)
        self.orders = sample_orders(instance.seed)
        data = load_data(instance.task, instance.seed)
        self.x, self.y = (torch.tensor(array, dtype=dtype, device=device) for array in (data.x, data.y))
        self.params = [torch.tensor(v, dtype=dtype, device=device) for v in initial_parameters(instance)]
        self.optimizer_seed = optimizer_seed(instance.seed)
        self.train_loss: list[float] = []
        self.val_loss: list[float] = []
        self.lost = ""

    @abstractmethod
    def start(self) -> None:
        """Set up the optimizer."""

    @abstractmethod
    def train_batch(self, x: Tensor, y: Tensor, epoch: int, *known: float | None) -> float:
        """One update; ``known``: the previous epoch's losses. Returns the batch's loss before the update; NaN, without
        an update, when the network is lost."""

    @abstractmethod
    def loss(self, params: list[Tensor], rows: slice) -> float:
        """Mean squared error over ``rows`` and outputs in evaluation mode."""

    def snapshot(self) -> list[Tensor]:
        """Parameters that no later batch changes."""
        return self.params

    def run_epoch(self, epoch: int) -> tuple[float, float]:
        """Train on all batches, then validate. Returns both losses, which it also appends."""
        known = (self.train_loss[-1], self.val_loss[-1]) if epoch > 0 else (None, None)
        order = torch.from_numpy(self.orders[epoch]).to(self.x.device)
        x, y = self.x[order], self.y[order]
        total = 0.0
        for x_batch, y_batch in zip(x.split(BATCH_SIZE), y.split(BATCH_SIZE), strict=True):  # the last: 104 samples
            total += self.train_batch(x_batch, y_batch, epoch, *known) * len(x_batch)
            if self.lost:
                break
        train_loss = total / TRAIN_SIZE
        val_loss = self.loss(self.params, VALIDATION)
        if not math.isfinite(val_loss):
            self.lost = self.find_nan()
        self.train_loss.append(train_loss)
        self.val_loss.append(val_loss)
        return train_loss, val_loss

    def find_nan(self) -> str:
        """Which tensor has a NaN that stays, or an empty text."""
        layout = self.layout
        for param, role, layer, trainable in zip(
            self.params, layout.roles, layout.layers, layout.trainable, strict=True
        ):
            if (trainable or role in RUNNING_ROLES) and torch.isnan(param).any():
                return f"{role} of layer {layer} is NaN"
        return ""


class LiteralLoop(Loop):
    """The readable definition, for any optimizer.

    ``params`` is replaced at every batch and no tensor is changed in place, so that a reference to an earlier list is
    a snapshot.
    """

    def __init__(
        self, instance: Instance, optimizer: GuardedOptimizer, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(instance, dtype, device)
        self.optimizer = optimizer
        self.state: Any = None

    def start(self) -> None:
        """Get the optimizer's state. Raises OptimizerFault."""
        self.state = self.optimizer.init_state(
            self.optimizer_seed,
            self.layout.sizes,
            shapes=list(self.layout.shapes),
            roles=list(self.layout.roles),
            trainable=list(self.layout.trainable),
            layers=list(self.layout.layers),
            steps_per_epoch=STEPS_PER_EPOCH,
            device=self.x.device,
            dtype=self.x.dtype,
        )

    def train_batch(self, x: Tensor, y: Tensor, epoch: int, *known: float | None) -> float:
        """One update; ``known``: the previous epoch's losses. Returns the batch's loss before the update.

        The original sets the queried parameters, goes forward and backward, and sets its snapshot again. Here
        the queried ones are simply used in place of ``params``, frozen tensors included; what remains of the
        restore is whether the running statistics move.
        """
        queried = self.optimizer.query_at_params(self.state, self.params, epoch, *known)
        used = self.params if queried is None else queried
        passed = forward(self.layout, used, x)
        if queried is None or not self.task.restores_running_stats:
            self.params = move_running_stats(self.layout, self.params, passed)
        error = passed.prediction - y
        batch_loss = (error * error).mean().item()
        if not math.isfinite(batch_loss):
            self.lost = self.find_nan()
            if self.lost:
                return math.nan
        gradients = backward(self.layout, used, passed, 2 * error)
        updates = self.optimizer.step(self.state, self.params, gradients, epoch, *known)
        self.params = [
            param + update if trainable else param
            for param, update, trainable in zip(self.params, updates, self.layout.trainable, strict=True)
        ]
        return batch_loss

    def loss(self, params: list[Tensor], rows: slice) -> float:
        """Mean squared error over ``rows`` and outputs in evaluation mode, in batches of at most 128."""
        total = 0.0
        for batch in batches(rows):
            error = predict(self.layout, params, self.x[batch]) - self.y[batch]
            total += (error * error).mean().item() * (batch.stop - batch.start)
        return total / (rows.stop - rows.start)


def batches(rows: slice) -> list[slice]:
    """Consecutive slices of at most 128 rows."""
    return [slice(start, min(start + BATCH_SIZE, rows.stop)) for start in range(rows.start, rows.stop, BATCH_SIZE)]
