"""Compiles kernel texts with g++ (one call for many texts) and launches them with threads as loops.

``compile_kernels`` takes any texts; ``lanes`` prepares the arrays of a program's text and runs its launches.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genomes.backends.cuda.layout import PIECES, SIZES, Arguments, Launch, Model, Product, Source, grid, seed_word
from genomes.backends.cuda.products import carry_out

SHIM = Path(__file__).with_name("cuda_shim.h")
CACHE = Path(__file__).parents[2] / "build" / "kernels"  # libraries by the hash of all that they are made of
KEPT = 7 * 24 * 3600  # seconds that a library is kept after its last use
SEED = bytes(range(32))  # of every lane
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-Wno-overflow", "-Wno-unknown-pragmas")
_KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(")


@dataclass(frozen=True)
class Kernels:
    """The kernels of one text: a callable as `evo.training.gpu.launch` gives for a GPU.

    ``numbers``: of each kernel's name; ``backwards``: whether launches run their threads in the opposite order.
    """

    run: Callable[..., None]
    numbers: Mapping[str, int]
    backwards: bool = False

    def __call__(self, kernel: str, blocks: tuple[int, int], threads: int, arguments: ctypes.Structure) -> None:
        """Run a kernel over a grid of blocks; ``arguments`` is the kernel's one parameter, given by value."""
        self.run(self.numbers[kernel], ctypes.byref(arguments), *blocks, threads, self.backwards)


def compile_kernels(texts: Mapping[str, str], optimize: str = "-O1") -> dict[str, Kernels]:
    """The kernels of each text, under the text's key; compiled once, see CACHE. Skips the test where there is no g++.

    Every kernel takes one struct by value and needs no other thread: no barrier, and what a thread keeps in shared
    memory it alone reads. Texts share no names. ``optimize``: -O1 compiles soonest, -O2 runs a quarter quicker where
    there is much arithmetic.
    """
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ on this machine: kernel texts cannot be executed without a GPU")
    names = {key: _KERNEL.findall(text) for key, text in texts.items()}
    parts = [_entry(number, text, names[key]) for number, (key, text) in enumerate(texts.items())]
    code = "\n\n".join(['#include "cuda_shim.h"', *parts])
    loaded = ctypes.CDLL(str(_library(compiler, code, optimize)))
    found = {}
    for number, key in enumerate(texts):
        run = loaded[f"run_{number}"]
        run.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_bool]
        run.restype = None
        found[key] = Kernels(run, {name: n for n, name in enumerate(names[key])})
    return found


def compile_sources(sources: Sequence[Source]) -> dict[str, Kernels]:
    """The kernels of programs' texts, under their keys: many that run for moments, which compile soonest with -O0."""
    return compile_kernels({source.key: source.text for source in sources}, "-O0")


def _library(compiler: str, code: str, optimize: str) -> Path:
    """The compiled ``code``, from CACHE where it is there; complete or not at all, whoever else compiles it."""
    options = ["-std=c++17", optimize, "-ffp-contract=off", "-fPIC", "-shared", *WARNINGS, f"-I{SHIM.parent}"]
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    made_of = "\0".join((version, *options, SHIM.read_text(), code))
    library = CACHE / f"{hashlib.sha256(made_of.encode()).hexdigest()[:32]}.so"
    if library.is_file():
        library.touch()
        return library
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob("*.so"):
        if time.time() - old.stat().st_mtime > KEPT:
            old.unlink(missing_ok=True)
    unfinished = library.with_suffix(f".{os.getpid()}.new")
    command = [compiler, *options, "-x", "c++", "-o", str(unfinished), "-"]
    try:
        done = subprocess.run(command, input=code, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:4000]
        unfinished.replace(library)
    finally:
        unfinished.unlink(missing_ok=True)
    return library


def _entry(number: int, text: str, names: Sequence[str]) -> str:
    """The text as it stands in a namespace of its own, with kernel names that no other text has, and its entry."""
    cases = [f"case {n}: launch({name}, a, x, y, threads, backwards); break;" for n, name in enumerate(names)]
    return "\n".join([
        *(f"#define {name} {name}_{number}" for name in names), f"namespace text_{number} {{", text,
        f'extern "C" void run_{number}(int kernel, const void* a, int x, int y, int threads, bool backwards) {{',
        "    switch (kernel) {", *cases, "    }", "}", "}", *(f"#undef {name}" for name in names),
    ])  # fmt: skip


@dataclass
class Lanes:
    """Lanes of one text on the CPU. All arrays are ``[lanes, n]`` and may be written between the calls."""

    kernels: Kernels | None
    source: Source
    model: Model
    arrays: dict[str, np.ndarray]

    def start(self) -> None:
        self._run(self.source.start)

    def query(self) -> None:
        self._run(self.source.query)

    def step(self) -> None:
        self._run(self.source.step)

    def _run(self, launches: tuple[Launch | Product, ...]) -> None:
        lanes = len(self.arrays["alive"])
        arguments = Arguments(lanes, *(getattr(self.model, name) for name in SIZES))
        for name, array in self.arrays.items():
            setattr(arguments, name, array.ctypes.data)
        assert self.kernels is not None
        scratch, alive = (torch.from_numpy(self.arrays[name]) for name in ("scratch", "alive"))
        for launch in launches:
            if isinstance(launch, Product):
                carry_out(launch, self.source, self.model, scratch, alive)
            else:
                self.kernels(launch.kernel, grid(launch.unit, self.model, lanes), PIECES, arguments)


def lanes(
    compiled: Mapping[str, Kernels],
    source: Source,
    model: Model,
    constants: Sequence[Sequence[float]],
    real: str = "double",
    backwards: bool = False,
) -> Lanes:
    """Fresh lanes, one for each row of constants; every array that a kernel should write first is full of NaN.

    ``compiled``: what `compile_sources` gave; lanes of a text that is not in it cannot run."""
    n, dtype = len(constants), {"float": np.float32, "double": np.float64}[real]
    counted: Mapping[str, int] = source.sizes(model)

    def full(size: int, kind: type) -> np.ndarray:
        return np.full((n, size), np.nan, kind)

    arrays = {name: np.zeros(n, np.int32) for name in ("epoch", "has_loss", "steps", "active", "asked", "not_finite")}
    arrays |= {"output_bias": np.zeros((n, model.n_outputs), dtype)}
    arrays |= {"output_shift": np.full((n, model.n_outputs, model.shift_size), np.nan, dtype)}
    arrays |= {name: full(model.n_params, dtype) for name in ("theta", "g", "update", "queried")}
    arrays |= {name: full(counted[name], dtype) for name in ("state", "scratch")}
    arrays |= {name: full(counted[name], np.float64) for name in ("host_state", "host_values")}
    tiles = np.array(model.tiles(), np.int32).reshape(-1, 2)
    arrays |= {
        "alive": np.ones(n, np.int32),
        "seed": np.full(n, seed_word(SEED), np.uint32),
        "train_loss": np.full(n, np.nan),
        "val_loss": np.full(n, np.nan),
        "constants": np.array(constants, np.float64).reshape(n, -1),
        "tensors": np.frombuffer(bytes(model.tensors()), np.uint8).copy(),
        "tile_tensor": tiles[:, 0].copy(),
        "tile_start": tiles[:, 1].copy(),
        "tensor_of_row": np.array(model.tensor_of(0), np.int32),
        "tensor_of_column": np.array(model.tensor_of(1), np.int32),
    }
    kernels = compiled.get(source.key)
    return Lanes(replace(kernels, backwards=backwards) if kernels else None, source, model, arrays)
