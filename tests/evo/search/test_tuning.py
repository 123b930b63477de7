"""Tuning: its mean goes where samples are better, it goes on from its state, and the default search uses it."""

import pytest

from evo.records import Individual
from evo.search.tuning import SAMPLES, TUNED, Tuning
from genomes import catalogue
from tests.evo.search.played import OPEN, noise, play, recipe_of


def begun() -> Tuning:
    owner = Individual(0, 0, catalogue.load("adam"), "hash")
    return Tuning(owner, (0.0, 0.0, 0.0), SAMPLES, step=1.0)


def worth(sample) -> float:
    return -sum((x - 4.0) ** 2 for x in sample)


def test_the_mean_goes_where_samples_are_better():
    tuning = begun()
    for _ in range(12):
        tuning = tuning.tell(1, [worth(sample) for sample in tuning.ask(1)])
    assert tuning.mean == pytest.approx((4.0, 4.0, 4.0), abs=1.0)


def test_samples_are_mirrored_about_the_mean():
    mean, *samples = begun().ask(1)
    for one, other in zip(samples[::2], samples[1::2], strict=True):
        assert [x + y for x, y in zip(one, other, strict=True)] == pytest.approx([2 * x for x in mean])


def test_it_goes_on_from_its_state_and_failures_count_for_nothing():
    tuning = begun().tell(1, [None, 1.0, *[None] * (SAMPLES - 2)])
    assert tuning.mean == pytest.approx(begun().ask(1)[1]), "the only one that did not fail"
    assert begun().tell(1, [None] * SAMPLES).mean == begun().mean
    assert Tuning.restored(tuning.state(), tuning.owner) == tuning


def test_the_default_search_tunes_later_in_a_campaign():
    played = play(recipe_of("raced_evolution", OPEN, population=16, generations=10), lambda lane: 0.1 * noise(lane.key))
    first = min(i.generation for i in played.known.values() if i.operator == TUNED)
    assert first > 2
