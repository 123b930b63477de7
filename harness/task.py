"""The two tasks as records, and the instance: everything that fixes one training but the optimizer."""

from __future__ import annotations

import struct
from dataclasses import dataclass

SEED_BYTES = 32
HIDDEN_WIDTH = 256
INITS = ("per_layer", "shared")


@dataclass(frozen=True)
class Task:
    """What distinguishes one task from another; all else in the loop is common to both.

    ``omega_divisor``: what divides the standard normal Fourier frequencies, a float32. ``frozen_linears``,
    ``frozen_norms``: how many of the last Linear and BatchNorm layers keep their parameters (running
    statistics move all the same). ``restores_running_stats``: whether the restore after a query also reverts
    the running statistics. ``threshold``: whether a run passes or fails at its target (then
    ``accuracy_factor`` counts), or is only graded. ``depths``: the values of ``num_hidden_layers`` that are
    used by default.
    """

    name: str
    input_dims: int
    output_dims: int
    omega_divisor: float
    frozen_linears: int
    frozen_norms: int
    restores_running_stats: bool
    threshold: bool
    depths: tuple[int, ...]

    @property
    def least_depth(self) -> int:
        """The least ``num_hidden_layers`` with a Linear layer that is trained."""
        return max(1, self.frozen_linears)

    @property
    def hides_mean(self) -> bool:
        """Whether no gradient depends on the mean of the outputs.

        So it is where the last BatchNorm and the last Linear are frozen: their shift and bias are 0, so the outputs of
        a batch have mean 0 in training mode, whatever the trained tensors are.
        """
        return self.frozen_norms > 0 and self.frozen_linears > 0


def _float32(value: float) -> float:
    """``value`` rounded to float32; in numpy's place, whose import takes longer than all that a recipe needs."""
    return struct.unpack("f", struct.pack("f", value))[0]


LENGTH_SCALE = _float32(0.3)
TRACKS = (4, 7, 10, 14, 18)

TASKS = {
    task.name: task
    for task in (
        Task(
            name="tig",
            input_dims=1,
            output_dims=2,
            omega_divisor=_float32(LENGTH_SCALE * LENGTH_SCALE),
            frozen_linears=2,
            frozen_norms=1,
            restores_running_stats=True,
            threshold=False,
            depths=TRACKS,
        ),
        Task(
            name="seed",
            input_dims=8,
            output_dims=1,
            omega_divisor=LENGTH_SCALE,
            frozen_linears=0,
            frozen_norms=0,
            restores_running_stats=False,
            threshold=True,
            depths=TRACKS,
        ),
    )
}


@dataclass(frozen=True)
class Instance:
    """What a lane trains on. Raises ValueError when a field is out of its range.

    ``seed``: 32 bytes, from which data, initial weights and sample orders follow. ``init``: ``per_layer``
    (one seed per layer) or ``shared`` (one for all, so that layers of equal shape start identical).
    ``accuracy_factor``: only with the task ``seed``: the target is alpha = 4 - accuracy_factor / 1000 times
    the noise.
    """

    task: str
    num_hidden_layers: int
    seed: bytes
    init: str = "per_layer"
    accuracy_factor: int = 0

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task: {self.task!r} is not one of {', '.join(TASKS)}")
        if self.num_hidden_layers < 1:
            raise ValueError(f"num_hidden_layers: must be at least 1, got {self.num_hidden_layers}")
        if len(self.seed) != SEED_BYTES:
            raise ValueError(f"seed: must be {SEED_BYTES} bytes, got {len(self.seed)}")
        if self.init not in INITS:
            raise ValueError(f"init: {self.init!r} is not one of {', '.join(INITS)}")
        if self.accuracy_factor and not TASKS[self.task].threshold:
            raise ValueError(f"accuracy_factor: the task {self.task!r} has none, got {self.accuracy_factor}")

    @property
    def alpha(self) -> float:
        """How many times the noise the target loss is."""
        return 4.0 - self.accuracy_factor / 1000


def seed_bytes(n: int) -> bytes:
    """The 32 bytes of ``n`` >= 0, little-endian. Neighbours give near copies: see `harness.data`."""
    return n.to_bytes(SEED_BYTES, "little")
