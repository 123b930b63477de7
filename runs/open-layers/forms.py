"""Print what each form of the random designs was worth, from design.jsonl: the tables of RESULT.md.

Run:  python runs/open-layers/forms.py

A relative quality is the difference from the 75th percentile of its case (instance and init) among all that finished in
the first series at that depth. Finished: a quality of 0.8 or more.
"""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np

FINISHED = 0.8


def case(record: dict) -> tuple[int, int]:
    """Number of the instance, and of the init: see design.py."""
    return record["n"] // 12 % 4, record["n"] % 2


def main() -> None:
    """Print a table per series."""
    records = [json.loads(line) for line in (Path(__file__).parent / "design.jsonl").read_text().splitlines()]
    groups = defaultdict(list)
    for r in records:
        if r["series"] == "first" and (r["q"] or -1) >= FINISHED:
            groups[r["depth"], case(r)].append(r["q"])
    usual = {key: np.percentile(qualities, 75) for key, qualities in groups.items()}
    for series in ("first", "second"):
        here = [r for r in records if r["series"] == series]
        depths = sorted({r["depth"] for r in here})
        print("| form |", " | ".join(f"depth {depth}: finished, median, 90th percentile" for depth in depths), "|")
        print("|---|" + "---|" * len(depths))
        for form in dict.fromkeys(r["form"] for r in here):
            cells = []
            for depth in depths:
                all_of = [r for r in here if r["depth"] == depth and r["form"] == form]
                good = [r["q"] - usual[depth, case(r)] for r in all_of if (r["q"] or -1) >= FINISHED]
                cells.append(f"{len(good)} of {len(all_of)}, {np.median(good):+.4f}, {np.percentile(good, 90):+.4f}")
            print(f"| `{form}` |", " | ".join(cells), "|")
        print()


if __name__ == "__main__":
    main()
