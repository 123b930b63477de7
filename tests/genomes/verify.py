"""Compares known optimizers with their oracles and notes the errors: ``python -m tests.genomes.verify [NAME]...``."""

from __future__ import annotations

import json
import sys

from genomes import catalogue
from tests.genomes.compare import TOLERANCE, compare


def main(names: list[str]) -> int:
    """Verify ``names``, or all. Writes genomes/catalogue/verified.json; returns how many failed."""
    path = catalogue.FOLDER / "verified.json"
    known = catalogue.verified()
    notes = {name: known[name] for name in catalogue.names() if name in known}
    failed = 0
    for name in names or catalogue.names():
        found = compare(name)
        sound = found.error < TOLERANCE
        failed += not sound
        print(f"{name:28} {found.error:.1e} over {found.steps} steps{'' if sound else '   <- too large'}")
        notes[name] = {"largest_error": float(f"{found.error:.1e}"), "steps": found.steps}
    path.write_text(json.dumps(dict(sorted(notes.items())), indent=1) + "\n", encoding="utf-8")
    print(f"{path.name}: {len(notes)} entries, largest error {max(n['largest_error'] for n in notes.values()):.1e}")
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
