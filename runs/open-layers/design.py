"""Train a random design over forms and rates by kind of tensor, one depth per process, on a GPU.

Run:  python runs/open-layers/design.py DEPTH LANES SERIES OUT [--device cuda] [--epochs 1000]

One JSON record per training is appended to OUT. Genome n trains on instance sha256(`slow-weights/(n // 12 % 4)`), in
the init `per_layer` where n is even and `shared` where it is odd.
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

SPREAD = "where(t == 1 and is_first and is_bias, 0.04 * (2 * uniform(12) - 1) - theta, delta)"
OPEN = "where(t == 1 and is_bias and not is_first, {open} - theta, delta)"
VARIED = "where(t == 1 and is_bias and not is_first, {open} * 2 * uniform(13) - theta, delta)"
ORTHOGONAL = "where(t == 1 and is_weight and not is_first, 0.29 * orthogonalise(theta) - theta, delta)"
PLAIN = {"post": [], "look": "{look} * delta", "norm": "v", "decay": "decoupled", "hidden": "{hidden}"}
PLAIN |= {"average": "average(theta + delta, 1 - a)", "when": "epoch > 3 and t % 2 == 0 and t % steps_per_epoch > 1"}
FORMS = {  # by series and name: what differs from PLAIN
    "first": {
        "plain": {},
        "spread": {"post": [SPREAD]},
        "open": {"post": [SPREAD, OPEN]},
        "noise": {"look": "{look} * delta + where(is_weight and not is_first, {noise} * noise(3) * rms(theta), 0)"},
        "rows": {"norm": "mean_row(v)"},
        "swap": {  # theta is the average, and gradients are taken at the fast iterate
            "post": ["a * (theta_start + running_sum(delta) - theta)"],
            "look": "(1 - a) / a * delta",
            "average": "",
            "when": "t > 1 and t % steps_per_epoch > 1",
        },
    },
    "second": {
        "open": {"post": [SPREAD, OPEN]},
        "varied": {"post": [SPREAD, VARIED]},
        "anchored": {"post": [SPREAD, OPEN], "decay": "start"},
        "orthogonal": {"post": [SPREAD, ORTHOGONAL, OPEN]},
        "upper": {"post": [SPREAD, OPEN], "hidden": "{hidden} * where(depth_fraction > 0.5, 1, 0)"},
        "twice": {"post": [SPREAD, OPEN], "average": "average(average(theta + delta, 1 - a), 1 - a)"},
    },
}


def text(k: dict) -> str:
    """The genome of the constants ``k``, as YAML."""
    form = PLAIN | FORMS[k["series"]][k["form"]]
    post = "".join(f'  - "{line.format(**k)}"\n' for line in form["post"])
    average = f"{form['average']} - (theta + delta) + " if form["average"] else ""
    return f"""genome: 1
name: x
lr: {k["lr"]}
let:
  - "a = 1 / ({k["grow"]} * t + {k["window"]})"
  - "m = ema(g, {k["b1"]})"
  - "v = debias(ema(square(g - {k["kappa"]} * m), {k["b2"]}))"
terms:
  - {{weight: 1.0, expr: "debias(m) / (sqrt({form["norm"]}) + 1e-8)"}}
gates: ["cautious(u, {k["xi"]})"]
decay: {{kind: {form["decay"]}, rate: {k["wd"]}}}
schedule: >-
  linear_warmup({k["warm"]}) * cosine({k["T"]})
  * where(is_weight and not is_first, {form["hidden"].format(**k)} * exp({k["tilt"]} * (depth_fraction - 0.5)), 1)
roles: {{first: {k["first"]}, norm_scale: {k["scale"]}, norm_shift: {k["shift"]}, bias: {k["bias"]}}}
{"post:" + chr(10) + post if post else ""}query:
  outputs: ["output_probe(0)", "output_probe(1)"]
  offset: "hold(calibration(), last_step_of_epoch) + {form["look"].format(**k)}"
  when: "{form["when"]}"
evaluation:
  offset: "{average}calibration(slack={k["slack"]}, epochs={k["T"] + 1})"
"""


def draw(rng: np.random.Generator, depth: int, number: int, series: str) -> dict:
    """Constants of genome ``number``; the order of the draws is part of the design. The forms come in turn."""

    def log(low: float, high: float) -> float:
        return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.4g}")

    k: dict = {"series": series, "form": list(FORMS[series])[number // 2 % 6]}
    if series == "first":
        k |= {"lr": log(2e-4, 2e-3), "hidden": log(0.03, 1)}
        k |= {"tilt": round(rng.uniform(-1, 1), 3), "first": log(1, 6)}
        k |= {"scale": log(0.3, 2), "shift": log(0.5, 3), "bias": log(0.5, 4)}
        k |= {"b1": round(1 - log(0.05, 0.15), 5), "b2": round(1 - log(5e-4, 8e-3), 5)}
        k |= {"kappa": 0.35, "xi": 0.5, "wd": log(0.003, 0.3), "warm": int(rng.integers(4, 11))}
        k |= {"T": int(rng.integers(220, 320)), "grow": log(0.001, 0.02), "window": log(10, 50)}
        k |= {"look": 0.5, "slack": log(1, 3), "noise": log(0.002, 0.03), "open": log(0.05, 1)}
    else:
        k |= {"lr": log(2.5e-4, 1.5e-3), "hidden": log(0.1, 1)}
        k |= {"tilt": round(rng.uniform(-0.8, 0.8), 3), "first": log(1.5, 5)}
        k |= {"scale": log(0.4, 1.5), "shift": log(0.7, 2.5), "bias": log(0.7, 3)}
        k |= {"b1": round(1 - log(0.05, 0.1), 5), "b2": round(1 - log(5e-4, 6e-3), 5)}
        k |= {"kappa": 0.35, "xi": 0.5, "wd": log(0.02, 3) if k["form"] == "anchored" else log(0.003, 0.3)}
        k |= {"warm": int(rng.integers(5, 9)), "T": int(rng.integers(225, 286)), "grow": log(0.003, 0.012)}
        k |= {"window": log(10, 30), "look": 0.5, "slack": log(1, 1.3), "open": log(0.2, 1)}
    for name, power in (("lr", -0.8), ("hidden", 0.3), ("first", 0.4)):
        k[name] = float(f"{k[name] * (depth / 4) ** power:.4g}")
    return k


def instance(number: int, depth: int) -> Instance:
    """What genome ``number`` trains on."""
    seed = hashlib.sha256(f"slow-weights/{number // 12 % 4}".encode()).digest()
    return Instance("tig", depth, seed, ("per_layer", "shared")[number % 2])


def main() -> None:
    """Draw the design, train it, append the records."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("depth", type=int)
    options.add_argument("lanes", type=int)
    options.add_argument("series", choices=FORMS)
    options.add_argument("out", type=Path)
    options.add_argument("--device", default="cuda")
    options.add_argument("--epochs", type=int, default=1000)
    given = options.parse_args()
    rng = np.random.default_rng(given.depth)
    drawn = [draw(rng, given.depth, number, given.series) for number in range(given.lanes)]
    batch = [(lower(parse(text(k))), instance(number, given.depth)) for number, k in enumerate(drawn)]
    with given.out.open("a") as out:
        for at, run in train_batch(batch, epochs=given.epochs, device=given.device):
            record = {"depth": given.depth, "n": at, "q": run.quality, "status": run.status}
            record |= {"epochs": run.epochs_run, "best": run.best_epoch, **drawn[at]}
            print(json.dumps(record), file=out, flush=True)


if __name__ == "__main__":
    main()
