"""NSGA-II: the front is what nobody dominates, and the population follows it."""

import random
from dataclasses import replace

from evo.recipe.limits import buffers, operations
from evo.search.breeding import Breeder
from evo.search.evidence import fit
from evo.search.nsga2 import PER_FRONT, ParetoSearch
from genomes import catalogue
from tests.evo.search.played import OPEN, climbing, genome_of, noise, play, recipe_of, training

KINDS = ("sgd", "signsgd", "heavy_ball", "adam", "adan", "lion", "adamp", "muon")


class Kinds(Breeder):
    """Children of many costs."""

    def child(self, parents, rng: random.Random, crossover, weights):
        found = super().child(parents, rng, 0.0, {"mutate_lr": 1.0})
        return replace(found, genome=replace(catalogue.load(rng.choice(KINDS)), lr=found.genome.lr))


def dominates(a, b):
    return all(x >= y for x, y in zip(a, b, strict=True)) and a != b


def searched(quality, population=12, generations=4):
    recipe = recipe_of("nsga2", OPEN, population=population, generations=generations)
    search, sizes = ParetoSearch(recipe, breeder=Kinds(recipe)), []
    while search.generation < generations:
        before = {i.hash for i in search.front()}
        request = search.ask()
        assert before <= {lane.hash for lane in request.lanes}, "the front trains again"
        search.tell({lane.key: training(lane, quality(lane)) for lane in request.lanes})
        sizes.append((len(list(search._living())), len(search.front())))
    return search, sizes


def objectives(search, individual):
    mean = search.evidence.estimates[individual.hash].mean
    return mean, -operations(individual.genome), -buffers(individual.genome)


def test_the_front_is_what_nobody_dominates():
    search, _ = searched(lambda lane: climbing(lane) + 0.05 * operations_of(lane))  # what costs is worth something
    front, living = search.front(), list(search._living())
    assert {i.id for i in front} <= {i.id for i in living}
    for individual in living:
        beaten = any(dominates(objectives(search, other), objectives(search, individual)) for other in living)
        assert beaten == (individual.id not in {i.id for i in front})
    means = [objectives(search, i)[0] for i in front]
    assert means == sorted(means, reverse=True)
    assert len({objectives(search, i)[1] for i in front}) > 1, "cheap and costly ones stand side by side"


def test_the_population_follows_the_front_within_its_bounds():
    for quality in (climbing, lambda lane: 0.1 * operations_of(lane), lambda lane: -0.1 * operations_of(lane)):
        _, sizes = searched(quality)
        for living, front in sizes:
            assert 6 <= living <= 24
            assert living == max(6, min(24, PER_FRONT * front)) or living < PER_FRONT * front


def operations_of(lane):
    return operations(genome_of(lane)) + noise(lane.key)


def test_the_front_is_in_the_checkpoint_by_id():
    played = play(recipe_of("nsga2"))
    last = played.checkpoints[-1].state["own"]
    assert set(last["front"]) <= set(last["population"])
    found = fit(played.observed.values())
    means = [found.estimates[played.known[id].hash].mean for id in last["front"]]
    assert len(means) > 1
    assert means == sorted(means, reverse=True)
