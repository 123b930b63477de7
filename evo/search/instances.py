"""Which instances a campaign trains on."""

from __future__ import annotations

from evo.randomness import key_bytes
from evo.recipe.schema import Recipe
from evo.records import Purpose
from harness.sampling import sample_instances
from harness.task import Instance


def instances(recipe: Recipe, purpose: Purpose, generation: int) -> list[Instance]:
    """The instances of a purpose in a generation, counted from 0.

    ``search`` and ``retest`` are fresh in every generation, ``selection`` and ``final`` fixed (give 0). Seeds of
    different purposes never meet.
    """
    difficulty = recipe.difficulty
    fresh = purpose in (Purpose.SEARCH, Purpose.RETEST)
    return sample_instances(
        recipe.task,
        count=recipe.count(purpose),
        key=key_bytes(recipe.seed, generation),
        purpose=purpose.value,
        depths=difficulty.depths,
        accuracy_factors=difficulty.accuracy_factors,
        sampler=difficulty.sampler,
        progress=min(1.0, generation / max(1, recipe.generations - 1)) if fresh else 1.0,
        init=recipe.init,
    )
