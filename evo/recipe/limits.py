"""What a genome may cost: `evo.recipe.schema.Limits` applied to one."""

from __future__ import annotations

from collections.abc import Iterator

from evo.recipe.schema import Limits
from genomes.compiler.lowering import lower
from genomes.compiler.program import ELEMENTWISE, MATRIX
from genomes.compiler.shapes import ShapeClass
from genomes.language.genome import Genome

MATRIX_OPERATIONS = 60  # elementwise ones that take as long as three products of 256 wide matrices, on one CPU thread


def costs(genome: Genome) -> Iterator[tuple[str, int]]:
    """What the genome costs by the name of each limit, the cheapest to count first. Raises GenomeError."""
    yield "terms", len(genome.terms)
    yield "nodes", genome.size
    yield "states", buffers(genome)


def buffers(genome: Genome) -> int:
    """How many state buffers as large as the model its program keeps, square ones included. Raises GenomeError."""
    return sum(slot.is_large for slot in lower(genome).slots)


def operations(genome: Genome) -> int:
    """Elementwise operations per step, and what those on matrices are worth in them. Raises GenomeError."""
    nodes = [node for node in lower(genome).nodes if node.shape is ShapeClass.ELEMENT]
    return sum((node.op in ELEMENTWISE) + MATRIX_OPERATIONS * (node.op in MATRIX) for node in nodes)


def exceeded(genome: Genome, limits: Limits) -> tuple[str, int] | None:
    """The first limit that the genome exceeds, and by which count; None where it is within all. Raises GenomeError."""
    return next(((name, count) for name, count in costs(genome) if count > getattr(limits, name)), None)
