"""Print the table of RESULT.md from judge.jsonl: each depth's tuned constants against calibrated_adam, paired.

Run:  python runs/tuned-adam/table.py

A pair is one instance in one init. `p by instance` takes the mean difference of both inits, which share their data.
"""

import json
from pathlib import Path

import numpy as np
from scipy import stats

RECORDS = Path(__file__).parent / "judge.jsonl"
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


def row(records: list[dict]) -> list[str]:
    """One row, of the records of one depth."""
    found = {(r["name"], r["i"], r["init"]): r["q"] for r in records}
    pairs = sorted({(i, init) for _, i, init in found})
    tuned, known = (np.array([found[name, *pair] for pair in pairs]) for name in ("mean", "calibrated_adam"))
    differences = tuned - known
    numbers = np.array([i for i, _ in pairs])
    instances = np.array([differences[numbers == i].mean() for i in np.unique(numbers)])
    whole = differences[(tuned >= FAILED) & (known >= FAILED)]
    tests = [f"{stats.wilcoxon(values).pvalue:.1g}" for values in (differences, instances)]
    size, median, better = f"{len(pairs)}, {len(instances)}", f"{np.median(differences):.4f}", (differences > 0).sum()
    return [size, summary(tuned), summary(known), interval(differences), median, *tests, str(better), interval(whole)]


def main() -> None:
    """Print the table."""
    records = [json.loads(line) for line in RECORDS.read_text().splitlines()]
    rows = [[str(d), *row([r for r in records if r["depth"] == d])] for d in sorted({r["depth"] for r in records})]
    for cells in (HEADS, ["---"] * len(HEADS), *rows):
        print("|", " | ".join(cells), "|")


main()
