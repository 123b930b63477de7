"""Runs bundles without the challenge: their Rust with stand-ins for its crates, their kernels compiled for the host.

`build` compiles many bundles at once, with ``cargo --offline`` and g++. `Bundle.train` calls a bundle's
``solve_challenge``, whose training loop hands the three functions to the literal loop of the harness. Launches and
memory go to CUDA's driver, or to the library of the kernels compiled for the host, which has its functions.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from genomes import catalogue
from genomes.compiler.lowering import lower
from genomes.language.genome import Genome, parse
from harness.result import Training
from harness.task import Instance
from harness.train import train

STANDIN = Path(__file__).with_name("standin")
BUILD = Path(__file__).parents[3] / "build" / "standin"
KEPT = 7 * 24 * 3600  # seconds that a build is kept after its last use
KERNELS, LIBRARY = "kernels.so", "libbundles.so"  # of a build
NOISY = parse("""
genome: 1
name: noisy
lr: 1e-4
terms:
  - expr: "sign(g) * uniform(2) + quantile(g, 0.3) * bfloat16(uniform(3)) + delay(g, 3) + hold(g, t % 3 == 0)"
""")  # no known optimizer draws numbers
_CALIBRATED = catalogue.load("calibrated_adam")
AS_EVALUATED = replace(_CALIBRATED, name="as_evaluated", query=replace(_CALIBRATED.query, as_evaluated=True))
UPDATE_BOUND = {torch.float64: 1e-9, torch.float32: 2e-5}
_KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(')
_BARRIERS = re.compile(r"__syncthreads|\b(block_sum|block_max|dot|take_along)\(")
_DRIVER = ctypes.CFUNCTYPE(None)
Files = Mapping[str, str]


def tool(name: str) -> str:
    """The path of a program. Skips the test where there is none."""
    found = shutil.which(name) or shutil.which(str(Path.home() / ".cargo" / "bin" / name))
    if found is None:
        raise SkipTest(f"no {name} on this machine: bundles cannot be executed")
    return found


def build(bundles: Mapping[str, Files], *, double: bool, more: Sequence[str] = ()) -> dict[str, Bundle]:
    """The bundles by their names, compiled together (see `compiled`)."""
    folder = compiled(bundles, double=double, more=more)
    kernels = ctypes.CDLL(str(folder / KERNELS))
    dtype = torch.float64 if double else torch.float32
    return {name: Bundle(opened(folder / LIBRARY, kernels), number, dtype) for number, name in enumerate(bundles)}


def opened(library: Path, cuda: ctypes.CDLL) -> ctypes.CDLL:
    """The library of a build. ``cuda``: the driver to which its launches go."""
    found = ctypes.CDLL(str(library))
    found.standin_open_cuda(ctypes.c_void_p(cuda._handle))
    return found


def compiled(bundles: Mapping[str, Files], *, double: bool, more: Sequence[str] = ()) -> Path:
    """The folder of the bundles compiled together: ``LIBRARY`` and ``KERNELS``. ``Files``: as `evo export` writes them.

    ``double``: in double precision, from the same texts. ``more``: options of g++. Skips where a compiler is missing.
    """
    cargo, compiler = tool("cargo"), tool("g++")
    texts = [text for files in bundles.values() for text in files.values()]
    sources = [path.read_text() for path in sorted(STANDIN.rglob("*.*")) if path.is_file()]
    made_of = "\0".join([*bundles, *texts, *sources, str(double), *more, Path(__file__).read_text()])
    folder = BUILD / hashlib.sha256(made_of.encode()).hexdigest()[:24]
    if not (folder / "done").is_file():
        _tidy()
        unfinished = folder.with_suffix(f".{os.getpid()}")
        _write(unfinished, bundles)
        _compile_rust(cargo, unfinished, double)
        _compile_kernels(compiler, unfinished, bundles, double, more)
        (unfinished / "done").touch()
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    os.utime(folder)
    return folder


def _tidy() -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    for old in BUILD.iterdir():
        if old.name != "target" and time.time() - old.stat().st_mtime > KEPT:
            shutil.rmtree(old, ignore_errors=True)


def _write(folder: Path, bundles: Mapping[str, Files]) -> None:
    for name, files in bundles.items():
        for path, text in files.items():
            (folder / "src" / name / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "src" / name / path).write_text(text)
    arms = "\n".join(f"        {n} => {name}::solve_challenge," for n, name in enumerate(bundles))
    helps = "\n".join(f"        {n} => {name}::help()," for n, name in enumerate(bundles))
    modules = "\n".join(f"pub mod {name};" for name in bundles)
    text = (STANDIN / "bundles.rs").read_text().replace("// modules", modules)
    (folder / "src" / "lib.rs").write_text(text.replace("        // entries", arms).replace("        // helps", helps))
    crates = ("anyhow", "serde", "serde_json", "cudarc", "tig-challenges")
    paths = "\n".join(f'{name} = {{ path = "{STANDIN / name}" }}' for name in crates)
    (folder / "Cargo.toml").write_text(
        '[package]\nname = "bundles"\nversion = "0.0.0"\nedition = "2021"\n\n[lib]\ncrate-type = ["cdylib"]\n\n'
        f'[features]\ndouble = ["tig-challenges/double"]\n\n[dependencies]\n{paths}\n\n'
        "[profile.dev]\ndebug = false\n\n[workspace]\n"
    )


def _compile_rust(cargo: str, folder: Path, double: bool) -> None:
    features = ["--features", "double"] if double else []
    target = BUILD / "target" / ("double" if double else "single")
    rust = {
        "RUSTFLAGS": "-D warnings",
        "CARGO_TARGET_DIR": str(target),
        "PATH": f"{Path(cargo).parent}:{os.environ['PATH']}",
    }
    command = [cargo, "build", "--offline", "--quiet", "--lib", *features]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **rust}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:6000]
    shutil.copy(target / "debug" / LIBRARY, folder / LIBRARY)


def _compile_kernels(
    compiler: str, folder: Path, bundles: Mapping[str, Files], double: bool, more: Sequence[str]
) -> None:
    texts = [files[f"{name}.cu"] for name, files in bundles.items()]
    rows = []
    for text in texts:
        for part in text.split('extern "C" __global__')[1:]:
            name = re.match(r" void (\w+)\(", part)
            assert name is not None
            alone = "true" if _BARRIERS.search(part) else "false"
            go = f"Launched<decltype(&{name[1]}), &{name[1]}>::go"
            rows.append(f'    {{"{name[1]}", {{{go}, widths(&{name[1]}), {alone}}}}},')
    table = (STANDIN / "cuda.cpp").read_text().replace("    // kernels", "\n".join(rows))
    names = dict.fromkeys(f"using namespace {name}_kernels;" for name in bundles)
    code = "\n".join(['#include "kernels.h"', *texts, *names, "#undef float", table])
    options = ["-std=c++17", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-w", f"-I{STANDIN}", *more]
    command = [
        compiler,
        *options,
        *(["-DDOUBLE"] if double else []),
        "-x",
        "c++",
        "-o",
        str(folder / KERNELS),
        "-",
    ]
    done = subprocess.run(command, input=code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:6000]


@dataclass(frozen=True)
class Bundle:
    """A compiled bundle. ``dtype``: of all that it computes; ``module``: the driver's, with its kernels."""

    library: ctypes.CDLL
    number: int
    dtype: torch.dtype
    module: int = 0
    processors: int = 2

    def train(self, instance: Instance, epochs: int, given: Mapping[str, float] | None = None) -> Training:
        """Train with it by the literal loop."""
        found: list[Training] = []
        self.run(
            instance.num_hidden_layers,
            lambda: found.append(train(instance, Functions(self), epochs=epochs, dtype=self.dtype)),
            given,
        )
        return found[0]

    def run(self, depth: int, driver: Callable[[], Any], given: Mapping[str, float] | None = None) -> None:
        """Call its ``solve_challenge``; its training loop calls ``driver``. Raises RuntimeError."""
        faults: list[BaseException] = []

        def called() -> None:
            try:
                driver()
            except BaseException as fault:
                faults.append(fault)

        keys = [key.encode() for key in given or ()]
        status = self.library.standin_run(
            self.number, ctypes.c_size_t(depth), (ctypes.c_char_p * len(keys))(*keys),
            (ctypes.c_double * len(keys))(*(given or {}).values()), -1 if given is None else len(keys),
            _DRIVER(called), ctypes.c_size_t(self.module), self.processors,
        )  # fmt: skip
        if faults:
            raise faults[0]
        self.check(status)

    def check(self, status: int) -> None:
        """Raise RuntimeError with the bundle's message where the status is not 0."""
        if status:
            message = ctypes.create_string_buffer(4000)
            self.library.standin_message(message, ctypes.c_size_t(4000))
            raise RuntimeError(message.value.decode(errors="replace"))


class Functions:
    """The three functions of a bundle within its training loop, as the harness calls them.

    Weights go in and come out transposed, and nothing but lengths is told.
    """

    def __init__(self, bundle: Bundle):
        self.bundle = bundle

    def init_state(self, seed: bytes, param_sizes: list[int], **context: Any) -> None:
        sizes = (ctypes.c_size_t * len(param_sizes))(*param_sizes)
        self.bundle.check(self.bundle.library.standin_init(seed, sizes, ctypes.c_size_t(len(sizes))))

    def query_at_params(self, state: Any, params: list[Tensor], epoch: int, *losses: float | None) -> list | None:
        asks = ctypes.c_int()
        known = [ctypes.c_double(math.nan if loss is None else loss) for loss in losses]
        kept, addresses = _flat(params)
        status = self.bundle.library.standin_query(addresses, ctypes.c_size_t(epoch), *known, ctypes.byref(asks))
        self.bundle.check(status)
        del kept
        return self._returned(params) if asks.value else None

    def step(
        self, state: Any, params: list[Tensor], gradients: list[Tensor], epoch: int, *losses: float | None
    ) -> list[Tensor]:
        known = [ctypes.c_double(math.nan if loss is None else loss) for loss in losses]
        kept, addresses = _flat(params)
        kept_too, slopes = _flat(gradients)
        self.bundle.check(self.bundle.library.standin_step(addresses, slopes, ctypes.c_size_t(epoch), *known))
        del kept, kept_too
        return self._returned(params)

    def _returned(self, like: list[Tensor]) -> list[Tensor]:
        assert self.bundle.library.standin_returned() == len(like)
        found = []
        for k, tensor in enumerate(like):
            flat = torch.empty(tensor.shape[::-1], dtype=tensor.dtype)
            self.bundle.check(self.bundle.library.standin_copy(ctypes.c_size_t(k), ctypes.c_void_p(flat.data_ptr())))
            found.append(flat.T.contiguous() if flat.dim() == 2 else flat)
        return found


def _flat(tensors: list[Tensor]) -> tuple[list[Tensor], Any]:
    """The tensors as the challenge lays them out, and their addresses."""
    laid = [tensor.T.contiguous() if tensor.dim() == 2 else tensor.contiguous() for tensor in tensors]
    return laid, (ctypes.c_void_p * len(laid))(*(tensor.data_ptr() for tensor in laid))


@dataclass
class Beside:
    """A bundle's functions, and how far the reference is from what they return for the same tensors.

    ``difference``: the largest of an update or of a queried parameter, relative to the tensor's largest so far.
    ``distance``: the largest norm of the differences of a tensor, relative to the tensor's largest norm so far.
    """

    functions: Functions
    reference: Any
    difference: float = 0.0
    distance: float = 0.0

    def init_state(self, seed: bytes, param_sizes: list[int], **context: Any) -> Any:
        self.functions.init_state(seed, param_sizes, **context)
        self.largest = [[(0.0, 0.0)] * len(param_sizes) for _ in range(2)]  # an entry and a norm of each tensor
        self.trainable = context["trainable"]
        return self.reference.init_state(seed, param_sizes, **context)

    def query_at_params(self, state: Any, params: list[Tensor], *now: Any) -> list[Tensor] | None:
        found = self.functions.query_at_params(state, params, *now)
        expected = self.reference.query_at_params(state, params, *now)
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            self._compare(found, expected, self.largest[0], [True] * len(params))
        return found

    def step(self, state: Any, params: list[Tensor], gradients: list[Tensor], *now: Any) -> list[Tensor]:
        found = self.functions.step(state, params, gradients, *now)
        self._compare(found, self.reference.step(state, params, gradients, *now), self.largest[1], self.trainable)
        return found

    def _compare(
        self, found: list[Tensor], expected: list[Tensor], largest: list[tuple[float, float]], flags: Sequence[bool]
    ) -> None:
        for k, (x, y) in enumerate(zip(found, expected, strict=True)):
            if flags[k] and y.numel():
                assert torch.equal(x.isfinite(), y.isfinite())
                largest[k] = max(largest[k][0], y.abs().max().item()), max(largest[k][1], y.norm().item())
                error, distance = (x - y).abs().max().item(), (x - y).norm().item()
                self.difference = max(self.difference, error / largest[k][0] if error else 0.0)
                self.distance = max(self.distance, distance / largest[k][1] if distance else 0.0)


def update_bound(genome: Genome, dtype: torch.dtype) -> float:
    """How far updates may be from the genome's. In single precision more where rounding errors grow: with condition
    numbers, by Newton's method, where a mean is taken away."""
    if dtype is torch.float64:
        return UPDATE_BOUND[dtype]
    operations = {node.op for node in lower(genome).nodes}
    growing = {
        "inverse_root": 5000, "gram_schmidt": 1000, "output_shift": 500, "odd_polynomial": 50, "sum_row": 50,
    }  # fmt: skip
    return UPDATE_BOUND[dtype] * max((growing.get(op, 1) for op in operations), default=1)
