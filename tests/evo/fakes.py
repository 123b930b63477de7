"""A quick stand-in for the search, with the same interface and the same determinism."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from evo.recipe.reader import Recipe
from evo.records import Fame, Individual, Lane, Request, Results, SearchState
from harness.result import Training
from harness.task import Instance, seed_bytes
from tests.evo.fake_worker import digest


def individual(recipe: Recipe, generation: int, index: int, parents: tuple[Individual, ...] = ()) -> Individual:
    if parents and index == 0:
        return replace(parents[0], generation=generation, index=0, parents=(parents[0].id,), operator="elite")
    ids = tuple(parent.id for parent in parents)
    gene = digest(recipe.seed, generation, index, ids) % 40  # a small space, so that genomes repeat
    text = f'genome: 1\nname: fake{gene}\nlr: {(gene + 1) / 1000}\nterms:\n  - {{weight: 1.0, expr: "g"}}\n'
    operator = ("random", "mutate_gene", "cross_genes")[len(ids)]
    return Individual(generation, index, f"fake{gene}", text, f"{gene:04x}", ids, operator)


def lane(recipe: Recipe, member: Individual, number: int, depth: int) -> Lane:
    return Lane(member.hash, member.genome, Instance(recipe.task, depth, seed_bytes(number)), recipe.epochs)


def generation(
    recipe: Recipe, state: SearchState
) -> Generator[Request, Results, tuple[SearchState, tuple[Individual, ...]]]:
    """Half of the population are children of the better half of the last one; two requests a generation."""
    g = state.generation
    better = state.population[: recipe.population // 2]
    parents = [
        (better[i % len(better)], *better[i // 3 : i // 3 + i % 2]) if better else () for i in range(recipe.population)
    ]
    members = tuple(individual(recipe, g, i, parents[i]) for i in range(recipe.population))
    depths = recipe.difficulty.depths
    lanes = [lane(recipe, m, 100 * g + k, depth) for m in members for k, depth in enumerate(depths)]
    results = yield Request("search", tuple(lanes))

    def fitness(member: Individual) -> float | None:
        values = [results[lane(recipe, member, 100 * g + k, depth).key].quality for k, depth in enumerate(depths)]
        return None if any(v is None for v in values) else sum(v for v in values if v is not None) / len(values)

    ranked = sorted(members, key=lambda m: (fitness(m) is None, -(fitness(m) or 0.0), m.index))
    fixed = [lane(recipe, ranked[0], 10_000, depths[0])]
    answer = yield Request("selection", tuple(fixed))
    quality = answer[fixed[0].key].quality
    fame = [*state.hall_of_fame, Fame(ranked[0], -10.0 if quality is None else quality, g)]
    fame = sorted(fame, key=lambda f: -f.quality)[:3]
    values = [v for m in members if (v := fitness(m)) is not None]
    statistics = {
        "best": fitness(ranked[0]),
        "median": sorted(values)[len(values) // 2],
        "baselines": {"adam": 0.2},
        "diverged": len(members) - len(values),
        "trained": len({m.hash for m in members}) * len(depths),
        "saved": (len(members) - len({m.hash for m in members})) * len(depths),
        "champion": {"name": fame[0].individual.name, "quality": fame[0].quality, "expr": "g"},
        "selection_best": fame[0].quality,
    }
    state = SearchState(g + 1, tuple(ranked), tuple(map(fitness, ranked)), (ranked[0].id,), tuple(fame), statistics)
    return state, members


def training(quality: float | None, epochs: int = 3, status: str = "finished") -> Training:
    losses = [1 / (epoch + 1) for epoch in range(epochs)]
    return Training(status, "", epochs, epochs - 1, losses, losses, 0.3, 0.16, quality, None, 0.01)
