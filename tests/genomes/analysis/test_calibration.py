"""A genome without its calibration of the mean: the same in all else, and always a genome that can be read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from genomes import catalogue
from genomes.analysis.calibration import CALIBRATION, calibrates, without_calibration
from genomes.compiler.identity import genome_identity
from genomes.compiler.lowering import lower
from genomes.language.expressions import Expression
from genomes.language.genome import MAX_NAME, GenomeError, dump, parse
from genomes.language.parser import body, parse_expression
from genomes.language.primitives import TABLE
from tests.genomes.strategies import genomes

ADAM_AT_AN_AVERAGE = """\
genome: 1
name: adam_at_an_average
lr: 2.5e-4
terms: [{expr: "adam(g, 0.9, 0.995, 1e-8)"}]
schedule: "linear_warmup(4) * cosine(300) * max(1, 9 / layer_count)"
roles: {first: 8}
evaluation: {offset: "average(theta + delta, 0.98) - (theta + delta)"}
"""
NAMED = """\
genome: 1
name: named
lr: 0.001
let:
  - "wrong = output_error(0)"
  - "shift from 0 = output_shift(0) * wrong"
  - "beta = 1 - wrong"
  - "mean = average(theta + g, 0.9)"
terms: [{expr: "ema(g, beta) + freeze_after(g, 1 + 0 * wrong)"}]
query: {offset: "delta - shift", when: "t % 2 == 0", outputs: ["output_probe(0)"]}
evaluation: {offset: "shift + (mean - theta)"}
"""
NAMED_WITHOUT = """\
genome: 1
name: named-without-calibration
source: "named, its calibration switched off"
lr: 0.001
let: ["mean = average(theta + g, 0.9)"]
terms: [{expr: "ema(g, 0.999999) + freeze_after(g, 1)"}]
query: {offset: "delta", when: "t % 2 == 0"}
evaluation: {offset: "mean - theta"}
"""


def test_what_is_left_of_calibrated_adam_is_adam_at_an_average():
    found = without_calibration(catalogue.load("calibrated_adam"))
    assert genome_identity(found) == genome_identity(parse(ADAM_AT_AN_AVERAGE))
    assert found.name == "calibrated_adam-without-calibration"
    assert not calibrates(found)


def test_names_and_states_that_are_zero_go_and_constants_stay_in_their_ranges():
    assert without_calibration(parse(NAMED)) == parse(NAMED_WITHOUT)


@pytest.mark.parametrize("name", catalogue.names())
def test_a_known_optimizer_that_does_not_calibrate_is_left_as_it_is(name):
    genome = catalogue.load(name)
    assert calibrates(genome) == name.startswith("calibrated_")
    assert (without_calibration(genome) is genome) != calibrates(genome)


def test_every_word_that_knows_of_the_mean_is_switched_off():
    """Also those to come: what hears of the outputs' shift, or of what the query adds to them, is on the list."""

    def knows(name: str) -> bool:
        primitive = TABLE.get(name)
        if primitive is None:
            return False
        known = name == "output_correction" or primitive.op == "output_shift" or primitive.lowering == "query bias"
        return known or bool(primitive.body and any(knows(node.name) for _, tree in body(name) for node in tree.walk()))

    by_query = {"output_bias", "any_output_bias"}  # 0 and false without query.outputs
    assert {name for name in TABLE if knows(name)} == {*CALIBRATION, *by_query}


def calibrated(tree: Expression) -> Expression:
    """The expression with words of CALIBRATION in the places of theta, t, epoch and losses."""
    words = {"theta": "output_shift(0)", "val_loss": "output_correction(1)"}
    words |= dict.fromkeys(("t", "epoch", "train_loss"), "output_error(1)")
    if tree.value is None and tree.name in words:
        return parse_expression(words[tree.name])
    return replace(tree, arguments=tuple(map(calibrated, tree.arguments)))


@given(genomes(named=True))
@settings(max_examples=25, deadline=None)
def test_what_is_left_of_any_genome_is_read_and_has_a_meaning(genome):
    genome = genome.mapped(calibrated)
    try:
        lower(genome)
    except GenomeError:  # `query.when` knows nothing of errors, say
        return
    found = without_calibration(genome)
    assert parse(dump(found)) == found
    lower(found)
    assert not calibrates(found)


def test_a_name_at_its_longest_stays_a_name():
    genome = catalogue.load("calibrated_adam").renamed("a" * MAX_NAME)
    assert len(without_calibration(genome).name) == MAX_NAME
