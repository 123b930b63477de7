"""Train a random design over a wide family around calibrated_adam, one depth per process, on a GPU.

Run:  python runs/tuned-adam/design.py DEPTH LANES OUT [--device cuda] [--epochs 1000]

One JSON record per training is appended to OUT. Genome n trains on instance sha256(`screen/(n % 3)`), in the init
`per_layer` where n is even and `shared` where it is odd.
"""

import argparse
import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from evo.training.batches import train_batch
from genomes.compiler.lowering import lower
from genomes.language.genome import parse
from harness.task import Instance

BASES = {
    "adam": "ema(g, {b1}) / (1 - {b1} ** t) / (sqrt(ema(square(g), {b2}) / (1 - {b2} ** t)) + {eps})",
    "belief": "ema(g, {b1}) / (1 - {b1} ** t) / (sqrt(ema(square(g - ema(g, {b1})), {b2}) / (1 - {b2} ** t)) + {eps})",
    "mix": "(ema(g, {b1}) / (1 - {b1} ** t) + {alpha} * ema(g, {b3}))"
    " / (sqrt(ema(square(g), {b2}) / (1 - {b2} ** t)) + {eps})",
    "lamb": "adam(g, {b1}, {b2}, {eps}) * (norm(theta) + 1e-3) / (norm(adam(g, {b1}, {b2}, {eps})) + 1e-8)",
    "lion": "sign({mix} * ema(g, {b3}) + {g1} * g)",
}
SHARES = [0.4, 0.15, 0.2, 0.15, 0.1]  # of the bases
RATES = {4: 4.0, 7: 2.5, 10: 1.8, 14: 1.3, 18: 1.0}  # factor of the learning rate by depth
BASE_RATES = {"lamb": 4.0, "lion": 0.3}  # and by base
KEEP = 0.35  # share of genomes without decay in effect
# Values near 0, 1 or a whole number stand for it.
FLOORS = [0.9991, 0.9991, 0.0011, 0.253]
LOOKS = [1.3e-6, 1.3e-6, 1.013, 3.017, -1.019, -3.023]
SLACKS = [1.7e-6, 0.507, 1.007, 1.007, 2.009]


def text(k: dict) -> str:
    """The genome of the constants ``k``, as YAML."""
    return f"""genome: 1
name: x
lr: {k["lr"]}
terms:
  - {{weight: 1.0, expr: "{BASES[k["base"]].format(**k)}"}}
gates: ["cautious(u, {k["xi"]})"]
decay: {{kind: decoupled, rate: {k["wd"]}}}
schedule: "linear_warmup({k["warm"]}) * cosine({k["T"]}) ** {k["p"]}"
roles: {{first: {k["first"]}, norm_scale: {k["scale"]}, norm_shift: {k["shift"]}, bias: {k["bias"]}}}
query:
  outputs: ["output_probe(0)", "output_probe(1)"]
  offset: "hold(calibration(), last_step_of_epoch) + {k["look"]} * delta"
  when: "epoch > 3 and t % {k["every"]} == 0 and t % steps_per_epoch > 1"
evaluation:
  offset: "average(theta + delta, {k["avg"]}) - (theta + delta) + calibration(slack={k["slack"]}, epochs={k["T"]})"
"""


def draw(rng: np.random.Generator, depth: int) -> dict:
    """Constants of one genome; the order of the draws is part of the design."""

    def log(low: float, high: float) -> float:
        return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.4g}")

    base = str(rng.choice(list(BASES), p=SHARES))
    lr = log(8e-5, 1.2e-3) * RATES[depth] * BASE_RATES.get(base, 1.0)
    k = {"base": base, "lr": float(f"{lr:.4g}")}
    k |= {"b1": 1 - log(0.02, 0.5), "b2": 1 - log(5e-4, 3e-2), "b3": 1 - log(1e-3, 3e-2)}
    k |= {"alpha": log(0.2, 5), "eps": log(1e-10, 1e-4), "xi": float(rng.choice(FLOORS))}
    k |= {"wd": 1.1e-6 if rng.random() < KEEP else log(1e-2, 3.0)}
    k |= {"warm": int(rng.integers(1, 16)), "T": int(rng.integers(160, 440)), "p": log(0.5, 2)}
    k |= {"first": log(1, 30), "scale": log(0.2, 5), "shift": log(0.2, 5), "bias": log(0.2, 5)}
    k |= {"look": float(rng.choice(LOOKS)), "every": int(rng.choice([1, 2, 2, 4]))}
    k |= {"avg": 1 - log(2e-3, 0.1), "slack": float(rng.choice(SLACKS))}
    k |= {name: float(f"{k[name]:.5g}") for name in ("b1", "b2", "b3", "avg")}
    return k | {"mix": k["b1"], "g1": round(1 - k["b1"], 5)}


def instance(number: int, depth: int) -> Instance:
    """What genome ``number`` trains on."""
    seed = hashlib.sha256(f"screen/{number % 3}".encode()).digest()
    return Instance("tig", depth, seed, ("per_layer", "shared")[number % 2])


def main() -> None:
    """Draw the design, train it, append the records."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("depth", type=int, choices=RATES)
    options.add_argument("lanes", type=int)
    options.add_argument("out", type=Path)
    options.add_argument("--device", default="cuda")
    options.add_argument("--epochs", type=int, default=1000)
    given = options.parse_args()
    rng = np.random.default_rng(given.depth)
    drawn = [draw(rng, given.depth) for _ in range(given.lanes)]
    batch = [(lower(parse(text(k))), instance(number, given.depth)) for number, k in enumerate(drawn)]
    with given.out.open("a") as out:
        for at, run in train_batch(batch, epochs=given.epochs, device=given.device):
            record = {"depth": given.depth, "i": at % 6, "q": run.quality, "status": run.status}
            record |= {"epochs": run.epochs_run, "best": run.best_epoch, **drawn[at]}
            print(json.dumps(record), file=out, flush=True)


if __name__ == "__main__":
    main()
