"""What every search algorithm promises; a new one is held to it by being listed in evo.recipe.search_settings."""

import hashlib
import json
from dataclasses import replace

import pytest

from evo.recipe.reader import dump, from_text
from evo.recipe.search_settings import ALGORITHMS
from evo.records import Checkpoint
from evo.search.protocol import OrderError, algorithm
from harness.result import Training

RECIPE = """
name: test
population: 6
generations: 3
epochs: 2
difficulty: {{depths: [3]}}
instances: {{search: 2, retest: 1, selection: 2}}
search: {{algorithm: {}}}
start: {{catalogue: [adam, lion], random: 1}}
baselines: [adam]
"""


@pytest.fixture(params=ALGORITHMS)
def recipe(request):
    return from_text(RECIPE.format(request.param))


def results(request):
    """Qualities that depend on the lane alone."""
    noise = {lane.key: hashlib.sha256(repr(lane.key).encode()).digest()[0] / 256 for lane in request.lanes}
    return {key: Training("finished", "", 2, 1, [1.0], [1.0], 0.1, 0.2, q, None, 0.0) for key, q in noise.items()}


def play(recipe, resume: bool):
    """All requests and the last checkpoint. ``resume``: begin anew from the checkpoint, as JSON, after every tell."""
    known, requests, search = {}, [], algorithm(recipe)(recipe)
    while search.generation < recipe.generations:
        if resume:
            before = search.checkpoint()
            state = json.loads(json.dumps(before.state))
            search = algorithm(recipe)(recipe, Checkpoint(before.generation, before.hall_of_fame, state), known.get)
        requests.append(search.ask())
        told = search.tell(results(requests[-1]))
        assert len(told.individuals) == len(told.fitness)
        assert not known.keys() & {i.id for i in told.individuals}
        known |= {i.id: i for i in told.individuals}
        assert (told.statistics is not None) == (search.generation == told.generation + 1)
    return requests, search.checkpoint()


def test_it_goes_on_from_every_checkpoint_as_if_it_had_never_stopped(recipe):
    requests, end = play(recipe, resume=False)
    assert all(request.lanes for request in requests)
    assert all(len({lane.key for lane in request.lanes}) == len(request.lanes) for request in requests)
    assert end.hall_of_fame
    again, same = play(recipe, resume=True)
    assert again == requests
    assert json.dumps(same.state) == json.dumps(end.state)
    assert same.hall_of_fame == end.hall_of_fame


def test_calls_out_of_turn_are_refused_with_what_to_do(recipe):
    search = algorithm(recipe)(recipe)
    with pytest.raises(OrderError, match=r"call ask\(\) first"):
        search.tell({})
    request = search.ask()
    with pytest.raises(OrderError, match=r"call tell\(results\)"):
        search.ask()
    with pytest.raises(OrderError, match=r"call tell\(results\) first"):
        search.checkpoint()
    answer = results(request)
    missing = dict(list(answer.items())[1:])
    with pytest.raises(KeyError):
        search.tell(missing)
    search.tell(answer)
    search.checkpoint()


def test_its_settings_are_written_and_read_back(recipe):
    assert from_text(dump(recipe)) == recipe
    assert f"algorithm: {recipe.search.algorithm}" in dump(recipe)


class Careless(algorithm(from_text(RECIPE.format("genetic")))):
    """Breaks what a search promises, one way or another."""

    def __init__(self, recipe, fault):
        super().__init__(recipe)
        self.fault = fault

    def _ask(self, bred):
        request = super()._ask(bred)
        if self.fault == "twice":
            return replace(request, lanes=(*request.lanes, request.lanes[0]))
        return replace(request, lanes=()) if self.fault == "nothing" else request

    def _tell(self, request, results):
        told = super()._tell(request, results)
        if self.fault == "no statistics":
            self.generation += 1
        return told


@pytest.mark.parametrize("fault", ["twice", "nothing", "no statistics"])
def test_a_search_that_breaks_its_promises_is_stopped(fault):
    search = Careless(from_text(RECIPE.format("genetic")), fault)
    with pytest.raises(
        ValueError, match="a request needs lanes" if fault != "no statistics" else "a tell has statistics"
    ):
        search.tell(results(search.ask()))
