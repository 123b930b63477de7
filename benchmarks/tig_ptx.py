"""Whether the PTX of the challenge's compiler trains the network on a GPU as the genome does.

    TIG_CUDA=WHEELS python benchmarks/tig_ptx.py --compile build/tig_ptx    # needs NVRTC 12.6, cargo and g++, no GPU
    python benchmarks/tig_ptx.py --ptx build/tig_ptx                        # needs a GPU; at most a minute
    python benchmarks/tig_ptx.py --ptx build/tig_ptx --driver build/tig_ptx/{precision}/kernels.so --results dry.json

The first line writes bundles as `evo export --format tig` does, compiles each CUDA file to PTX for compute_70 with
NVRTC 12.6 and the challenge's options, and each ``mod.rs`` against the stand-ins of the project's tests. Once more in
double precision, from the same texts. The second, on any machine with a GPU, loads that PTX into CUDA's driver and lets
the bundle's own Rust make its launches there: its tensors lie in the GPU's memory as the challenge lays them out. The
network is the harness's, on the CPU. The third is a dry run without a GPU, with the kernels compiled for the CPU.

Three epochs of the task ``tig``. ``updates``: the largest difference of an update from the genome's own for the same
tensors, relative to the tensor's largest update, and ``distance`` the same of norms. A mask or a sign that rounding
turns makes one update wrong, and the first large, not the second. ``losses``: the largest relative difference from the
losses of the genome's own training; ``parameters``: the relative distance of the parameters at its end.

Bounds: of updates those of the tests. Of losses 1e-9 or float32's epsilon, or ten times what rounding alone does, if
that is more: the samples of batches in reverse order or the other precision, here, and what ``parity.py`` has found.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from benchmarks import parity
from evo.exports.export import Export
from evo.exports.formats import find_format
from evo.exports.submission import Submission
from evo.exports.tig import check
from genomes import catalogue
from genomes.backends.torch_reference import optimizer
from genomes.compiler.lowering import lower
from genomes.language.genome import Genome
from harness.optimizer import GuardedOptimizer, Optimizer
from harness.result import Training
from harness.task import Instance, seed_bytes
from harness.train import LiteralLoop, run
from tests.evo.exports.standin_bundles import (
    KERNELS,
    LIBRARY,
    NOISY,
    STANDIN,
    Beside,
    Bundle,
    Functions,
    compiled,
    opened,
    update_bound,
)

# queries: sam_last_gradient, calibrated_adam, as_evaluated_adam; roles: lion, adafactor; losses: cautious_adanw,
# calibrated_adam; sums over the model: dadapt_adam; order statistics: core_frozen; products of matrices: muon, soap,
# shampoo
NAMES = (
    "sgd", "adam", "cautious_adanw", "lion", "adafactor", "muon", "calibrated_adam", "sam_last_gradient", "noisy",
    "sm3", "dadapt_adam", "core_frozen", "soap", "shampoo", "as_evaluated_adam",
)  # fmt: skip
DTYPES = {"float32": torch.float32, "float64": torch.float64}
RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


def genome(name: str) -> Genome:
    """A known optimizer, or the one that draws numbers."""
    return NOISY if name == NOISY.name else catalogue.load(name)


# --- on a machine with the challenge's compiler


def bundles(names: list[str]) -> dict[str, Mapping[str, str]]:
    """The files of the bundles b00, b01, ... Raises GenomeError."""
    found = {}
    for k, name in enumerate(names):
        details = Submission(f"b{k:02}", "none", "none", "none")
        found[details.algorithm] = find_format("tig").files(Export(genome(name), submission=details))
    return found


def write_libraries(folder: Path, names: list[str]) -> None:
    """Compile the Rust of bundles, and their kernels for the CPU, in both precisions."""
    shutil.rmtree(folder, ignore_errors=True)
    for precision in DTYPES:
        made = compiled(bundles(names), double=precision == "float64")
        (folder / precision).mkdir(parents=True)
        for name in (LIBRARY, KERNELS):
            shutil.copy(made / name, folder / precision / name)
    (folder / "names.json").write_text(json.dumps(names))


def write_ptx(folder: Path, names: list[str]) -> None:
    """Compile the kernels of bundles to PTX, in both precisions. Raises CheckError."""
    for precision, before in {"float32": "", "float64": (STANDIN / "double.h").read_text()}.items():
        for name, (bundle, files) in zip(names, bundles(names).items(), strict=True):
            ptx = check.compile_ptx(before + files[f"{bundle}.cu"])
            check.assemble(ptx)
            (folder / precision / f"{bundle}.ptx").write_text(ptx)
            print(f"{name}, {precision}: {ptx.count('.entry')} kernels, {len(ptx)} bytes", flush=True)


# --- on a machine with a GPU


class Cuda:
    """CUDA's driver, or a library with its functions, with a context on the first GPU. Raises RuntimeError."""

    MULTIPROCESSOR_COUNT = 16
    ERROR_LOG, ERROR_LOG_BYTES = 5, 6  # options of the driver's compiler

    def __init__(self, path: str) -> None:
        self.library = ctypes.CDLL(path)
        self._call("cuInit", ctypes.c_uint(0))
        self._device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(self._device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        self._call("cuCtxSetCurrent", context)

    def about(self) -> Row:
        """What the GPU and its driver are. ``processors``: multiprocessors."""
        name, version, count = ctypes.create_string_buffer(200), ctypes.c_int(), ctypes.c_int()
        self._call("cuDeviceGetName", name, len(name), self._device)
        self._call("cuDriverGetVersion", ctypes.byref(version))
        self._call("cuDeviceGetAttribute", ctypes.byref(count), self.MULTIPROCESSOR_COUNT, self._device)
        return {"gpu": name.value.decode(), "driver": version.value, "processors": count.value}

    def load(self, ptx: bytes) -> int:
        """The module of a PTX text, which the driver compiles for its GPU."""
        module, log = ctypes.c_void_p(), ctypes.create_string_buffer(4000)
        options = (ctypes.c_int * 2)(self.ERROR_LOG, self.ERROR_LOG_BYTES)
        values = (ctypes.c_void_p * 2)(ctypes.addressof(log), len(log))
        try:
            self._call("cuModuleLoadDataEx", ctypes.byref(module), ctypes.c_char_p(ptx), 2, options, values)
        except RuntimeError as error:
            raise RuntimeError(f"{error} {log.value.decode(errors='replace')}".strip()) from None
        return module.value or 0

    def _call(self, name: str, *arguments: Any) -> None:
        status = self.library[name](*arguments)
        if status:
            text = ctypes.c_char_p()
            self.library.cuGetErrorName(status, ctypes.byref(text))
            raise RuntimeError(f"{name}: error {status} of the driver, {(text.value or b'unknown').decode()}")


@dataclass(frozen=True)
class Job:
    """A bundle in one precision. ``number``: of the bundle in its folder; ``driver``: path of the driver."""

    folder: Path
    number: int
    name: str
    precision: str
    depths: tuple[int, ...]
    driver: str

    def rows(self) -> Iterator[Row]:
        """One row per depth. Raises RuntimeError."""
        torch.set_num_threads(1)
        cuda, folder = Cuda(self.driver), self.folder / self.precision
        start = time.perf_counter()
        module = cuda.load((folder / f"b{self.number:02}.ptx").read_bytes())
        loaded = time.perf_counter() - start
        bundle = Bundle(
            opened(folder / LIBRARY, cuda.library), self.number, self.dtype, module, cuda.about()["processors"]
        )
        for depth in self.depths:
            start = time.perf_counter()
            row = self.compared(bundle, depth)
            seconds = round(time.perf_counter() - start, 2)
            times = {"load_seconds": round(loaded, 2), "seconds": seconds}
            yield {**self.about(), "depth": depth, **row, **times, "machine": cuda.about()}

    @property
    def dtype(self) -> torch.dtype:
        """Of all that the bundle computes."""
        return DTYPES[self.precision]

    def about(self) -> Row:
        """Which one it is."""
        return {"name": self.name, "precision": self.precision}

    def compared(self, bundle: Bundle, depth: int) -> Row:
        """How the bundle trains beside its genome. Raises RuntimeError."""
        instance, known = Instance("tig", depth, seed_bytes(parity.SEEDS[0])), genome(self.name)
        program, epochs = lower(known), parity.epochs_of(known)
        beside = Beside(Functions(bundle), optimizer(program))
        found: list[tuple[Training, Tensor]] = []
        bundle.run(depth, lambda: found.append(trained(instance, beside, epochs, self.dtype)))
        training, params = found[0]
        if training.status in ("error", "invalid_update"):
            raise RuntimeError(training.message)
        expected, expected_params = trained(instance, optimizer(program), epochs, self.dtype)
        (other_dtype,) = (dtype for dtype in DTYPES.values() if dtype != self.dtype)
        other, _ = trained(instance, optimizer(program), epochs, other_dtype)
        turned = parity.reordered(program, instance, epochs, self.dtype)
        tiny = parity.FLOAT64_BOUND if self.precision == "float64" else torch.finfo(torch.float32).eps
        spreads = [parity.difference(turned, expected), *recorded_spreads(self.name, depth, self.precision)]
        if self.precision == "float32":
            spreads.append(parity.difference(expected, other))
        row = {
            "updates": beside.difference,
            "update_bound": update_bound(known, self.dtype),
            "distance": beside.distance,
            "losses": parity.difference(training, expected),
            "loss_bound": max(tiny, parity.NEAR * max(spreads)),
            "parameters": ((params - expected_params).norm() / expected_params.norm()).item(),
            "train_loss": [training.train_loss, expected.train_loss],
            "val_loss": [training.val_loss, expected.val_loss],
        }
        return {**row, "within": row["updates"] <= row["update_bound"] and row["losses"] <= row["loss_bound"]}


def trained(instance: Instance, three: Optimizer, epochs: int, dtype: torch.dtype) -> tuple[Training, Tensor]:
    """A training in the literal loop, and the parameters that train at its end, in a row."""
    loop = LiteralLoop(instance, GuardedOptimizer(three), dtype, torch.device("cpu"))
    training = run(loop, epochs=epochs, patience=epochs)
    pairs = zip(loop.params, loop.layout.trainable, strict=True)
    return training, torch.cat([param.flatten() for param, trainable in pairs if trainable])


def recorded_spreads(name: str, depth: int, precision: str) -> list[float]:
    """What rounding alone did to the losses, as the benchmark of parity has found."""
    rows = json.loads((RESULTS / "parity_cpu.json").read_text())["rows"]
    found = [row for row in rows if (row["name"], row["depth"]) == (name, depth)]
    return [row[spread] for row in found for spread in parity.SPREADS[precision]]


# --- processes: what a kernel breaks in one does not harm the others


def measure(jobs: list[Job], processes: int, seconds: float, keep: Callable[[Row], None]) -> None:
    """Run jobs in processes of their own, some at once. ``keep``: gets each row as it comes, and one for each failure.

    After so many seconds all processes end.
    """
    fork, deadline = multiprocessing.get_context("fork"), time.monotonic() + seconds
    waiting, running = list(reversed(jobs)), {}
    while waiting or running:
        while waiting and len(running) < processes:
            job, (reader, writer) = waiting.pop(), fork.Pipe(duplex=False)
            process = fork.Process(target=_work, args=(job, writer))
            process.start()
            writer.close()
            running[reader] = job, process
        for reader in connection.wait(list(running), max(0.0, deadline - time.monotonic())):
            job, process = running[reader]
            try:
                keep(json.loads(reader.recv_bytes()))
            except EOFError:
                process.join()
                del running[reader]
                if process.exitcode:
                    keep({**job.about(), "error": f"its process ended with {process.exitcode}"})
        if time.monotonic() >= deadline:
            break
    for _, process in running.values():
        process.kill()
    for job in [*(job for job, _ in running.values()), *reversed(waiting)]:
        keep({**job.about(), "error": f"not done after {seconds:g} seconds"})


def _work(job: Job, writer: connection.Connection) -> None:
    try:
        for row in job.rows():
            writer.send_bytes(json.dumps(row).encode())
    except Exception as error:
        told = " ".join(str(error).split())
        writer.send_bytes(json.dumps({**job.about(), "error": f"{type(error).__name__}: {told}"}).encode())


def line(row: Row) -> str:
    """A row as text."""
    what = f"{row['name']:18} {row['precision']:9}"
    if "error" in row:
        return f"{what}  FAILED: {row['error']}"
    return (
        f"{what} {row['depth']:5}  {row['updates']:.1e} ({row['update_bound']:.0e})  {row['distance']:8.1e}  "
        f"{row['losses']:.1e} ({row['loss_bound']:.0e})  {row['parameters']:10.1e}  "
        f"{'yes' if row['within'] else 'NO':6}  {row['seconds']:7.1f}"
    )


HEAD = (
    f"{'optimizer':18} {'precision':9} depth  {'updates (bound)':16} distance  {'losses (bound)':16} parameters  "
    f"{'within':6}  seconds"
)


def main() -> int:
    """Compile bundles, or measure what was compiled. 1 where something is not within its bounds."""
    parser = argparse.ArgumentParser(description="The PTX of bundles on a GPU against their genomes")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--compile", type=Path, metavar="DIR", help="write bundles, PTX and machine code there, and end")
    what.add_argument("--ptx", type=Path, metavar="DIR", help="measure what was written there")
    parser.add_argument(
        "--names", type=lambda text: text.split(","), help=f"known optimizers, or noisy: {','.join(NAMES)}"
    )
    parser.add_argument("--depths", default=(2, 4), type=lambda text: tuple(int(part) for part in text.split(",")))
    parser.add_argument("--driver", default="libcuda.so.1", help="another library; {precision} becomes its precision")
    parser.add_argument("--processes", type=int, default=max(1, min(6, (os.cpu_count() or 1) // 2)), help="at once")
    parser.add_argument("--seconds", type=float, default=50, help="after which all ends")
    parser.add_argument("--results", type=Path, default=RESULTS / "tig_ptx.json")
    asked = parser.parse_args()
    if asked.compile:
        write_libraries(asked.compile, asked.names or list(NAMES))
        write_ptx(asked.compile, asked.names or list(NAMES))
        return 0
    there = json.loads((asked.ptx / "names.json").read_text())
    if missing := [name for name in asked.names or () if name not in there]:
        parser.error(f"--names: not in {asked.ptx}: {', '.join(missing)}")
    jobs = [
        Job(
            asked.ptx,
            there.index(name),
            name,
            precision,
            asked.depths,
            asked.driver.format(precision=precision),
        )
        for precision in DTYPES
        for name in asked.names or there
    ]
    epochs = [parity.EPOCHS, parity.CALIBRATED_EPOCHS]
    result: Row = {"about": {"epochs": epochs, "seed": parity.SEEDS[0], "torch": torch.__version__}, "rows": []}

    def keep(row: Row) -> None:
        print(line(row), flush=True)
        result["about"] |= row.pop("machine", {})
        result["rows"].append(row)
        asked.results.write_text(json.dumps(result, indent=1) + "\n")

    print(HEAD, flush=True)
    measure(jobs, asked.processes, asked.seconds, keep)
    within = [row.get("within", False) for row in result["rows"]]
    print(f"{sum(within)} of {len(within)} rows are within their bounds; written to {asked.results}")
    return 0 if all(within) else 1


if __name__ == "__main__":
    sys.exit(main())
