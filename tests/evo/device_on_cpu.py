"""A GPU's whole path with its kernels run on the CPU: for tests, and for the table of parity."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from evo.training.batches import Backend
from evo.training.gpu.lanes import CudaLanes, text_key
from harness import lane_kernels
from harness.lane_kernels import KernelPasses, Launcher
from tests.genomes.cuda_on_cpu import Kernels, compile_kernels


class Loader:
    """As `evo.training.gpu.launch.load`; each text is compiled once."""

    def __init__(self) -> None:
        self.known: dict[str, Kernels] = {}

    def __call__(self, texts: Sequence[str]) -> list[Launcher]:
        new = {text: text for text in texts if text not in self.known}
        if new:
            self.known.update(compile_kernels(new))
        return [self.known[text] for text in texts]


def backend() -> Backend:
    load = Loader()
    return Backend(
        torch.device("cpu"),
        lambda programs: CudaLanes(programs, load),
        lambda dtype: KernelPasses(load([lane_kernels.text(lane_kernels.REALS[dtype])])[0]),
        text_key,
        lambda: 10**10,
    )
