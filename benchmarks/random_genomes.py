"""Whether random genomes train: the share that neither diverges nor stalls on ``tig``, depth 3, in 5 epochs.

    python benchmarks/random_genomes.py             # 300 genomes, a minute on two cores

A genome stalls when no epoch's training loss is 5 % below the first's. Writes benchmarks/results/random_genomes.json.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scipy.stats import binomtest

from evo.recipe.schema import Limits
from evo.records import Lane
from evo.search.variation.random_genome import random_genome
from evo.training.pool import LocalPool
from evo.training.worker import TRAIN_LANES
from genomes.language.genome import dump
from harness.result import Training
from harness.task import Instance, seed_bytes

RESULT = Path(__file__).parent / "results" / "random_genomes.json"
FALL = 0.95  # of the first epoch's training loss


def verdict(training: Training) -> str:
    """``trains``, ``stalls``, or the status of a training that did not finish."""
    if training.status != "finished":
        return training.status
    return "trains" if min(training.train_loss[1:]) < FALL * training.train_loss[0] else "stalls"


def main() -> None:
    """Train random genomes, and write the share that trains."""
    parser = argparse.ArgumentParser(description="The share of random genomes that train")
    parser.add_argument("--genomes", type=int, default=300)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0)
    asked = parser.parse_args()
    lanes = [
        Lane(
            hash=str(k),
            text=dump(random_genome("random", Limits(), random.Random(f"share {k}"))),
            instance=Instance("tig", asked.depth, seed_bytes(40_000_000 + 10_000 * k)),
            epochs=asked.epochs,
        )
        for k in range(asked.genomes)
    ]
    with LocalPool(asked.workers, function=TRAIN_LANES) as pool:
        found = {lane.hash: verdict(training) for lane, training in pool.train(lanes)}
    counts = Counter(found.values())
    interval = binomtest(counts["trains"], asked.genomes).proportion_ci(method="wilson")
    result = {
        **vars(asked),
        "counts": dict(counts),
        "share": counts["trains"] / asked.genomes,
        "interval_95": [round(interval.low, 4), round(interval.high, 4)],
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
