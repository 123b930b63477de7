"""A quick stand-in for the search, with the same interface and the same determinism."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from evo.recipe.schema import Recipe
from evo.records import Individual, Lane, Purpose, Request, Results
from evo.search.protocol import Bred, Search, Step
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
    """Half of the population are children of the better half of the last one; two requests per generation of its own.

    Founders are those of the first generation; the better half of each may become champion.
    """

    def __init__(self, recipe: Recipe, *checkpoint: Any, **options: Any) -> None:
        self.last: tuple[Individual, ...] = ()  # of the last generation, the better half first
        self.ranked: tuple[Individual, ...] = ()  # of this one, once it is ranked
        super().__init__(recipe, *checkpoint, **options)

    def _members(self) -> tuple[Individual, ...]:
        count = self.recipe.population
        better = self.last[: count // 2]
        parents = [(better[i % len(better)], *better[i // 3 : i // 3 + i % 2]) if better else () for i in range(count)]
        return self._joined([individual(self.recipe, self.generation, i, parents[i]) for i in range(count)])

    def _lanes(self, member: Individual) -> list[Lane]:
        depths = self.recipe.difficulty.depths
        return [lane(self.recipe, member, 100 * self.generation + k, depth) for k, depth in enumerate(depths)]

    def _again(self) -> Lane:
        return lane(self.recipe, self.ranked[0], 10_000 + self.generation, self.recipe.difficulty.depths[0])

    def _ask(self, bred: Bred) -> Request:
        if self.ranked:
            return Request(Purpose.RETEST, (self._again(),))
        lanes = {lane.key: lane for member in self._members() for lane in self._lanes(member)}
        return Request(Purpose.SEARCH, tuple(lanes.values()))

    def _tell(self, request: Request, results: Results) -> Step:
        if self.ranked:
            self.last, self.ranked = self.ranked, ()
            return Step(complete=True)
        members = self._members()
        found = dict(zip((m.id for m in members), self._fitness(members), strict=True))
        self.ranked = tuple(sorted(members, key=lambda m: (found[m.id] is None, -(found[m.id] or 0.0), m.index)))
        return Step(members, tuple(found.values()))

    def _living(self) -> tuple[Individual, ...]:
        return self.last[: len(self.last) // 2]

    def _state(self) -> Any:
        ids = [[member.id for member in members] for members in (self.last, self.ranked)]
        return {"last": ids[0], "ranked": ids[1]}

    def _restore(self, state: Any, individual: Callable[[str], Individual]) -> None:
        self.last, self.ranked = (tuple(map(individual, state[key])) for key in ("last", "ranked"))


def training(quality: float | None, epochs: int = 3, status: str = "finished") -> Training:
    losses = [1 / (epoch + 1) for epoch in range(epochs)]
    return Training(status, "", epochs, epochs - 1, losses, losses, 0.3, 0.16, quality, None, 0.01)
