"""Tune constants around calibrated_adam by CMA-ES, one depth per process, on a GPU; then judge the mean.

Run:  python runs/tuned-adam/cma_es.py DEPTH SECONDS JUDGE_SECONDS OUT [--device cuda] [--epochs 1000] [--population 48]

Needs `pip install cmaes` (0.13). Every generation trains its genomes on one new instance, sha256(`cma/GENERATION`), in
both inits; a genome's score is the mean quality. When the time is over, the distribution's mean and calibrated_adam
train on sha256(`gpu-judge/i`), 16 instances at a time. One JSON record per training is appended to OUT.
"""

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cmaes import CMA

sys.path.insert(0, str(Path(__file__).parents[2]))

from evo.training.batches import train_batch
from genomes import catalogue
from genomes.compiler.lowering import lower
from genomes.compiler.program import Program
from genomes.language.genome import parse
from harness.task import Instance

# name: how the interval from 0 to 1 is mapped to (low, high); "one" is logarithmic in 1 - value
SPACE = {
    "lr": ("log", 3e-5, 2e-3),  # times RATES
    "b1": ("one", 0.02, 0.5),
    "b2": ("one", 5e-4, 2e-2),
    "kappa": ("lin", 0, 1),  # 0: Adam, 1: AdaBelief
    "avg": ("one", 2e-3, 0.1),
    "T": ("lin", 180, 450),
    "p": ("log", 0.5, 2),
    "first": ("log", 1, 20),
    "last": ("log", 0.25, 4),
    "tilt": ("lin", -1.5, 1.5),
    "scale": ("log", 0.2, 5),
    "shift": ("log", 0.2, 5),
    "bias": ("log", 0.2, 5),
    "wd": ("log", 1e-3, 1),
    "xi": ("lin", 0.001, 0.999),
    "look": ("lin", -2, 2),
    "slack": ("lin", 0.3, 2.5),
    "warm": ("lin", 2, 16),
}
RATES = {4: 3.0, 10: 1.7, 18: 1.0}  # factor of the learning rate by depth
WHOLE = ("T", "warm")
COMMON = {"p": 1, "last": 1, "tilt": 0, "scale": 1, "wd": 0.01, "xi": 0.5, "look": 0, "warm": 8}
STARTS = {
    4: COMMON
    | {"lr": 6e-4, "b1": 0.93, "b2": 0.997, "kappa": 0.5, "avg": 0.965, "T": 310}
    | {"first": 3, "shift": 0.7, "bias": 1, "slack": 1.2},
    10: COMMON
    | {"lr": 2.5e-4, "b1": 0.9, "b2": 0.997, "kappa": 0.4, "avg": 0.985, "T": 300}
    | {"first": 4, "shift": 0.8, "bias": 1, "slack": 1.4},
    18: COMMON
    | {"lr": 2e-4, "b1": 0.9, "b2": 0.998, "kappa": 0.3, "avg": 0.99, "T": 290}
    | {"first": 4, "shift": 1, "bias": 1.5, "slack": 1.4},
}
WORST = -5.0  # score of a training without a quality


class Job(NamedTuple):
    """One training, and what its record says of it."""

    program: Program
    instance: Instance
    note: dict


def decode(x: np.ndarray, depth: int) -> dict:
    """Constants of a point in the unit cube."""
    k = {}
    for (name, (kind, low, high)), value in zip(SPACE.items(), np.clip(x, 0, 1).tolist(), strict=True):
        if kind == "lin":
            k[name] = low + value * (high - low)
        else:
            k[name] = math.exp(math.log(low) + value * (math.log(high) - math.log(low)))
            if kind == "one":
                k[name] = 1 - k[name]
    k["lr"] *= RATES[depth]
    return {name: round(value) if name in WHOLE else float(f"{value:.5g}") for name, value in k.items()}


def encode(k: dict, depth: int) -> np.ndarray:
    """The point of the unit cube that has these constants, 0.02 from its faces at least."""
    x = []
    for name, (kind, low, high) in SPACE.items():
        value = k[name] / RATES[depth] if name == "lr" else k[name]
        if kind == "one":
            value = 1 - value
        if kind == "lin":
            x.append((value - low) / (high - low))
        else:
            x.append((math.log(value) - math.log(low)) / (math.log(high) - math.log(low)))
    return np.clip(np.array(x), 0.02, 0.98)


def text(k: dict) -> str:
    """The genome of the constants ``k``, as YAML."""
    m = f"ema(g, {k['b1']})"
    v = f"ema(square(g - {k['kappa']} * {m}), {k['b2']})"
    return f"""genome: 1
name: x
lr: {k["lr"]}
terms:
  - {{weight: 1.0, expr: "{m} / (1 - {k["b1"]} ** t) / (sqrt({v} / (1 - {k["b2"]} ** t)) + 1e-8)"}}
gates: ["cautious(u, {k["xi"]})"]
decay: {{kind: decoupled, rate: {k["wd"]}}}
schedule: "linear_warmup({k["warm"]}) * cosine({k["T"]}) ** {k["p"]} * exp({k["tilt"]} * (depth_fraction - 0.5))"
roles:
  {{first: {k["first"]}, last: {k["last"]}, norm_scale: {k["scale"]}, norm_shift: {k["shift"]}, bias: {k["bias"]}}}
query:
  outputs: ["output_probe(0)", "output_probe(1)"]
  offset: "hold(calibration(), last_step_of_epoch) + {k["look"]} * delta"
  when: "epoch > 3 and t % 2 == 0 and t % steps_per_epoch > 1"
evaluation:
  offset: "average(theta + delta, {k["avg"]}) - (theta + delta) + calibration(slack={k["slack"]}, epochs={k["T"] + 1})"
"""


def instance(label: str, number: int, depth: int, init: str) -> Instance:
    """Instance ``number`` of a label."""
    return Instance("tig", depth, hashlib.sha256(f"{label}/{number}".encode()).digest(), init)


def main() -> None:
    """Search, judge, append the records."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("depth", type=int, choices=RATES)
    options.add_argument("seconds", type=float)
    options.add_argument("judge_seconds", type=float)
    options.add_argument("out", type=Path)
    options.add_argument("--device", default="cuda")
    options.add_argument("--epochs", type=int, default=1000)
    options.add_argument("--population", type=int, default=48)
    given = options.parse_args()
    depth, start = given.depth, time.monotonic()

    def train(jobs: Iterable[Job]) -> Iterator[tuple[int, float]]:
        """(position, score) of each job; its record is written first."""
        jobs = list(jobs)
        batch = [(job.program, job.instance) for job in jobs]
        with given.out.open("a") as out:
            for at, run in train_batch(batch, epochs=given.epochs, device=given.device):
                record = jobs[at].note | {"depth": depth, "q": run.quality, "status": run.status}
                record |= {"epochs": run.epochs_run, "best": run.best_epoch}
                print(json.dumps(record), file=out, flush=True)
                yield at, WORST if run.quality is None else run.quality

    bounds = np.array([[0, 1]] * len(SPACE))
    search = CMA(
        mean=encode(STARTS[depth], depth), sigma=0.2, bounds=bounds, population_size=given.population, seed=depth
    )
    generation, took = 0, 0.0
    while time.monotonic() - start + took < given.seconds:
        began = time.monotonic()
        points = [search.ask() for _ in range(given.population)]
        jobs = []
        for point in points:
            k = decode(point, depth)
            program = lower(parse(text(k)))
            note = {"what": "cma", "gen": generation, "k": k}
            jobs += [
                Job(program, instance("cma", generation, depth, init), note | {"init": init})
                for init in ("per_layer", "shared")
            ]
        qualities = np.zeros(len(jobs))
        for at, score in train(jobs):
            qualities[at] = score
        scores = qualities.reshape(-1, 2).mean(1)
        search.tell([(point, -score) for point, score in zip(points, scores, strict=True)])
        took = time.monotonic() - began
        print(
            depth, generation, f"{took:.0f} s, median {np.median(scores):.4f}", decode(search.mean, depth), flush=True
        )
        generation += 1

    rivals = {
        f"tuned_adam_depth{depth}": parse(text(decode(search.mean, depth))),
        "calibrated_adam": catalogue.load("calibrated_adam"),
    }
    programs = {name: lower(genome) for name, genome in rivals.items()}
    for block in range(8):
        if block and time.monotonic() - start > given.seconds + 0.6 * given.judge_seconds:
            break
        jobs = [
            Job(program, instance("gpu-judge", i, depth, init), {"what": "judge", "name": name, "i": i, "init": init})
            for name, program in programs.items()
            for i in range(16 * block, 16 * block + 16)
            for init in ("per_layer", "shared")
        ]
        for _ in train(jobs):
            pass


if __name__ == "__main__":
    main()
