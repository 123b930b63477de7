"""Record a landscape for `benchmarks/search.py`: genomes that grew from each other, all trained on the same instances.

Run:  python benchmarks/record_landscape.py NAME --founders adam,lion,... [--depths 3,4] [--epochs 20] [--genomes 400]

Growth: the founders and a few random genomes first; then, again and again, a tournament among the genomes chooses a
parent (or two), and variation makes a child of it, until there are enough. All of them train on every instance, so that
the landscape has no favorites. A second call goes on with a recording that was stopped. It is written to
``benchmarks/landscapes/NAME.json.gz``: texts, parents, operators,
qualities ``[genome][instance]`` (null where a training has none), rounded to 4 digits.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import multiprocessing
import sys
import time
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).parents[1]))

from evo.randomness import generator
from evo.recipe.schema import Limits
from evo.search.variation.random_genome import random_genome
from evo.search.variation.vary import vary
from evo.training.trainer import train_lanes
from genomes import catalogue
from genomes.compiler.identity import genome_identity
from genomes.language.genome import Genome, dump

FOLDER = Path(__file__).parent / "landscapes"
LIMITS = Limits()


def instance(task: str, depth: int, label: str, index: int, epochs: int, init: str) -> dict:
    """The fields of a lane on instance ``index`` of ``label``, without its genome."""
    seed = hashlib.sha256(f"{label}/{index}".encode()).hexdigest()
    return {
        "task": task,
        "num_hidden_layers": depth,
        "seed": seed,
        "init": init,
        "accuracy_factor": 0,
        "epochs": epochs,
    }


def trained(lane: dict) -> float | None:
    """The quality of one lane, on one thread."""
    ((_, fields),) = train_lanes([lane], patience=50, device="cpu")
    quality = fields["quality"]
    return None if quality is None else round(quality, 4)


def child(genomes: list[Genome], means: list[float], index: int, seed: int) -> tuple[Genome, list[int], str]:
    """A new genome, the positions of its parents, and the operator that made it."""
    rng = generator(seed, index, "landscape")
    while True:
        drawn = [max(rng.sample(range(len(genomes)), 4), key=means.__getitem__) for _ in range(2)]
        made = vary([genomes[i] for i in drawn], 0.3, {}, LIMITS, rng)
        if made.operator != "copy":
            return made.genome, drawn[: made.parents], made.operator


def write(
    asked: argparse.Namespace, depths: list[int], instances: list[tuple[str, int, int]], rows: list[dict]
) -> None:
    """Write what is recorded so far."""
    landscape = {
        "name": asked.name,
        "depths": depths,
        "init": asked.init,
        "epochs": asked.epochs,
        "seed": asked.seed,
        "instances": [{"label": label, "index": index, "depth": depth} for label, index, depth in instances],
        "genomes": rows,
    }
    FOLDER.mkdir(exist_ok=True)
    with gzip.GzipFile(FOLDER / f"{asked.name}.json.gz", "wb", mtime=0) as file:
        file.write(json.dumps(landscape, separators=(",", ":")).encode())


def recorded(name: str) -> dict[str, list[float | None]]:
    """Qualities by text of a recording that was stopped before its end: it goes on from there."""
    path = FOLDER / f"{name}.json.gz"
    if not path.is_file():
        return {}
    return {row["text"]: row["qualities"] for row in json.loads(gzip.decompress(path.read_bytes()))["genomes"]}


def main() -> None:
    """Grow, train and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--founders", default="sgd,heavy_ball,nesterov,adam,rmsprop,lion,cautious_adanw")
    parser.add_argument("--random", type=int, default=5)
    parser.add_argument("--depths", default="3,4")
    parser.add_argument("--init", default="per_layer")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--genomes", type=int, default=400)
    parser.add_argument("--batch", type=int, default=16, help="children between two looks at the means")
    parser.add_argument("--instances", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    depths = [int(depth) for depth in asked.depths.split(",")]
    label = f"landscape {asked.name}"
    instances = [
        instance("tig", depths[i % len(depths)], label, i, asked.epochs, asked.init) for i in range(asked.instances)
    ]
    founders = asked.founders.split(",")
    waiting = [(catalogue.load(name), [], "catalogue") for name in founders]
    waiting += [
        (random_genome(f"random{i + 1}", LIMITS, generator(asked.seed, i, "random")), [], "random")
        for i in range(asked.random)
    ]
    genomes: list[Genome] = []
    means: list[float] = []
    rows: list[dict] = []
    seen: set[str] = set()
    known = recorded(asked.name)
    started = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(asked.processes) as pool:
        while waiting:
            fresh = []
            for genome, parents, operator in waiting:
                if genome_identity(genome) not in seen:
                    seen.add(genome_identity(genome))
                    fresh.append((genome, parents, operator))
            new = [dump(genome) for genome, _, _ in fresh if dump(genome) not in known]
            found = pool.map(trained, [lane | {"text": text} for text in new for lane in instances], chunksize=4)
            count = len(instances)
            known |= {text: found[i * count : (i + 1) * count] for i, text in enumerate(new)}
            for genome, parents, operator in fresh:
                row = known[dump(genome)]
                rows.append({"text": dump(genome), "parents": parents, "operator": operator, "qualities": row})
                genomes.append(genome)
                means.append(fmean(-1.0 if q is None else max(q, -1.0) for q in row))
            print(f"{len(rows)} genomes, best {max(means):.3f}, {time.monotonic() - started:.0f} s", flush=True)
            write(asked, depths, [(label, i, lane["num_hidden_layers"]) for i, lane in enumerate(instances)], rows)
            wanted = min(asked.batch, asked.genomes - len(rows))
            waiting = [child(genomes, means, len(rows) + i, asked.seed) for i in range(wanted)]


if __name__ == "__main__":
    main()
