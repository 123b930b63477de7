"""Trials: how many instances are trained between two looks."""

import pytest

from evo.records import Purpose
from tests.evo.search.played import play, recipe_of


@pytest.mark.parametrize(("gate", "look"), [("{instances: 24}", 8), ("{instances: 24, look: 12}", 12)])
def test_a_recipe_says_how_many_instances_lie_between_two_looks(gate: str, look: int):
    recipe = recipe_of("constants_only", gate.replace("}", ", error_rate: 0.3, confidence: 0.5}"))
    trials = [len(r.instances) for r in play(recipe).requests if r.purpose is Purpose.GATE]
    assert trials
    assert set(trials) == {look}
