"""The search as a function of recipe, state and results: who is asked about, who wins, and that it is fixed."""

import hashlib
import math
from itertools import pairwise

import pytest

from evo.recipe.reader import from_text
from evo.records import SearchState
from evo.search import genetic as search
from genomes import catalogue
from genomes.analysis.identity import semantic_hash
from harness.result import Training

RECIPE = """
name: test
population: 10
generations: 4
epochs: 2
difficulty: {depths: [3, 4]}
instances: {search: 2, retest: 2, selection: 4}
selection: {tournament: 3, elites: 2, contenders: 3}
start: {catalogue: [adam, lion, sgd], random: 2}
"""


def quality_of(lane):
    """A landscape with a slope that selection can climb: the nearer lr is to 0.02 the better; noise by instance."""
    lr = search.genome_of(lane.text).lr
    signal = 1 - abs(math.log10(lr / 0.02)) / 10
    noise = int(hashlib.sha256(lane.instance.seed).hexdigest()[:4], 16) / 65536
    return round(signal + 0.1 * noise, 6)


def training(lane, status="finished", quality=None):
    found = quality_of(lane) if quality is None else quality
    return Training(status, "", lane.epochs, 1, [1.0], [1.0], 0.1, 0.2, found, None, 0.0)


def run(recipe, state, answer=training):
    """One generation: (next state, individuals, requests)."""
    asking = search.generation(recipe, state)
    request = next(asking)
    requests = []
    while True:
        requests.append(request)
        try:
            request = asking.send({lane.key: answer(lane) for lane in request.lanes})
        except StopIteration as done:
            return *done.value, requests


def run_all(recipe, answer=training):
    state, generations = SearchState(), []
    for _ in range(recipe.generations):
        state, individuals, requests = run(recipe, state, answer)
        generations.append((state, individuals, requests))
    return generations


@pytest.fixture(scope="module")
def campaign():
    return run_all(from_text(RECIPE))


def test_it_is_fixed_by_recipe_and_results(campaign):
    assert run_all(from_text(RECIPE)) == campaign
    assert run_all(from_text(RECIPE + "seed: 1\n"))[0] != campaign[0]


def test_a_generation_depends_on_its_state_alone(campaign):
    assert run(from_text(RECIPE), campaign[1][0]) == campaign[2]


def test_everyone_in_a_generation_sees_the_same_instances_and_the_depths_are_stratified(campaign):
    for _, individuals, requests in campaign:
        lanes = requests[0].lanes
        assert requests[0].purpose == "search"
        instances = {lane.instance for lane in lanes}
        assert sorted(i.num_hidden_layers for i in instances) == [3, 4]
        hashes = {lane.hash for lane in lanes}
        assert {i.hash for i in individuals} <= hashes
        assert len(lanes) == len(hashes) * len(instances), "each behaviour once on each instance"


def test_seeds_of_different_purposes_and_generations_never_meet():
    recipe = from_text(RECIPE)
    seeds = [
        i.seed
        for purpose, number in [
            ("search", 0),
            ("search", 1),
            ("retest", 0),
            ("retest", 1),
            ("selection", 0),
            ("final", 0),
        ]
        for i in search.instances(recipe, purpose, number)
    ]
    assert len(set(seeds)) == len(seeds)


def test_elites_stay_and_the_hall_of_fame_never_falls(campaign):
    best = [state.statistics["selection_best"] for state, _, _ in campaign]
    assert best == sorted(best)
    assert best[-1] > best[0], "selection is at work on this fixed landscape"
    for (before, _, _), (_, individuals, _) in pairwise(campaign):
        elites = [i for i in individuals if i.operator == "elite"]
        assert len(elites) == 2
        assert before.hall_of_fame[0].individual.hash in {i.hash for i in elites}


def test_parents_and_operators_are_recorded(campaign):
    known = {i.id for i in campaign[0][1]}
    for _, individuals, _ in campaign[1:]:
        assert all(i.parents and set(i.parents) <= known and i.operator for i in individuals)
        known |= {i.id for i in individuals}


def test_equal_behaviour_is_trained_once():
    recipe = from_text(RECIPE + "baselines: [adam, lion]\n")
    state, _, requests = run(recipe, SearchState())
    assert state.statistics["saved"] >= 4, "adam and lion are both founders and baselines: two lanes each"
    keys = [lane.key for request in requests for lane in request.lanes]
    assert len(keys) == len(set(keys)) == state.statistics["trained"]


def test_a_diverged_genome_ranks_last_and_wins_nothing():
    recipe = from_text(RECIPE)
    victim = semantic_hash(catalogue.load("sgd"))

    def answer(lane):
        return training(lane, "diverged", 0.99) if lane.hash == victim else training(lane)

    state, individuals, _ = run(recipe, SearchState(), answer)
    assert state.population[-1].hash == victim
    assert state.fitness[-1] is None
    assert state.statistics["diverged"] == sum(i.hash == victim for i in individuals)
    assert victim not in {fame.individual.hash for fame in state.hall_of_fame}


def test_a_generation_in_which_all_diverge_goes_on():
    recipe = from_text(RECIPE)
    state, _, _ = run(recipe, SearchState(), lambda lane: training(lane, "diverged"))
    assert state.hall_of_fame == ()
    assert state.statistics["best"] is None
    state, individuals, _ = run(recipe, state)
    assert len(individuals) == 10
    assert state.statistics["best"] is not None


def test_the_retest_decides_between_contenders():
    recipe = from_text(RECIPE)
    search_seeds = {i.seed for i in search.instances(recipe, "search", 0)}
    asked = next(search.generation(recipe, SearchState())).lanes
    lucky = max(lane.hash for lane in asked if lane.hash != semantic_hash(catalogue.load("cautious_adanw")))

    def answer(lane):
        """One genome is lucky on the search instances, and poor on all others."""
        if lane.hash != lucky:
            return training(lane)
        return training(lane, quality=2.0 if lane.instance.seed in search_seeds else -5.0)

    state, _, _ = run(recipe, SearchState(), answer)
    assert state.population[0].hash == lucky
    assert lucky not in {i.hash for i in state.population if i.id in state.elites}


def test_parsimony_prefers_the_smaller_of_near_equals():
    recipe = from_text(RECIPE.replace("contenders: 3}", "contenders: 3, parsimony: 0.1}"))
    state, _, _ = run(recipe, SearchState(), lambda lane: training(lane, quality=0.5))
    sizes = [search.genome_of(i.genome).size for i in state.population]
    assert sizes == sorted(sizes)
