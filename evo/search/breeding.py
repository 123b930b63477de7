"""Where genomes come from: the founders of a campaign, random genomes, children of parents."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from evo.randomness import generator
from evo.recipe import limits
from evo.recipe.schema import Recipe
from evo.records import Individual
from evo.search.mean_share import switched_off
from evo.search.surrogate import Probe, Traits, probe, traits
from evo.search.variation import skeleton
from evo.search.variation.random_genome import random_genome
from evo.search.variation.vary import Child, vary
from genomes import catalogue
from genomes.analysis.probe import probe_genome
from genomes.compiler.identity import genome_identity
from genomes.language.genome import Genome

DRAWS_FOR_NEW = 4  # children drawn before one with a known program is let in


@dataclass(frozen=True)
class Breeder:
    """What makes genomes for a search. Benchmarks put landscapes of their own in its place."""

    recipe: Recipe

    def known(self, name: str) -> Genome:
        """A known optimizer by its name."""
        return catalogue.load(name)

    def random(self, name: str, rng: random.Random) -> Genome:
        """A random genome that can train."""
        return random_genome(name, self.recipe.limits, rng)

    def child(
        self, parents: Sequence[Genome], rng: random.Random, crossover: float, weights: Mapping[str, float]
    ) -> Child:
        """A child of one or two parents; ``weights``: of operators, by name, in place of their own."""
        return vary(parents, crossover, weights, self.recipe.limits, rng)

    def coordinates(self, genome: Genome) -> tuple[float, ...]:
        """The genome's numbers as a vector (`evo.search.variation.skeleton`)."""
        return skeleton.coordinates(genome)

    def tuned(self, genome: Genome, vector: Sequence[float]) -> Genome:
        """The genome with other numbers."""
        return skeleton.with_coordinates(genome, vector)

    def structure(self, genome: Genome) -> Hashable:
        """Equal for genomes that differ in their numbers alone."""
        return skeleton.skeleton(genome)

    def identity(self, genome: Genome) -> str:
        """Equal for equal programs."""
        return genome_identity(genome)

    def probe(self, genome: Genome) -> Probe:
        """Those of the genome's traits that take time to find; they may be kept."""
        return probe(genome)

    def traits(self, genome: Genome, probed: Probe) -> Traits:
        """What a `evo.search.surrogate` predicts from. ``probed``: what `probe` gives."""
        return traits(genome, probed)

    def operations(self, genome: Genome) -> int:
        """What a step costs: operations per parameter."""
        return limits.operations(genome)

    def states(self, genome: Genome) -> int:
        """What it costs in memory: state buffers as large as the model."""
        return limits.buffers(genome)

    def memory(self, genome: Genome) -> float:
        """How far its updates look back, from 0 (the present gradient alone) to 1 (anything but that).

        One less the median cosine of update and descent direction, over the steps of the probe.
        """
        return probe_genome(genome).memory

    def switched_off(self, individual: Individual) -> Individual | None:
        """The individual without its calibration of the outputs' mean; None where there is nothing to switch off."""
        return switched_off(individual)

    def individual(
        self, generation: int, index: int, genome: Genome, parents: Sequence[Individual] = (), operator: str = ""
    ) -> Individual:
        """A new member of a generation."""
        return Individual(
            generation, index, genome, self.identity(genome), tuple(parent.id for parent in parents), operator
        )


def named_founders(breeder: Breeder, start: Sequence[Genome]) -> list[Individual]:
    """Known optimizers, and ``start``, the genomes of ``recipe.start.genomes``.

    Raises ValueError where ``start`` does not fit the recipe.
    """
    recipe = breeder.recipe
    if len(start) != (named := len(recipe.start.genomes)):
        raise ValueError(f"start: {len(start)} genomes, and the recipe names {named}")
    found = [("catalogue", breeder.known(name)) for name in recipe.start.catalogue]
    found += [("genome", genome) for genome in start]
    return [breeder.individual(0, i, genome, operator=kind) for i, (kind, genome) in enumerate(found)]


def founders(breeder: Breeder, start: Sequence[Genome], bred: Callable[[int, int], None]) -> list[Individual]:
    """The `named_founders`, and random genomes. ``bred``: see `evo.search.protocol.Search.ask`."""
    recipe, found = breeder.recipe, named_founders(breeder, start)
    for i in range(recipe.start.random):
        bred(len(found), recipe.population)
        genome = breeder.random(f"random{i + 1}", generator(recipe.seed, 0, len(found), "random"))
        found.append(breeder.individual(0, len(found), genome, operator="random"))
    return found


def is_founder(individual: Individual) -> bool:
    """As `Individual.is_founder`."""
    return individual.is_founder


def first_generation(breeder: Breeder, start: Sequence[Genome], bred: Callable[[int, int], None]) -> list[Individual]:
    """The founders, and mutants of them. ``start``, ``bred``: see `founders`."""
    recipe, population = breeder.recipe, founders(breeder, start, bred)
    count, seen = len(population), {founder.hash for founder in population}
    while len(population) < recipe.population:
        bred(len(population), recipe.population)
        parent = population[len(population) % count]
        population.append(new_child(breeder, 0, len(population), [parent], seen))
    bred(recipe.population, recipe.population)
    return population


def baselines(breeder: Breeder) -> tuple[Individual, ...]:
    """The recipe's baselines; they take part in no selection."""
    names = breeder.recipe.baselines
    return tuple(
        breeder.individual(0, -1 - i, breeder.known(name), operator="baseline") for i, name in enumerate(names)
    )


def new_child(
    breeder: Breeder,
    generation: int,
    index: int,
    parents: Sequence[Individual],
    seen: set[str],
    crossover: float | None = None,
    weights: Mapping[str, float] | None = None,
    proposal: int = 0,
) -> Individual:
    """A child whose program is not in ``seen``, if a few draws give one; it joins them.

    ``crossover``, ``weights``: in place of the recipe's. ``proposal``: another number gives another child.
    """
    variation, purpose = breeder.recipe.variation, f"variation {proposal}" if proposal else "variation"
    rng = generator(breeder.recipe.seed, generation, index, purpose)
    genomes = [parent.genome for parent in parents]
    crossover = variation.crossover if crossover is None else crossover
    weights = variation.weights if weights is None else weights
    for draw in range(DRAWS_FOR_NEW):
        child = breeder.child(genomes, rng, crossover, weights)
        genome = child.genome.renamed(f"g{generation}i{index}", "evolved")
        individual = breeder.individual(generation, index, genome, parents[: child.parents], child.operator)
        if individual.hash not in seen or draw == DRAWS_FOR_NEW - 1:
            seen.add(individual.hash)
            return individual
    raise AssertionError("the last draw is always let in")
