"""The first promise of a search, measured: its champion is never worse than what it was given.

    python benchmarks/against_founders.py                                    # 20 campaigns of raced_evolution
    python benchmarks/against_founders.py --search genetic --processes 2     # the present GA, from the same founders
    python benchmarks/against_founders.py --founders calibrated              # with the two that calibrate the mean
    python benchmarks/against_founders.py --summarize

Every campaign is a real one, of ``runs/quickstart/recipe.yaml`` with another seed, and ends by ``lane_steps``, so that
both searches have the same budget: what a campaign of that recipe takes, a generation more or less. ``genetic`` has the
settings of the present GA on the bench for searches, and no gate. With the calibrated founders, genomes may have seven
state buffers, as one of these has. In the recipe's 20 epochs these two come out last, at qualities of about -2: their
schedules are for hundreds of epochs, which `--recipe` can give them.

Its champion and the known optimizers among its founders are trained on 64 instances that no campaign touches: seeds are
sha256 of ``against-founders/i``, depths those of the recipe in turn, all else as in the recipe; a training without
quality counts as `evo evaluate` counts it. The best founder is the one with the highest mean on these very instances,
which no search could know; beside it stands the founder that the campaign itself thought best. Random founders are
judged where one is champion.

Each result is a line of the file of results as it comes, and a second call goes on where the first one ended; founders
are trained once for all campaigns. Files of equal settings can be joined with ``cat``. A campaign that was stopped
starts over. ``--summarize`` prints two tables of what is there: by search and founders, where an interval is over
campaigns, and by campaign, where it is over instances.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import IO, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from searching.contestants import QUICKSTART

from evo.campaign.folder import RunFolder
from evo.campaign.run import KNOWN
from evo.evaluation.statistics import Paired, paired
from evo.evaluation.trainings import Result
from evo.ledger.ledger import Ledger
from evo.recipe import reader
from evo.recipe.schema import Recipe
from evo.records import FOUNDERS, Lane, lane_steps
from evo.search.evidence import fit
from evo.training.pool import LocalPool, environment
from evo.training.worker import TRAIN_LANES
from genomes import catalogue
from genomes.compiler.identity import genome_identity
from genomes.language.genome import dump
from harness.result import NUMERICS_VERSION
from harness.task import Instance

RESULTS = Path(__file__).parent / "results" / "against_founders.jsonl"
RECIPE = Path(__file__).resolve().parents[1] / "runs" / "quickstart" / "recipe.yaml"
LABEL = "against-founders"
LANE_STEPS = 80_000  # 500 trainings of 20 epochs; runs/LOG.md has 508 for the recipe's seven generations
ENDLESS = 1_000_000  # generations: the end is by steps
FIRST_SEED = 1000  # of the recipe of campaign 0: the demo has a small one
SEARCHES: dict[str, tuple[str, ...]] = {  # overrides of the recipe
    "raced_evolution": (),
    "genetic": ("search={algorithm: genetic}", *(f"{key}={value}" for key, value in QUICKSTART.items())),
}
MORE_FOUNDERS: dict[str, tuple[str, ...]] = {
    "uncalibrated": (),
    "calibrated": ("calibrated_adam", "calibrated_cautious_adanw"),
}
STATES = 7  # most state buffers of a genome where there are more founders: calibrated_cautious_adanw has as many

Key = tuple[str, str, int]  # search, founders, seed


@dataclass
class Results:
    """What a file of results holds. ``founders``: qualities by the genome's identity. ``settings``: of all of it."""

    settings: dict[str, Any] = field(default_factory=dict)
    founders: dict[str, list[float]] = field(default_factory=dict)
    campaigns: dict[Key, dict[str, Any]] = field(default_factory=dict)

    def take(self, record: dict[str, Any]) -> None:
        """Take in a line. Raises ValueError for settings that differ from those before."""
        match record.pop("kind"):
            case "settings":
                if self.settings and record != self.settings:
                    raise ValueError("other settings")
                self.settings = record
            case "founder":
                self.founders[record["identity"]] = record["qualities"]
            case "campaign":
                self.campaigns[record["search"], record["founders"], record["seed"]] = record


def read(path: Path) -> Results:
    """The results so far; exits where those of different settings are mixed."""
    found = Results()
    for number, line in enumerate(path.read_text().splitlines() if path.is_file() else (), 1):
        try:
            record = json.loads(line)
        except ValueError:  # killed within a line
            continue
        try:
            found.take(record)
        except ValueError as error:
            sys.exit(f"against_founders: {path}:{number}: {error} than in the lines before")
    return found


def recipe_of(asked: argparse.Namespace, seed: int) -> Recipe:
    """The recipe of a campaign."""
    names = reader.load(asked.recipe, known=KNOWN).start.catalogue
    names = dict.fromkeys((*names, *MORE_FOUNDERS[asked.founders]))
    own = [f"seed={FIRST_SEED + seed}", f"generations={ENDLESS}", f"lane_steps={asked.lane_steps}"]
    own.append(f"start.catalogue=[{', '.join(names)}]")
    if MORE_FOUNDERS[asked.founders]:
        own.append(f"limits.states={STATES}")
    return reader.load(asked.recipe, (*own, *SEARCHES[asked.search]), known=KNOWN)


def unseen(recipe: Recipe, count: int) -> list[Instance]:
    """The instances to judge on."""
    depths = recipe.difficulty.depths
    seeds = [hashlib.sha256(f"{LABEL}/{i}".encode()).digest() for i in range(count)]
    return [Instance(recipe.task, depths[i % len(depths)], seed, recipe.init) for i, seed in enumerate(seeds)]


def judged(text: str, identity: str, recipe: Recipe, count: int) -> list[float]:
    """The qualities of a genome on the unseen instances, as a campaign trains; one process at a time."""
    lanes = [Lane(identity, text, instance, recipe.epochs) for instance in unseen(recipe, count)]
    with LocalPool(1, function=TRAIN_LANES, patience=recipe.patience) as pool:
        done = {lane.key: Result("", lane.instance, training) for lane, training in pool.train(lanes)}
    return [done[lane.key].counted_quality for lane in lanes]


def judge_founder(name: str, recipe: Recipe, count: int) -> dict[str, Any]:
    """The line of a founder."""
    began, genome = time.monotonic(), catalogue.load(name)
    identity = genome_identity(genome)
    qualities = judged(dump(genome), identity, recipe, count)
    spent = round(time.monotonic() - began, 1)
    return {"kind": "founder", "name": name, "identity": identity, "qualities": qualities, "seconds": spent}


def run_campaign(key: Key, recipe: Recipe, count: int, known: dict[str, list[float]]) -> dict[str, Any]:
    """Run a campaign and judge its champion: its line. ``known``: what is judged already, by identity.

    Raises RuntimeError where it does not come to its end.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="against-founders-") as path:
        folder = RunFolder(Path(path))
        folder.recipe.write_text(reader.dump(recipe))
        words = [sys.executable, "-m", "evo", "launch", path, "--workers", "1", "--device", "cpu"]
        done = subprocess.run(words, env=environment(), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"evo launch ended with {done.returncode}: {done.stderr.strip()[-500:]}")
        with Ledger.open_to_read(folder.ledger) as ledger:
            past, fame, members = ledger.past(), ledger.checkpoint().hall_of_fame, ledger.members()
            estimates = fit(ledger.observations()).estimates
    spent = time.monotonic() - began
    if not fame:
        raise RuntimeError("the campaign has no champion")
    champion = fame[0].individual
    # by its program: a survivor of later generations is the founder that it is equal to
    given = {each.hash: each for each in reversed(members) if each.generation == 0 and each.operator in FOUNDERS}
    founder = given.get(champion.hash)
    catalogued = {name: genome_identity(catalogue.load(name)) for name in recipe.start.catalogue}
    estimated = {name: estimates[hash].mean for name, hash in catalogued.items() if hash in estimates}
    trials = [trial for each in past for trial in each.statistics.trials]
    began = time.monotonic()
    qualities = known.get(champion.hash) or judged(champion.text, champion.hash, recipe, count)
    return {
        "kind": "campaign",
        "search": key[0],
        "founders": key[1],
        "seed": key[2],
        "champion": {
            "name": founder.name if founder else champion.name,
            "origin": "founder" if founder else "evolved",
            "operator": founder.operator if founder else champion.operator,
            "generation": 0 if founder else champion.generation,
            "identity": champion.hash,
            "estimate": fame[0].estimate.mean,
            "text": champion.text,
        },
        "qualities": qualities,
        "given": catalogued,
        "own_best_founder": max(estimated, key=lambda name: estimated[name], default=None),
        "generations": len(past),
        "lane_steps": lane_steps(past),
        "trainings": sum(each.statistics.trained for each in past),
        "trials": len(trials),
        "promoted": sum(trial.promoted for trial in trials),
        "seconds": round(spent, 1),
        "judging_seconds": round(time.monotonic() - began, 1),
    }


def collect(work: dict[Future, str], known: Results, file: IO[str]) -> bool:
    """Keep the line of each job as it is done; ``work``: their labels. False where one failed, which is said."""
    began, sound = time.monotonic(), True
    for count, future in enumerate(as_completed(work), 1):
        left = (time.monotonic() - began) / count * (len(work) - count)
        said = f"done, {left / 60:.0f} min left"
        try:
            keep(future.result(), known, file)
        except Exception as error:  # the others go on
            sound, said = False, f"failed: {error}"
        print(f"{count} of {len(work)}, {work[future]}: {said}", file=sys.stderr, flush=True)
    return sound


def keep(line: dict[str, Any], known: Results, file: IO[str]) -> None:
    """Write a line, and take it in."""
    file.write(json.dumps(line) + "\n")
    file.flush()
    known.take(line)


def measure(asked: argparse.Namespace) -> bool:
    """Judge the founders and run the campaigns that are missing. False where one of them failed."""
    usual = recipe_of(asked, asked.seeds[0])
    settings = {
        "recipe": reader.dump(reader.load(asked.recipe, known=KNOWN)),
        "lane_steps": asked.lane_steps,
        "instances": asked.instances,
        "numerics": NUMERICS_VERSION,
    }
    known = read(asked.results)
    if known.settings and known.settings != settings:
        sys.exit(f"against_founders: {asked.results} was made with other settings; name another with --results")
    with asked.results.open("a+") as file, ThreadPoolExecutor(asked.processes) as pool:
        file.seek(0)
        if (before := file.read()) and not before.endswith("\n"):  # killed within a line
            file.write("\n")
        if not known.settings:
            keep({"kind": "settings", **settings}, known, file)
        try:
            founders = [n for n in usual.start.catalogue if genome_identity(catalogue.load(n)) not in known.founders]
            work = {pool.submit(judge_founder, name, usual, asked.instances): name for name in founders}
            sound = collect(work, known, file)
            judged_already, work = dict(known.founders), {}
            for seed in asked.seeds:
                key = asked.search, asked.founders, seed
                if key not in known.campaigns:
                    job = (run_campaign, key, recipe_of(asked, seed), asked.instances, judged_already)
                    work[pool.submit(*job)] = " ".join(map(str, key))
            return collect(work, known, file) and sound
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@dataclass(frozen=True)
class Verdict:
    """A campaign's champion beside the best founder. ``own``: its mean gain over the founder that the campaign itself
    thought best; None where it knew none.
    """

    record: dict[str, Any]
    best: str
    paired: Paired
    own: float | None

    @property
    def word(self) -> str:
        """Whether the interval of the difference says better or worse; else it is a tie."""
        low, high = self.paired.low, self.paired.high
        return "better" if low and low > 0 else "worse" if high and high < 0 else "tied"


def verdict(record: dict[str, Any], founders: dict[str, list[float]]) -> Verdict:
    """Hold a campaign's champion against its founders. Raises KeyError where one of them is not judged."""
    given = {name: founders[identity] for name, identity in record["given"].items()}
    best = max(given, key=lambda name: fmean(given[name]))
    own = given.get(record["own_best_founder"])
    gain = None if own is None else fmean(record["qualities"]) - fmean(own)
    return Verdict(record, best, paired(record["qualities"], given[best]), gain)


def between(found: Paired) -> str:
    """A mean difference with its interval."""
    ends = "" if found.low is None or found.high is None else f" ({found.low:+.3f} to {found.high:+.3f})"
    return f"{found.mean:+.3f}{ends}"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


BY_SEARCH = (
    "search", "founders", "campaigns", "mean above the best founder", "significantly better", "tied",
    "of these the best founder itself", "significantly worse", "mean gain (95 % interval)", "median", "least",
    "mean gain over its own best founder",
)  # fmt: skip
BY_CAMPAIGN = (
    "search", "founders", "seed", "champion", "made by", "its mean", "best founder", "its mean",
    "gain (95 % interval)", "Wilcoxon p", "verdict", "own best founder", "gain over that", "generations",
    "lane-steps", "seconds",
)  # fmt: skip


def of_group(search: str, founders: str, group: Sequence[Verdict]) -> tuple[object, ...]:
    """The line of a search and its founders."""
    gains = paired([each.paired.mean for each in group], [0.0] * len(group))
    words = [each.word for each in group]
    own = [each.own for each in group if each.own is not None]
    return (
        search,
        founders,
        len(group),
        sum(gain > 0 for gain in gains.differences),
        words.count("better"),
        words.count("tied"),
        sum(not any(each.paired.differences) for each in group),
        words.count("worse"),
        between(gains),
        f"{gains.median:+.3f}",
        f"{min(gains.differences):+.3f}",
        f"{fmean(own):+.3f}" if own else "–",
    )


def of_campaign(each: Verdict) -> tuple[object, ...]:
    """The line of a campaign."""
    record, champion, mean = each.record, each.record["champion"], fmean(each.record["qualities"])
    return (
        record["search"],
        record["founders"],
        record["seed"],
        champion["name"],
        f"{champion['origin']}: {champion['operator']}",
        f"{mean:.3f}",
        each.best,
        f"{mean - each.paired.mean:.3f}",
        between(each.paired),
        f"{each.paired.p:.2g}",
        each.word,
        record["own_best_founder"] or "–",
        "–" if each.own is None else f"{each.own:+.3f}",
        record["generations"],
        f"{record['lane_steps']:,}",
        f"{record['seconds']:.0f}",
    )


def summary(found: Results) -> str:
    """Both tables."""
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for (search, founders, _), record in sorted(found.campaigns.items()):
        groups.setdefault((search, founders), []).append(verdict(record, found.founders))
    about = f"{found.settings['instances']} unseen instances, {found.settings['lane_steps']:,} lane-steps a campaign"
    by_search = table(BY_SEARCH, [of_group(*key, group) for key, group in groups.items()])
    by_campaign = table(BY_CAMPAIGN, [of_campaign(each) for group in groups.values() for each in group])
    return f"{about}\n\n{by_search}\n{by_campaign}"


def seeds(text: str) -> range:
    """The seeds of ``from:to``. Raises ArgumentTypeError."""
    try:
        first, end = map(int, text.split(":"))
    except ValueError:
        first = end = 0
    found = range(first, end)
    if not found or found[0] < 0:
        raise argparse.ArgumentTypeError(f"expected first and last + 1, like 0:20, got {text}")
    return found


def main() -> None:
    """Measure, or summarize."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=seeds, default=seeds("0:20"), help="first and last + 1")
    parser.add_argument("--search", choices=list(SEARCHES), default="raced_evolution")
    parser.add_argument("--founders", choices=list(MORE_FOUNDERS), default="uncalibrated")
    parser.add_argument("--lane-steps", type=int, default=LANE_STEPS, help="training steps that end a campaign")
    parser.add_argument("--instances", type=int, default=64, help="unseen ones, to judge on")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--processes", type=int, default=1, help="campaigns at once; each takes one CPU")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--summarize", action="store_true")
    asked = parser.parse_args()
    if asked.summarize:
        found = read(asked.results)
        if not found.campaigns:
            sys.exit(f"against_founders: no campaigns in {asked.results}")
        print(summary(found))
    elif not measure(asked):
        sys.exit(1)


if __name__ == "__main__":
    main()
