"""Campaigns that are played through in moments: genomes that take no time to breed, and qualities that are computed."""

import hashlib
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType

from evo.recipe import reader
from evo.records import Checkpoint, Individual, Lane, Observation, Request, Statistics, Told
from evo.search.breeding import Breeder
from evo.search.protocol import Search, algorithm
from evo.search.variation.vary import Child
from genomes import catalogue
from genomes.language.genome import Genome, parse
from genomes.language.parser import parse_expression
from harness.result import Training

GATED = "{instances: 12, error_rate: 0.3, confidence: 0.5}"
OPEN = "{instances: 0}"
RECIPE = """
name: test
population: 8
generations: 4
epochs: 2
difficulty: {{depths: [3]}}
instances: {{search: 4, retest: 1, selection: 2}}
search: {{algorithm: {}}}
gate: {}
start: {{catalogue: [adam, lion], random: 2}}
baselines: [adam]
"""


class QuickBreeder(Breeder):
    """Genomes that differ in a few numbers, and take no time to make."""

    def random(self, name: str, rng: random.Random) -> Genome:
        return replace(catalogue.load("adam"), name=name, lr=round(10 ** rng.uniform(-4, -1), 6))

    def child(self, parents, rng, crossover, weights) -> Child:
        names = ("mutate_lr", "mutate_gates")
        operator = rng.choices(names, [weights.get(name, 1.0) for name in names])[0]
        genome = parents[0]
        if operator == "mutate_lr":
            genome = replace(genome, lr=min(1.0, float(f"{genome.lr * 2 ** rng.gauss(0, 1):.3g}")))
        else:
            genome = replace(genome, gates=() if genome.gates else (parse_expression("clip_rms(u, 1)", "gates"),))
        return Child(genome, operator, 2 if len(parents) > 1 and rng.random() < crossover else 1)


def noise(*parts) -> float:
    return hashlib.sha256(repr(parts).encode()).digest()[0] / 256


def climbing(lane: Lane) -> float:
    """A quality that rises as the learning rate nears 0.02, with noise of the lane and of its instance."""
    away = abs(math.log10(genome_of(lane).lr / 0.02))
    return 1 - away / 4 + 0.1 * noise(lane.key) + 0.3 * noise(lane.instance.seed)


def genome_of(lane: Lane) -> Genome:
    """The genome of a lane: one has many lanes, and its text is read once."""
    return _read(lane.text)


_read = cache(parse)


def training(lane: Lane, quality: float | None) -> Training:
    """``quality`` None: it diverges, having saved a model that would be the best of all."""
    status, epochs = ("diverged", 1) if quality is None else ("finished", lane.epochs)
    found = 9.0 if quality is None else quality
    return Training(status, "", epochs, 1, [1.0], [1.0], 0.1, 0.2, found, None, 0.0)


Quality = Callable[[Lane], float | None]


@dataclass
class Played:
    """A campaign that was played to its end: all that it asked for and said, and who its individuals are."""

    requests: list[Request] = field(default_factory=list)
    tells: list[Told] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    known: dict[str, Individual] = field(default_factory=dict)
    observed: dict[tuple, Observation] = field(default_factory=dict)

    @property
    def statistics(self) -> list[Statistics]:
        return [told.statistics for told in self.tells if told.statistics]


def begun(recipe, played: Played, rng: random.Random) -> Search:
    """A search that goes on from the last checkpoint of ``played``, as JSON; observations come in any order."""
    last = played.checkpoints[-1]
    state = json.loads(json.dumps(last.state))
    observations = list(played.observed.values())
    rng.shuffle(observations)
    checkpoint = Checkpoint(last.generation, last.hall_of_fame, state)
    return algorithm(recipe)(
        recipe, checkpoint, played.known.__getitem__, observations=observations, breeder=QuickBreeder(recipe)
    )


def play(
    recipe,
    quality: Quality = climbing,
    resume: bool = False,
    added: Mapping[int, Sequence[Genome]] = MappingProxyType({}),
) -> Played:
    """``resume``: begin anew after every tell, and tell all results in another order. ``added``: by generation."""
    played, rng = Played(), random.Random(7)
    search = algorithm(recipe)(recipe, breeder=QuickBreeder(recipe))
    while search.generation < recipe.generations:
        if resume and played.checkpoints:
            search = begun(recipe, played, rng)
        if search.begins_generation:
            search.add(added.get(search.generation, ()))
        request = search.ask()
        results = {lane.key: training(lane, quality(lane)) for lane in request.lanes}
        if resume:
            results = dict(rng.sample(list(results.items()), len(results)))
        told = search.tell(results)
        played.requests.append(request)
        played.tells.append(told)
        played.checkpoints.append(search.checkpoint())
        assert not played.known.keys() & {i.id for i in told.individuals}
        played.known |= {i.id: i for i in told.individuals}
        played.observed |= {lane.key: Observation(lane.hash, lane.key[1:], quality(lane)) for lane in request.lanes}
        assert (told.statistics is not None) == (search.generation == told.generation + 1)
    return played


@cache
def played_once(name: str, gate: str = GATED) -> Played:
    """The test recipe's campaign with one algorithm: played once for all tests that only look at it."""
    return play(recipe_of(name, gate))


def recipe_of(name: str, gate: str = GATED, **changes):
    return reader.from_text(RECIPE.format(name, gate)).model_copy(update=changes)
