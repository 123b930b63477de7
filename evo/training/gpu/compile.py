"""Compiles kernel texts to machine code of a GPU with NVRTC, in parallel threads; each text once, kept on disk.

NVRTC comes with the optional packages cuda-bindings and nvidia-cuda-nvrtc. It needs no GPU, and compiles as many texts
at once as there are threads.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import os
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evo.errors import EvoError, UsageError
from evo.training.pool import available_cpus


@dataclass(frozen=True)
class Compiler:
    """A compiler of kernel texts.

    ``compile``: from text to machine code. ``name``: compiler and architecture; code of another name is never reused.
    """

    name: str
    compile: Callable[[str], bytes]


def nvrtc(architecture: str = "sm_90") -> Compiler:
    """NVRTC for a GPU architecture (``sm_90``: H100, H200). Raises UsageError where its packages are missing."""
    try:
        version = importlib.metadata.version("nvidia-cuda-nvrtc")
        bindings = importlib.import_module("cuda.bindings.nvrtc")
        bindings.nvrtcVersion()  # the library itself: a RuntimeError where it is missing
    except (ImportError, importlib.metadata.PackageNotFoundError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        message = f"cannot compile CUDA kernels here: {reason}; pip install cuda-bindings nvidia-cuda-nvrtc"
        raise UsageError(message) from error
    return Compiler(f"nvrtc {version} {architecture}", lambda text: _compile(bindings, text, architecture))


def _compile(nvrtc: Any, text: str, architecture: str) -> bytes:
    status, program = nvrtc.nvrtcCreateProgram(text.encode(), b"kernels.cu", 0, [], [])
    succeeded = nvrtc.nvrtcResult.NVRTC_SUCCESS
    if status != succeeded:
        raise EvoError(f"NVRTC cannot begin: {status}")
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, 1, [f"--gpu-architecture={architecture}".encode()])
        if status != succeeded:
            log = _read(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)
            raise EvoError(f"NVRTC refuses a kernel text for {architecture}: {_first_error(log) or status}")
        return _read(program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _read(program: Any, size: Callable, read: Callable) -> bytes:
    _, length = size(program)
    content = bytes(length)  # the binding writes into it
    read(program, content)
    return content


def _first_error(log: bytes) -> str:
    lines = log.decode(errors="replace").strip("\0\n").splitlines()
    return next((line for line in lines if "error" in line), " ".join(lines))


def compile_all(texts: Iterable[str], compiler: Compiler, folder: Path, threads: int | None = None) -> dict[str, bytes]:
    """Machine code for each text.

    ``folder``: where code is kept between runs, one file per text; ``threads``: None for one per CPU. Raises
    EvoError where a text does not compile; what compiled before that stays on disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unique = list(dict.fromkeys(texts))
    with ThreadPoolExecutor(threads or available_cpus()) as pool:
        return dict(zip(unique, pool.map(lambda text: _kept(text, compiler, folder), unique), strict=True))


def _kept(text: str, compiler: Compiler, folder: Path) -> bytes:
    """The code from disk, or compiled and written: under another name first, so that half a file is never read."""
    path = folder / (hashlib.sha256(f"{compiler.name}\n{text}".encode()).hexdigest() + ".cubin")
    if path.is_file():
        return path.read_bytes()
    code = compiler.compile(text)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as part:
        part.write(code)
    os.replace(part.name, path)
    return code
