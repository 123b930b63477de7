"""Measure what calibrating the outputs' mean is worth: the figures of docs/frozen-readout.md.

Run:  python benchmarks/frozen_readout.py [--depths 4,7] [--inits per_layer,shared] [--instances 0:32] [--loop literal]

Every optimizer trains to the end on the same instances: seeds are sha256 of ``LABEL/i``, so nobody chose them. Each
result is appended to the file of results as it comes, and a second call goes on where the first one ended; what is
there already is never trained again. ``--summarize`` prints the table of what is there, ``--picture PATH`` draws it;
both of ``--optimizers`` alone where that is given.
``--loop batched`` trains all lanes of a depth together, as campaigns do on a GPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import fmean, median

sys.path.insert(0, str(Path(__file__).parents[1]))

from evo.evaluation.bounds import gaussian_process_loss, mean_blind_quality
from evo.training.batches import train_batch
from evo.training.trainer import train_lanes, train_lanes_literal
from genomes import catalogue
from genomes.analysis.calibration import without_calibration
from genomes.compiler.identity import genome_identity
from genomes.compiler.lowering import lower
from genomes.language.genome import Genome, dump, load, parse
from harness.data import load_data
from harness.score import quality
from harness.task import Instance

RESULTS = Path(__file__).parent / "results" / "frozen_readout.jsonl"
LOOPS = {"literal": train_lanes_literal, "quick": train_lanes}  # beside batched, the GPU's
DEFAULT = "calibrated_adam"
KEPT = ("status", "quality", "test_loss", "epochs_run", "best_epoch")


def genomes(names: list[str], alone: bool) -> dict[str, Genome]:
    """The optimizers by label; unless ``alone``, each that calibrates is followed by itself without that."""
    found: dict[str, Genome] = {}
    for name in names:
        genome = load(Path(name)) if name.endswith(".yaml") else catalogue.load(name)
        found[genome.name] = genome
        blind = without_calibration(genome)
        if blind is not genome and not alone:
            found[f"{genome.name} without calibration"] = blind
    return found


def instance(label: str, index: int, depth: int, init: str) -> Instance:
    """Instance ``index`` of a label."""
    return Instance("tig", depth, hashlib.sha256(f"{label}/{index}".encode()).digest(), init)


def trained(job: tuple[dict, dict]) -> dict:
    """The record of one training; ``job``: what tells it from others, and the lane's text."""
    record, lane = job
    started = time.monotonic()
    ((_, fields),) = LOOPS[record["loop"]]([lane], patience=50, device="cpu")
    return record | {name: fields[name] for name in KEPT} | {"seconds": round(time.monotonic() - started, 1)}


def one_by_one(jobs: list[tuple[dict, dict]], processes: int) -> Iterator[dict]:
    """The record of each training, in processes of their own."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(trained, jobs)


def together(jobs: list[tuple[dict, dict]], device: str) -> Iterator[dict]:
    """The record of each training; all lanes of a depth at once. ``seconds``: a lane's share of the batch's time."""
    for depth in sorted({record["depth"] for record, _ in jobs}):
        here = [job for job in jobs if job[0]["depth"] == depth]
        program = {text: lower(parse(text)) for text in {lane["text"] for _, lane in here}}
        batch = [(program[lane["text"]], instance(r["label"], r["index"], r["depth"], r["init"])) for r, lane in here]
        for at, training in train_batch(batch, epochs=1000, device=device):
            fields = training.to_dict()
            yield here[at][0] | {name: fields[name] for name in KEPT} | {"seconds": round(training.seconds, 2)}


def key(record: dict) -> tuple:
    """What tells a training from others."""
    return tuple(record[name] for name in ("identity", "loop", "label", "index", "depth", "init"))


def read(path: Path) -> list[dict]:
    """All records so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def measure(asked: argparse.Namespace) -> None:
    """Train what is missing, instance by instance, so that an early end leaves a fair picture."""
    known = {key(record) for record in read(asked.results)}
    chosen = genomes((asked.optimizers or DEFAULT).split(","), asked.alone)
    jobs = []
    for index in range(*map(int, asked.instances.split(":"))):
        for depth in map(int, asked.depths.split(",")):
            for init in asked.inits.split(","):
                for name, genome in chosen.items():
                    record = {
                        "optimizer": name,
                        "identity": genome_identity(genome),
                        "loop": asked.loop,
                        "label": asked.label,
                        "index": index,
                        "depth": depth,
                        "init": init,
                    }
                    seed = instance(asked.label, index, depth, init).seed.hex()
                    lane = {"task": "tig", "num_hidden_layers": depth, "seed": seed, "init": init, "accuracy_factor": 0}
                    if key(record) not in known:
                        jobs.append((record, lane | {"epochs": 1000, "text": dump(genome)}))
    print(f"{len(jobs)} trainings to do, {len(known)} known", flush=True)
    started = time.monotonic()
    records = together(jobs, asked.device) if asked.loop == "batched" else one_by_one(jobs, asked.processes)
    with asked.results.open("a") as file:
        for count, record in enumerate(records, 1):
            file.write(json.dumps(record) + "\n")
            file.flush()
            left = (time.monotonic() - started) / count * (len(jobs) - count)
            found = "–" if record["quality"] is None else f"{record['quality']:.4f}"
            where = f"depth {record['depth']} {record['init']} {record['label']}/{record['index']}"
            print(
                f"{where} {record['optimizer']}: {found} in {record['seconds']} s, {left / 60:.0f} min left", flush=True
            )


def qualities(asked: argparse.Namespace) -> dict[tuple, list[tuple[Instance, float]]]:
    """Instances and qualities by depth, init and optimizer, as asked; -1 for a training without quality."""
    groups: dict[tuple, list[tuple[Instance, float]]] = defaultdict(list)
    chosen = genomes(asked.optimizers.split(","), asked.alone) if asked.optimizers else {}
    for r in read(asked.results):
        if r["loop"] == asked.loop and r["label"] == asked.label and (r["optimizer"] in chosen or not chosen):
            found = instance(r["label"], r["index"], r["depth"], r["init"])
            groups[r["depth"], r["init"], r["optimizer"]].append(
                (found, -1.0 if r["quality"] is None else r["quality"])
            )
    return groups


@cache
def gaussian_process_quality(task: str, seed: bytes, alpha: float) -> float:
    """Quality of the Gaussian process; kept, for an instance recurs at every depth and with every optimizer."""
    return quality(gaussian_process_loss(task, seed), load_data(task, seed).target_loss(alpha)) or 0.0


def summarize(asked: argparse.Namespace) -> None:
    """Print means, medians and least qualities by depth, init and optimizer, beside bound and Gaussian process."""
    print("| depth | init | optimizer | instances | mean | median | least | bound, mean | Gaussian process, mean |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (depth, init, name), found in sorted(qualities(asked).items()):
        values = [value for _, value in found]
        bounds = [bound for i, _ in found if (bound := mean_blind_quality(i)) is not None]
        best = [gaussian_process_quality(i.task, i.seed, i.alpha) for i, _ in found]
        cells = (fmean(values), median(values), min(values), fmean(bounds), fmean(best))
        print(f"| {depth} | {init} | {name} | {len(found)} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")


def picture(asked: argparse.Namespace) -> None:
    """Draw each lane's quality against its instance's bound, a panel per depth, as a PNG at ``asked.picture``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = qualities(asked)
    if not groups:
        sys.exit(f"no results of the {asked.loop} loop with the label {asked.label} in {asked.results}")
    depths, inits, names = (sorted(set(column)) for column in zip(*groups, strict=True))
    everything = {i for found in groups.values() for i, _ in found}
    reachable = fmean(gaussian_process_quality(i.task, i.seed, i.alpha) for i in everything)
    figure, axes = pyplot.subplots(
        1, len(depths), figsize=(2.7 * len(depths), 4.8), sharex=True, sharey=True, squeeze=False
    )
    for axis, depth in zip(axes[0], depths, strict=True):
        axis.axline((0, 0), slope=1, color="black", linewidth=0.8, label="bound of mean-blind optimizers")
        axis.axhline(reachable, color="black", linewidth=0.8, linestyle=":", label="Gaussian process, mean")
        for color, name in zip(("tab:blue", "tab:orange", "tab:green", "tab:red"), names, strict=False):
            for marker, init in zip("ox", inits, strict=False):
                label, found = f"{name}, {init}", groups.get((depth, init, name), ())
                bounds, values = [mean_blind_quality(i) for i, _ in found], [value for _, value in found]
                axis.scatter(bounds, values, s=14, marker=marker, color=color, linewidths=0.9, label=label)
        axis.set(title=f"{depth} hidden layers", xlabel="bound")
        axis.grid(alpha=0.2)
    axes[0, 0].set_ylabel("quality")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    figure.savefig(asked.picture, dpi=120)


def main() -> None:
    """Measure, summarize or draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizers", help=f"names or genome files, with commas; {DEFAULT}, or all to show")
    parser.add_argument("--alone", action="store_true", help="do not train them without calibration, too")
    parser.add_argument("--depths", default="4,7,10,14,18")
    parser.add_argument("--inits", default="per_layer,shared")
    parser.add_argument("--instances", default="0:32", help="first and last + 1")
    parser.add_argument("--label", default="frozen-readout")
    parser.add_argument("--loop", choices=[*LOOPS, "batched"], default="literal")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda", help="of the batched loop")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--summarize", action="store_true")
    parser.add_argument("--picture", type=Path, metavar="PATH", help="draw qualities against bounds as a PNG")
    asked = parser.parse_args()
    if asked.picture:
        picture(asked)
    if asked.summarize:
        summarize(asked)
    if not (asked.picture or asked.summarize):
        measure(asked)


if __name__ == "__main__":
    main()
