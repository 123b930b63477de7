"""Independent implementations of every known optimizer: what the catalogue is checked against.

``ORACLES`` maps a catalogue name to a function that, given the trainable parameters and their roles, makes something
with ``step(gradient, moment)``. Oracles come from published packages where one has the optimizer; the others are NumPy
float64 transcriptions of the paper's formulas that know nothing of our language.
"""

from __future__ import annotations

from tests.genomes.oracles import packages, papers
from tests.genomes.oracles.base import Oracle

__all__ = ["ORACLES", "Oracle"]

ORACLES = packages.ORACLES | papers.ORACLES
if len(ORACLES) != len(packages.ORACLES) + len(papers.ORACLES):
    raise ValueError(f"two oracles for {packages.ORACLES.keys() & papers.ORACLES.keys()}")
