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
from harness.lane_network import Kinds
from harness.lane_optimizer import Slabs
from harness.model import Layout


@dataclass(frozen=True)
class FlatLanes:
    """A `harness.lane_optimizer.LaneOptimizer` for the CPU. ``programs``: one per lane."""

    programs: Sequence[Program]

    @property
    def queries(self) -> bool:
        """Whether any lane ever queries."""
        return any(program.query for program in self.programs)

    def bytes_per_lane(self, layout: Layout, dtype: torch.dtype) -> int:
        """Bytes per lane: copies of theta and gradient, the update, a vector per slot; work space is not counted."""
        most = max(len(program.slots) for program in self.programs)
        return (3 + most) * Kinds.of(layout).size(Kinds.of(layout).trainable) * dtype.itemsize

    def bind(self, slabs: Slabs, layout: Layout, seeds: Sequence[bytes]) -> FlatLanesRun:
        """Begin a run on ``slabs``. ``seeds``: one per lane."""
        trainable = Kinds.of(layout).trainable
        runs = []
        for theta, program, seed in zip(slabs.theta, self.programs, seeds, strict=True):
            own = torch.empty_like(theta), torch.empty_like(theta)
            run = FlatProgram(program).bind(
                *own,
                seed=seed,
                shapes=[layout.shapes[i] for i in trainable],
                roles=[layout.roles[i] for i in trainable],
                layers=[layout.layers[i] for i in trainable],
                indices=trainable,
            )
            runs.append((*own, run))
        return FlatLanesRun(slabs, runs, self.queries)


class FlatLanesRun:
    """A `harness.lane_optimizer.LaneRun`. ``runs``: each lane's own theta and gradient, and the run bound to them."""

    def __init__(self, slabs: Slabs, runs: list[tuple[Tensor, Tensor, FlatRun]], queries: bool) -> None:
        self.slabs, self.runs, self.queries = slabs, runs, queries

    def query(self) -> Tensor | None:
        """Fill ``queried``; returns int32 ``[lane]``, which lanes query now, or None where no lane ever does."""
        if not self.queries:
            return None
        querying = torch.zeros_like(self.slabs.alive)
        for lane, (theta, _, run) in enumerate(self.runs):
            theta.copy_(self.slabs.theta[lane])
            queried = run.query(*self._known(lane)) if self.slabs.alive[lane] else None
            querying[lane] = queried is not None
            self.slabs.queried[lane].copy_(theta if queried is None else queried)
        return querying

    def step(self) -> None:
        """Add the update to the theta of each lane that is alive."""
        for lane, (theta, gradient, run) in enumerate(self.runs):
            if self.slabs.alive[lane]:
                theta.copy_(self.slabs.theta[lane])
                gradient.copy_(self.slabs.gradient[lane])
                self.slabs.theta[lane].add_(run.step(*self._known(lane)))

    def keep(self, lanes: Tensor) -> None:
        """Go on with ``lanes`` alone (ascending), which have moved to the beginnings of the slabs."""
        self.runs = [self.runs[lane] for lane in lanes.tolist()]

    def _known(self, lane: int) -> tuple[int, float | None, float | None]:
        slabs, epoch = self.slabs, int(self.slabs.epoch[lane])
        if not slabs.has_loss[lane]:
            return epoch, None, None
        return epoch, float(slabs.train_loss[lane]), float(slabs.val_loss[lane])
