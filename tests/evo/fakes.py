"""A quick stand-in for the search and for training, with the same interface and the same determinism."""

from __future__ import annotations

import hashlib
import math
import os
import signal
import time
from collections.abc import Generator
from typing import Any

from evo.config import Recipe
from evo.records import Fame, Individual, Lane, Request, Results, SearchState
from harness.task import Instance, seed_bytes
from harness.train import Training


def digest(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "little")


def individual(recipe: Recipe, generation: int, index: int, parents: tuple[str, ...] = ()) -> Individual:
    gene = digest(recipe.seed, generation, index, parents) % 40  # a small space, so that genomes repeat
    name = f"fake{gene}"
    operator = "mutate_gene" if parents else "random"
    return Individual(generation, index, name, f"name: {name}\n", f"{gene:04x}", parents, operator)


def lane(recipe: Recipe, member: Individual, number: int, depth: int) -> Lane:
    return Lane(member.hash, member.genome, Instance(recipe.task, depth, seed_bytes(number)), recipe.epochs)


def generation(
    recipe: Recipe, state: SearchState
) -> Generator[Request, Results, tuple[SearchState, tuple[Individual, ...]]]:
    """Half of the population are children of the better half of the last one; two requests a generation."""
    g = state.generation
    parents = [member.id for member in state.population[: recipe.population // 2]]
    members = tuple(
        individual(recipe, g, i, (parents[i % len(parents)],) if parents else ()) for i in range(recipe.population)
    )
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


def train(hash: str, seed: str, num_hidden_layers: int, epochs: int, **_: object) -> dict:
    """What a worker calls: a quality that depends on genome and instance alone, after a few milliseconds."""
    time.sleep(float(os.environ.get("FAKE_SECONDS", "0.004")))
    noise = digest(hash, seed, num_hidden_layers) % 1000 / 1000
    quality = None if hash == "0003" else int(hash, 16) / 40 + noise / 10
    losses = [1.0 / (epoch + 1) + noise for epoch in range(epochs)]
    if quality is None:
        losses[-1] = math.nan
    return {
        "status": "finished" if quality is not None else "diverged",
        "message": "",
        "epochs_run": epochs,
        "best_epoch": epochs - 1,
        "train_loss": losses,
        "val_loss": losses,
        "test_loss": losses[-1],
        "target_loss": 0.16,
        "quality": quality,
        "passed": None,
        "seconds": 0.004,
    }


def misbehave(hash: str, **rest: Any) -> dict:
    """A worker's function for genomes named after what they do to their process."""
    match hash:
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(7)
        case "once":  # dies the first time, and leaves a mark by which the second knows
            if not os.path.exists(mark := os.environ["FAKE_MARK"]):
                open(mark, "x").close()
                os._exit(7)
        case "sleep":
            time.sleep(600)
        case "raise":
            raise RuntimeError("genome 'x' is not to my taste")
        case "shout":
            print("this must not reach the protocol")
    return train("0001", **rest)
