"""What every search algorithm promises; a new one is held to it by being listed in evo.recipe.search_settings."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from evo.recipe import reader
from evo.recipe.rules import Known, contradictions
from evo.recipe.search_settings import ALGORITHMS
from evo.records import ADDED, Lane, Purpose, Statistics
from evo.search.breeding import is_founder
from evo.search.protocol import OrderError, algorithm
from evo.search.variation.registry import OPERATORS
from genomes import catalogue
from genomes.compiler.identity import genome_identity
from harness.train import STEPS_PER_EPOCH
from tests.evo.search.played import (
    GATED,
    OPEN,
    RECIPE,
    QuickBreeder,
    climbing,
    noise,
    play,
    played_once,
    recipe_of,
    training,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=ALGORITHMS)
def name(request):
    return request.param


@pytest.mark.parametrize("gate", [GATED, OPEN])
def test_it_goes_on_from_every_checkpoint_as_if_nothing_had_happened(name, gate):
    recipe = recipe_of(name, gate)
    straight, resumed = played_once(name, gate), play(recipe, resume=True)
    assert resumed.requests == straight.requests
    assert resumed.tells == straight.tells
    assert [json.dumps(c.state) for c in resumed.checkpoints] == [json.dumps(c.state) for c in straight.checkpoints]
    assert [c.hall_of_fame for c in resumed.checkpoints] == [c.hall_of_fame for c in straight.checkpoints]
    assert straight.checkpoints[-1].hall_of_fame


def test_other_seeds_ask_for_other_things(name):
    requests = [play(recipe_of(name, seed=seed, generations=2)).requests for seed in (0, 1)]
    assert not {lane.key for r in requests[0] for lane in r.lanes} & {lane.key for r in requests[1] for lane in r.lanes}


def test_its_lanes_are_asked_for_once_and_belong_to_individuals_that_are_told(name):
    played = played_once(name)
    lanes = [lane.key for request in played.requests for lane in request.lanes]
    assert len(lanes) == len(set(lanes)), "a training is paid for once"
    adam = genome_identity(catalogue.load("adam"))
    programs = {i.hash for i in played.known.values()} | {adam}
    assert {lane.hash for request in played.requests for lane in request.lanes} <= programs
    baseline = {lane.instance for request in played.requests for lane in request.lanes if lane.hash == adam}
    first = dict(zip([told.generation for told in reversed(played.tells)], reversed(played.requests), strict=True))
    assert baseline >= {instance for request in first.values() for instance in request.instances}


def test_individuals_say_where_they_come_from(name):
    played = played_once(name)
    known: set[str] = set()
    for told in played.tells:
        assert len(told.individuals) == len(told.fitness)
        for individual in told.individuals:
            assert individual.generation == told.generation
            assert set(individual.parents) <= known | {i.id for i in told.individuals}
            assert individual.operator
        known |= {i.id for i in told.individuals}
    assert {i.name for i in played.known.values()} >= {"adam", "lion"}, "the recipe's founders take part"


OUTSIDE = replace(catalogue.load("nesterov"), name="outside", lr=0.02)  # better than all that is bred
UNLIKELY = replace(catalogue.load("lion"), name="unlikely", lr=1e-6)


def test_genomes_from_outside_join_the_generation_that_begins(name):
    recipe = recipe_of(name, OPEN)
    added = {1: [OUTSIDE, UNLIKELY], 2: [replace(UNLIKELY, lr=1e-5)]}
    straight, resumed = play(recipe, added=added), play(recipe, resume=True, added=added)
    assert resumed.requests == straight.requests
    assert resumed.tells == straight.tells
    without = play(recipe)
    for generation, genomes in added.items():
        born, usual = (
            [i for told in played.tells if told.generation == generation for i in told.individuals]
            for played in (straight, without)
        )
        joined = [i for i in born if i.operator == ADDED]
        assert [i.genome for i in joined] == genomes
        assert all(i.index > max(other.index for other in usual) for i in joined)
        if generation == 1:
            assert born[: len(usual)] == usual, "the newcomers are those that would have come without"
        lanes = {lane.hash for request in straight.requests for lane in request.lanes}
        assert {i.hash for i in joined} <= lanes
    assert "outside" in {fame.individual.name for fame in straight.checkpoints[-1].hall_of_fame}


def test_genomes_from_outside_wait_for_the_end_of_a_generation(name):
    search = algorithm(recipe_of(name))(recipe_of(name), breeder=QuickBreeder(recipe_of(name)))
    search.add([OUTSIDE])
    search.ask()
    with pytest.raises(OrderError, match="within a generation"):
        search.add([UNLIKELY])


def failing(lane: Lane) -> float | None:
    return None if int(lane.hash, 16) % 3 == 0 else climbing(lane)


def test_individuals_that_fail_are_never_famous(name):
    played = play(recipe_of(name), failing)
    assert any(quality is None for told in played.tells for quality in told.fitness)
    for checkpoint in played.checkpoints:
        assert not [fame for fame in checkpoint.hall_of_fame if int(fame.individual.hash, 16) % 3 == 0]
    assert sum(s.diverged for s in played.statistics) > 0


def sometimes(lane: Lane) -> float | None:
    """Anyone may fail on any instance, champions and challengers too."""
    return None if noise(lane.key, "fails") < 0.1 else climbing(lane)


def test_failures_at_any_time_end_no_campaign(name):
    recipe = recipe_of(name)
    straight, resumed = play(recipe, sometimes), play(recipe, sometimes, resume=True)
    assert resumed.requests == straight.requests
    assert len(straight.statistics) == recipe.generations


def test_a_campaign_goes_on_where_all_have_failed(name):
    recipe = recipe_of(name)
    never = play(recipe, lambda lane: None)
    assert [s.best for s in never.statistics] == [None] * recipe.generations
    assert not any(c.hall_of_fame for c in never.checkpoints)
    first = {lane.key for lane in never.requests[0].lanes}
    later = play(recipe, lambda lane: None if lane.key in first else climbing(lane))
    assert len(later.statistics) == recipe.generations
    assert later.requests[0] == never.requests[0]


def least_population(name: str) -> int:
    settings = ALGORITHMS[name](algorithm=name)
    return next(count for count in range(2, 100) if not list(settings.contradictions(count)))


def test_it_works_with_the_least_population(name):
    population = least_population(name)
    start = reader.from_text(RECIPE.format(name, GATED)).start.model_copy(update={"catalogue": ("adam",), "random": 0})
    for changes in ({}, {"baselines": ()}):
        played = play(recipe_of(name, population=population, start=start, **changes))
        assert len(played.statistics) == 4
        assert played.checkpoints[-1].hall_of_fame


def test_statistics_are_complete(name):
    played = played_once(name)
    statistics = played.statistics
    assert [told.generation for told in played.tells if told.statistics] == [0, 1, 2, 3]
    for number, found in enumerate(statistics):
        asked = [r for r, told in zip(played.requests, played.tells, strict=True) if told.generation == number]
        born = [i for told in played.tells if told.generation == number for i in told.individuals]
        assert found.trained == sum(len(request.lanes) for request in asked)
        assert found.lane_steps == found.trained * 2 * STEPS_PER_EPOCH
        assert found.distinct == len({i.hash for i in born})
        assert found.best is not None
        assert found.gain is not None
        assert found.median is not None
        assert found.median <= found.best.mean
        assert found.champion is not None
        assert found.baselines["adam"] is not None
        assert Statistics.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_the_champion_is_a_founder_or_has_passed_a_trial(name):
    promoted, champion = set(), None
    for told, checkpoint in zip(
        (played := play(recipe_of(name, generations=6))).tells, played.checkpoints, strict=True
    ):
        for trial in told.statistics.trials if told.statistics else ():
            promoted |= {trial.challenger} if trial.promoted else set()
            assert champion in trial.rivals or champion is None or is_founder(played.known[champion])
        if checkpoint.hall_of_fame:
            fame = checkpoint.hall_of_fame[0]
            champion = fame.individual.id
            assert is_founder(fame.individual) or champion in promoted
            others = [f.estimate.mean for f in checkpoint.hall_of_fame[1:]]
            assert others == sorted(others, reverse=True)
            assert len({f.individual.hash for f in checkpoint.hall_of_fame}) == len(checkpoint.hall_of_fame)


def test_without_a_gate_the_best_estimate_is_champion(name):
    for checkpoint in played_once(name, OPEN).checkpoints:
        means = [fame.estimate.mean for fame in checkpoint.hall_of_fame]
        assert means == sorted(means, reverse=True)


def test_instances_of_the_search_are_fresh_in_every_generation(name):
    played = played_once(name)
    seen: dict[bytes, tuple] = {}
    for request, told in zip(played.requests, played.tells, strict=True):
        if request.purpose is not Purpose.SELECTION:
            for instance in request.instances:
                assert seen.setdefault(instance.seed, (told.generation, request.purpose)) == (
                    told.generation,
                    request.purpose,
                )


def test_what_is_raised_while_it_breeds_changes_nothing(name):
    recipe, calls = recipe_of(name, generations=2), []

    def stop(done: int, total: int) -> None:
        calls.append(done)
        assert 0 <= done <= total
        if len(calls) in (2, 4):
            raise KeyboardInterrupt

    search, same = (algorithm(recipe)(recipe, breeder=QuickBreeder(recipe)) for _ in range(2))
    for _ in range(3):
        while True:
            try:
                request = search.ask(stop)
                break
            except KeyboardInterrupt:
                pass
        assert request == same.ask()
        for each in (search, same):
            each.tell({lane.key: training(lane, climbing(lane)) for lane in request.lanes})
    assert len(calls) > 4


def test_calls_out_of_turn_are_refused_with_what_to_do(name):
    recipe = recipe_of(name)
    search = algorithm(recipe)(recipe, breeder=QuickBreeder(recipe))
    with pytest.raises(OrderError, match=r"call ask\(\) first"):
        search.tell({})
    request = search.ask()
    with pytest.raises(OrderError, match=r"call tell\(results\)"):
        search.ask()
    with pytest.raises(OrderError, match=r"call tell\(results\) first"):
        search.checkpoint()
    answer = {lane.key: training(lane, climbing(lane)) for lane in request.lanes}
    missing = dict(list(answer.items())[1:])
    with pytest.raises(KeyError):
        search.tell(missing)
    search.tell(answer)
    search.checkpoint()


def test_its_settings_are_written_and_read_back(name):
    recipe = recipe_of(name)
    assert reader.from_text(reader.dump(recipe)) == recipe
    assert f"algorithm: {name}" in reader.dump(recipe)


def test_its_preset_is_a_sound_recipe(name):
    recipe = reader.named("preset", name)
    assert recipe.search == ALGORITHMS[name](algorithm=name), "the settings' defaults are the preset's"
    assert not list(contradictions(recipe, ROOT, Known(lambda: OPERATORS)))
    assert reader.from_text(reader.dump(recipe, comments=True)) == recipe


def digest_of_all() -> str:
    """One number for all that the algorithms with a model or with sets of their own ask for and say."""
    found = hashlib.sha256()
    for name in ("raced_evolution", "nsga2", "constants_only"):
        played = play(recipe_of(name, generations=2))
        found.update(repr((played.requests, played.tells, played.checkpoints)).encode())
    return found.hexdigest()


@pytest.mark.slow
def test_nothing_depends_on_hash_seeds_or_on_the_threads_of_linear_algebra():
    code = "from tests.evo.search.test_algorithms import digest_of_all; print(digest_of_all())"
    found = set()
    for seed, threads in ((1, 1), (2, 4)):
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        environment |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        found.add(done.stdout.strip())
    assert len(found) == 1


def test_what_took_a_probe_is_in_the_checkpoint_and_older_ones_lack_it():
    recipe = recipe_of("raced_evolution", population=16)
    played = play(recipe)
    state = played.checkpoints[-1].state["own"]
    assert state["probes"]
    assert set(state["probes"]) <= set(played.known)
    older = replace(played.checkpoints[-1], state=json.loads(json.dumps(played.checkpoints[-1].state)))
    del older.state["own"]["probes"]
    asked = []
    for checkpoint in (played.checkpoints[-1], older):
        search = algorithm(recipe)(
            recipe.model_copy(update={"generations": 9}),
            checkpoint,
            played.known.__getitem__,
            observations=list(played.observed.values()),
            breeder=QuickBreeder(recipe),
        )
        asked.append(search.ask())
    assert asked[0] == asked[1]


class Careless(algorithm(recipe_of("genetic"))):
    """Breaks what a search promises, one way or another."""

    def __init__(self, recipe, fault):
        super().__init__(recipe, breeder=QuickBreeder(recipe))
        self.fault = fault

    def _ask(self, bred):
        request = super()._ask(bred)
        if self.fault == "twice":
            return replace(request, lanes=(*request.lanes, request.lanes[0]))
        return replace(request, lanes=()) if self.fault == "nothing" else request

    def _tell(self, request, results):
        step = super()._tell(request, results)
        return replace(step, fitness=()) if self.fault == "no fitness" else step


@pytest.mark.parametrize("fault", ["twice", "nothing", "no fitness"])
def test_a_search_that_breaks_its_promises_is_stopped(fault):
    search = Careless(recipe_of("genetic"), fault)
    expected = "a step has a fitness" if fault == "no fitness" else "a request needs lanes"

    def turn():
        request = search.ask()
        search.tell({lane.key: training(lane, climbing(lane)) for lane in request.lanes})

    with pytest.raises(ValueError, match=expected):
        turn()
