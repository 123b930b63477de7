"""Which instances a campaign trains on."""

from __future__ import annotations

from evo.randomness import Part, key_bytes
from evo.recipe.schema import Recipe
from evo.records import Purpose
from harness.sampling import sample_instances
from harness.task import Instance


def instances(
    recipe: Recipe, purpose: Purpose, generation: int, *parts: Part, count: int | None = None
) -> list[Instance]:
    """The instances of a purpose in a generation, counted from 0.

    ``selection`` and ``final`` are fixed (give 0), the others fresh in every generation. ``parts``: what tells several
    requests of a generation apart. ``count``: by default the recipe's. Seeds of different purposes never meet.
    """
    difficulty = recipe.difficulty
    fixed = purpose in (Purpose.SELECTION, Purpose.FINAL)
    return sample_instances(
        recipe.task,
        count=recipe.count(purpose) if count is None else count,
        key=key_bytes(recipe.seed, generation, *parts),
        purpose=purpose.value,
        depths=difficulty.depths,
        accuracy_factors=difficulty.accuracy_factors,
        sampler=difficulty.sampler,
        progress=1.0 if fixed else min(1.0, generation / max(1, recipe.generations - 1)),
        init=recipe.init,
    )


def block(recipe: Recipe, purpose: Purpose, size: int, generation: int, number: int) -> list[Instance]:
    """Block ``number`` of ``size`` instances, fresh for every block."""
    return instances(recipe, purpose, generation, number, count=size)


def block_size(recipe: Recipe, most: int) -> int:
    """Instances that are trained between two looks: one for each depth, at least two, at most ``most``."""
    return min(most, max(2, len(recipe.difficulty.depths)))
