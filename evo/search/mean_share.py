"""What of a champion's quality comes from its calibration of the outputs' mean: the same genome without it."""

from __future__ import annotations

from dataclasses import replace

from evo.records import Individual
from genomes.analysis.calibration import without_calibration
from genomes.compiler.identity import genome_identity


def switched_off(individual: Individual) -> Individual | None:
    """The individual with its calibration of the mean switched off; None where that changes nothing."""
    genome = without_calibration(individual.genome)
    identity = genome_identity(genome) if genome is not individual.genome else individual.hash
    return None if identity == individual.hash else replace(individual, genome=genome, hash=identity)
