"""Searches side by side, on landscapes that know the true quality of every genome and answer a training at once.

    python benchmarks/search.py                             # every landscape and contestant, 30 seeds
    python benchmarks/search.py --landscapes mixed --seeds 4
    python benchmarks/search.py --tune --seeds 4            # try every contestant's grid, on other seeds

Landscapes: each recorded one in ``benchmarks/landscapes`` (`record_landscape.py`), and the synthetic ones
``constants``, ``structure`` and ``mixed``, whose noise is that of a recorded one. Every contestant gets the same number
of trainings (lanes), baselines and trials included. Prints a table; writes ``benchmarks/results/search_NAME.json`` and
``.png``. ``--tune`` writes ``benchmarks/searching/settings.json`` instead. How to read them: docs/search-bench.md.

Needs the package ``optuna``, for two of the contestants, with the package ``cmaes``; nothing else of evo does.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table
from searching import picture
from searching.contestants import CONTESTANTS, PRESENT_GA, TUNED, contestants
from searching.landscape import Landscape
from searching.measures import Run, Summary, lanes_to_reach, summarized
from searching.noise import Noise
from searching.recorded import Recorded
from searching.synthetic import SYNTHETIC, Synthetic

HERE = Path(__file__).parent
LANDSCAPES = HERE / "landscapes"
RESULTS = HERE / "results"
TUNING_SEEDS = 1000  # from here on; the others are for the comparison

Job = tuple[
    Path, str, str, int, int, Mapping[str, Any] | None
]  # recording, landscape, contestant, seed, budget, settings


@cache
def landscape(recording: Path, name: str) -> Landscape:
    """A landscape by name, with the noise of a recorded one."""
    recorded = Recorded(recording)
    return Synthetic(name, Noise.of(recorded)) if name in SYNTHETIC else recorded


def run(job: Job) -> tuple[Run, float]:
    """One run, and its seconds."""
    recording, name, contestant, seed, budget, settings = job
    began = time.perf_counter()
    play = CONTESTANTS[contestant].run(landscape(recording, name), seed, budget, settings)
    return Run.of(play), time.perf_counter() - began


def compare(asked: argparse.Namespace, pool: Any, name: str, recording: Path) -> None:
    """Play one landscape, and say and write what came of it."""
    ground = landscape(recording, name)
    names = [c.name for c in contestants(ground) if not asked.contestants or c.name in asked.contestants]
    jobs = [
        (recording, name, contestant, seed, asked.lanes, None) for contestant in names for seed in range(asked.seeds)
    ]
    done = pool.map(run, jobs, chunksize=1)
    summaries, seconds = [], {}
    for i, contestant in enumerate(names):
        mine = done[i * asked.seeds : (i + 1) * asked.seeds]
        summaries.append(summarized(contestant, ground, [found for found, _ in mine], asked.lanes))
        seconds[contestant] = round(fmean(spent for _, spent in mine), 2)
    founder = ground.best - ground.best_founder
    goal = next((s.final[1] for s in summaries if s.name == PRESENT_GA), None)
    _show(ground, summaries, goal, seconds, asked)
    if asked.output:
        asked.output.mkdir(parents=True, exist_ok=True)
        record = {
            "landscape": name,
            "recording": recording.name,
            "seeds": asked.seeds,
            "lanes": asked.lanes,
            "best": ground.best,
            "best_founder": ground.best_founder,
            "contestants": [
                {
                    **asdict(s),
                    "settings": CONTESTANTS[s.name].settings,
                    "lanes_to_the_present_ga": None if goal is None else lanes_to_reach(s, goal),
                }
                for s in summaries
            ],
        }
        (asked.output / f"search_{name}.json").write_text(json.dumps(record) + "\n")
        title = f"{name}: regret against budget, median and quartiles of {asked.seeds} seeds"
        picture.draw(asked.output / f"search_{name}.png", title, summaries, founder, asked.lanes)


def _show(
    ground: Landscape, summaries: Sequence[Summary], goal: float | None, seconds: Mapping[str, float], asked: Any
) -> None:
    founder = ground.best - ground.best_founder
    title = f"{ground.name}: {asked.seeds} seeds, {asked.lanes} lanes, best founder's regret {founder:.3f}"
    table = Table(title=title, title_justify="left")
    columns = ("contestant", "regret", "quartiles", "gain", "worse", "promoted", "false", "error", "to GA", "s/run")
    for column in columns:
        table.add_column(column, justify="left" if column == "contestant" else "right")
    for s in summaries:
        reached = None if goal is None else lanes_to_reach(s, goal)
        table.add_row(
            s.name,
            f"{s.final[1]:.3f}",
            f"{s.final[0]:.3f}-{s.final[2]:.3f}",
            f"{s.gain:+.3f}",
            str(s.worse),
            f"{s.promotions}/{s.trials}",
            str(s.false),
            "-" if s.error is None else f"{s.error:.2f}",
            "-" if reached is None else f"{reached:.0f}",
            f"{seconds[s.name]:.2f}",
        )
    Console(width=120).print(table)


def tune(asked: argparse.Namespace, pool: Any, grounds: Sequence[tuple[str, Path]]) -> None:
    """Try every point of every grid, and keep the best: least median regret, as a share of the best founder's."""
    tuned = json.loads(TUNED.read_text()) if TUNED.exists() else {}
    for contestant in CONTESTANTS.values():
        if (asked.contestants and contestant.name not in asked.contestants) or len(contestant.points) < 2:
            continue
        able = [(n, path) for n, path in grounds if landscape(path, n).constants or not contestant.needs_constants]
        seeds = range(TUNING_SEEDS, TUNING_SEEDS + asked.seeds)
        jobs = [
            (path, name, contestant.name, seed, asked.lanes, point)
            for point in contestant.points
            for name, path in able
            for seed in seeds
        ]
        done = pool.map(run, jobs, chunksize=1)
        rows = []
        for i, point in enumerate(contestant.points):
            shares = []
            for j, (name, path) in enumerate(able):
                ground = landscape(path, name)
                first = (i * len(able) + j) * len(seeds)
                final = [found.truth(asked.lanes, ground.best_founder) for found, _ in done[first : first + len(seeds)]]
                shares.append((ground.best - median(final)) / (ground.best - ground.best_founder))
            rows.append({"settings": point, "regret": round(fmean(shares), 4), "each": [round(s, 3) for s in shares]})
        rows.sort(key=lambda row: row["regret"])
        tuned[contestant.name] = {
            "settings": rows[0]["settings"],
            "lanes": asked.lanes,
            "seeds": asked.seeds,
            "tried": rows,
        }
        print(f"{contestant.name}: {rows[0]}, worst {rows[-1]}", flush=True)
        TUNED.write_text(json.dumps(tuned, indent=1, sort_keys=True) + "\n")


def main() -> None:
    """Compare, or tune."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--landscapes", help="names, by commas; default: all")
    parser.add_argument("--contestants", help="names, by commas; default: all")
    parser.add_argument("--recording", type=Path, default=LANDSCAPES / "quickstart.json.gz", help="source of noise")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--lanes", type=int, default=1600, help="budget of a run")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--tune", action="store_true", help="choose the settings instead")
    asked = parser.parse_args()
    if importlib.util.find_spec("optuna") is None:
        sys.exit("search.py compares with the package optuna, which is missing: pip install optuna")
    if not asked.recording.exists():
        sys.exit(
            f"{asked.recording} is missing: record it by benchmarks/record_landscape.py, or name one by --recording"
        )
    asked.contestants = asked.contestants.split(",") if asked.contestants else []
    if unknown := [name for name in asked.contestants if name not in CONTESTANTS]:
        sys.exit(f"there is no contestant {unknown[0]!r}; there are {', '.join(CONTESTANTS)}")
    recordings = {Recorded(path).name: path for path in {*LANDSCAPES.glob("*.json.gz"), asked.recording}}
    grounds = {**dict.fromkeys(SYNTHETIC, asked.recording), **recordings}
    names = asked.landscapes.split(",") if asked.landscapes else list(grounds)
    if unknown := [name for name in names if name not in grounds]:
        sys.exit(f"there is no landscape {unknown[0]!r}; there are {', '.join(grounds)}")
    for name in names:
        landscape(grounds[name], name).best  # noqa: B018  computed once, before the processes part
    with multiprocessing.get_context("fork").Pool(asked.processes) as pool:
        if asked.tune:
            tune(asked, pool, [(name, grounds[name]) for name in names])
        else:
            for name in names:
                compare(asked, pool, name, grounds[name])


if __name__ == "__main__":
    main()
