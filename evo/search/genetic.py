"""The genetic algorithm: a generator that asks for trainings and is told their results.

It never trains, stores or prints. Given the recipe, the last state and the results, every draw is fixed.

One generation::

    population   the elites of the last one, and children of parents chosen by tournament
    search       everybody trains on the same fresh instances; mean quality ranks them
    retest       the best of them train on further fresh instances; the mean over both decides who stays (elite)
    selection    elites train on the campaign's fixed selection instances, which rank the hall of fame
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

from deap import base, tools

from evo.errors import UsageError
from evo.randomness import generator, global_random, key_bytes
from evo.recipe.reader import Recipe
from evo.records import Fame, Individual, Lane, Request, Results, SearchState
from evo.search import screening
from evo.search.variation import operators as variation
from genomes import catalogue
from genomes.analysis.identity import semantic_hash
from genomes.compiler.lowering import read
from genomes.language.genome import Genome, dump, parse
from genomes.language.printer import show
from harness import result
from harness.sampling import sample_instances
from harness.task import Instance

HALL_OF_FAME = 10
DRAWS_FOR_NEW = 4  # children drawn for a place before one that acts like another member is let in

Asking = Generator[Request, Results, tuple[SearchState, tuple[Individual, ...]]]


def generation(recipe: Recipe, state: SearchState) -> Asking:
    """One generation: yields requests, returns the next state and the individuals of this generation."""
    number = state.generation
    population = _first_population(recipe) if number == 0 else _next_population(recipe, state)
    account = _Account()
    search_instances = instances(recipe, "search", number)
    baselines = _baselines(recipe, number)
    lanes = _lanes(recipe, (*population, *baselines), search_instances)
    results = yield account.ask("search", lanes)

    fitness = {i.hash: mean_quality(recipe, i, search_instances, results) for i in population}
    ranked = sorted(population, key=lambda i: _rank(recipe, i, fitness[i.hash]))
    contenders = _distinct(i for i in ranked if fitness[i.hash] is not None)[: recipe.selection.contenders]
    retest_instances = instances(recipe, "retest", number)
    proven = dict(fitness)
    if contenders and retest_instances:
        retested = yield account.ask("retest", _lanes(recipe, contenders, retest_instances))
        both = {**results, **retested}
        proven |= {i.hash: mean_quality(recipe, i, search_instances + retest_instances, both) for i in contenders}
        contenders = sorted(contenders, key=lambda i: _rank(recipe, i, proven[i.hash]))
    elites = [i for i in contenders if proven[i.hash] is not None][: recipe.selection.elites]

    # Baselines train on the selection instances once, so that the report can compare; the ledger keeps them.
    newcomers = elites or contenders[:1]
    known = {fame.individual.hash for fame in state.hall_of_fame}
    asked = [i for i in newcomers if i.hash not in known] + (list(baselines) if number == 0 else [])
    selection_instances = instances(recipe, "selection", 0)
    selected = (yield account.ask("selection", _lanes(recipe, asked, selection_instances))) if asked else {}
    famous = list(state.hall_of_fame)
    for individual in newcomers:
        if individual.hash in known:
            continue
        quality = mean_quality(recipe, individual, selection_instances, selected)
        if quality is not None:
            famous.append(Fame(individual, quality, number))
    hall_of_fame = _best_of(famous)

    qualities = [q for i in population if (q := fitness[i.hash]) is not None]
    statistics = {
        **_summary(qualities),
        "diverged": sum(fitness[i.hash] is None for i in population),
        "baselines": {b.name: mean_quality(recipe, b, search_instances, results) for b in baselines},
        "distinct": len({i.hash for i in population}),
        "trained": account.trained,
        "saved": account.asked - account.trained,
        "selection_best": hall_of_fame[0].quality if hall_of_fame else None,
        "champion": _champion(hall_of_fame),
    }
    after = SearchState(
        generation=number + 1,
        population=tuple(ranked),
        fitness=tuple(fitness[i.hash] for i in ranked),
        elites=tuple(i.id for i in elites),
        hall_of_fame=hall_of_fame,
        statistics=statistics,
    )
    return after, tuple(population)


def instances(recipe: Recipe, purpose: str, number: int) -> list[Instance]:
    """The instances of a purpose in generation ``number``.

    ``search`` and ``retest`` are fresh in every generation, ``selection`` and ``final`` fixed (give 0). Seeds of
    different purposes never meet.
    """
    difficulty = recipe.difficulty
    factors = difficulty.accuracy_factors or (0,)
    progress = number / max(1, recipe.generations - 1) if purpose in ("search", "retest") else 1.0
    return sample_instances(
        recipe.task,
        count=getattr(recipe.instances, purpose),
        key=key_bytes(recipe.seed, number),
        purpose=purpose,
        depths=difficulty.depths,
        accuracy_factors=(min(factors), max(factors)),
        sampler=difficulty.sampler,
        progress=min(1.0, progress),
        init=recipe.init,
    )


def mean_quality(recipe: Recipe, individual: Individual, chosen: Sequence[Instance], results: Results) -> float | None:
    """Mean quality over the instances; None where any training did not finish or saved no model."""
    return result.mean_quality(results[Lane(individual.hash, individual.genome, i, recipe.epochs).key] for i in chosen)


# --- who takes part --------------------------------------------------------------------------------------------------


def check_start(recipe: Recipe) -> None:
    """Raises GenomeError or UsageError where a genome of the start cannot take part, OSError where it is unreadable."""
    bounds = _bounds(recipe)
    for path in recipe.start.genomes:
        genome = read(Path(path))
        found = {"nodes": genome.size, "states": screening.buffers(genome), "terms": len(genome.terms)}
        for name, count in found.items():
            if count > getattr(bounds, name):
                raise UsageError(
                    f"{path}: has {count} {name}, and limits.{name} of the recipe is {getattr(bounds, name)}: "
                    f"raise the limit, or try evo genome simplify"
                )


def _first_population(recipe: Recipe) -> list[Individual]:
    """Known optimizers, the recipe's genomes, random genomes, and mutants of all of them."""
    bounds = _bounds(recipe)
    founders = [("catalogue", catalogue.load(name)) for name in recipe.start.catalogue]
    founders += [("genome", read(Path(path))) for path in recipe.start.genomes]
    for i in range(recipe.start.random):
        rng = generator(recipe.seed, 0, len(founders), "random")
        founders.append(("random", variation.random_genome(f"random{i + 1}", bounds, rng)))
    population = [_individual(0, i, genome, operator=kind) for i, (kind, genome) in enumerate(founders)]
    while len(population) < recipe.population:
        index = len(population)
        parent = population[index % len(founders)]
        population.append(_child(recipe, 0, index, [parent], population))
    return population[: recipe.population]


def _next_population(recipe: Recipe, state: SearchState) -> list[Individual]:
    """The elites as they are, the champion of the hall of fame among them, then children by tournament."""
    number = state.generation
    by_id = {i.id: i for i in state.population}
    kept = [by_id[elite] for elite in state.elites]
    champion = state.hall_of_fame[0].individual if state.hall_of_fame else None
    if champion and kept and champion.hash not in {i.hash for i in kept}:
        kept[-1] = champion
    population = [
        Individual(number, i, parent.name, parent.genome, parent.hash, (parent.id,), "elite")
        for i, parent in enumerate(kept)
    ]
    pool = [_Candidate(i, f) for i, f in zip(state.population, state.fitness, strict=True)]
    while len(population) < recipe.population:
        index = len(population)
        rng = generator(recipe.seed, number, index, "tournament")
        with global_random(rng):
            chosen = tools.selTournament(pool, 2, recipe.selection.tournament)
        population.append(_child(recipe, number, index, [c.individual for c in chosen], population))
    return population


def _child(
    recipe: Recipe, number: int, index: int, parents: list[Individual], population: Sequence[Individual]
) -> Individual:
    """A child that acts unlike every member so far, if a few draws give one."""
    taken = {i.hash for i in population}
    rng = generator(recipe.seed, number, index, "variation")
    genomes = [genome_of(parent.genome) for parent in parents]
    for draw in range(DRAWS_FOR_NEW):
        child = variation.vary(genomes, recipe.variation.crossover, recipe.variation.weights, _bounds(recipe), rng)
        genome = child.genome.renamed(f"g{number}i{index}", "evolved")
        individual = _individual(number, index, genome, parents[: child.parents], child.operator)
        if individual.hash not in taken or draw == DRAWS_FOR_NEW - 1:
            return individual
    raise AssertionError("the last draw is always let in")


class _Quality(base.Fitness):
    weights = (1.0,)


@dataclass
class _Candidate:
    """An individual as DEAP's selection sees it. A diverged one has no quality and loses every tournament."""

    individual: Individual
    fitness: Any

    def __init__(self, individual: Individual, quality: float | None):
        self.individual = individual
        self.fitness = _Quality((float("-inf") if quality is None else quality,))


def _individual(
    number: int, index: int, genome: Genome, parents: Sequence[Individual] = (), operator: str = ""
) -> Individual:
    return Individual(
        number, index, genome.name, dump(genome), semantic_hash(genome), tuple(p.id for p in parents), operator
    )


@lru_cache(maxsize=8192)
def genome_of(text: str) -> Genome:
    """The genome of an individual's text."""
    return parse(text, "ledger")


def _baselines(recipe: Recipe, number: int) -> tuple[Individual, ...]:
    """The recipe's baselines; they take part in no selection."""
    return tuple(
        _individual(number, -1 - i, catalogue.load(name), operator="baseline")
        for i, name in enumerate(recipe.baselines)
    )


def _bounds(recipe: Recipe) -> variation.Bounds:
    return variation.Bounds(recipe.limits.nodes, recipe.limits.states, recipe.limits.terms)


# --- who wins --------------------------------------------------------------------------------------------------------


def _rank(recipe: Recipe, individual: Individual, quality: float | None) -> tuple:
    """Sort key, best first: by quality less parsimony, the diverged last; ties go to the smaller, then the earlier."""
    size = genome_of(individual.genome).size
    if quality is None:
        return 1, 0.0, size, individual.index
    return 0, -(quality - recipe.selection.parsimony * size), size, individual.index


def _distinct(individuals: Iterable[Individual]) -> list[Individual]:
    """The first of each behaviour, in order."""
    first: dict[str, Individual] = {}
    for individual in individuals:
        first.setdefault(individual.hash, individual)
    return list(first.values())


def _best_of(famous: Sequence[Fame]) -> tuple[Fame, ...]:
    """The best by selection quality (DEAP's HallOfFame, one place a behaviour)."""
    hall = tools.HallOfFame(HALL_OF_FAME, similar=lambda a, b: a.individual.hash == b.individual.hash)
    candidates = {f.individual.hash: f for f in reversed(famous)}
    hall.update([_Candidate(f.individual, f.quality) for f in famous])
    return tuple(candidates[c.individual.hash] for c in hall)


def _champion(hall_of_fame: Sequence[Fame]) -> dict[str, Any] | None:
    if not hall_of_fame:
        return None
    best = hall_of_fame[0]
    genome = genome_of(best.individual.genome)
    text = " + ".join(f"{t.weight:g} * ({show(t.expr)})" if t.weight != 1 else show(t.expr) for t in genome.terms)
    return {"id": best.individual.id, "name": best.individual.name, "quality": best.quality, "expr": text}


# --- what it costs and comes to --------------------------------------------------------------------------------------


class _Account:
    """Counts lanes asked for, and those left after equal ones are trained once."""

    def __init__(self) -> None:
        self.asked = self.trained = 0

    def ask(self, purpose: str, lanes: Sequence[Lane]) -> Request:
        distinct = {lane.key: lane for lane in lanes}
        self.asked += len(lanes)
        self.trained += len(distinct)
        return Request(purpose, tuple(distinct.values()))


def _lanes(recipe: Recipe, individuals: Sequence[Individual], chosen: Sequence[Instance]) -> list[Lane]:
    return [Lane(i.hash, i.genome, instance, recipe.epochs) for instance in chosen for i in individuals]


def _summary(qualities: Sequence[float]) -> dict[str, float | None]:
    """DEAP's statistics of a generation's qualities."""
    if not qualities:
        return dict.fromkeys(("best", "median", "mean", "worst"))
    statistics = tools.Statistics()
    for name, function in (("best", max), ("median", median), ("mean", fmean), ("worst", min)):
        statistics.register(name, function)
    logbook = tools.Logbook()
    logbook.record(**statistics.compile(qualities))
    return dict(logbook[-1])
