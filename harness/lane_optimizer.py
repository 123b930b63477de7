"""The contract of an optimizer of many lanes: the slabs that it shares with `harness.lanes`, and its methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from harness.model import Layout

_MOVED_LANES = 128  # lanes of a slab that move at once


@dataclass
class Slabs:
    """The slabs that the loop and an optimizer of many lanes share.

    ``theta``, ``gradient``, ``queried``: ``[lane, n]``, the trainable tensors one after another; ``queried``, where the
    optimizer queries, the parameters at which the next gradient is taken. ``frozen``, ``running``: ``[lane, n]``, the
    tensors that no update moves. ``output_bias``: ``[lane, outputs]``, where the optimizer biases outputs, what it adds
    to those of the next batch. ``frozen_scale``: ``[lane, units]``, where the optimizer rescales frozen features, the
    last BatchNorm's scale for the next batch. ``alive``: int32 ``[lane]``, which lanes train. ``epoch``, ``has_loss``:
    int32 ``[lane]``; ``train_loss``, ``val_loss``: double ``[lane]``, the previous
    epoch's, where ``has_loss``.
    """

    theta: Tensor
    gradient: Tensor
    queried: Tensor
    frozen: Tensor
    running: Tensor
    output_bias: Tensor
    frozen_scale: Tensor
    alive: Tensor
    epoch: Tensor
    has_loss: Tensor
    train_loss: Tensor
    val_loss: Tensor


class LaneRun(Protocol):
    """An optimizer on the slabs that it was bound to. It never waits for the device, and keeps no new memory."""

    def query(self) -> Tensor | None:
        """Fill ``queried`` (with theta in a lane that does not query in this step), ``output_bias``, ``frozen_scale``.

        Returns int32 ``[lane]``, which lanes query; None where no lane ever does, and ``queried`` is not used.
        """
        ...

    def step(self) -> None:
        """Add the update to the theta of each lane that is alive."""
        ...

    def keep(self, lanes: Tensor) -> None:
        """Go on with these lanes alone (ascending), which have moved to the beginnings of the slabs."""
        ...


class LaneOptimizer(Protocol):
    """An optimizer for each lane of a batch."""

    @property
    def queries(self) -> bool:
        """Whether any lane ever queries."""
        ...

    @property
    def biases_outputs(self) -> bool:
        """Whether any lane ever adds something to the outputs in a query."""
        ...

    @property
    def scales_features(self) -> bool:
        """Whether any lane ever rescales frozen features in a query."""
        ...

    def bytes_per_lane(self, layout: Layout, dtype: torch.dtype) -> int:
        """Device memory per lane, the slabs of `Slabs` apart."""
        ...

    def bind(self, slabs: Slabs, layout: Layout, seeds: Sequence[bytes]) -> LaneRun:
        """Begin a run. ``seeds``: one per lane, as in `harness.optimizer.Optimizer.init_state`."""
        ...


def keep_lanes(slab: Tensor, lanes: Tensor) -> Tensor:
    """The rows ``lanes`` (ascending) of a slab, moved to its beginning some at a time.

    A batch that fills the memory has no room for a second slab; the largest is the optimizer's state, a third of all.
    """
    for start in range(0, len(lanes), _MOVED_LANES):
        some = lanes[start : start + _MOVED_LANES]
        slab[start : start + len(some)] = slab.index_select(0, some)  # none of which has been written over yet
    return slab[: len(lanes)]
