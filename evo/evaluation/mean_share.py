"""What of a champion's quality comes from its calibration of the outputs' mean: the same genome without it."""

from __future__ import annotations

from dataclasses import replace

from evo.recipe.schema import Recipe
from evo.records import Individual, Purpose, Request
from evo.search.instances import instances
from genomes.analysis.calibration import without_calibration
from genomes.compiler.identity import genome_identity


def switched_off(individual: Individual) -> Individual | None:
    """The individual with its calibration of the mean switched off; None where that changes nothing."""
    genome = without_calibration(individual.genome)
    identity = genome_identity(genome) if genome is not individual.genome else individual.hash
    return None if identity == individual.hash else replace(individual, genome=genome, hash=identity)


def request(recipe: Recipe, champion: Individual) -> Request | None:
    """The trainings of a champion, switched off, on the selection instances; None where it calibrates nothing.

    The same holds for tasks that do not hide the mean.
    """
    blind = switched_off(champion)
    if blind is None:
        return None
    from evo.evaluation.bounds import hides_mean  # brings in SciPy, for the few campaigns that calibrate

    if not hides_mean(recipe.task):
        return None
    return Request.crossed(Purpose.SELECTION, [blind], instances(recipe, Purpose.SELECTION, 0), recipe.epochs)
