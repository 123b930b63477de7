"""Whether TF32 ranks genomes as float32 does: the same genomes on the same instances, both ways, in one run.

    python benchmarks/tf32_ranking.py                        # a GPU, 200 genomes
    python benchmarks/tf32_ranking.py --device cpu --genomes 8 --instances 1 --depth 2 --epochs 3   # a dry run

Half of the genomes are random, half are known optimizers and mutants of them. A genome's worth is its mean quality over
the instances; one that diverged counts as the worst. The yardstick is float64: so far is float32's own ranking from
exact arithmetic's. Agreement is Kendall's tau-b; TF32 is for early rungs, and only where it is
at least 0.9. Writes benchmarks/results/tf32_ranking.json and .png.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from scipy.stats import kendalltau

from evo.recipe.schema import Limits
from evo.search.variation.random_genome import random_genome
from evo.search.variation.vary import vary
from evo.training.batches import train_batch
from genomes import catalogue
from genomes.compiler.lowering import lower
from genomes.language.genome import Genome
from harness.score import QUALITY_BOUND
from harness.task import Instance, seed_bytes

RESULTS = Path(__file__).parent / "results"
WAYS = ("float32", "tf32", "float64")


def genomes(count: int) -> list[Genome]:
    """Random ones, known optimizers, and mutants of these."""
    found = []
    for k in range(count):
        rng = random.Random(f"tf32 {k}")
        if k % 2:
            found.append(random_genome(f"random_{k}", Limits(), rng))
        else:
            known = catalogue.load(catalogue.names()[k // 2 % len(catalogue.names())])
            found.append(known if k < count // 2 else vary([known], 0.0, {}, Limits(), rng).genome)
    return found


def worths(chosen: list[Genome], instances: list[Instance], epochs: int, device: str, dtype: str) -> list[float]:
    """Mean quality of each genome."""
    batch = [(lower(genome), instance) for genome in chosen for instance in instances]
    qualities = [-QUALITY_BOUND] * len(batch)
    for place, training in train_batch(batch, epochs=epochs, device=device, dtype=dtype):
        if training.quality is not None and training.status == "finished":
            qualities[place] = training.quality
    n = len(instances)
    return [fmean(qualities[k * n : (k + 1) * n]) for k in range(len(chosen))]


def agreement(a: list[float], b: list[float]) -> dict[str, float]:
    """Kendall's tau-b of two rankings, of all and of the better half by the first."""
    better = sorted(range(len(a)), key=lambda k: -a[k])[: max(2, len(a) // 2)]
    halves = [a[k] for k in better], [b[k] for k in better]
    return {
        "tau": round(float(kendalltau(a, b).statistic), 4),
        "tau_of_the_better_half": round(float(kendalltau(*halves).statistic), 4),
    }


def picture(found: dict[str, list[float]], path: Path) -> None:
    """Draw both rankings against each other, as a PNG at ``path``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 4.2))
    for axis, way in zip(axes, WAYS[1:], strict=True):
        axis.plot([-1, 0.9], [-1, 0.9], color="lightgray", zorder=0)
        axis.scatter([max(-1, q) for q in found["float32"]], [max(-1, q) for q in found[way]], s=9)
        axis.set(xlabel="mean quality, float32", ylabel=f"mean quality, {way}", title=f"{way} beside float32")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, and write results and picture."""
    parser = argparse.ArgumentParser(description="Whether TF32 ranks genomes as float32 does")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--genomes", type=int, default=200)
    parser.add_argument("--instances", type=int, default=4)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    chosen = genomes(asked.genomes)
    instances = [Instance("tig", asked.depth, seed_bytes(50_000_000 + 10_000 * k)) for k in range(asked.instances)]
    if asked.device == "cuda" and not torch.cuda.is_available():
        sys.exit("tf32_ranking: torch sees no GPU here; --device cpu is a dry run")
    if asked.device == "cpu":
        print("a dry run: a CPU has no TF32, so tf32 is float32 once more", file=sys.stderr)
    found, seconds = {}, {}
    for way in WAYS:  # kernels are compiled and libraries loaded before the clock runs
        worths(chosen, instances, 1, asked.device, way)
    for way in WAYS:
        start = time.perf_counter()
        found[way] = worths(chosen, instances, asked.epochs, asked.device, way)
        seconds[way] = round(time.perf_counter() - start, 2)
        print(f"{way}: {seconds[way]} s", file=sys.stderr)
    about: dict[str, Any] = {k: v for k, v in vars(asked).items() if k != "results"} | {"seconds": seconds}
    taus = {way: agreement(found["float32"], found[way]) for way in WAYS[1:]}
    for way, tau in taus.items():
        print(f"{way} beside float32: tau {tau['tau']}, of the better half {tau['tau_of_the_better_half']}")
    asked.results.mkdir(parents=True, exist_ok=True)
    (asked.results / "tf32_ranking.json").write_text(
        json.dumps({"about": about, "agreement": taus, "worths": found}, indent=1)
    )
    picture(found, asked.results / "tf32_ranking.png")


if __name__ == "__main__":
    main()
