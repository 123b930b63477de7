"""How children are made: an operator is chosen by weight and tried until its child is sound.

A child is sound if it lowers, stays within the limits and has finite updates that follow the gradient.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evo.recipe.limits import exceeded
from evo.recipe.schema import Limits
from evo.search import screening
from evo.search.variation.operator import Operator, SameStepSize
from evo.search.variation.registry import OPERATORS
from genomes.compiler.canonical import canonical
from genomes.compiler.identity import genome_identity
from genomes.language.genome import Genome, GenomeError, dump, parse

OPERATORS_TRIED = 5  # operators chosen before the parent is copied
ATTEMPTS = 12  # draws before an operator gives way to another


@dataclass(frozen=True)
class Child:
    """A genome, the name of the operator that made it, and how many of the given parents it came from."""

    genome: Genome
    operator: str
    parents: int


def vary(
    parents: Sequence[Genome], crossover: float, weights: Mapping[str, float], limits: Limits, rng: random.Random
) -> Child:
    """A sound child of one or both ``parents``; a copy of the first where every attempt fails.

    ``crossover``: probability of an operator with two parents. ``weights``: of operators, by name; an operator that is
    not named has its own weight.
    """
    weighted = {found: weights.get(name, found.weight) for name, found in OPERATORS.items()}
    for _ in range(OPERATORS_TRIED):
        arity = 2 if len(parents) > 1 and rng.random() < crossover else 1
        choices = {found: weight for found, weight in weighted.items() if found.parents == arity and weight > 0}
        if not choices:
            continue
        chosen = rng.choices(list(choices), list(choices.values()))[0]
        genome = apply(chosen, parents, limits, rng)
        if genome is not None:
            return Child(genome, chosen.name, arity)
    return Child(parents[0], "copy", 1)


def apply(chosen: Operator, parents: Sequence[Genome], limits: Limits, rng: random.Random) -> Genome | None:
    """A sound child by this operator whose program is not its first parent's, or None."""
    for _ in range(ATTEMPTS):
        child = canonical(edited(chosen, parents, rng))
        if child != parents[0] and sound(child, limits) and genome_identity(child) != genome_identity(parents[0]):
            return child
    return None


def edited(chosen: Operator, parents: Sequence[Genome], rng: random.Random) -> Genome:
    """What the operator makes of its parents, sound or not, at the step size that it asks for."""
    child = chosen(*parents[: chosen.parents], rng)
    return _with_step_size_of(parents[0], child.genome) if isinstance(child, SameStepSize) else child


def _with_step_size_of(parent: Genome, child: Genome) -> Genome:
    """The child with its updates as large as the parent's; as it is where no learning rate makes them so."""
    try:
        size = screening.update_size(parent)
        return screening.with_update_size(child, size) or child if size else child
    except GenomeError:
        return child


def sound(genome: Genome, limits: Limits) -> bool:
    """Whether a genome can be written and read again, is within limits, and has finite updates that follow the
    gradient."""
    try:
        # the reader knows every domain: a constant may have been folded to where it is not allowed
        return exceeded(genome, limits) is None and parse(dump(genome)) == genome and screening.acts(genome)
    except GenomeError:
        return False
