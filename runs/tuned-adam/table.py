"""Print the table of RESULT.md from judge.jsonl: each depth's tuned constants against calibrated_adam, paired.

Run:  python runs/tuned-adam/table.py [--evidence genomes/discovered/evidence.json]

A pair is one instance in one init. `p by instance` takes the mean difference of both inits, which share their data.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import stats

RECORDS = Path(__file__).parent / "judge.jsonl"
GENERATIONS = {4: 18, 10: 7, 18: 4}  # of CMA-ES
FAILED = 0.8  # a quality below it is a failure
HEADS = (
    *("depth", "pairs, instances", "tuned: mean, least, failed", "calibrated_adam: mean, least, failed"),
    *("difference, 95 %", "median", "Wilcoxon p", "p by instance", "better", "difference without failures, 95 %"),
)


def interval(differences: np.ndarray) -> str:
    """Mean and its 95 % interval by Student's t."""
    low, high = stats.t.interval(0.95, len(differences) - 1, differences.mean(), stats.sem(differences))
    return f"{differences.mean():.4f}, {low:.4f} to {high:.4f}"


def summary(qualities: np.ndarray) -> str:
    """Mean, least, and the number of failures."""
    return f"{qualities.mean():.4f}, {qualities.min():.3f}, {(qualities < FAILED).sum()}"


def paired(records: list[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each pair's instance, and its qualities: tuned, and calibrated_adam."""
    found = {(r["name"], r["i"], r["init"]): r["q"] for r in records}
    pairs = sorted({(i, init) for _, i, init in found})
    tuned, known = (np.array([found[name, *pair] for pair in pairs]) for name in ("mean", "calibrated_adam"))
    return np.array([i for i, _ in pairs]), tuned, known


def evidence(depth: int, records: list[dict]) -> dict:
    """What genomes/discovered says of one depth's genome."""
    numbers, tuned, known = paired(records)
    differences = tuned - known
    low, high = stats.t.interval(0.95, len(differences) - 1, differences.mean(), stats.sem(differences))
    return {
        "campaign": "runs/tuned-adam",
        "origin": f"CMA-ES on the constants, {GENERATIONS[depth]} generations of 48",
        "depth": depth,
        "pairs": len(differences),
        "instances": len(np.unique(numbers)),
        "mean": round(float(tuned.mean()), 4),
        "rival": "calibrated_adam",
        "difference": round(float(differences.mean()), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
    }


def row(records: list[dict]) -> list[str]:
    """One row, of the records of one depth."""
    numbers, tuned, known = paired(records)
    differences = tuned - known
    instances = np.array([differences[numbers == i].mean() for i in np.unique(numbers)])
    whole = differences[(tuned >= FAILED) & (known >= FAILED)]
    tests = [f"{stats.wilcoxon(values).pvalue:.1g}" for values in (differences, instances)]
    size, median, better = (
        f"{len(differences)}, {len(instances)}",
        f"{np.median(differences):.4f}",
        (differences > 0).sum(),
    )
    return [size, summary(tuned), summary(known), interval(differences), median, *tests, str(better), interval(whole)]


def main() -> None:
    """Print the table, or write the evidence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evidence", type=Path, metavar="PATH", help="write what genomes/discovered says")
    asked = parser.parse_args()
    records = [json.loads(line) for line in RECORDS.read_text().splitlines()]
    depths = {d: [r for r in records if r["depth"] == d] for d in sorted({r["depth"] for r in records})}
    if asked.evidence:
        found = {f"tuned_adam_depth{depth}": evidence(depth, here) for depth, here in depths.items()}
        asked.evidence.write_text(json.dumps(found, indent=2) + "\n")
        return
    for cells in (HEADS, ["---"] * len(HEADS), *([str(depth), *row(here)] for depth, here in depths.items())):
        print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
