"""The fast training loop on one thread, for optimizers that work on one flat vector.

Its results are those of `harness.train` within rounding, bit-equal between runs; `benchmarks/throughput.py` measures
how much faster it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from harness.flat_network import FlatNetwork, Layers
from harness.result import Training
from harness.task import Instance
from harness.train import STEPS_PER_EPOCH, Loop, run


class FlatRun(Protocol):
    """An optimizer on the vectors that it was bound to, neither of which it changes. Losses as in `Optimizer`.

    ``output_bias``: what the last query adds to the outputs, ``[outputs]``; None where it adds nothing.
    ``frozen_scale``: what it puts in place of the last BatchNorm's scale, ``[units]``, always the same tensor, whose
    content may change; None where it leaves that.
    """

    output_bias: Tensor | None
    frozen_scale: Tensor | None

    def query(self, epoch: int, train_loss: float | None, val_loss: float | None) -> Tensor | None:
        """The parameters at which to take this batch's gradient, or None for theta; valid until the next call."""
        ...

    def step(self, epoch: int, train_loss: float | None, val_loss: float | None) -> Tensor:
        """The update, to be added to theta; valid until the next call."""
        ...


@dataclass(frozen=True)
class Network:
    """All tensors of a network in training and what they are, in the parameter order.

    ``params``: the loop's own tensors, always current. ``steps_per_epoch``: batches of an epoch.
    """

    params: Sequence[Tensor]
    shapes: Sequence[tuple[int, ...]]
    roles: Sequence[str]
    layers: Sequence[int]
    trainable: Sequence[bool]
    steps_per_epoch: int


class FlatOptimizer(Protocol):
    """An optimizer of all trainable parameters as one vector: what `train` takes here."""

    def bind(
        self,
        theta: Tensor,
        gradient: Tensor,
        *,
        seed: bytes,
        shapes: Sequence[tuple[int, ...]],
        roles: Sequence[str],
        layers: Sequence[int],
        indices: Sequence[int],
        network: Network,
    ) -> FlatRun:
        """Begin a run on vectors that the loop owns and rewrites.

        ``theta``, ``gradient``: ``[n]``, the trainable tensors one after another. ``seed``: as in
        `harness.optimizer.Optimizer.init_state`, as are ``shapes``, ``roles``, ``layers``, one entry for each of these
        tensors. ``indices``: their indices in the parameter order. ``network``: all tensors, those that do not train
        included.
        """
        ...


def train(
    instance: Instance,
    optimizer: FlatOptimizer,
    *,
    epochs: int = 1000,
    patience: int = 50,
    dtype: torch.dtype = torch.float32,
    on_epoch: Callable[[int, float, float], bool | None] | None = None,
) -> Training:
    """Train as `harness.train.train` does, with a flat optimizer, on the CPU."""
    with torch.inference_mode():  # tensors made here cost torch less bookkeeping per call
        return run(FlatLoop(instance, optimizer, dtype), epochs=epochs, patience=patience, on_epoch=on_epoch)


class FlatLoop(Loop):
    """The loop over one vector: it changes its own tensors in place, and makes them anew for each training."""

    def __init__(self, instance: Instance, optimizer: FlatOptimizer, dtype: torch.dtype) -> None:
        super().__init__(instance, dtype, torch.device("cpu"))
        self.network = FlatNetwork(self.layout, self.params)
        self.params = self.network.params
        self.optimizer = optimizer
        self.steps: FlatRun
        self._layers = self.network.layers(self.params)
        self._queried: dict[bool, tuple[Tensor, Layers]] = {}

    def start(self) -> None:
        """Bind the optimizer to the network's vectors."""
        layout, trainable = self.layout, self.network.trainable
        self.steps = self.optimizer.bind(
            self.network.theta,
            self.network.gradient,
            seed=self.optimizer_seed,
            shapes=[layout.shapes[i] for i in trainable],
            roles=[layout.roles[i] for i in trainable],
            layers=[layout.layers[i] for i in trainable],
            indices=trainable,
            network=Network(self.params, layout.shapes, layout.roles, layout.layers, layout.trainable, STEPS_PER_EPOCH),
        )

    def train_batch(self, x: Tensor, y: Tensor, epoch: int, *known: float | None) -> float:
        """See `Loop.train_batch`."""
        network = self.network
        queried = self.steps.query(epoch, *known)
        used = self._layers if queried is None else self._layers_at(queried, self.steps.frozen_scale)
        moves = queried is None or not self.task.restores_running_stats
        error = network.forward(used, x, move_running_stats=moves) - y
        if queried is not None and self.steps.output_bias is not None:
            error += self.steps.output_bias
        batch_loss = torch.dot(error.view(-1), error.view(-1)).item() / error.numel()
        if not math.isfinite(batch_loss):
            self.lost = self.find_nan()
            if self.lost:
                return math.nan
        network.backward(used, error.mul_(2))
        network.theta.add_(self.steps.step(epoch, *known))
        return batch_loss

    def _layers_at(self, queried: Tensor, frozen_scale: Tensor | None) -> Layers:
        """The layers at a query. Optimizers return the same tensors every time, so their views are kept."""
        scaled = frozen_scale is not None
        if scaled not in self._queried or self._queried[scaled][0] is not queried:
            params = self.network.with_trainable(queried, self.params)
            if frozen_scale is not None:
                params[self.layout.last_scale] = frozen_scale
            self._queried[scaled] = queried, self.network.layers(params)
        return self._queried[scaled][1]

    def snapshot(self) -> list[Tensor]:
        """Copies of all parameters."""
        return [param.clone() for param in self.params]

    def loss(self, params: list[Tensor], rows: slice) -> float:
        """Mean squared error over ``rows`` and outputs in evaluation mode, in one batch."""
        error = self.network.predict(self.network.layers(params), self.x[rows]) - self.y[rows]
        return (error * error).mean().item()
