"""Print the table of a campaign's RESULT.md from its judge.jsonl: each champion against calibrated_adam, paired.

Run:  python runs/table.py runs/open-layers [--evidence genomes/discovered/evidence.json]

A record is one training: ``depth``, ``name`` of the genome, ``i`` (the instance's number), ``init``, ``q`` (its
quality) and more. A pair is one instance in one init; `p by instance` takes the mean difference of both inits, which
share their data. `Holm` corrects Wilcoxon's p over all rows.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from evo.evaluation.statistics import holm

RIVAL = "calibrated_adam"
FAILED = 0.8  # a quality below it is a failure
HEADS = (
    *("depth", "pairs, instances", "champion: mean, least, failed", f"{RIVAL}: mean, least, failed"),
    *(
        "difference, 95 %",
        "median",
        "Wilcoxon p",
        "Holm",
        "p by instance",
        "better",
        "difference without failures, 95 %",
    ),
)


def read(folder: Path) -> dict[str, dict[int, list[dict]]]:
    """The records of each champion and its rival, by depth."""
    records = [json.loads(line) for line in (folder / "judge.jsonl").read_text(encoding="utf-8").splitlines()]
    found: dict[str, dict[int, list[dict]]] = {}
    for name, depth in sorted({(r["name"], r["depth"]) for r in records if r["name"] != RIVAL}, key=lambda k: k[1]):
        here = [r for r in records if r["depth"] == depth and r["name"] in (name, RIVAL)]
        found.setdefault(name, {})[depth] = here
    return found


def paired(records: list[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each pair's instance, and its qualities: the champion's, and its rival's."""
    found = {(r["name"] == RIVAL, r["i"], r["init"]): -1.0 if r["q"] is None else r["q"] for r in records}
    pairs = sorted({(i, init) for _, i, init in found if {(False, i, init), (True, i, init)} <= found.keys()})
    own, other = (np.array([found[rival, *pair] for pair in pairs]) for rival in (False, True))
    return np.array([i for i, _ in pairs]), own, other


def interval(differences: np.ndarray) -> tuple[float, float, float]:
    """Mean and its 95 % interval by Student's t."""
    low, high = stats.t.interval(0.95, len(differences) - 1, differences.mean(), stats.sem(differences))
    return float(differences.mean()), float(low), float(high)


def evidence(records: list[dict], depth: int) -> dict:
    """What genomes/discovered says of a champion at one depth."""
    numbers, own, other = paired(records)
    mean, low, high = (round(value, 4) for value in interval(own - other))
    sizes = {"depth": depth, "pairs": len(own), "instances": len(np.unique(numbers))}
    return sizes | {"mean": round(float(own.mean()), 4), "difference": mean, "low": low, "high": high}


def rows(champions: dict[str, dict[int, list[dict]]]) -> list[list[str]]:
    """A row for each champion and depth, and one for a champion's depths together where there are several."""

    def summary(qualities: np.ndarray) -> str:
        return f"{qualities.mean():.4f}, {qualities.min():.3f}, {(qualities < FAILED).sum()}"

    def words(differences: np.ndarray) -> str:
        mean, low, high = interval(differences)
        return f"{mean:.4f}, {low:.4f} to {high:.4f}"

    pairs: list[tuple] = []
    for by_depth in champions.values():
        here = [(str(depth), *paired(records)) for depth, records in by_depth.items()]
        pairs += here
        if len(here) > 1:
            pairs.append(("all", *(np.concatenate(column) for column in list(zip(*here, strict=True))[1:])))
    p = [float(stats.wilcoxon(own - other).pvalue) for _, _, own, other in pairs]
    table = []
    for (depth, numbers, own, other), single, corrected in zip(pairs, p, holm(p), strict=True):
        differences = own - other
        instances = np.array([differences[numbers == i].mean() for i in np.unique(numbers)])
        whole = differences[(own >= FAILED) & (other >= FAILED)]
        size, better = f"{len(own)}, {len(instances)}", str((differences > 0).sum())
        tests = [f"{p:.1g}" for p in (single, corrected, stats.wilcoxon(instances).pvalue)]
        first = [depth, size, summary(own), summary(other), words(differences), f"{np.median(differences):.4f}"]
        table.append([*first, *tests, better, words(whole)])
    return table


def main() -> None:
    """Print the table, or bring the evidence up to date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--evidence", type=Path, metavar="PATH", help="renew what genomes/discovered says; keeps origins"
    )
    asked = parser.parse_args()
    champions = read(asked.folder)
    if asked.evidence:
        known = json.loads(asked.evidence.read_text(encoding="utf-8"))
        for name, by_depth in champions.items():
            origin = known.get(name, {}).get("origin", "")
            found = [evidence(records, depth) for depth, records in by_depth.items()]
            known[name] = {"campaign": asked.folder.as_posix(), "origin": origin, "rival": RIVAL, "by_depth": found}
        asked.evidence.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        return
    print("|", " | ".join(HEADS), "|")
    print("|", " | ".join(["---"] * len(HEADS)), "|")
    for cells in rows(champions):
        print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
