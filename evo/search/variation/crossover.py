"""Crossovers: how two genomes make a child. Each is one function, with its weight in the decorator.

The child keeps the first parent's name and what is not said to come from the second.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from deap import gp

from evo.randomness import global_random
from evo.search.variation.deap_trees import from_tree, to_tree
from evo.search.variation.operator import SameStepSize, operator
from evo.search.variation.paths import with_term
from genomes.language.genome import MAX_GATES, MAX_TERMS, Genome


@operator(parents=2, weight=1.0)
def cross_terms(first: Genome, second: Genome, rng: random.Random) -> SameStepSize:
    """The first terms of one parent before the last terms of the other, scaled to the first's updates."""
    head = first.terms[: rng.randint(0, len(first.terms))]
    tail = second.terms[rng.randint(0, len(second.terms)) :]
    terms = (*head, *tail)[:MAX_TERMS] or first.terms
    return SameStepSize(replace(first, terms=terms))


@operator(parents=2, weight=1.0)
def cross_genes(first: Genome, second: Genome, rng: random.Random) -> SameStepSize:
    """Each gene but the direction from either parent, query and evaluation together; the direction from the first."""
    taken: dict[str, Any] = {}
    for together in (("decay",), ("schedule",), ("roles",), ("gates",), ("post",), ("query", "evaluation")):
        if rng.random() < 0.5:
            taken |= {gene: getattr(second, gene) for gene in together}
    return SameStepSize(replace(first, **taken))


@operator(parents=2, weight=1.0)
def cross_subtrees(first: Genome, second: Genome, rng: random.Random) -> SameStepSize:
    """A subtree of one of the second's terms in one of the first's (DEAP's cxOnePoint, typed)."""
    i = rng.randrange(len(first.terms))
    donor = rng.choice(second.terms).expr
    with global_random(rng):
        tree, _ = gp.cxOnePoint(to_tree(first.terms[i].expr, ""), to_tree(donor, ""))
    return SameStepSize(with_term(first, i, replace(first.terms[i], expr=from_tree(tree))))


@operator(parents=2, weight=0.5)
def cross_gates(first: Genome, second: Genome, rng: random.Random) -> Genome:
    """The first gates of one parent before the last gates of the other."""
    gates = first.gates[: rng.randint(0, len(first.gates))] + second.gates[rng.randint(0, len(second.gates)) :]
    return replace(first, gates=gates[:MAX_GATES])
