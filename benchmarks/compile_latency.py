"""How long kernels take to compile: NVRTC, which the project uses, beside Triton. No GPU is needed.

    pip install -e '.[cuda]'; pip install triton       # 290 MB; without Triton its rows are left out
    python benchmarks/compile_latency.py --genomes 64 --threads 2

Prints a table; writes benchmarks/results/compile_latency.json. All compilations are cold: nothing is read from a cache.
Time on the processor includes that of child processes (Triton runs ptxas in one); on a busy machine the wall clock
says little, and ``runnable`` tells what threads would gain (see `at_once`).

NVRTC compiles whole texts as a campaign launches them (`render(..., apply=True)` of the CUDA back end): of three known
optimizers, of random genomes of the search, and of Adam's pass over the elements alone. Triton compiles one kernel
written by hand, that very pass (triton_adam.py): it is no translation of genomes, so what is compared is one kernel.
Where many are compiled at once, NVRTC's are the random genomes' texts and copies of Adam's pass, Triton's are copies
of its kernel that differ in one constant.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evo.errors import UsageError
from evo.recipe.schema import Limits
from evo.search.variation.random_genome import random_genome
from evo.training.gpu.compile import nvrtc
from evo.training.pool import available_cpus
from genomes import catalogue
from genomes.backends.cuda.source import render
from genomes.compiler.lowering import lower

RESULTS = Path(__file__).parent / "results" / "compile_latency.json"
KNOWN = ("sgd", "adam", "cautious_adamw")
REPEATS = 9  # of one text, compiled alone
Work = Callable[[], Any]


def processor_seconds() -> float:
    """Time on the processor so far, of this process and of its children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def timed(work: Work) -> tuple[float, float]:
    """Seconds on the processor, seconds on the wall clock."""
    processor, wall = processor_seconds(), time.perf_counter()
    work()
    return processor_seconds() - processor, time.perf_counter() - wall


def row(compiler: str, what: str, pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Compilations one after the other; times in ms."""
    processor, wall = ([1000 * seconds for seconds in column] for column in zip(*pairs, strict=True))
    return {
        "compiler": compiler, "what": what, "count": len(pairs), "threads": 1,
        "cpu_ms_median": statistics.median(processor), "cpu_ms_max": max(processor),
        "wall_ms_median": statistics.median(wall), "cpu_s": sum(processor) / 1000, "wall_s": sum(wall) / 1000,
    }  # fmt: skip


def at_once(compiler: str, what: str, works: Sequence[Work], threads: int) -> dict[str, Any]:
    """Compilations in parallel threads. ``runnable``: how many threads and child processes were running or waiting for
    a processor on average (a child's waiting aside): the gain from threads where processors are free."""
    with ThreadPoolExecutor(threads) as pool:
        before = runnable_seconds()
        processor, wall = timed(lambda: list(pool.map(lambda work: work(), works)))
        runnable = sum(seconds - before.get(who, 0.0) for who, seconds in runnable_seconds().items()) / wall
    return {
        "compiler": compiler, "what": what, "count": len(works), "threads": threads, "cpu_s": processor,
        "wall_s": wall, "runnable": runnable,
    }  # fmt: skip


def runnable_seconds() -> dict[str, float]:
    """Time that each thread of this process has run or waited for a processor, and its children have run. Linux."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {"children": children.ru_utime + children.ru_stime}
    for task in Path("/proc/self/task").iterdir():
        ran, waited, _ = (task / "schedstat").read_text().split()
        found[task.name] = (int(ran) + int(waited)) / 1e9
    return found


def element_pass(text: str) -> str:
    """A text with the kernel ``update_elements`` alone."""
    head, *kernels = text.split('extern "C"')
    return head + 'extern "C"' + next(kernel for kernel in kernels if "void update_elements(" in kernel)


def random_texts(count: int) -> list[str]:
    """Texts of random genomes, the same in every run; genomes that share one give it once."""
    rng = random.Random("compile latency")
    genomes = [random_genome(f"random{i}", Limits(), rng) for i in range(count)]
    return list(dict.fromkeys(render(lower(genome), apply=True).text for genome in genomes))


def measure_nvrtc(genomes: int, threads: int, architecture: str) -> list[dict[str, Any]]:
    """NVRTC's times: known texts, then ``genomes`` random ones, in ``threads`` threads."""
    known = {name: render(lower(catalogue.load(name)), apply=True).text for name in KNOWN}
    alone, drawn = element_pass(known["adam"]), random_texts(genomes)
    first = timed(lambda: nvrtc(architecture).compile(alone))
    work = nvrtc(architecture).compile

    def one(text: str) -> tuple[float, float]:
        return timed(lambda: work(text))

    return [
        row("nvrtc", "import and first: Adam's element pass", [first]),
        row("nvrtc", "Adam's element pass", [one(alone) for _ in range(REPEATS)]),
        *(row("nvrtc", f"{name}, whole text", [one(text) for _ in range(REPEATS)]) for name, text in known.items()),
        row("nvrtc", "random genomes, whole texts", [one(text) for text in drawn]),
        at_once("nvrtc", "random genomes, whole texts", [lambda t=text: work(t) for text in drawn], threads),
        at_once("nvrtc", "copies of Adam's element pass", [lambda: work(alone)] * len(drawn), threads),
    ]


def measure_triton(copies: int, threads: int, architecture: str) -> list[dict[str, Any]]:
    """Raises ImportError where Triton is missing."""
    number = int(architecture.removeprefix("sm_"))

    def work(variant: int) -> bytes:
        return importlib.import_module("triton_adam").compile_adam(variant, number)

    first = timed(lambda: work(0))
    return [
        row("triton", "import and first: Adam's element pass", [first]),
        row("triton", "Adam's element pass", [timed(lambda k=k: work(1 + k)) for k in range(REPEATS)]),
        at_once("triton", "copies of Adam's element pass", [lambda k=k: work(100 + k) for k in range(copies)], threads),
    ]


def table(rows: Sequence[dict[str, Any]]) -> Any:
    """The rows as a table for a terminal."""
    from rich.table import Table

    found = Table(title="Compilation of CUDA kernels, cold")
    for name in (
        "compiler",
        "what",
        "count",
        "threads",
        "CPU ms: median",
        "largest",
        "all: CPU s",
        "wall s",
        "runnable",
    ):
        found.add_column(name, justify="left" if name in ("compiler", "what") else "right")
    for entry in rows:
        each = [f"{entry[name]:.0f}" if name in entry else "" for name in ("cpu_ms_median", "cpu_ms_max")]
        found.add_row(
            entry["compiler"], entry["what"], str(entry["count"]), str(entry["threads"]), *each,
            f"{entry['cpu_s']:.2f}", f"{entry['wall_s']:.2f}",
            f"{entry['runnable']:.1f}" if "runnable" in entry else "",
        )  # fmt: skip
    return found


def main() -> None:
    """Measure, print the table, and write the results."""
    parser = argparse.ArgumentParser(description="Latency of compiling CUDA kernels: NVRTC beside Triton")
    parser.add_argument("--genomes", type=int, default=64, help="random genomes")
    parser.add_argument("--threads", type=int, default=available_cpus(), help="compilations at the same time")
    parser.add_argument("--architecture", default="sm_90", help="of the GPU (sm_90: H100, H200)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    if asked.genomes < 1 or asked.threads < 1:
        parser.error("--genomes and --threads are at least 1")
    rows: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    try:
        rows += measure_nvrtc(asked.genomes, asked.threads, asked.architecture)
    except UsageError as error:
        missing["nvrtc"] = str(error)
    try:
        copies = next((entry["count"] for entry in rows if entry["what"].startswith("copies")), asked.genomes)
        rows += measure_triton(copies, asked.threads, asked.architecture)
    except ImportError as error:
        missing["triton"] = f"{error}; pip install triton"
    for name, reason in missing.items():
        print(f"{name} is not measured: {reason}", file=sys.stderr)
    if not rows:
        sys.exit(2)
    from rich.console import Console

    Console(width=120).print(table(rows))
    about = {
        "machine": platform.machine(), "processors": available_cpus(), "load_average": os.getloadavg(),
        "python": platform.python_version(), "architecture": asked.architecture, "genomes": asked.genomes,
        "versions": versions(), "missing": missing,
        "compared": "NVRTC: texts of genomes; Triton: one kernel written by hand, Adam's pass over the elements",
    }  # fmt: skip
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


def versions() -> dict[str, str]:
    """Of the compilers' packages that are installed."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str] = {}
    for package in ("nvidia-cuda-nvrtc", "cuda-bindings", "triton"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
