"""Write `as_evaluated_adam` less one part of what it does for evaluation, a file each.

Run:  python runs/as-evaluated/parts.py FOLDER

`benchmarks/frozen_readout.py --alone --loop quick --optimizers FOLDER/no_average.yaml,...` measures what they reach.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from genomes import catalogue
from genomes.language.genome import dump, parse

NAME = "as_evaluated_adam"
QUERIED = "calibration(slack=0, epochs=300)"
SLACK = "calibration(slack=1.12 * exp(-epoch / 150), epochs=256)"
PROBES = ', outputs: ["output_probe(k=0, start=1, size=100)", "output_probe(k=1, start=1, size=100)"]'
AVERAGE = "average(average(theta + delta, 1 - a), 1 - a) - (theta + delta) + "
BY_VALIDATION = "(output_shift(0) * output_correction(0) + output_shift(1) * output_correction(1))"

# what a genome lacks or has instead: pairs of a text of the genome and what stands for it
PARTS = {
    "no_as_evaluated": [(", as_evaluated: true", "")],
    "no_gradient_at_the_shift": [(f"hold({QUERIED}, last_step_of_epoch) + ", ""), (", as_evaluated: true", "")],
    "no_norm_gain": [(" + norm_gain(theta + delta, 0.0045)", "")],
    "no_average": [(AVERAGE, "")],
    "no_slack": [(SLACK, QUERIED)],
    "validation_losses_too": [(SLACK, QUERIED), (QUERIED, f"({QUERIED} + {BY_VALIDATION})")],
    "validation_losses_alone": [(SLACK, QUERIED), (QUERIED, BY_VALIDATION), (PROBES, "")],
}


def main() -> None:
    """Write each genome to the folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, changes in PARTS.items():
        text = dump(catalogue.load(NAME)).replace(f"name: {NAME}", f"name: {name}")
        for old, new in changes:
            if old not in text:
                sys.exit(f"{NAME} has no {old}")
            text = text.replace(old, new)
        (folder / f"{name}.yaml").write_text(dump(parse(text)), encoding="utf-8")


if __name__ == "__main__":
    main()
