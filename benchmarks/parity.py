"""How far a quick way of training parts from the literal loop, for every shipped optimizer.

    python benchmarks/parity.py --processes 2       # a quarter of an hour; results/parity_cpu.json and docs/parity.md
    python benchmarks/parity.py --names adam,lion --depths 2

Three epochs on three instances of the task ``tig``, at depths 2 and 4; six of optimizers that calibrate, which measure
in the first ones. The difference of two trainings is the largest relative difference of their losses, training and
validation of every epoch; over instances, the largest.

Two correct implementations differ by their rounding, and training multiplies that. How far is measured in three ways:
the literal loop against itself with the samples of each batch in reverse order; against the same network in torch's
own functions, with gradients by autograd; and, in float32, against itself in float64.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from torch.nn import functional

from evo.training.batches import Backend, train_batch
from genomes import catalogue
from genomes.analysis.calibration import calibrates
from genomes.backends import torch_reference
from genomes.backends.flat.optimizer import FlatProgram
from genomes.compiler.lowering import lower
from genomes.compiler.program import Program
from genomes.language.genome import Genome
from harness import flat
from harness.model import NORM_EPS, NORM_MOMENTUM, RUNNING_ROLES
from harness.optimizer import GuardedOptimizer
from harness.result import NUMERICS_VERSION, Training
from harness.task import Instance, seed_bytes
from harness.train import LiteralLoop, run, train
from tests.evo import device_on_cpu

ROOT = Path(__file__).resolve().parents[1]
EPOCHS, CALIBRATED_EPOCHS = 3, 6
SEEDS = (3, 500_003, 1_000_003)
FLOAT64_BOUND = 1e-9
NEAR = 10
SPREADS = {  # columns of what rounding alone does
    "float64": ("reordered, float64", "autograd, float64"),
    "float32": ("reordered, float32", "autograd, float32", "float32 from float64"),
}
Train = Callable[[Program, Instance, int, torch.dtype], Training]


def epochs_of(genome: Genome) -> int:
    """How long to train: longer where the first epochs measure what later ones shift."""
    return CALIBRATED_EPOCHS if calibrates(genome) else EPOCHS


def literal(program: Program, instance: Instance, epochs: int, dtype: torch.dtype) -> Training:
    """Train in the literal loop."""
    return train(instance, torch_reference.optimizer(program), epochs=epochs, dtype=dtype)


def reordered(program: Program, instance: Instance, epochs: int, dtype: torch.dtype) -> Training:
    """Train in the literal loop with the samples of each batch in reverse order."""
    loop = ReorderedLoop(instance, GuardedOptimizer(torch_reference.optimizer(program)), dtype, torch.device("cpu"))
    return run(loop, epochs=epochs, patience=epochs)


class ReorderedLoop(LiteralLoop):
    """The samples of each batch in reverse order: the same sums, rounded differently."""

    def train_batch(self, x: Tensor, y: Tensor, epoch: int, *known: float | None) -> float:
        """See `Loop.train_batch`."""
        return super().train_batch(x.flip(0), y.flip(0), epoch, *known)


def autograd(program: Program, instance: Instance, epochs: int, dtype: torch.dtype) -> Training:
    """Train in the literal loop with gradients by autograd."""
    loop = AutogradLoop(instance, GuardedOptimizer(torch_reference.optimizer(program)), dtype, torch.device("cpu"))
    return run(loop, epochs=epochs, patience=epochs)


class AutogradLoop(LiteralLoop):
    """Gradients of torch's own functions by autograd, in place of the written passes."""

    def train_batch(self, x: Tensor, y: Tensor, epoch: int, *known: float | None) -> float:
        """See `Loop.train_batch`."""
        layout = self.layout
        queried = self.optimizer.query_at_params(self.state, self.params, epoch, *known)
        with torch.enable_grad():
            used = [
                value.detach().clone().requires_grad_(trainable)
                for value, trainable in zip(queried or self.params, layout.trainable, strict=True)
            ]
            hidden = x
            for i in range(layout.num_hidden_layers):
                scale, shift, mean, var = used[layout.norm(i)]
                hidden = functional.linear(hidden, *used[layout.linear(i)]).relu()
                hidden = functional.batch_norm(hidden, mean, var, scale, shift, True, NORM_MOMENTUM, NORM_EPS)
            error = functional.linear(hidden, *used[layout.linear(layout.num_hidden_layers)]) - y
            (error * error).sum().backward()
        if queried is None or not self.task.restores_running_stats:
            running = [role in RUNNING_ROLES for role in layout.roles]
            self.params = [new if moves else old for new, old, moves in zip(used, self.params, running, strict=True)]
        gradients = [torch.zeros_like(value) if value.grad is None else value.grad for value in used]
        updates = self.optimizer.step(self.state, self.params, gradients, epoch, *known)
        self.params = [
            param + update if trainable else param
            for param, update, trainable in zip(self.params, updates, layout.trainable, strict=True)
        ]
        return (error * error).mean().item()


def quick(program: Program, instance: Instance, epochs: int, dtype: torch.dtype) -> Training:
    """Train in the fast loop of campaigns."""
    return flat.train(instance, FlatProgram(program), epochs=epochs, dtype=dtype)


@cache
def device() -> Backend:
    """The kernels of a GPU, compiled for the CPU."""
    return device_on_cpu.backend()


def batched(program: Program, instance: Instance, epochs: int, dtype: torch.dtype) -> Training:
    """A GPU's loop and kernels, run on the CPU: the text by g++, threads as loops."""
    name = {torch.float32: "float32", torch.float64: "float64"}[dtype]
    ((_, training),) = train_batch([(program, instance)], epochs=epochs, patience=epochs, device=device(), dtype=name)
    return training


PATHS: dict[str, Train] = {
    "quick": quick,
    "batched": batched,
}  # the paths that are held to the literal loop, a pair of columns each


@dataclass(frozen=True)
class Column:
    """``title`` of the difference between two trainings ``a`` and ``b``, each a path and its precision."""

    title: str
    a: tuple[Train, torch.dtype]
    b: tuple[Train, torch.dtype]


def columns() -> list[Column]:
    """The pairs of paths that the table compares."""
    one, two = torch.float32, torch.float64
    return [
        *(Column(f"{name}, float64", (path, two), (literal, two)) for name, path in PATHS.items()),
        Column("reordered, float64", (reordered, two), (literal, two)),
        Column("autograd, float64", (autograd, two), (literal, two)),
        *(Column(f"{name}, float32", (path, one), (literal, one)) for name, path in PATHS.items()),
        Column("reordered, float32", (reordered, one), (literal, one)),
        Column("autograd, float32", (autograd, one), (literal, one)),
        Column("float32 from float64", (literal, one), (literal, two)),
    ]


def difference(a: Training, b: Training) -> float:
    """Infinite where one ended earlier than the other or otherwise; where both diverge, of the finite losses."""
    if (a.status, a.epochs_run) != (b.status, b.epochs_run):
        return math.inf
    pairs = zip(a.train_loss + a.val_loss, b.train_loss + b.val_loss, strict=True)
    return max((abs(x - y) / abs(y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)), default=0.0)


def measure(name: str, depth: int) -> dict[str, Any]:
    """The largest differences of a known optimizer over all seeds, by column."""
    genome, shown = catalogue.load(name), columns()
    program, epochs = lower(genome), epochs_of(genome)
    found = dict.fromkeys((column.title for column in shown), 0.0)
    for seed in SEEDS:
        instance = Instance("tig", depth, seed_bytes(seed))
        runs = {key: key[0](program, instance, epochs, key[1]) for column in shown for key in (column.a, column.b)}
        for column in shown:
            found[column.title] = max(found[column.title], difference(runs[column.a], runs[column.b]))
    return {"name": name, "depth": depth, **found}


def measured(job: tuple[str, int]) -> dict[str, Any]:
    """As `measure`, of a name and a depth."""
    return measure(*job)


def summary(rows: list[dict[str, Any]], path: str) -> list[str]:
    """How a path compares with the spread of correct implementations, one line per precision."""
    lines = []
    for precision, spreads in SPREADS.items():
        title = f"{path}, {precision}"
        tiny = FLOAT64_BOUND if precision == "float64" else torch.finfo(torch.float32).eps
        ratios = [(row[title] / max(tiny, *(row[spread] for spread in spreads)), row["name"]) for row in rows]
        apart = [f"{name} ({ratio:.0f})" for ratio, name in sorted(ratios, reverse=True) if ratio > NEAR]
        exact, inside = sum(row[title] <= tiny for row in rows), sum(ratio <= 1 for ratio, _ in ratios)
        bound = f"within {tiny:.0e} in {exact} of {len(rows)} rows; " if exact else f"of {len(rows)} rows "
        lines.append(
            f"- `{path}` in {precision}: {bound}within {'this or ' if exact else ''}the largest "
            f"of the spreads in {inside}, {NEAR} times it in {len(rows) - len(apart)}"
            f"{'; the others, and how many times: ' if apart else ''}{', '.join(apart)}."
        )
    return lines


def page(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    titles = [key for key in rows[0] if key not in ("name", "depth")]
    lines = [
        "# How far the quick paths part from the literal loop",
        "",
        f"Written by `benchmarks/parity.py` (numerics version {NUMERICS_VERSION}, torch {torch.__version__}).",
        f"The numbers are the largest relative difference of the losses of {EPOCHS} epochs, training and validation,",
        f"on {len(SEEDS)} instances of `tig`, from the literal loop in the same precision. Optimizers that calibrate",
        f"train {CALIBRATED_EPOCHS} epochs, for they measure in the first ones. `quick` is what campaigns use",
        "on a CPU, `batched` a GPU's loop and kernels, run on a CPU. The other columns are the spread of correct",
        "implementations: `reordered` is the literal loop with each batch's samples in reverse order, `autograd`",
        "the network in torch's own functions, `float32 from float64` the literal loop in one precision against the",
        "other.",
        "",
        "A bias before BatchNorm whose unit is active on a whole batch has gradient 0, in floating point its rounding.",
        "Optimizers that look at signs, or divide by a gradient's size, make a full step of it, and one day the unit",
        "is inactive on some sample, or not: the spread is lumpy, and few instances do not always show it.",
        "",
        *(line for path in PATHS for line in summary(rows, path)),
        "",
        f"| optimizer | hidden layers | {' | '.join(titles)} |",
        f"|---|---|{'---|' * len(titles)}",
    ]
    for row in rows:
        lines.append(
            f"| {row['name']} | {row['depth']} | " + " | ".join(f"{row[title]:.0e}" for title in titles) + " |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all shipped optimizers, and write table and results."""
    parser = argparse.ArgumentParser(description="Parity of quick paths with the literal loop")
    parser.add_argument("--names", default=",".join(catalogue.all_names()), type=lambda text: text.split(","))
    parser.add_argument("--depths", default="2,4", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--processes", default=1, type=int)
    asked = parser.parse_args()
    jobs, rows = [(name, depth) for name in asked.names for depth in asked.depths], []
    with multiprocessing.get_context("spawn").Pool(asked.processes, torch.set_num_threads, (1,)) as pool:
        for row in pool.imap(measured, jobs):
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    about = {"epochs": [EPOCHS, CALIBRATED_EPOCHS], "seeds": SEEDS}
    about |= {"numerics": NUMERICS_VERSION, "torch": torch.__version__}
    result = {"about": about, "rows": rows}
    (ROOT / "benchmarks/results/parity_cpu.json").write_text(json.dumps(result, indent=1) + "\n")
    (ROOT / "docs/parity.md").write_text(page(rows))


if __name__ == "__main__":
    main()
