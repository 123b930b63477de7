"""Difficulty samplers: which depths, which accuracy factors, which seeds."""

from collections import Counter

import pytest

from harness.sampling import SAMPLERS, sample_instances
from harness.task import TASKS, TRACKS, Instance, seed_bytes


def sample(count=20, key=b"key", purpose="search", depths=TRACKS, task="tig", **options):
    return sample_instances(task, count=count, key=key, purpose=purpose, depths=depths, **options)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_arguments_give_the_same_instances(sampler):
    assert sample(sampler=sampler) == sample(sampler=sampler)
    assert sample(sampler=sampler, key=b"other") != sample(sampler=sampler)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_seeds_are_all_different_between_keys_and_purposes(sampler):
    groups = [
        sample(sampler=sampler, key=key, purpose=purpose)
        for key, purpose in [
            (b"a", "search"),
            (b"b", "search"),
            (b"a", "selection"),
            (b"a", "final"),
            (b"as", "earch"),  # the same bytes, cut elsewhere
        ]
    ]
    seeds = [instance.seed for group in groups for instance in group]
    assert len({seed[:8] for seed in seeds}) == len(seeds) == 100  # the data set takes the first 8 bytes alone


def test_a_seed_depends_on_neither_the_count_nor_the_sampler():
    assert [i.seed for i in sample(5)] == [i.seed for i in sample(9, sampler="uniform")][:5]


@pytest.mark.parametrize("count", [1, 4, 5, 7, 20])
def test_stratified_takes_every_depth_equally_often_up_to_one(count):
    counts = Counter(i.num_hidden_layers for i in sample(count))
    assert sum(counts.values()) == count
    assert {counts[depth] for depth in TRACKS} <= {count // 5, -(-count // 5)}


def test_which_depth_gets_one_more_changes_with_the_key():
    extras = {sample(1, key=bytes([k]))[0].num_hidden_layers for k in range(60)}
    assert extras == set(TRACKS)


def test_stratified_takes_one_accuracy_factor_from_each_stratum_matched_at_random():
    options = {"task": "seed", "accuracy_factors": (-1000, 999), "count": 10}
    instances = sample(**options)
    assert sorted((i.accuracy_factor + 1000) // 200 for i in instances) == list(range(10))
    by_depth = {}
    for key in range(30):
        for i in sample(**options, key=bytes([key])):
            by_depth.setdefault(i.num_hidden_layers, []).append(i.accuracy_factor)
    assert all(min(factors) < -700 and max(factors) > 700 for factors in by_depth.values())


def test_narrow_ranges_of_accuracy_factors_stay_within():
    assert {i.accuracy_factor for i in sample(7, task="seed", accuracy_factors=(5, 5))} == {5}
    assert {i.accuracy_factor for i in sample(7, task="seed", accuracy_factors=(5, 6))} == {5, 6}


def test_uniform_draws_each_instance_on_its_own():
    instances = sample(600, sampler="uniform", task="seed", accuracy_factors=(0, 9))
    counts = Counter(i.num_hidden_layers for i in instances)
    assert set(counts) == set(TRACKS)
    assert all(80 < n < 165 for n in counts.values())
    assert len(set(counts.values())) > 1
    assert set(Counter(i.accuracy_factor for i in instances)) == set(range(10))


@pytest.mark.parametrize(
    ("progress", "depths"),
    [
        (0.0, (4,)),
        (0.19, (4,)),
        (0.2, (4, 7)),
        (0.5, (4, 7, 10)),
        (0.79, (4, 7, 10, 14)),
        (0.8, TRACKS),
        (1.0, TRACKS),
    ],
)
def test_the_curriculum_opens_depths_shallow_first(progress, depths):
    instances = sample(20, sampler="curriculum", progress=progress, depths=(18, 4, 14, 7, 10))
    assert {i.num_hidden_layers for i in instances} == set(depths)


def test_the_curriculum_raises_accuracy_factors_from_the_least():
    def greatest(progress):
        options = {"sampler": "curriculum", "accuracy_factors": (-100, 100), "progress": progress}
        return max(i.accuracy_factor for i in sample(201, task="seed", **options))

    assert [greatest(p) for p in (0.0, 0.5, 1.0)] == [-100, 0, 100]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "random"}, "sampler: 'random' is not one of stratified, uniform, curriculum"),
        ({"depths": ()}, "depths: must name at least one"),
        ({"count": -1}, "count: must not be negative"),
        ({"progress": 1.5}, "progress: must lie between 0 and 1, got 1.5"),
        ({"accuracy_factors": (2, 1)}, "accuracy_factors: the first must not exceed the second"),
        ({"accuracy_factors": (1, 2)}, "accuracy_factor: the task 'tig' has none"),
        ({"task": "mnist"}, "task: 'mnist' is not one of tig, seed"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        sample(**options)


def test_no_instances_is_an_empty_list():
    assert sample(0) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_hidden_layers": 0}, "num_hidden_layers: must be at least 1, got 0"),
        ({"seed": b"short"}, "seed: must be 32 bytes, got 5"),
        ({"init": "zeros"}, "init: 'zeros' is not one of per_layer, shared"),
    ],
)
def test_an_instance_checks_its_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        Instance(**{"task": "tig", "num_hidden_layers": 4, "seed": seed_bytes(0), **fields})


def test_seed_bytes_are_little_endian():
    assert seed_bytes(0x0102) == b"\x02\x01" + bytes(30)


def test_both_tasks_offer_the_tracks():
    assert {task.depths for task in TASKS.values()} == {(4, 7, 10, 14, 18)}
