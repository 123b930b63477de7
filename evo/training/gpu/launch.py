"""Launches compiled kernels on a GPU, through CUDA's driver, on the stream that torch is using."""

from __future__ import annotations

import ctypes
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from evo.errors import EvoError
from evo.training.gpu.compile import compile_all, nvrtc
from harness.lane_kernels import Launcher

KEPT_CODES = 20_000  # files of machine code on disk; beyond that the older half is deleted


def code_folder() -> Path:
    """The folder where machine code is kept between runs, in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evo" / "kernels"


def load(texts: Sequence[str], device: torch.device, folder: Path | None = None) -> list[Launcher]:
    """Compile texts for ``device``, in parallel, and load them. Returns the function that launches the kernels of each.

    Raises UsageError where NVRTC is missing, EvoError where a text does not compile or load.
    """
    folder = folder or code_folder()
    major, minor = torch.cuda.get_device_capability(device)
    codes = compile_all(texts, nvrtc(f"sm_{major}{minor}"), folder)
    _forget_old(folder)
    driver = importlib.import_module("cuda.bindings.driver")
    torch.zeros(1, device=device)  # torch makes its context, which the code is loaded into
    with torch.cuda.device(device):
        loaded = {text: Module(driver, code, device) for text, code in codes.items()}
    return [loaded[text] for text in texts]


class Module:
    """Machine code in a GPU's memory, as long as this object lives. Calling it launches a kernel."""

    def __init__(self, driver: Any, code: bytes, device: torch.device) -> None:
        self._driver, self._device = driver, device
        self._module: Any = None
        self._module = self._checked(driver.cuModuleLoadData(code))
        self._kernels: dict[str, Any] = {}

    def __call__(self, kernel: str, blocks: tuple[int, int], threads: int, arguments: ctypes.Structure) -> None:
        """Launch ``kernel`` over a grid of blocks. ``arguments``: its one parameter, copied as it is now."""
        if kernel not in self._kernels:
            self._kernels[kernel] = self._checked(self._driver.cuModuleGetFunction(self._module, kernel.encode()))
        stream = self._driver.CUstream(torch.cuda.current_stream(self._device).cuda_stream)
        parameters = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
        self._checked(
            self._driver.cuLaunchKernel(
                self._kernels[kernel], *blocks, 1, threads, 1, 1, 0, stream, ctypes.addressof(parameters), 0
            )
        )

    def __del__(self) -> None:
        if self._module is not None:
            self._driver.cuModuleUnload(self._module)

    def _checked(self, answer: tuple) -> Any:
        status, *values = answer
        if status != self._driver.CUresult.CUDA_SUCCESS:
            raise EvoError(f"the GPU's driver refuses a kernel: {status}")
        return values[0] if values else None


def _forget_old(folder: Path) -> None:
    """Delete the older half of the machine codes where there are too many."""
    codes = list(folder.glob("*.cubin"))
    if len(codes) > KEPT_CODES:
        for code in sorted(codes, key=lambda path: path.stat().st_mtime)[: len(codes) // 2]:
            code.unlink(missing_ok=True)
