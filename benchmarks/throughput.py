"""How fast lanes train on this machine: every way of training side by side, in one run.

    make bench                                # this CPU, depths 4, 10, 18: under five minutes
    python benchmarks/throughput.py --depths 4 --seconds 20
    python benchmarks/throughput.py --device cuda --lanes 256,1024

Prints a table; writes benchmarks/results/cpu.json and cpu.png, or cuda.json and cuda.png. A step is an eighth of an
epoch: eight batches, then validation, for every path alike and in the floors too. Adam everywhere. Paths take turns of
three epochs, so that a noisy neighbor slows all alike; the first epoch of a turn, in which caches forget the path
before, is not counted. Times are medians over turns; ``spread`` is half the distance of the quartiles.

On the CPU, one thread per lane, time is a process's time on the processor, which on a quiet machine is that of the wall
clock. On a GPU it is the wall clock's, until the device has finished. Two workers at once slow each other down by the
caches and the memory that they share.

Paths: ``eager`` is torch's modules, autograd and fused Adam; ``compile`` the same under torch.compile; ``graphs`` the
same replayed from CUDA graphs (there are none on a CPU); ``vmap`` many networks at once through torch.func;
``literal`` this project's definition of a training; ``ours`` what campaigns use, on a GPU many lanes at once, with
TF32 as ``ours_tf32``.

Floors: ``gemm_floor`` are a step's large matrix products alone, on the CPU in the faster of torch's two libraries for
this processor; ``gemm_floor_mm`` the same in torch.mm, which autograd uses. ``bytes_floor``: reading and writing what
an Adam step must once (theta, gradient, two averages), at the bandwidth of a copy of that size.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path as File
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(File(__file__).resolve().parents[1]))

import torch
from throughput_paths import SIZES, Path, groups, instances, ours

RESULTS = File(__file__).parent / "results"
EPOCHS = 300  # of a training, for trainings_per_s
COUNTED = 2  # epochs of a turn
NO_GRAPHS = "no path `graphs`: CUDA graphs exist on a GPU alone"


def compiler_works(device: torch.device) -> str:
    """Empty, or why torch.compile is left out."""
    try:
        torch.compile(lambda x: torch.relu(x) * 2)(torch.ones(8, device=device))
    except Exception as error:
        return f"torch.compile does not work here: {type(error).__name__}: {str(error).splitlines()[0][:100]}"
    return ""


def processor_clock() -> float:
    """Seconds of this process on the processor."""
    return time.process_time()


def device_clock() -> float:
    """Seconds of wall time, with all work of the GPU finished."""
    torch.cuda.synchronize()
    return time.perf_counter()


def measure(measured: list[Path], seconds: float, clock: Callable[[], float]) -> dict[tuple[str, int], list[float]]:
    """Milliseconds per step and lane, one number per turn, for each path by name and lanes.

    A call of a path that goes through many epochs at once is a turn of its own: the epoch before needs no leaving out.
    """
    for path in measured:
        path.epoch()
    taken: dict[tuple[str, int], list[float]] = {(path.name, path.lanes): [] for path in measured}
    turn, end = list(measured), time.perf_counter() + seconds
    while time.perf_counter() < end or min(len(samples) for samples in taken.values()) < 5:
        for path in turn:
            calls = COUNTED if path.epochs == 1 else 1
            if path.epochs == 1:
                path.epoch()
            start = clock()
            for _ in range(calls):
                path.epoch()
            steps = calls * path.epochs * len(SIZES)
            taken[path.name, path.lanes].append((clock() - start) * 1e3 / steps / path.lanes)
        turn.append(turn.pop(0))
    return taken


def row(device: str, depth: int, path: str, lanes: int, samples: list[float]) -> dict[str, Any]:
    """``ms_per_lane_step``: the time of a step over the lanes that take it at once."""
    median = statistics.median(samples)
    low, _, high = statistics.quantiles(samples, n=4)
    return {
        "device": device,
        "depth": depth,
        "path": path,
        "lanes": lanes,
        "ms_per_lane_step": round(median, 5),
        "spread_ms": round((high - low) / 2, 5),
        "trainings_per_s": round(1e3 / (median * len(SIZES) * EPOCHS), 5),
        "turns": len(samples),
    }


def benchmark(
    device: torch.device, depth: int, seconds: float, compiled: bool, lanes: list[int]
) -> list[dict[str, Any]]:
    """One row of results per path and number of lanes, at one depth."""
    on_gpu = device.type == "cuda"
    taken, about = {}, {}
    for group in groups(depth, device, compiled, lanes):
        share = seconds / (len(lanes) + 3) if on_gpu else seconds
        taken |= measure(group, share, device_clock if on_gpu else processor_clock)
        about |= {(path.name, path.lanes): path.about for path in group}
        group.clear()  # a GPU's memory is for the next
        if on_gpu:
            torch.cuda.empty_cache()
    libraries = [samples for (name, _), samples in taken.items() if name.startswith("gemm_floor_")]
    if libraries:
        taken["gemm_floor", 1] = min(libraries, key=statistics.median)
    return [row(device.type, depth, *key, samples) | about.get(key, {}) for key, samples in taken.items()]


def workers(depth: int, seconds: float) -> list[dict[str, Any]]:
    """One process against two at once, each with one lane at a time; in turns, so that both see the same machine."""
    command = [sys.executable, __file__, "--only", "ours", "--depths", str(depth), "--seconds", str(seconds / 6)]
    samples: dict[int, list[float]] = {1: [], 2: []}
    for count in (1, 2) * 3:
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        medians = [float(process.communicate()[0]) for process in started]
        samples[count].append(1 / sum(1 / median for median in medians))  # together they take a step this often
    return [row("cpu", depth, "ours, two workers" if n == 2 else "ours, one worker", n, s) for n, s in samples.items()]


def table(rows: list[dict[str, Any]]) -> Any:
    """The rows as a table for a terminal."""
    from rich.table import Table

    shown = Table(title=f"{rows[0]['device']}; trainings of {EPOCHS} epochs")
    for name in (
        "depth",
        "path",
        "lanes",
        "ms per step and lane",
        "± quartiles",
        "trainings/s",
        "x gemm_floor",
        "x eager",
    ):
        shown.add_column(name, justify="left" if name == "path" else "right")
    for entry in rows:
        step = entry["ms_per_lane_step"]
        fastest = {
            path: min(o["ms_per_lane_step"] for o in rows if (o["depth"], o["path"]) == (entry["depth"], path))
            for path in ("gemm_floor", "eager")
        }
        shown.add_row(
            str(entry["depth"]), entry["path"], str(entry["lanes"]), f"{step:.4f}", f"{entry['spread_ms']:.4f}",
            f"{entry['trainings_per_s']:.3f}", *(f"{step / fastest[path]:.2f}" for path in fastest),
        )  # fmt: skip
    return shown


def picture(rows: list[dict[str, Any]], path: File) -> None:
    """Draw the times by depth, as a PNG at ``path``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    depths = sorted({entry["depth"] for entry in rows})
    figure, axes = pyplot.subplots(1, len(depths), figsize=(4 * len(depths), 3.5), squeeze=False)
    for axis, depth in zip(axes[0], depths, strict=True):
        here = [entry for entry in rows if entry["depth"] == depth][::-1]
        axis.barh(
            [f"{entry['path']} ({entry['lanes']})" if entry["lanes"] > 1 else entry["path"] for entry in here],
            [entry["ms_per_lane_step"] for entry in here],
            xerr=[entry["spread_ms"] for entry in here],
            color=["tab:gray" if "floor" in e["path"] else "tab:blue" for e in here],
        )
        axis.set(title=f"{depth} hidden layers", xlabel="ms per step and lane")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def numbers(text: str) -> list[int]:
    """The integers of a list with commas."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    """Measure, print the table, and write results and picture."""
    parser = argparse.ArgumentParser(description="Throughput of training on this machine")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--depths", default="4,10,18", type=numbers)
    parser.add_argument("--seconds", type=float, default=35, help="measuring time of a depth")
    parser.add_argument("--results", type=File, default=RESULTS, help="the folder for JSON and picture")
    parser.add_argument("--lanes", default="256,1024", type=numbers, help="on a GPU: how many lanes train at once")
    parser.add_argument("--only", choices=["ours"], help="measure this path alone and print its milliseconds per step")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(asked.device)
    if asked.only:
        (instance,) = instances(asked.depths[0], 1)
        taken = measure([Path("ours", 1, ours(instance))], asked.seconds, processor_clock)
        print(statistics.median(taken["ours", 1]))
        return
    no_compiler = compiler_works(device)
    print(no_compiler or "torch.compile works", file=sys.stderr)
    if device.type == "cpu":
        print(NO_GRAPHS, file=sys.stderr)
    rows = []
    for depth in asked.depths:
        compiled = not no_compiler and depth == asked.depths[0]
        rows += benchmark(device, depth, asked.seconds, compiled, asked.lanes)
    if device.type == "cpu":
        rows += workers(asked.depths[0], asked.seconds)
    rows.sort(key=lambda entry: entry["depth"])
    from rich.console import Console

    Console(width=110).print(table(rows))
    asked.results.mkdir(parents=True, exist_ok=True)
    about = {
        "machine": platform.machine(), "processors": os.cpu_count(), "load_average": os.getloadavg(),
        "torch": torch.__version__, "epochs": EPOCHS, "compile": no_compiler or "works (first depth alone)",
    }  # fmt: skip
    if device.type == "cuda":
        about["gpu"] = torch.cuda.get_device_name()
    else:
        about["graphs"] = NO_GRAPHS
    (asked.results / f"{device.type}.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    picture(rows, asked.results / f"{device.type}.png")


if __name__ == "__main__":
    main()
