"""How far a quick way of training parts from the literal loop, for every known optimizer.

    python benchmarks/parity.py                     # a few minutes; writes results/parity_cpu.json and docs/parity.md
    python benchmarks/parity.py --names adam,lion --depths 2

Three epochs on two instances of the task ``tig``, at depths 2 and 4. The difference of two trainings is the largest
relative difference of their losses, training and validation of every epoch; of two instances, the larger.

In float64 the quick path is held to the literal loop. In float32 two correct implementations differ by their
rounding, and training multiplies that; how far is measured twice: the literal loop in float32 against itself in
float64, and against itself with the samples of each batch in reverse order.
"""

from __future__ import annotations

import argparse
import json
import math
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

from evo.batches import Backend, train_batch
from genomes import catalogue
from genomes.backends import torch_flat, torch_reference
from genomes.lowering import lower
from genomes.program import Program
from harness import flat
from harness.optimizer import GuardedOptimizer
from harness.task import Instance, seed_bytes
from harness.train import NUMERICS_VERSION, LiteralLoop, Training, run, train
from tests.evo import device_on_cpu

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = 3
SEEDS = (3, 500_003)
FLOAT64_BOUND = 1e-9
SPREADS = ("literal reordered, float32", "literal float32, float64")  # columns of what rounding alone does in float32
Train = Callable[[Program, Instance, int, torch.dtype], Training]


def literal(program: Program, instance: Instance, epochs: int, dtype: torch.dtype) -> Training:
    return train(instance, torch_reference.optimizer(program), epochs=epochs, dtype=dtype)


def reordered(program: Program, instance: Instance, epochs: int, dtype: torch.dtype) -> Training:
    loop = ReorderedLoop(instance, GuardedOptimizer(torch_reference.optimizer(program)), dtype, torch.device("cpu"))
    return run(loop, epochs=epochs, patience=epochs)


class ReorderedLoop(LiteralLoop):
    """The samples of each batch in reverse order: the same sums, rounded differently."""

    def train_batch(self, x: Tensor, y: Tensor, epoch: int, *known: float | None) -> float:
        return super().train_batch(x.flip(0), y.flip(0), epoch, *known)


def quick(program: Program, instance: Instance, epochs: int, dtype: torch.dtype) -> Training:
    return flat.train(instance, torch_flat.optimizer(program), epochs=epochs, dtype=dtype)


@cache
def device() -> Backend:
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
    one, two = torch.float32, torch.float64
    return [
        *(Column(f"{name}, float64", (path, two), (literal, two)) for name, path in PATHS.items()),
        Column("literal reordered, float64", (reordered, two), (literal, two)),
        *(Column(f"{name}, float32", (path, one), (literal, one)) for name, path in PATHS.items()),
        Column("literal reordered, float32", (reordered, one), (literal, one)),
        Column("literal float32, float64", (literal, one), (literal, two)),
    ]


def difference(a: Training, b: Training) -> float:
    """Infinite where one ended earlier than the other or otherwise; where both diverge, of the finite losses."""
    if (a.status, a.epochs_run) != (b.status, b.epochs_run):
        return math.inf
    pairs = zip(a.train_loss + a.val_loss, b.train_loss + b.val_loss, strict=True)
    return max((abs(x - y) / abs(y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)), default=0.0)


def measure(name: str, depth: int) -> dict[str, Any]:
    program, shown = lower(catalogue.load(name)), columns()
    found = dict.fromkeys((column.title for column in shown), 0.0)
    for seed in SEEDS:
        instance = Instance("tig", depth, seed_bytes(seed))
        runs = {key: key[0](program, instance, EPOCHS, key[1]) for column in shown for key in (column.a, column.b)}
        for column in shown:
            found[column.title] = max(found[column.title], difference(runs[column.a], runs[column.b]))
    return {"name": name, "depth": depth, **found}


def summary(rows: list[dict[str, Any]], path: str) -> list[str]:
    """Two sentences on a path: rows beyond the bound in float64, and how it compares with the spread in float32."""
    exact, spread_exact = f"{path}, float64", "literal reordered, float64"
    beyond = [row for row in rows if row[exact] > FLOAT64_BOUND]
    lines = [f"- `{path}`, float64: within {FLOAT64_BOUND:.0e} in {len(rows) - len(beyond)} of {len(rows)} rows."]
    if beyond:
        names = ", ".join(dict.fromkeys(row["name"] for row in beyond))
        worst = max(row[exact] / max(row[spread_exact], sys.float_info.epsilon) for row in beyond)
        lines[0] += f" The others ({names}) part from themselves as well: at most {worst:.0f} times the spread there."
    ratios = sorted(
        (row[f"{path}, float32"] / max(row[spread] for spread in SPREADS), row["name"], row["depth"]) for row in rows
    )
    inside, near = (sum(ratio <= bound for ratio, *_ in ratios) for bound in (1, 10))
    worst, name, depth = ratios[-1]
    lines.append(
        f"- `{path}`, float32: within the larger of the two spreads in {inside} of {len(rows)} rows, within ten "
        f"times it in {near}; at most {worst:.0f} times it ({name}, {depth} hidden layers)."
    )
    return lines


def page(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    titles = [key for key in rows[0] if key not in ("name", "depth")]
    lines = [
        "# How far the quick paths part from the literal loop",
        "",
        f"Written by `benchmarks/parity.py` (numerics version {NUMERICS_VERSION}, torch {torch.__version__}).",
        f"Numbers are the largest relative difference of the losses of {EPOCHS} epochs, training and validation,",
        f"on {len(SEEDS)} instances of `tig`. `quick` (campaigns on a CPU) and `batched` (a GPU's loop and kernels,",
        "run on a CPU) stand against the literal loop in the same precision. The other columns say how far correct",
        "implementations differ:",
        "the literal loop with each batch's samples in reverse order, and the literal loop in float32 against float64.",
        "Where rounding in float64 alone parts two runs by more than 1e-9, the optimizer turns a value whose true size",
        "is 0 into a full step: by its sign, or by dividing by its size.",
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
    parser = argparse.ArgumentParser(description="Parity of quick paths with the literal loop")
    parser.add_argument("--names", default=",".join(catalogue.names()), type=lambda text: text.split(","))
    parser.add_argument("--depths", default="2,4", type=lambda text: [int(part) for part in text.split(",")])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in asked.names:
        for depth in asked.depths:
            rows.append(measure(name, depth))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    about = {"epochs": EPOCHS, "seeds": SEEDS, "numerics": NUMERICS_VERSION, "torch": torch.__version__}
    result = {"about": about, "rows": rows}
    (ROOT / "benchmarks/results/parity_cpu.json").write_text(json.dumps(result, indent=1) + "\n")
    (ROOT / "docs/parity.md").write_text(page(rows))


if __name__ == "__main__":
    main()
