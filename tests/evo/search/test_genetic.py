"""The search as a function of recipe, state and results: who is asked about, who wins, and that it is fixed."""

import hashlib
import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest

from evo.recipe.reader import from_text
from evo.records import Checkpoint, Observation, Purpose
from evo.search import breeding
from evo.search.breeding import Breeder, first_generation
from evo.search.genetic import GeneticSearch
from evo.search.instances import instances
from evo.search.variation.vary import Child
from genomes import catalogue
from genomes.analysis.probe import probe_hash
from genomes.compiler.identity import genome_identity
from genomes.language.genome import load
from genomes.language.parser import parse_expression
from harness.result import Training, finished_quality
from tests.evo.search.played import genome_of

CASES = Path(__file__).parents[2] / "cases"
RECIPE = """
name: test
population: 10
generations: 4
epochs: 2
difficulty: {depths: [3, 4]}
instances: {search: 2, retest: 2, selection: 4}
search: {algorithm: genetic, tournament: 3, elites: 2, contenders: 3}
gate: {instances: 0}
start: {catalogue: [adam, lion, sgd], random: 2}
"""


def quality_of(lane):
    """A landscape with a slope that selection can climb: the nearer lr is to 0.02 the better; noise by instance."""
    lr = genome_of(lane).lr
    signal = 1 - abs(math.log10(lr / 0.02)) / 10
    noise = int(hashlib.sha256(lane.instance.seed).hexdigest()[:4], 16) / 65536
    return round(signal + 0.1 * noise, 6)


def training(lane, status="finished", quality=None):
    found = quality_of(lane) if quality is None else quality
    return Training(status, "", lane.epochs, 1, [1.0], [1.0], 0.1, 0.2, found, None, 0.0)


class Generation:
    """One generation: its individuals by rank, its statistics, its requests, and the search's checkpoint after it."""

    def __init__(self, recipe, before=None, answer=training, start=()):
        found = {i.id: i for i in before.individuals.values()} if before else {}
        self.observed = dict(before.observed) if before else {}
        checkpoint = before.checkpoint if before else Checkpoint()
        search = GeneticSearch(recipe, checkpoint, found.__getitem__, start, self.observed.values())
        self.requests, self.members, self.statistics = [], (), None
        while self.statistics is None:
            self.requests.append(search.ask())
            results = {lane.key: answer(lane) for lane in self.requests[-1].lanes}
            told = search.tell(results)
            self.observed |= {
                key: Observation(key[0], key[1:], finished_quality(t.status, t.quality)) for key, t in results.items()
            }
            self.members, self.statistics = self.members or told.individuals, told.statistics
            if told.individuals:
                self.fitness = dict(zip((i.id for i in told.individuals), told.fitness, strict=True))
        self.individuals = found | {i.id: i for i in self.members}
        self.checkpoint = search.checkpoint()
        self.fame = search.hall_of_fame
        last = self.checkpoint.state["own"]["last"]
        self.ranked, self.elites = ([self.individuals[id] for id in last[key]] for key in ("population", "elites"))


def run_all(recipe, answer=training):
    generations = []
    for _ in range(recipe.generations):
        generations.append(Generation(recipe, generations[-1] if generations else None, answer))
    return generations


@pytest.fixture(scope="module")
def campaign():
    return run_all(from_text(RECIPE))


def test_it_is_fixed_by_recipe_and_results(campaign):
    again = run_all(from_text(RECIPE))
    assert [g.requests for g in again] == [g.requests for g in campaign]
    assert again[-1].checkpoint == campaign[-1].checkpoint
    assert run_all(from_text(RECIPE + "seed: 1\n"))[0].requests != campaign[0].requests


def test_everyone_in_a_generation_sees_the_same_instances_and_the_depths_are_stratified(campaign):
    for generation in campaign:
        request = generation.requests[0]
        assert request.purpose is Purpose.SEARCH
        assert sorted(i.num_hidden_layers for i in request.instances) == [3, 4]
        hashes = {lane.hash for lane in request.lanes}
        assert {i.hash for i in generation.members} <= hashes
        assert len(request.lanes) == len(hashes) * len(request.instances), "each behavior once on each instance"


def test_seeds_of_different_purposes_and_generations_never_meet():
    recipe = from_text(RECIPE)
    asked = [(purpose, 0) for purpose in Purpose if purpose is not Purpose.SHARE] + [
        (Purpose.SEARCH, 1),
        (Purpose.RETEST, 1),
    ]
    seeds = [i.seed for purpose, number in asked for i in instances(recipe, purpose, number)]
    assert len(set(seeds)) == len(seeds)


def test_the_curriculum_follows_the_generations_and_selection_has_it_all():
    chosen = RECIPE.replace("depths: [3, 4]", "depths: [3, 4, 5], sampler: curriculum").replace(
        "search: 2", "search: 6"
    )
    recipe = from_text(chosen.replace("generations: 4", "generations: 3"))
    open_depths = [{i.num_hidden_layers for i in instances(recipe, Purpose.SEARCH, n)} for n in range(5)]
    assert open_depths == [{3}, {3, 4}, {3, 4, 5}, {3, 4, 5}, {3, 4, 5}]
    assert {i.num_hidden_layers for i in instances(recipe, Purpose.RETEST, 0)} == {3}
    for fixed in (Purpose.SELECTION, Purpose.FINAL):
        assert {i.num_hidden_layers for i in instances(recipe, fixed, 0)} == {3, 4, 5}


def test_elites_stay_and_the_hall_of_fame_never_falls(campaign):
    best = [generation.fame[0].estimate.mean for generation in campaign]
    assert best == sorted(best)
    assert best[-1] > best[0], "selection is at work on this fixed landscape"
    for before, after in pairwise(campaign):
        elites = [i for i in after.members if i.operator == "elite"]
        assert len(elites) == 2
        assert before.fame[0].individual.hash in {i.hash for i in elites}


def test_parents_and_operators_are_recorded(campaign):
    known = {i.id for i in campaign[0].members}
    for generation in campaign[1:]:
        assert all(i.parents and set(i.parents) <= known and i.operator for i in generation.members)
        known |= {i.id for i in generation.members}


def test_equal_behavior_is_trained_once():
    found = Generation(from_text(RECIPE + "baselines: [adam, lion]\n"))
    keys = [lane.key for request in found.requests for lane in request.lanes]
    assert len(keys) == len(set(keys)) == found.statistics.trained
    searched = found.requests[0]
    programs = {i.hash for i in found.members}
    assert {genome_identity(catalogue.load(name)) for name in ("adam", "lion")} <= programs
    assert len(searched.lanes) == 2 * len(programs), "adam and lion are both founders and baselines"


def test_optimizers_that_differ_late_are_trained_apart():
    """They share the probe's hash, and once shared one training."""
    files = [str(CASES / f"same_hash_{name}.yaml") for name in ("plain", "look20", "bydepth")]
    start = f"start: {{catalogue: [], genomes: {json.dumps(files)}, random: 0}}\n"
    recipe = from_text(
        f"name: n\npopulation: 3\ngenerations: 1\nbaselines: []\nsearch: {{algorithm: genetic, elites: 1}}\n{start}"
    )
    found = Generation(recipe, start=[load(file) for file in files])
    assert len({i.hash for i in found.members}) == 3
    assert found.statistics.distinct == 3
    assert len(found.requests[0].lanes) == 3 * len(found.requests[0].instances)


def test_a_child_is_drawn_again_for_a_program_that_is_there_and_for_nothing_less(monkeypatch):
    adam = catalogue.load("adam")
    early, late = (replace(adam, post=(parse_expression(f"lookahead(delta, {k})", "post"),)) for k in (20, 30))
    assert probe_hash(early) == probe_hash(late), "the probe takes them for the same"
    draws, drawn = [early, adam, early, late], []

    def vary(genomes, crossover, weights, limits, rng):
        drawn.append(draws[len(drawn)])
        return Child(drawn[-1], "drawn", 1)

    monkeypatch.setattr(breeding, "vary", vary)
    recipe = from_text(
        "name: n\npopulation: 3\nsearch: {algorithm: genetic, tournament: 2, elites: 1, contenders: 1}\n"
        "start: {catalogue: [adam], random: 0}\n"
    )
    members = first_generation(Breeder(recipe), (), lambda done, total: None)
    assert drawn == draws
    assert [member.hash for member in members] == [genome_identity(genome) for genome in (adam, early, late)]


def test_a_diverged_genome_ranks_last_and_wins_nothing():
    victim = genome_identity(catalogue.load("sgd"))

    def answer(lane):
        return training(lane, "diverged", 0.99) if lane.hash == victim else training(lane)

    found = Generation(from_text(RECIPE), answer=answer)
    assert found.ranked[-1].hash == victim
    assert found.fitness[found.ranked[-1].id] is None
    assert found.statistics.diverged == sum(i.hash == victim for i in found.members)
    assert victim not in {fame.individual.hash for fame in found.fame}


def test_a_generation_in_which_all_diverge_goes_on():
    recipe = from_text(RECIPE)
    first = Generation(recipe, answer=lambda lane: training(lane, "diverged"))
    assert first.fame == ()
    assert first.statistics.best is None
    second = Generation(recipe, first)
    assert len(second.members) == 10
    assert second.statistics.best is not None


def test_the_retest_decides_between_contenders():
    recipe = from_text(RECIPE)
    search_seeds = {i.seed for i in instances(recipe, Purpose.SEARCH, 0)}
    asked = GeneticSearch(recipe).ask().lanes
    lucky = max(lane.hash for lane in asked if lane.hash != genome_identity(catalogue.load("cautious_adanw")))

    def answer(lane):
        """One genome is lucky on the search instances, and poor on all others."""
        if lane.hash != lucky:
            return training(lane)
        return training(lane, quality=2.0 if lane.instance.seed in search_seeds else -5.0)

    found = Generation(recipe, answer=answer)
    assert found.ranked[0].hash == lucky
    assert lucky not in {i.hash for i in found.elites}


@pytest.mark.parametrize(("parsimony", "ascending"), [(0.0, False), (0.001, False), (0.003, True)])
def test_parsimony_is_what_a_node_must_earn(parsimony, ascending):
    recipe = from_text(RECIPE.replace("contenders: 3}", f"contenders: 3, parsimony: {parsimony}}}"))
    found = Generation(recipe, answer=lambda lane: training(lane, quality=0.5 + 0.002 * genome_of(lane).size))
    sizes = [i.genome.size for i in found.ranked]
    assert len(set(sizes)) > 3
    assert sizes == sorted(sizes, reverse=not ascending)


def test_the_champion_that_lost_its_place_among_the_elites_is_kept():
    recipe, famous = from_text(RECIPE), genome_identity(catalogue.load("adam"))
    once = {i.seed for purpose in Purpose if purpose is not Purpose.SHARE for i in instances(recipe, purpose, 0)}

    def answer(lane):
        """One genome is by far the best in the first generation and on the selection instances, and the worst later."""
        if lane.hash != famous:
            return training(lane)
        return training(lane, quality=5.0 if lane.instance.seed in once else -5.0)

    first, second, third = run_all(recipe.model_copy(update={"generations": 3}), answer)
    assert first.elites[0].hash == second.fame[0].individual.hash == famous
    assert famous not in {i.hash for i in second.elites}
    kept = [i.hash for i in third.members if i.operator == "elite"]
    assert kept == [second.elites[0].hash, famous]


def test_of_a_greedier_tournament_come_better_parents(monkeypatch):
    def rescaled(genomes, crossover, weights, limits, rng):
        return Child(replace(genomes[0], lr=genomes[0].lr * rng.uniform(0.5, 2)), "rescaled", 2)

    monkeypatch.setattr(breeding, "vary", rescaled)  # nothing else is in question, and it is slow
    recipes = [
        from_text(RECIPE.replace("population: 10", "population: 40").replace("tournament: 3", f"tournament: {size}"))
        for size in (1, 2, 6)
    ]
    first = Generation(recipes[0])
    mean_of_parents = []
    for recipe in recipes:
        children = [i for i in Generation(recipe, first).members if i.operator != "elite"]
        mean_of_parents.append(fmean(first.fitness[id] for child in children for id in child.parents))
    everyone, best = fmean(first.fitness.values()), max(first.fitness.values())
    assert mean_of_parents[0] == pytest.approx(everyone, abs=0.1 * (best - everyone))
    gains = [b - a for a, b in pairwise(mean_of_parents)]
    assert min(gains) > 0.1 * (best - everyone)


@pytest.mark.parametrize(("elites", "contenders"), [(0, 1), (1, 4), (3, 3), (4, 6)])
def test_as_many_are_retested_and_stay_as_the_recipe_says(elites, contenders):
    chosen = RECIPE.replace("elites: 2, contenders: 3", f"elites: {elites}, contenders: {contenders}")
    recipe = from_text(chosen.replace("generations: 4", "generations: 2"))
    first, second = run_all(recipe)
    search, retest, _ = first.requests
    assert (search.purpose, retest.purpose) == (Purpose.SEARCH, Purpose.RETEST)
    distinct = list(dict.fromkeys(i.hash for i in first.ranked))
    baselines = {genome_identity(catalogue.load(name)) for name in recipe.baselines}
    assert {lane.hash for lane in retest.lanes} == set(distinct[:contenders]) | baselines
    assert len(first.elites) == elites
    assert [i.hash for i in second.members if i.operator == "elite"] == [i.hash for i in first.elites]


def test_elites_are_the_best_by_the_mean_over_search_and_retest():
    recipe = from_text(RECIPE)
    better, worse = (genome_identity(catalogue.load(name)) for name in ("adam", "lion"))
    searched = {i.seed for i in instances(recipe, Purpose.SEARCH, 0)}
    qualities = {better: (0.9, 0.5), worse: (0.4, 0.6)}  # the retest alone would turn them round

    def answer(lane):
        search, retest = qualities.get(lane.hash, (0.0, 0.0))
        return training(lane, quality=search if lane.instance.seed in searched else retest)

    assert [i.hash for i in Generation(recipe, answer=answer).elites] == [better, worse]


def test_of_equals_in_the_hall_of_fame_those_that_were_there_before_stay_first():
    recipe = from_text(RECIPE)
    generations = run_all(recipe, lambda lane: training(lane, quality=0.5))
    first = [fame.individual.id for fame in generations[0].fame]
    assert [fame.individual.id for fame in generations[-1].fame][: len(first)] == first
