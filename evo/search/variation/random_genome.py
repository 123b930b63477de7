"""Random genomes that can train."""

from __future__ import annotations

import random

from evo.recipe.schema import Limits
from evo.search import screening
from evo.search.variation.random_parts import (
    random_gate,
    random_schedule,
    random_term,
    random_weight,
    with_random_evaluation,
)
from evo.search.variation.vary import sound
from genomes.language.genome import ONE, Genome, Term


def random_genome(name: str, limits: Limits, rng: random.Random) -> Genome:
    """A random genome that descends on the probe quadratic; its learning rate fits the size of its direction.

    Raises RuntimeError where 1000 draws give none (limits too narrow).
    """
    for _ in range(1000):
        count = min(limits.terms, rng.choices((1, 2, 3), (6, 3, 1))[0])
        terms = tuple(Term(random_weight(rng) if i else 1.0, random_term(rng)) for i in range(count))
        gates = (random_gate("gates", rng),) if rng.random() < 0.3 else ()
        schedule = random_schedule(rng) if rng.random() < 0.5 else ONE
        genome = Genome(name=name, lr=1.0, terms=terms, gates=gates, schedule=schedule, source="random")
        if rng.random() < 0.2:
            genome = with_random_evaluation(genome, rng)
        if not sound(genome, limits):
            continue
        target = 10 ** rng.uniform(-3.7, -2.3)  # median magnitude of an update, beside weights of about 0.05
        genome = screening.with_update_size(genome, target)
        if genome is not None and screening.descends(genome):
            return genome
    raise RuntimeError("no random genome within the limits descends: raise limits.nodes or limits.states")
