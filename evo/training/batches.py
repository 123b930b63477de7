"""Trains many lanes of one task and depth at once: which lanes go together, and how many fit into memory.

Lanes that query train apart from the others, for a query costs every lane of its batch a copy of the parameters; lanes
that share a kernel text lie side by side. A batch that is too large for the device's memory is split.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from evo.training.flat_lanes import FlatLanes
from evo.training.gpu.lanes import CudaLanes, text_key
from evo.training.gpu.launch import load
from genomes.compiler.program import Program
from harness import lane_kernels, lanes
from harness.lane_kernels import KernelPasses
from harness.lane_network import Passes
from harness.lane_optimizer import LaneOptimizer
from harness.lane_passes import TorchPasses
from harness.model import network_layout
from harness.result import Training
from harness.task import Instance

# by name: the type of all tensors, and how torch may multiply them ("high": factors rounded to TF32's 10 bits)
PRECISIONS = {
    "float32": (torch.float32, "highest"),
    "tf32": (torch.float32, "high"),
    "float64": (torch.float64, "highest"),
}
FREE_SHARE = 0.9  # of the memory that is free: the rest is for what cannot be foreseen
MOST_LANES = 65_535  # a grid's second extent


@dataclass(frozen=True)
class Backend:
    """What trains a batch on a device.

    ``optimizer``: from one program per lane; ``passes``: through the network, for a dtype; ``order``: lanes with equal
    keys should lie side by side; ``free_memory``: in bytes.
    """

    device: torch.device
    optimizer: Callable[[Sequence[Program]], LaneOptimizer]
    passes: Callable[[torch.dtype], Passes]
    order: Callable[[Program], str]
    free_memory: Callable[[], int]


def backend(device: str) -> Backend:
    """The back end for a device: CUDA kernels on ``cuda``, torch operations on ``cpu``.

    The CPU form is for tests and dry runs: `evo.training.trainer` has a faster one.
    """
    target = torch.device(device)
    if target.type == "cpu":
        return Backend(target, FlatLanes, lambda _: TorchPasses(), lambda _: "", _free_host_memory)
    return Backend(
        target,
        lambda programs: CudaLanes(programs, lambda texts: load(texts, target)),
        lambda dtype: KernelPasses(load([lane_kernels.text(lane_kernels.REALS[dtype])], target)[0]),
        text_key,
        lambda: _free_device_memory(target),
    )


def train_batch(
    batch: Sequence[tuple[Program, Instance]],
    *,
    epochs: int,
    patience: int = 50,
    device: str | Backend = "cuda",
    dtype: str = "float32",
    memory: int | None = None,
) -> Iterator[tuple[int, Training]]:
    """Train all lanes, of one task and depth; yields (position in ``batch``, training) as they are done, in any order.

    ``dtype``: a name of PRECISIONS; ``memory``: bytes to use at most, None for what is free. Raises UsageError where
    NVRTC is missing, EvoError where a kernel does not compile or load.
    """
    chosen = backend(device) if isinstance(device, str) else device
    queries = [program.queries for program, _ in batch]
    ordered = sorted(range(len(batch)), key=lambda k: chosen.order(batch[k][0]))
    real, precision = PRECISIONS[dtype]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        for group in ([k for k in ordered if not queries[k]], [k for k in ordered if queries[k]]):
            yield from _train_group(batch, group, chosen, epochs, patience, real, memory)
    finally:
        torch.set_float32_matmul_precision(before)


def bytes_of(programs: Sequence[Program], instance: Instance, chosen: Backend, dtype: torch.dtype, epochs: int) -> int:
    """Forecast of a batch's device memory in bytes: each lane takes what the largest of ``programs`` takes."""
    layout = network_layout(instance.task, instance.num_hidden_layers)
    return len(programs) * lanes.bytes_per_lane(layout, chosen.optimizer(programs), dtype, epochs)


def _train_group(
    batch: Sequence[tuple[Program, Instance]],
    positions: list[int],
    chosen: Backend,
    epochs: int,
    patience: int,
    dtype: torch.dtype,
    memory: int | None,
) -> Iterator[tuple[int, Training]]:
    """Train in parts that fit. Where the forecast fails, what was not done goes on in halves."""
    while positions:
        programs, instances = zip(*(batch[k] for k in positions), strict=True)
        limit = FREE_SHARE * chosen.free_memory() if memory is None else memory
        bytes_per_lane = bytes_of(programs, instances[0], chosen, dtype, epochs) / len(positions)
        count = max(1, min(len(positions), MOST_LANES, int(limit / bytes_per_lane)))
        waiting = dict(enumerate(positions[:count]))
        try:
            for lane, training in lanes.train(
                instances[:count],
                chosen.optimizer(programs[:count]),
                epochs=epochs,
                patience=patience,
                dtype=dtype,
                device=chosen.device,
                passes=chosen.passes(dtype),
            ):
                yield waiting.pop(lane), training
        except torch.OutOfMemoryError:
            if count == 1:
                raise
            memory = int(bytes_per_lane * count / 2)
        positions = [*waiting.values(), *positions[count:]]


def _free_device_memory(device: torch.device) -> int:
    """Bytes that the driver has free, and that torch has reserved and does not use."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _free_host_memory() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
