"""An optimizer of many lanes for the CPU: each lane's program on the flat back end, one lane after another.

The batched loop is for GPUs; with this it runs where there is none, for tests and dry runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genomes.backends.flat.optimizer import FlatProgram, FlatRun
from genomes.compiler.program import Program
from harness.flat import Network
from harness.lane_network import Kinds
from harness.lane_optimizer import Slabs
from harness.model import Layout
from harness.train import STEPS_PER_EPOCH


@dataclass(frozen=True)
class FlatLanes:
    """A `harness.lane_optimizer.LaneOptimizer` for the CPU. ``programs``: one per lane."""

    programs: Sequence[Program]

    @property
    def queries(self) -> bool:
        """Whether any lane ever queries."""
        return any(program.queries for program in self.programs)

    @property
    def biases_outputs(self) -> bool:
        """Whether any lane ever adds something to the outputs in a query."""
        return any(program.output_biases for program in self.programs)

    @property
    def scales_features(self) -> bool:
        """Whether any lane ever rescales frozen features in a query."""
        return any(program.as_evaluated for program in self.programs)

    def bytes_per_lane(self, layout: Layout, dtype: torch.dtype) -> int:
        """Bytes per lane: copies of theta and gradient, the update, a vector per slot; work space is not counted."""
        most = max(len(program.slots) for program in self.programs)
        return (3 + most) * Kinds.of(layout).size(Kinds.of(layout).trainable) * dtype.itemsize

    def bind(self, slabs: Slabs, layout: Layout, seeds: Sequence[bytes]) -> FlatLanesRun:
        """Begin a run on ``slabs``. ``seeds``: one per lane."""
        trainable = Kinds.of(layout).trainable
        lanes = []
        for row, program, seed in zip(slabs.theta, self.programs, seeds, strict=True):
            theta, gradient, params = torch.empty_like(row), torch.empty_like(row), []
            run = FlatProgram(program).bind(
                theta,
                gradient,
                seed=seed,
                shapes=[layout.shapes[i] for i in trainable],
                roles=[layout.roles[i] for i in trainable],
                layers=[layout.layers[i] for i in trainable],
                indices=trainable,
                network=Network(params, layout.shapes, layout.roles, layout.layers, layout.trainable, STEPS_PER_EPOCH),
            )
            lanes.append(_Lane(theta, gradient, params, run))
        return FlatLanesRun(slabs, layout, lanes, self.queries)


@dataclass(frozen=True)
class _Lane:
    """A lane's own ``theta`` and ``gradient``, the run bound to them, and views of all of its tensors in the slabs."""

    theta: Tensor
    gradient: Tensor
    params: list[Tensor]
    run: FlatRun


class FlatLanesRun:
    """A `harness.lane_optimizer.LaneRun`."""

    def __init__(self, slabs: Slabs, layout: Layout, lanes: list[_Lane], queries: bool) -> None:
        self.slabs, self.lanes, self.queries, self._kinds = slabs, lanes, queries, Kinds.of(layout)
        self._scale = layout.last_scale
        self._find_params()

    def _find_params(self) -> None:
        views = self._kinds.views(self.slabs.theta, self.slabs.frozen, self.slabs.running)
        for number, lane in enumerate(self.lanes):
            lane.params[:] = [view[number] for view in views]

    def query(self) -> Tensor | None:
        """Fill ``queried``, ``output_bias``, ``frozen_scale``; returns int32 ``[lane]``, which lanes query now, or None
        where no lane ever does."""
        if not self.queries:
            return None
        querying = torch.zeros_like(self.slabs.alive)
        self.slabs.output_bias.zero_()
        for number, lane in enumerate(self.lanes):
            lane.theta.copy_(self.slabs.theta[number])
            queried = lane.run.query(*self._known(number)) if self.slabs.alive[number] else None
            querying[number] = queried is not None
            self.slabs.queried[number].copy_(lane.theta if queried is None else queried)
            if queried is not None and lane.run.output_bias is not None:
                self.slabs.output_bias[number].copy_(lane.run.output_bias)
            if self.slabs.frozen_scale.shape[1]:
                scale = None if queried is None else lane.run.frozen_scale
                self.slabs.frozen_scale[number].copy_(lane.params[self._scale] if scale is None else scale)
        return querying

    def step(self) -> None:
        """Add the update to the theta of each lane that is alive."""
        for number, lane in enumerate(self.lanes):
            if self.slabs.alive[number]:
                lane.theta.copy_(self.slabs.theta[number])
                lane.gradient.copy_(self.slabs.gradient[number])
                self.slabs.theta[number].add_(lane.run.step(*self._known(number)))

    def keep(self, lanes: Tensor) -> None:
        """Go on with ``lanes`` alone (ascending), which have moved to the beginnings of the slabs."""
        self.lanes = [self.lanes[lane] for lane in lanes.tolist()]
        self._find_params()

    def _known(self, lane: int) -> tuple[int, float | None, float | None]:
        slabs, epoch = self.slabs, int(self.slabs.epoch[lane])
        if not slabs.has_loss[lane]:
            return epoch, None, None
        return epoch, float(slabs.train_loss[lane]), float(slabs.val_loss[lane])
