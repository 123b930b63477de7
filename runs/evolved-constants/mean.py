"""Write the mean of a `constants_only` campaign's strategy as a genome: of the structure that had most rounds.

Run:  python runs/evolved-constants/mean.py RUN NAME FILE
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from evo.campaign.folder import RunFolder
from evo.ledger.ledger import Ledger
from evo.search.variation.skeleton import with_coordinates
from genomes.language.genome import dump


def main() -> None:
    """Write it, and say how far the strategy came."""
    folder, name, file = RunFolder(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
    with Ledger.open_to_read(folder.ledger) as ledger:
        checkpoint = ledger.checkpoint()
        assert checkpoint.state is not None, "no generation is complete"
        tunings = [line["tuning"] for line in checkpoint.state["own"]["lines"]]
        tuning = max(tunings, key=lambda tuning: tuning["rounds"])
        genome = with_coordinates(ledger.individual(tuning["owner"]).genome, tuning["mean"])
    file.write_text(dump(genome.renamed(name, "")), encoding="utf-8")
    print(f"{name}: {checkpoint.generation} generations, {tuning['rounds']} rounds")


if __name__ == "__main__":
    main()
