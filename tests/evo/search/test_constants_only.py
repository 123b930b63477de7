"""Constants only: structures stay, and the budget goes to the one that earns."""

import math
from collections import Counter

from evo.search.breeding import Breeder, is_founder
from evo.search.tuning import SAMPLES, TUNED
from genomes.compiler.identity import genome_identity
from tests.evo.search.played import OPEN, genome_of, noise, play, recipe_of


def recipe(*founders, **changes):
    found = recipe_of("constants_only", OPEN, **{"population": 12, "generations": 8, **changes})
    return found.model_copy(update={"start": found.start.model_copy(update={"catalogue": founders, "random": 0})})


def structures(played, found):
    return Counter(Breeder(found).structure(i.genome) for i in played.known.values() if i.generation)


def test_numbers_change_and_structures_stay():
    found = recipe("adam", "lion", population=2 * SAMPLES)
    played = play(found)
    founders = {Breeder(found).structure(i.genome) for i in played.known.values() if is_founder(i)}
    assert set(structures(played, found)) == founders
    assert {i.operator for i in played.known.values() if i.generation} == {TUNED}
    assert Counter(i.generation for i in played.known.values())[0] == 2, "no mutants"
    assert all(i.hash == genome_identity(i.genome) for i in played.known.values())


def test_the_budget_goes_to_the_structure_that_earns():
    found = recipe("adam", "lion", "nadam")
    rising = next(i for i in play(found.model_copy(update={"generations": 1})).known.values() if i.name == "adam")
    shape = Breeder(found).structure(rising.genome)

    def quality(lane):
        genome = genome_of(lane)
        fits = Breeder(found).structure(genome) == shape
        return (1 - abs(math.log10(genome.lr / 0.05)) / 3 if fits else -0.5) + 0.02 * noise(lane.key)

    counts = structures(play(found, quality), found)
    assert counts[shape] == max(counts.values())
    assert counts[shape] > sum(counts.values()) / 2


def test_what_it_finds_is_better_than_the_founder():
    found = recipe("adam", generations=10)
    target = play(found, lambda lane: 1 - abs(math.log10(genome_of(lane).lr / 0.05)) / 3 + 0.02 * noise(lane.key))
    first, last = target.checkpoints[0].hall_of_fame[0], target.checkpoints[-1].hall_of_fame[0]
    assert last.estimate.mean > first.estimate.mean + 0.3
    assert all(count <= 12 for count in Counter(i.generation for i in target.known.values()).values())


def test_a_structure_with_one_number_is_tuned_too():
    played = play(recipe("sgd"))
    assert len({i.genome.lr for i in played.known.values()}) > 20
