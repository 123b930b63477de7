"""How well rankings of genomes after few epochs foretell those at the end: Kendall's tau between rungs.

    python benchmarks/rungs.py                      # 240 genomes on 4 instances; hours on two cores
    python benchmarks/rungs.py --draw               # table and picture of what is recorded so far

Genomes: known optimizers, random ones, and variants of both. Each trains on every instance to the end, and again with
fewer epochs, unless the first training was over by then, which makes both the same. Two rankings are compared with the
one at the end: by the quality after so many epochs, which a training that stops there has, and by the least validation
loss up to then, which a training under way knows. A training that did not finish ranks last.

Every training is a line of ``benchmarks/results/rungs.jsonl`` as it is done, and a second call goes on. Writes
``rungs.md`` and ``rungs.png`` beside it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from evo.recipe.schema import Limits
from evo.records import Lane
from evo.search.variation.random_genome import random_genome
from evo.search.variation.vary import vary
from evo.training.pool import LocalPool
from evo.training.worker import TRAIN_LANES
from genomes import catalogue
from genomes.compiler.identity import genome_identity
from genomes.language.genome import Genome, dump
from harness.result import Training, finished_quality
from harness.task import Instance, seed_bytes

RESULTS = Path(__file__).parent / "results"
WORST = float("-inf")  # quality of what did not finish
RESAMPLES = 400
MEASURES = {"quality": "quality after so many epochs", "validation": "least validation loss so far"}

Key = tuple[int, int, int]  # genome, instance, epochs


@dataclass(frozen=True)
class Row:
    """A training. ``quality``: None where it did not finish. ``best``: least validation loss at each rung, by epochs.

    ``epochs``: the most it could have; ``ran``: those that it had.
    """

    genome: int
    instance: int
    epochs: int
    ran: int
    quality: float | None
    best: dict[str, float]


def genomes(count: int) -> list[Genome]:
    """Distinct programs: a sixth known optimizers, a sixth random ones, then variants of one or two before them."""
    found: list[Genome] = []
    seen: set[str] = set()
    names, k = catalogue.names(), 0
    while len(found) < count:
        rng = random.Random(f"rungs {k}")
        if len(found) < count // 6 and k < len(names):
            genome = catalogue.load(names[k])
        elif len(found) < max(1, count // 3):
            genome = random_genome(f"random_{k}", Limits(), rng)
        else:
            genome = vary(rng.choices(found, k=2), 0.3, {}, Limits(), rng).genome
        k += 1
        if genome_identity(genome) not in seen:
            seen.add(genome_identity(genome))
            found.append(genome)
    return found


def lane(genome: int, text: str, instance: Instance, number: int, epochs: int) -> Lane:
    """The lane of a key, whose hash says which genome and instance it is."""
    return Lane(f"{genome} {number}", text, instance, epochs)


def row(lane: Lane, training: Training, rungs: Sequence[int]) -> Row:
    """What is kept of a training."""
    genome, number = map(int, lane.hash.split())
    losses = [loss for loss in training.val_loss if loss is not None]
    best = {str(rung): float(np.nanmin([np.inf, *losses[:rung]])) for rung in rungs}
    quality = finished_quality(training.status, training.quality)
    return Row(genome, number, lane.epochs, training.epochs_run, quality, best)


def read(path: Path, settings: dict) -> dict[Key, Row]:
    """The trainings that are recorded, by key; exits where they are of other settings."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings) + "\n")
    text = path.read_text()
    if not text.endswith("\n"):  # killed within a line
        path.write_text(text + "\n")
    first, *lines = text.splitlines()
    if json.loads(first) != settings:
        sys.exit(f"rungs: {path} was recorded with other settings: {first}; name another folder with --results")
    found: dict[Key, Row] = {}
    for line in lines:
        try:
            each = Row(**json.loads(line))
        except ValueError:  # the last line of a run that was killed
            continue
        found[each.genome, each.instance, each.epochs] = each
    return found


def missing(
    texts: Sequence[str], instances: Sequence[Instance], rungs: Sequence[int], end: int, known: dict[Key, Row]
) -> Iterator[Lane]:
    """The lanes that are still to be trained: to the end first, then the rungs that were not over by then."""
    for number, instance in enumerate(instances):
        for genome, text in enumerate(texts):
            whole = known.get((genome, number, end))
            if whole is None:
                yield lane(genome, text, instance, number, end)
            else:
                for rung in rungs:
                    if whole.ran > rung and (genome, number, rung) not in known:
                        yield lane(genome, text, instance, number, rung)


def values(known: dict[Key, Row], rungs: Sequence[int], end: int) -> dict[str, np.ndarray]:
    """``quality``, ``validation`` ``[rung, genome, instance]``, and ``end`` ``[genome, instance]``; more is better.

    Of the genomes that have all their trainings.
    """
    count = 1 + max((key[1] for key in known), default=-1)

    def at(genome: int, number: int, rung: int) -> Row | None:
        whole = known.get((genome, number, end))
        return whole if whole is None or whole.ran <= rung else known.get((genome, number, rung))

    whole = [
        genome
        for genome in sorted({key[0] for key in known})
        if all(at(genome, number, rung) for number in range(count) for rung in (*rungs, end))
    ]

    def table(value) -> np.ndarray:
        return np.array([[value(genome, number) for number in range(count)] for genome in whole]).reshape(-1, count)

    def quality(each: Row | None) -> float:
        assert each is not None
        return WORST if each.quality is None else each.quality

    def validation(each: Row, rung: int) -> float:
        failed = each.quality is None and each.ran <= rung
        return WORST if failed else -each.best[str(rung)]

    return {
        "quality": np.array([table(lambda g, n, r=rung: quality(at(g, n, r))) for rung in rungs]),
        "validation": np.array([table(lambda g, n, r=rung: validation(known[g, n, end], r)) for rung in rungs]),
        "end": table(lambda g, n: quality(known[g, n, end])),
    }


@dataclass(frozen=True)
class Agreement:
    """How a rung ranks the genomes beside the end. ``tau``: mean over instances of Kendall's tau-b, with its interval
    by bootstrap over genomes; ``better``: the same among the better half at the end; ``kept``: share of the best tenth
    at the end that is in the best quarter at the rung.
    """

    measure: str
    rung: int
    tau: float
    low: float
    high: float
    better: float
    kept: float


def tau(a: np.ndarray, b: np.ndarray) -> float:
    """The mean over instances of Kendall's tau-b of two tables ``[genome, instance]``."""
    from scipy.stats import kendalltau  # here alone: it takes a second to load

    found = [float(kendalltau(a[:, i], b[:, i]).statistic) for i in range(a.shape[1])]
    return fmean(0.0 if np.isnan(each) else each for each in found)


def kept(rung: np.ndarray, end: np.ndarray) -> float:
    """The share, over instances, of the best tenth at the end that is in the best quarter at the rung."""
    genomes, instances = end.shape
    shares = []
    for i in range(instances):
        best = np.argsort(-end[:, i], kind="stable")[: max(1, genomes // 10)]
        stays = np.argsort(-rung[:, i], kind="stable")[: max(1, genomes // 4)]
        shares.append(len(set(best) & set(stays)) / len(best))
    return fmean(shares)


def agreements(found: dict[str, np.ndarray], rungs: Sequence[int]) -> list[Agreement]:
    """Of each measure and rung."""
    end = found["end"]
    better = np.argsort(-end.mean(axis=1), kind="stable")[: max(2, len(end) // 2)]
    rng = np.random.default_rng(0)
    samples = [rng.integers(len(end), size=len(end)) for _ in range(RESAMPLES)]
    rows = []
    for measure in MEASURES:
        for rung, table in zip(rungs, found[measure], strict=True):
            low, high = np.quantile([tau(table[drawn], end[drawn]) for drawn in samples], (0.025, 0.975))
            of_better = tau(table[better], end[better])
            rows.append(Agreement(measure, rung, tau(table, end), float(low), float(high), of_better, kept(table, end)))
    return rows


def table(rows: Sequence[Agreement], about: str) -> str:
    """A table in Markdown."""
    lines = [
        f"Kendall's tau-b of rankings at a rung and at the end: {about}.",
        "",
        "| rank by | epochs | tau (95 % interval) | tau of the better half | best tenth that a quarter keeps |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {MEASURES[each.measure]} | {each.rung} | {each.tau:.2f} ({each.low:.2f} to {each.high:.2f}) |"
        f" {each.better:.2f} | {each.kept:.0%} |"
        for each in rows
    ]
    return "\n".join(lines) + "\n"


def picture(rows: Sequence[Agreement], about: str, path: Path) -> None:
    """Draw tau over epochs, as a PNG at ``path``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9.5, 4.6), layout="constrained")
    for measure, color in zip(MEASURES, ("#0072b2", "#e69f00"), strict=True):
        own = [each for each in rows if each.measure == measure]
        epochs = [each.rung for each in own]
        axes.plot(epochs, [each.tau for each in own], "o-", color=color, label=MEASURES[measure])
        axes.fill_between(epochs, [e.low for e in own], [e.high for e in own], color=color, alpha=0.15, linewidth=0)
        axes.plot(epochs, [each.better for each in own], "s--", color=color, label="… of the better half at the end")
    axes.set_xscale("log")
    axes.set_xticks([each.rung for each in own], [str(each.rung) for each in own], minor=False)
    axes.minorticks_off()
    axes.set(xlabel="epochs at the rung", ylabel="Kendall's tau with the ranking at the end", ylim=(0, 1))
    axes.set_title(about.replace("; ", "\n"), fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train what is missing, then write table and picture."""
    parser = argparse.ArgumentParser(description="How well rankings after few epochs foretell those at the end")
    parser.add_argument("--genomes", type=int, default=240)
    parser.add_argument("--instances", type=int, default=4)
    parser.add_argument("--depths", default="3,4")
    parser.add_argument("--rungs", default="20,50,100,300")
    parser.add_argument("--end", type=int, default=1000, help="epochs of a whole training")
    parser.add_argument("--patience", type=int, default=50)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--draw", action="store_true", help="train nothing")
    asked = parser.parse_args()
    rungs, depths = ([int(number) for number in text.split(",")] for text in (asked.rungs, asked.depths))
    settings = {key: getattr(asked, key) for key in ("genomes", "instances", "depths", "rungs", "end", "patience")}
    path = asked.results / "rungs.jsonl"
    known = read(path, settings)
    if not asked.draw:
        texts = [dump(genome) for genome in genomes(asked.genomes)]
        instances = [
            Instance("tig", depths[k % len(depths)], seed_bytes(60_000_000 + 10_000 * k))
            for k in range(asked.instances)
        ]
        with LocalPool(asked.workers, patience=asked.patience, function=TRAIN_LANES) as pool, path.open("a") as file:
            while lanes := list(missing(texts, instances, rungs, asked.end, known)):
                for done, (trained, training) in enumerate(pool.train(lanes), 1):
                    new = row(trained, training, rungs)
                    known[new.genome, new.instance, new.epochs] = new
                    file.write(json.dumps(new.__dict__) + "\n")
                    file.flush()
                    if done % 20 == 0 or done == len(lanes):
                        print(f"{done} of {len(lanes)} trainings", file=sys.stderr)
    found = values(known, rungs, asked.end)
    if len(found["end"]) < 4:
        sys.exit("rungs: too few genomes have all their trainings")
    ended = fmean(each.ran for key, each in known.items() if key[2] == asked.end)
    about = (
        f"{len(found['end'])} genomes on {asked.instances} instances of depths {asked.depths}; "
        f"trainings of at most {asked.end} epochs ended after {ended:.0f} on average"
    )
    rows = agreements(found, rungs)
    (asked.results / "rungs.md").write_text(table(rows, about))
    picture(rows, about, asked.results / "rungs.png")
    print(table(rows, about))


if __name__ == "__main__":
    main()
