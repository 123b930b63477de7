"""A quick stand-in for the search, with the same interface and the same determinism."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from evo.recipe.schema import Recipe
from evo.records import Champion, Fame, Individual, Lane, Purpose, Request, Results, Statistics, Told
from evo.search.protocol import Bred, Search
from genomes.language.genome import parse
from harness.result import Training
from harness.task import Instance, seed_bytes
from tests.evo.fake_worker import digest

GENOME = parse('genome: 1\nname: fake\nlr: 1\nterms: [{expr: "g"}]')


def individual(recipe: Recipe, generation: int, index: int, parents: tuple[Individual, ...] = ()) -> Individual:
    if parents and index == 0:
        return replace(parents[0], generation=generation, index=0, parents=(parents[0].id,), operator="elite")
    ids = tuple(parent.id for parent in parents)
    gene = digest(recipe.seed, generation, index, ids) % 40  # a small space, so that genomes repeat
    genome = replace(GENOME, name=f"fake{gene}", lr=(gene + 1) / 1000)
    operator = ("random", "mutate_gene", "cross_genes")[len(ids)]
    return Individual(generation, index, genome, f"{gene:04x}", ids, operator)


def lane(recipe: Recipe, member: Individual, number: int, depth: int) -> Lane:
    return member.lane(Instance(recipe.task, depth, seed_bytes(number)), recipe.epochs)


class FakeSearch(Search):
    """Half of the population are children of the better half of the last one; two requests per generation."""

    def __init__(self, recipe: Recipe, *checkpoint: Any) -> None:
        self.last: tuple[Individual, ...] = ()  # of the last generation, the better half first
        self.ranked: tuple[Individual, ...] = ()  # of this one, once it is ranked
        self.fitness: list[float | None] = []
        super().__init__(recipe, *checkpoint)

    def _members(self) -> tuple[Individual, ...]:
        count = self.recipe.population
        better = self.last[: count // 2]
        parents = [(better[i % len(better)], *better[i // 3 : i // 3 + i % 2]) if better else () for i in range(count)]
        return tuple(individual(self.recipe, self.generation, i, parents[i]) for i in range(count))

    def _lanes(self, member: Individual) -> list[Lane]:
        depths = self.recipe.difficulty.depths
        return [lane(self.recipe, member, 100 * self.generation + k, depth) for k, depth in enumerate(depths)]

    def _fixed(self) -> Lane:
        return lane(self.recipe, self.ranked[0], 10_000, self.recipe.difficulty.depths[0])

    def _ask(self, bred: Bred) -> Request:
        if self.ranked:
            return Request(Purpose.SELECTION, (self._fixed(),))
        lanes = {lane.key: lane for member in self._members() for lane in self._lanes(member)}
        return Request(Purpose.SEARCH, tuple(lanes.values()))

    def _tell(self, request: Request, results: Results) -> Told:
        told = Told(self.generation, request.purpose)
        if not self.ranked:

            def fitness(member: Individual) -> float | None:
                values = [results[lane.key].quality for lane in self._lanes(member)]
                return None if None in values else sum(v for v in values if v is not None) / len(values)

            members = self._members()
            found = tuple(map(fitness, members))
            self.ranked = tuple(sorted(members, key=lambda m: (fitness(m) is None, -(fitness(m) or 0.0), m.index)))
            self.fitness = [fitness(m) for m in self.ranked]
            return replace(told, individuals=members, fitness=found)
        quality = results[self._fixed().key].quality
        fame = [*self.hall_of_fame, Fame(self.ranked[0], -10.0 if quality is None else quality, self.generation)]
        self.hall_of_fame = tuple(sorted(fame, key=lambda f: -f.quality)[:3])
        values = [v for v in self.fitness if v is not None]
        best = self.hall_of_fame[0]
        distinct, depths = len({m.hash for m in self.ranked}), len(self.recipe.difficulty.depths)
        statistics = Statistics(
            best=self.fitness[0],
            median=sorted(values)[len(values) // 2],
            baselines={"adam": 0.2},
            diverged=len(self.ranked) - len(values),
            trained=distinct * depths,
            saved=(len(self.ranked) - distinct) * depths,
            champion=Champion(best.individual.id, best.individual.name, best.quality, "g"),
            selection_best=best.quality,
        )
        self.last, self.ranked, self.fitness = self.ranked, (), []
        self.generation += 1
        return replace(told, statistics=statistics)

    def _state(self) -> Any:
        ids = [[member.id for member in members] for members in (self.last, self.ranked)]
        return {"last": ids[0], "ranked": ids[1], "fitness": self.fitness}

    def _restore(self, state: Any, individual: Callable[[str], Individual]) -> None:
        self.last, self.ranked = (tuple(map(individual, state[key])) for key in ("last", "ranked"))
        self.fitness = state["fitness"]


def training(quality: float | None, epochs: int = 3, status: str = "finished") -> Training:
    losses = [1 / (epoch + 1) for epoch in range(epochs)]
    return Training(status, "", epochs, epochs - 1, losses, losses, 0.3, 0.16, quality, None, 0.01)
