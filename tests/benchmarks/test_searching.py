"""The bench for searches: landscapes answer alike each time, their truth is what they answer on average, and what a
false promotion is."""

from __future__ import annotations

import gzip
import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from searching.contestants import CONTESTANTS, contestants
from searching.landscape import LOST, Landscape
from searching.measures import Run, lanes_to_reach, summarized
from searching.noise import Noise
from searching.play import Change, OutOfBudget, Play
from searching.recorded import Recorded
from searching.synthetic import FOUNDERS, SYNTHETIC, Synthetic

from evo.randomness import key_bytes
from genomes import catalogue
from genomes.language.genome import dump
from harness.sampling import sample_instances


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A landscape of the founders, two random genomes and a line of children, with one training that failed."""
    rng = np.random.default_rng(1)
    genomes = [(catalogue.load(name), [], "catalogue") for name in FOUNDERS]
    genomes += [(catalogue.load("adamw").renamed("random1"), [], "random"), (catalogue.load("adan"), [], "random")]
    adam = genomes[3][0]
    for i in range(20):
        moved = replace(adam, lr=round(adam.lr * 1.1 ** (i + 1), 6))
        genomes.append((moved, [3 if i == 0 else len(genomes) - 1], "mutate_lr"))
    truths = 0.3 + 0.2 * rng.standard_normal((len(genomes), 1))
    qualities = np.round(truths + 0.1 * rng.standard_normal((len(genomes), 6)), 4)
    rows = [
        {"text": dump(genome), "parents": parents, "operator": operator, "qualities": row}
        for (genome, parents, operator), row in zip(genomes, qualities.tolist(), strict=True)
    ]
    rows[-1]["qualities"][2] = None
    record = {"name": "small", "depths": [3, 4], "instances": [{"depth": 3 + i % 2} for i in range(6)], "genomes": rows}
    path = tmp_path_factory.mktemp("landscapes") / "small.json.gz"
    path.write_bytes(gzip.compress(json.dumps(record).encode()))
    return Recorded(path)


def instances(count: int, key: str, depths: tuple[int, ...]):
    return sample_instances("tig", count=count, key=key_bytes(key), purpose="search", depths=depths)


def synthetic(recorded: Recorded, name: str) -> Synthetic:
    return Synthetic(name, Noise.of(recorded))


def test_a_landscape_answers_alike_each_time(recorded: Recorded):
    for make in (lambda: recorded, *(lambda name=name: synthetic(recorded, name) for name in SYNTHETIC)):
        answers = []
        for _ in range(2):
            ground: Landscape = make()
            breeder = ground.breeder(ground.recipe(0))
            hashes = [breeder.identity(breeder.known(name)) for name in ground.founders]
            answers.append([ground.quality(hash, i) for hash in hashes for i in instances(8, "alike", ground.depths)])
        assert answers[0] == answers[1]


def test_the_truth_of_a_recorded_genome_is_the_mean_of_its_answers(recorded: Recorded):
    seen: dict[int, tuple] = {}
    for instance in instances(400, "all columns", recorded.depths):
        seen.setdefault(recorded.column(instance), (instance,))
    assert len(seen) == 6
    for i in range(len(recorded.genomes)):
        answers = [recorded.quality(f"{i:032x}", instance) for (instance,) in seen.values()]
        expected = np.mean([LOST if q is None else q for q in answers])
        assert recorded.truth(f"{i:032x}") == pytest.approx(expected)


def test_the_truth_of_a_formula_is_the_mean_of_its_answers(recorded: Recorded):
    ground = synthetic(recorded, "mixed")
    breeder = ground.breeder(ground.recipe(0))
    hash = breeder.identity(breeder.known("adam"))
    answers = [q for i in instances(3000, "formula", ground.depths) if (q := ground.quality(hash, i)) is not None]
    assert np.mean(answers) == pytest.approx(ground.truth(hash), abs=0.02)


def test_children_of_a_recorded_landscape_are_neighbors(recorded: Recorded):
    breeder = recorded.breeder(recorded.recipe(0))
    rng = random.Random(1)
    for i in range(len(recorded.genomes)):
        child = int(breeder.identity(breeder.child([recorded.genomes[i]], rng, 0.0, {}).genome), 16)
        near = recorded.neighbors[i]
        assert child in {*near, *(k for j in near for k in recorded.neighbors[j])} or (not near and child == i)


def test_a_promotion_is_false_where_the_genome_is_no_better():
    assert Change(before=0.3, after=0.3, founder=0.2).false
    assert Change(before=0.3, after=0.35, founder=0.4).false
    assert not Change(before=0.3, after=0.41, founder=0.4).false
    assert not Change(before=0.3, after=0.2, founder=0.1, promoted=False).false


def test_a_false_promotion_is_counted_once(recorded: Recorded):
    play = Play(recorded, seed=1, budget=10)
    order = [f"{i:032x}" for i in np.argsort(recorded.truths)]
    play.declare(order[3], founder=True)
    play.declare(order[3], founder=True)
    play.declare(order[1], founder=False)
    play.declare(order[-1], founder=False)
    summary = summarized("test", recorded, [Run.of(play)], 10)
    assert (summary.promotions, summary.false, summary.unworthy) == (2, 1, 1)
    assert summary.final == pytest.approx((0, 0, 0))


def test_a_training_counts_once_and_none_exceeds_the_budget(recorded: Recorded):
    play = Play(recorded, seed=1, budget=5)
    block = play.fresh(4)
    play.qualities("0" * 32, block)
    play.qualities("0" * 32, block)
    assert play.lanes == 4
    with pytest.raises(OutOfBudget):
        play.qualities("0" * 31 + "1", block)


def test_lanes_to_reach_a_regret_are_those_from_which_on_it_stays(recorded: Recorded):
    order = [f"{i:032x}" for i in np.argsort(recorded.truths)]
    play = Play(recorded, seed=1, budget=60)
    for lanes, hash in ((10, order[-1]), (20, order[0]), (30, order[-1])):
        play.lanes = lanes
        play.declare(hash, founder=False)
    summary = summarized("test", recorded, [Run.of(play)], 60)
    assert lanes_to_reach(summary, 0.0) == 30
    assert lanes_to_reach(summary, -1.0) is None


@pytest.mark.parametrize("name", CONTESTANTS)
def test_every_contestant_plays_to_its_budget_and_alike_each_time(recorded: Recorded, name: str):
    contestant = CONTESTANTS[name]
    if contestant.name.startswith("Optuna"):
        pytest.importorskip("optuna")
    grounds: list[Landscape] = [synthetic(recorded, "mixed"), recorded]
    for ground in grounds:
        if contestant in contestants(ground):
            first, second = (Run.of(contestant.run(ground, seed=3, budget=150)) for _ in range(2))
            assert first == second
            assert all(lanes <= 150 for lanes in first.lanes)
            assert first.truths
