"""Compiles kernel texts with g++ (one call for many programs) and runs them with threads as loops."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from genomes.backends.cuda_layout import PIECES, Arguments, Launch, Model, Source, grid, seed_word

SHIM = Path(__file__).with_name("cuda_shim.h")
SEED = bytes(range(32))  # of every lane
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-Wno-overflow")


def compile_texts(sources: Sequence[Source], folder: Path) -> ctypes.CDLL:
    """A shared library with a function ``run_KEY`` a text. Skips the test where there is no g++."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ on this machine: kernel texts cannot be executed without a GPU")
    parts = ['#include "cuda_shim.h"'] + [_entry(source) for source in {s.key: s for s in sources}.values()]
    (folder / "kernels.cpp").write_text("\n\n".join(parts))
    library = folder / "kernels.so"
    command = [
        compiler, "-std=c++17", "-O1", "-ffp-contract=off", "-fPIC", "-shared", *WARNINGS,
        f"-I{SHIM.parent}", "-o", str(library), str(folder / "kernels.cpp"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    return ctypes.CDLL(str(library))


def _entry(source: Source) -> str:
    """The text as it stands in a namespace of its own, with kernel names that no other text has, and its entry."""
    launches = (*source.start, *source.query, *source.step)
    renamed = [f"#define {k.kernel} {k.kernel}_{source.key}" for k in launches]
    cases = [f"case {n}: launch({k.kernel}, *a, x, y, {PIECES}, backwards); break;" for n, k in enumerate(launches)]
    return "\n".join([
        *renamed, f"namespace program_{source.key} {{", source.text,
        f'extern "C" void run_{source.key}(int kernel, Arguments* a, int x, int y, bool backwards) {{',
        "    switch (kernel) {", *cases, "    }", "}", "}", *(f"#undef {k.kernel}" for k in launches),
    ])  # fmt: skip


@dataclass
class Lanes:
    """Lanes of one text on the CPU. All arrays are ``[lanes, n]`` and may be written between the calls."""

    library: ctypes.CDLL | None
    source: Source
    model: Model
    arrays: dict[str, np.ndarray]
    backwards: bool = False

    def start(self) -> None:
        self._run(self.source.start)

    def query(self) -> None:
        self._run(self.source.query)

    def step(self) -> None:
        self._run(self.source.step)

    def _run(self, launches: tuple[Launch, ...]) -> None:
        lanes = len(self.arrays["alive"])
        sizes = ("n_tensors", "n_params", "n_rows", "n_columns", "n_layers")
        arguments = Arguments(lanes, *(getattr(self.model, name) for name in sizes))
        for name, array in self.arrays.items():
            setattr(arguments, name, array.ctypes.data)
        order = (*self.source.start, *self.source.query, *self.source.step)
        for launch in launches:
            blocks = grid(launch.unit, self.model, lanes)
            run = getattr(self.library, f"run_{self.source.key}")
            run(order.index(launch), ctypes.byref(arguments), *blocks, ctypes.c_bool(self.backwards))


def lanes(
    library: ctypes.CDLL | None,
    source: Source,
    model: Model,
    constants: Sequence[Sequence[float]],
    real: str = "double",
    backwards: bool = False,
) -> Lanes:
    """Fresh lanes, one for each row of constants; every array that a kernel should write first is full of NaN."""
    n, dtype = len(constants), {"float": np.float32, "double": np.float64}[real]
    counted: Mapping[str, int] = source.sizes(model)

    def full(size: int, kind: type) -> np.ndarray:
        return np.full((n, size), np.nan, kind)

    arrays = {name: np.zeros(n, np.int32) for name in ("epoch", "has_loss", "steps", "active", "not_finite")}
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
    return Lanes(library, source, model, arrays, backwards)
