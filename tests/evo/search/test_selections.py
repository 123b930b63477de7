"""Who lives on: (mu + lambda), (mu, lambda), aging, and nobody in random search."""

from collections import Counter

from evo.recipe import reader
from evo.records import Purpose
from evo.search import regularized_evolution
from evo.search.breeding import is_founder
from tests.evo.search.played import OPEN, climbing, noise, play, recipe_of


def with_settings(recipe, **changes):
    return recipe.model_copy(update={"search": recipe.search.model_copy(update=changes)})


def populations(played):
    """The population after each generation, as individuals, with the tell that completed it."""
    return [
        (told, [played.known[id] for id in checkpoint.state["own"]["population"]])
        for told, checkpoint in zip(played.tells, played.checkpoints, strict=True)
        if told.purpose is Purpose.SEARCH
    ]


def test_presets_choose_one_of_seven():
    for name in ("plus_selection", "comma_selection"):
        recipe = reader.named("es", name)
        assert recipe.population == 7 * recipe.search.parents


def test_plus_keeps_the_best_of_parents_and_children_and_trains_parents_again():
    played = play(with_settings(recipe_of("plus_selection", OPEN), parents=3))
    before: list = []
    for request, (told, members) in zip(played.requests, populations(played), strict=True):
        assert len(members) == 3
        assert {i.hash for i in before} <= {lane.hash for lane in request.lanes}
        assert {i.id for i in members} <= {i.id for i in (*before, *told.individuals)}
        assert {id for i in told.individuals if told.generation for id in i.parents} <= {i.id for i in before}
        before = members
    assert any(i.generation < 3 for i in before), "one that is good lives on"


def test_comma_keeps_children_alone():
    played = play(with_settings(recipe_of("comma_selection", OPEN), parents=3))
    for told, members in populations(played):
        assert len(members) == 3
        assert {i.generation for i in members} == {told.generation}
        best = sorted((f for f in told.fitness if f is not None), reverse=True)
        fitness = dict(zip((i.id for i in told.individuals), told.fitness, strict=True))
        assert {fitness[i.id] for i in members} <= set(best[:4])


def test_comma_keeps_parents_where_all_children_fail():
    recipe = with_settings(recipe_of("comma_selection", OPEN), parents=3)
    first = {lane.hash for lane in play(recipe.model_copy(update={"generations": 1})).requests[0].lanes}
    played = play(recipe, lambda lane: climbing(lane) if lane.hash in first else None)
    assert {i.generation for i in populations(played)[-1][1]} == {0}


def test_the_preset_ages_with_the_figures_of_the_paper():
    recipe = reader.named("aging", "regularized_evolution")
    assert recipe.population == 100
    assert recipe.search.sample * recipe.population == 25
    assert recipe.search.restart == 0


def test_the_oldest_die_however_good_they_are():
    recipe = with_settings(recipe_of("regularized_evolution", generations=6), children=3)
    alive: list[str] = []
    for told, members in populations(play(recipe)):
        alive = [*alive, *(i.id for i in told.individuals)][-recipe.population :]
        assert [i.id for i in members] == alive
        assert len(told.individuals) == (3 if told.generation else recipe.population)


def test_a_tournament_draws_a_quarter_of_the_living_with_replacement(monkeypatch):
    drawn: list[int] = []
    parent = regularized_evolution.Aging._parent

    class Noted:
        def __init__(self, rng):
            self.rng = rng

        def choices(self, population, k):
            drawn.append(k)
            return self.rng.choices(population, k=k)

    monkeypatch.setattr(regularized_evolution.Aging, "_parent", lambda self, rng: parent(self, Noted(rng)))
    recipe = with_settings(recipe_of("regularized_evolution", population=12, generations=2), children=5, sample=0.25)
    played = play(recipe)
    assert drawn == [3] * 5
    assert all(len(i.parents) == 1 for i in played.known.values() if i.generation), "there is no crossover"


def test_the_best_children_pass_a_funnel():
    recipe = with_settings(recipe_of("regularized_evolution"), children=6, funnel=0.5)
    played = play(recipe, lambda lane: noise(lane.hash))
    adam = {lane.hash for request in played.requests for lane in request.lanes if request.purpose is Purpose.RETEST}
    for request, before in zip(played.requests[1:], played.tells, strict=False):
        if request.purpose is Purpose.RETEST:
            best = sorted({i.hash for i in before.individuals}, key=noise, reverse=True)[: len(before.individuals) // 2]
            extra = {lane.hash for lane in request.lanes} - set(best)
            assert len(extra) <= 1, "and the baseline"
            assert set(best) <= adam
            assert len(request.instances) == recipe.instances.retest


def test_it_begins_anew_from_the_founders_and_from_the_best_in_turn():
    recipe = with_settings(recipe_of("regularized_evolution", OPEN), children=3, restart=2)
    played = play(recipe)
    members = [members for _, members in populations(played)]
    assert all(map(is_founder, members[1]))
    assert len(members[1]) == 4
    champions = {fame.individual.id for checkpoint in played.checkpoints for fame in checkpoint.hall_of_fame[:1]}
    assert len(members[3]) == 1
    assert members[3][0].id in champions


def test_random_search_learns_nothing():
    recipe = recipe_of("random_search", OPEN)
    one, other = play(recipe), play(recipe, lambda lane: noise(lane.key))
    assert one.requests == other.requests
    drawn = [i for i in one.known.values() if not is_founder(i)]
    assert all(not i.parents for i in drawn)
    assert Counter(i.generation for i in one.known.values()) == dict.fromkeys(range(4), 8)


def test_random_search_may_draw_mutants_of_founders():
    played = play(with_settings(recipe_of("random_search"), mutants=1.0))
    founders = {i.id for i in played.known.values() if is_founder(i)}
    assert all(set(i.parents) <= founders and i.parents for i in played.known.values() if i.id not in founders)
