"""How fast lanes train on this machine's CPU, one thread a lane: every way of training side by side, in one run.

    make bench                                # depths 4, 10, 18: under five minutes
    python benchmarks/throughput.py --depths 4 --seconds 20

Prints a table; writes benchmarks/results/cpu.json and cpu.png. A step is an eighth of an epoch: eight batches, then
validation, for every path alike and in the floors too. Adam everywhere. Times are medians over interleaved rounds of
one epoch each, so that a noisy neighbour slows all paths alike; ``spread`` is half the distance of the quartiles. Time
is a process's time on the processor, which on a quiet machine is the wall clock's. Two workers at once slow each other
down by what they share: caches and memory.

Floors: ``gemm_floor`` are a step's large matrix products alone, in the quicker of torch's two libraries for this
processor; ``gemm_floor_mm`` the same in torch.mm, which autograd uses. ``bytes_floor``: reading and writing what an
Adam step must once (theta, gradient, two averages), at the bandwidth of a copy of that size.
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
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import nn

from genomes import catalogue
from genomes.backends import torch_flat, torch_reference
from genomes.lowering import lower
from harness.data import TRAIN, VALIDATION
from harness.flat import FlatLoop
from harness.model import NORM_EPS, NORM_MOMENTUM, initial_parameters, network_layout
from harness.optimizer import GuardedOptimizer
from harness.task import HIDDEN_WIDTH, Instance, seed_bytes
from harness.train import LiteralLoop, Loop, batches

RESULTS = Path(__file__).parent / "results"
EPOCHS = 300  # of a training, for trainings_per_s
BATCHES = len(batches(TRAIN))
Epoch = Callable[[], Any]


def literal(instance: Instance) -> Epoch:
    optimizer = GuardedOptimizer(torch_reference.optimizer(lower(catalogue.load("adam"))))
    return _loop(lambda: LiteralLoop(instance, optimizer, torch.float32, torch.device("cpu")), torch.no_grad)


def ours(instance: Instance) -> Epoch:
    optimizer = torch_flat.optimizer(lower(catalogue.load("adam")))
    return _loop(lambda: FlatLoop(instance, optimizer, torch.float32), torch.inference_mode)


def _loop(make: Callable[[], Loop], mode: Callable[[], Any]) -> Epoch:
    """A loop's epochs, in the mode in which its `train` runs it."""
    with mode():
        loop = make()
        loop.start()
    epochs = iter(range(10**9))

    def epoch() -> None:
        with mode():
            loop.run_epoch(next(epochs))

    return epoch


def network(instance: Instance) -> nn.Sequential:
    """The same network in torch's modules, with the instance's initial weights and the task's frozen tensors."""
    layout = network_layout(instance.task, instance.num_hidden_layers)
    values = [torch.tensor(value) for value in initial_parameters(instance)]
    modules: list[nn.Module] = []
    for i in range(layout.num_hidden + 1):
        at, norm = layout.linear(i).start, layout.norm(i).start
        linear = nn.Linear(values[at].shape[1], values[at].shape[0])
        linear.weight.data, linear.bias.data = values[at], values[at + 1]
        linear.requires_grad_(layout.trainable[at])
        modules.append(linear)
        if i < layout.num_hidden:
            batch_norm = nn.BatchNorm1d(HIDDEN_WIDTH, NORM_EPS, NORM_MOMENTUM)
            modules += [nn.ReLU(inplace=True), batch_norm.requires_grad_(layout.trainable[norm])]
    return nn.Sequential(*modules)


def eager(instance: Instance, compiled: bool = False) -> Epoch:
    """Autograd and torch.optim.Adam in the fastest of its forms for the CPU: one fused kernel."""
    model = network(instance)
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3, fused=True)
    data = LiteralLoop(instance, None, torch.float32, torch.device("cpu"))  # type: ignore[arg-type]
    epochs = iter(range(10**9))

    def epoch() -> float:
        order = torch.from_numpy(data.orders[next(epochs)])
        x, y = data.x[order], data.y[order]
        model.train()
        total = 0.0
        for batch in batches(TRAIN):
            optimizer.zero_grad(set_to_none=True)
            error = run(x[batch]) - y[batch]
            loss = (error * error).sum()
            loss.backward()
            optimizer.step()
            total += loss.item()
        model.eval()
        with torch.no_grad():
            error = model(data.x[VALIDATION]) - data.y[VALIDATION]
            return total + (error * error).mean().item()

    return epoch


def products(instance: Instance, onednn: bool) -> Epoch:
    """The products of 256 x 256 weights in an epoch: forward, gradient down, gradient of what is trained."""
    layout = network_layout(instance.task, instance.num_hidden_layers)
    square = range(1, instance.num_hidden_layers)
    trained = sum(layout.trainable[layout.linear(i).start] for i in square)
    weight, grad = torch.randn(HIDDEN_WIDTH, HIDDEN_WIDTH), torch.empty(HIDDEN_WIDTH, HIDDEN_WIDTH)
    sizes = [batch.stop - batch.start for batch in batches(TRAIN)]
    x = {n: torch.randn(n, HIDDEN_WIDTH) for n in {*sizes, 200}}
    out = {n: torch.empty(n, HIDDEN_WIDTH) for n in x}
    linear = torch.ops.mkldnn._linear_pointwise if onednn else None

    def product(n: int, transposed: bool) -> None:
        if linear is not None:
            linear(x[n], weight if transposed else weight.T, None, "none", [], "")
        else:
            torch.mm(x[n], weight.T if transposed else weight, out=out[n])

    def epoch() -> None:
        for n in sizes:
            for _ in square:
                product(n, True)
                product(n, False)
            for _ in range(trained):
                if linear is not None:
                    linear(x[n].T, x[n].T, None, "none", [], "")
                else:
                    torch.mm(x[n].T, x[n], out=grad)
        for _ in square:
            product(200, True)

    return epoch


def traffic(instance: Instance) -> Epoch:
    """Copies of as many bytes as Adam's steps of an epoch read and write: three vectors read and written, one read."""
    layout = network_layout(instance.task, instance.num_hidden_layers)
    count = sum(size for size, trained in zip(layout.sizes, layout.trainable, strict=True) if trained)
    source, target = torch.zeros(2, 3 * count + count // 2)

    def epoch() -> None:
        for _ in range(BATCHES):
            target.copy_(source)

    return epoch


def compiler_works() -> str:
    """Empty, or why torch.compile is left out."""
    try:
        torch.compile(lambda x: torch.relu(x) * 2)(torch.ones(8))
    except Exception as error:
        return f"torch.compile does not work here: {type(error).__name__}: {str(error).splitlines()[0][:100]}"
    return ""


def paths(instance: Instance, compiled: bool) -> dict[str, Epoch]:
    onednn = torch.backends.mkldnn.is_available()
    floors = {"gemm_floor_mm": products(instance, False)} | (
        {"gemm_floor_onednn": products(instance, True)} if onednn else {}
    )
    return {
        "eager": eager(instance),
        **({"compile": eager(instance, compiled=True)} if compiled else {}),
        "literal": literal(instance),
        "ours": ours(instance),
        **floors,
        "bytes_floor": traffic(instance),
    }


def measure(epochs: dict[str, Epoch], seconds: float) -> dict[str, list[float]]:
    """Milliseconds a step, one number a round, for each path; the order of the paths turns from round to round."""
    for epoch in epochs.values():
        epoch()
        epoch()
    names, taken = list(epochs), {name: [] for name in epochs}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken[names[0]]) < 5:
        for name in names:
            start = time.process_time()
            epochs[name]()
            taken[name].append((time.process_time() - start) * 1e3 / BATCHES)
        names.append(names.pop(0))
    return taken


def row(depth: int, path: str, lanes: int, samples: list[float]) -> dict[str, Any]:
    """``ms_per_lane_step``: the time of a step over the lanes that take it at once."""
    median = statistics.median(samples)
    low, _, high = statistics.quantiles(samples, n=4)
    return {
        "device": "cpu",
        "depth": depth,
        "path": path,
        "lanes": lanes,
        "ms_per_lane_step": round(median, 4),
        "spread_ms": round((high - low) / 2, 4),
        "trainings_per_s": round(1e3 / (median * BATCHES * EPOCHS), 5),
        "rounds": len(samples),
    }


def benchmark(depth: int, seconds: float, compiled: bool) -> list[dict[str, Any]]:
    taken = measure(paths(Instance("tig", depth, seed_bytes(1)), compiled), seconds)
    quickest = min(
        (name for name in taken if name.startswith("gemm_floor_")), key=lambda name: statistics.median(taken[name])
    )
    taken["gemm_floor"] = taken[quickest]
    return [row(depth, path, 1, samples) for path, samples in taken.items()]


def workers(depth: int, seconds: float) -> list[dict[str, Any]]:
    """One process against two at once, each with one lane at a time; in turns, so that both see the same machine."""
    command = [sys.executable, __file__, "--only", "ours", "--depths", str(depth), "--seconds", str(seconds / 6)]
    samples: dict[int, list[float]] = {1: [], 2: []}
    for count in (1, 2) * 3:
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        medians = [float(process.communicate()[0]) for process in started]
        samples[count].append(1 / sum(1 / median for median in medians))  # together they take a step this often
    return [row(depth, "ours, two workers" if n == 2 else "ours, one worker", n, s) for n, s in samples.items()]


def table(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    shown = Table(title=f"CPU, one thread a lane; trainings of {EPOCHS} epochs")
    for name in ("depth", "path", "ms a step", "± quartiles", "trainings/s", "x gemm_floor", "x eager"):
        shown.add_column(name, justify="left" if name == "path" else "right")
    for entry in rows:
        by_path = {other["path"]: other["ms_per_lane_step"] for other in rows if other["depth"] == entry["depth"]}
        step = entry["ms_per_lane_step"]
        shown.add_row(
            str(entry["depth"]), entry["path"], f"{step:.3f}", f"{entry['spread_ms']:.3f}",
            f"{entry['trainings_per_s']:.3f}", f"{step / by_path['gemm_floor']:.2f}", f"{step / by_path['eager']:.2f}",
        )  # fmt: skip
    return shown


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    depths = sorted({entry["depth"] for entry in rows})
    figure, axes = pyplot.subplots(1, len(depths), figsize=(4 * len(depths), 3.5), squeeze=False)
    for axis, depth in zip(axes[0], depths, strict=True):
        here = [entry for entry in rows if entry["depth"] == depth][::-1]
        axis.barh(
            [entry["path"] for entry in here],
            [entry["ms_per_lane_step"] for entry in here],
            xerr=[entry["spread_ms"] for entry in here],
            color=["tab:gray" if "floor" in e["path"] else "tab:blue" for e in here],
        )
        axis.set(title=f"{depth} hidden layers", xlabel="ms a step")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description="Throughput of training on this CPU")
    parser.add_argument("--depths", default="4,10,18", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--seconds", type=float, default=35, help="measuring time of a depth")
    parser.add_argument("--only", choices=["ours"], help="measure this path alone and print its milliseconds a step")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.only:
        taken = measure({"ours": ours(Instance("tig", asked.depths[0], seed_bytes(1)))}, asked.seconds)
        print(statistics.median(taken["ours"]))
        return
    no_compiler = compiler_works()
    print(no_compiler or "torch.compile works", file=sys.stderr)
    rows = []
    for depth in asked.depths:
        rows += benchmark(depth, asked.seconds, compiled=not no_compiler and depth == asked.depths[0])
    rows += workers(asked.depths[0], asked.seconds)
    rows.sort(key=lambda entry: entry["depth"])
    from rich.console import Console

    Console(width=110).print(table(rows))
    RESULTS.mkdir(exist_ok=True)
    about = {
        "machine": platform.machine(), "processors": os.cpu_count(), "load_average": os.getloadavg(),
        "torch": torch.__version__, "epochs": EPOCHS, "compile": no_compiler or "works (first depth alone)",
    }  # fmt: skip
    (RESULTS / "cpu.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    picture(rows, RESULTS / "cpu.png")


if __name__ == "__main__":
    main()
