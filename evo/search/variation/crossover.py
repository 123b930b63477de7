"""Crossovers: how two genomes make a child. Each is one function, with its weight in the decorator.

The child keeps the first parent's name and what is not said to come from the second. What comes from the second brings
the ``let`` lines that it needs.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from deap import gp

from evo.randomness import global_random
from evo.search.variation.deap_trees import from_tree, to_tree
from evo.search.variation.names import with_names_of
from evo.search.variation.operator import SameStepSize, operator
from evo.search.variation.paths import expression_of, genes, with_expression
from genomes.language.genome import MAX_GATES, MAX_TERMS, Genome


@operator(parents=2, weight=1.0)
def cross_terms(first: Genome, second: Genome, rng: random.Random) -> SameStepSize:
    """The first terms of one parent before the last terms of the other, scaled to the first's updates."""
    first, second = with_names_of(first, second)
    head = first.terms[: rng.randint(0, len(first.terms))]
    tail = second.terms[rng.randint(0, len(second.terms)) :]
    terms = (*head, *tail)[:MAX_TERMS] or first.terms
    return SameStepSize(replace(first, terms=terms).without_unused_lines())


@operator(parents=2, weight=1.0)
def cross_genes(first: Genome, second: Genome, rng: random.Random) -> SameStepSize:
    """Each gene but the direction from either parent, query and evaluation together; the direction from the first."""
    first, second = with_names_of(first, second)
    taken: dict[str, Any] = {}
    for together in (("decay",), ("schedule",), ("roles",), ("gates",), ("post",), ("query", "evaluation")):
        if rng.random() < 0.5:
            taken |= {gene: getattr(second, gene) for gene in together}
    return SameStepSize(replace(first, **taken).without_unused_lines())


@operator(parents=2, weight=1.0)
def cross_subtrees(first: Genome, second: Genome, rng: random.Random) -> SameStepSize:
    """A subtree of one of the second's terms or lines in one of the first's (DEAP's cxOnePoint, typed)."""
    first, second = with_names_of(first, second)
    places = [gene for gene in genes(first) if gene[0] == "terms" or (gene[0] == "let" and gene[1] >= len(second.let))]
    gene = rng.choice(places)
    donor = rng.choice([expression_of(second, found) for found in genes(second) if found[0] in ("terms", "let")])
    with global_random(rng):
        tree, _ = gp.cxOnePoint(to_tree(expression_of(first, gene), ""), to_tree(donor, ""))
    return SameStepSize(with_expression(first, gene, from_tree(tree)).without_unused_lines())


@operator(parents=2, weight=0.5)
def cross_gates(first: Genome, second: Genome, rng: random.Random) -> Genome:
    """The first gates of one parent before the last gates of the other."""
    first, second = with_names_of(first, second)
    gates = first.gates[: rng.randint(0, len(first.gates))] + second.gates[rng.randint(0, len(second.gates)) :]
    return replace(first, gates=gates[:MAX_GATES]).without_unused_lines()
