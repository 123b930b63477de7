"""Who takes part in a generation: founders, elites, children of parents chosen by tournament, baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deap import base, tools

from evo.randomness import generator, global_random
from evo.recipe.schema import Recipe
from evo.records import Individual
from evo.search.protocol import Bred
from evo.search.variation.random_genome import random_genome
from evo.search.variation.vary import vary
from genomes import catalogue
from genomes.compiler.identity import genome_identity
from genomes.language.genome import Genome

DRAWS_FOR_NEW = 4  # children drawn before one with the program of another member is let in


class _Quality(base.Fitness):
    weights = (1.0,)


@dataclass
class _Candidate:
    """An individual as DEAP's selection sees it. A diverged one has no quality and loses every tournament."""

    individual: Individual
    fitness: Any

    def __init__(self, individual: Individual, quality: float | None) -> None:
        self.individual = individual
        self.fitness = _Quality((float("-inf") if quality is None else quality,))


def first_population(recipe: Recipe, start: Sequence[Genome], bred: Bred) -> list[Individual]:
    """Known optimizers, the genomes of ``recipe.start.genomes``, random genomes, and mutants of all of them.

    ``bred``: see `Search.ask`. Raises ValueError where ``start``, these genomes, does not fit the recipe.
    """
    founders = [("catalogue", catalogue.load(name)) for name in recipe.start.catalogue]
    if len(start) != (named := len(recipe.start.genomes)):
        raise ValueError(f"start: {len(start)} genomes, and the recipe names {named}")
    founders += [("genome", genome) for genome in start]
    for i in range(recipe.start.random):
        bred(len(founders), recipe.population)
        rng = generator(recipe.seed, 0, len(founders), "random")
        founders.append(("random", random_genome(f"random{i + 1}", recipe.limits, rng)))
    population = [_individual(0, i, genome, operator=kind) for i, (kind, genome) in enumerate(founders)]
    seen = {founder.hash for founder in population}
    while len(population) < recipe.population:
        bred(len(population), recipe.population)
        parent = population[len(population) % len(founders)]
        population.append(_child(recipe, 0, len(population), [parent], seen))
    bred(recipe.population, recipe.population)
    return population[: recipe.population]


def next_population(
    recipe: Recipe,
    generation: int,
    kept: Sequence[Individual],
    last: Sequence[tuple[Individual, float | None]],
    tournament: int,
    bred: Bred,
) -> list[Individual]:
    """The ``kept`` as they are, then children by tournament among the ``last``, given with their mean quality.

    ``bred``: see `Search.ask`.
    """
    population = [
        Individual(generation, i, parent.genome, parent.hash, (parent.id,), "elite") for i, parent in enumerate(kept)
    ]
    seen = {parent.hash for parent in kept}
    pool = [_Candidate(individual, quality) for individual, quality in last]
    while len(population) < recipe.population:
        bred(len(population), recipe.population)
        rng = generator(recipe.seed, generation, len(population), "tournament")
        with global_random(rng):
            chosen = tools.selTournament(pool, 2, tournament)
        population.append(_child(recipe, generation, len(population), [c.individual for c in chosen], seen))
    bred(len(population), recipe.population)
    return population


def baselines(recipe: Recipe, generation: int) -> tuple[Individual, ...]:
    """The recipe's baselines; they take part in no selection."""
    return tuple(
        _individual(generation, -1 - i, catalogue.load(name), operator="baseline")
        for i, name in enumerate(recipe.baselines)
    )


def _child(recipe: Recipe, generation: int, index: int, parents: list[Individual], seen: set[str]) -> Individual:
    """A child whose program is that of no member so far, if a few draws give one.

    ``seen``: the members' hashes, exact ones (`genome_identity`); the child's joins them.
    """
    rng = generator(recipe.seed, generation, index, "variation")
    genomes = [parent.genome for parent in parents]
    for draw in range(DRAWS_FOR_NEW):
        child = vary(genomes, recipe.variation.crossover, recipe.variation.weights, recipe.limits, rng)
        genome = child.genome.renamed(f"g{generation}i{index}", "evolved")
        individual = _individual(generation, index, genome, parents[: child.parents], child.operator)
        if individual.hash not in seen or draw == DRAWS_FOR_NEW - 1:
            seen.add(individual.hash)
            return individual
    raise AssertionError("the last draw is always let in")


def _individual(
    generation: int, index: int, genome: Genome, parents: Sequence[Individual] = (), operator: str = ""
) -> Individual:
    return Individual(generation, index, genome, genome_identity(genome), tuple(p.id for p in parents), operator)
