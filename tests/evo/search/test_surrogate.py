"""Predictions from traits: near what is known where there is something near, and honest about the rest."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from evo.records import Estimate
from evo.search import surrogate
from evo.search.surrogate import LEAST, fit, probe, traits
from genomes import catalogue
from genomes.language.genome import Genome, parse

ADAM = catalogue.load("adam")


def at_rates(count: int, seed: int = 0) -> list[Genome]:
    rng = random.Random(seed)
    return [replace(ADAM, lr=2.0 ** rng.uniform(-16, -2)) for _ in range(count)]


def quality(genome: Genome) -> float:
    """Best at a rate of 2^-9."""
    return 0.8 - 0.01 * (math.log2(genome.lr) + 9) ** 2


def fitted(genomes: list[Genome], sd: float = 0.01) -> surrogate.Surrogate:
    found = fit([(traits(genome, ()), Estimate(quality(genome), sd, 4)) for genome in genomes])
    assert found is not None
    return found


def predicted(model: surrogate.Surrogate, genome: Genome) -> tuple[float, float]:
    return model.predict(traits(genome, ()))


def test_it_ranks_genomes_that_it_has_not_seen():
    model, unseen = fitted(at_rates(60)), at_rates(40, seed=1)
    found = [predicted(model, genome)[0] for genome in unseen]
    truth = [max(quality(genome), 0.45) for genome in unseen]  # the worst quarter is told apart by nothing
    assert np.corrcoef(np.argsort(np.argsort(found)), np.argsort(np.argsort(truth)))[0, 1] > 0.9


def test_what_is_far_from_all_that_is_known_is_uncertain():
    model = fitted(at_rates(60))
    near, far = predicted(model, ADAM), predicted(model, catalogue.load("adafactor"))
    assert far[1] > 1.5 * near[1]
    assert far[1] <= model.spread * math.sqrt(1 + surrogate.REST)
    assert abs(far[0] - model.mean) < abs(near[0] - model.mean)


def test_surer_estimates_weigh_more():
    genomes = at_rates(30)
    sure, unsure = (predicted(fitted(genomes, sd), ADAM)[1] for sd in (0.001, 0.5))
    assert sure < unsure


@pytest.mark.parametrize("count", [0, 1, LEAST - 1])
def test_few_genomes_tell_nothing(count: int):
    assert fit([(traits(genome, ()), Estimate(0.5, 0.1, 2)) for genome in at_rates(count)]) is None


def test_equal_qualities_tell_nothing():
    assert fit([(traits(genome, ()), Estimate(0.5, 0.1, 2)) for genome in at_rates(20)]) is None


def test_the_inverse_is_one():
    rng = np.random.default_rng(0)
    half = rng.standard_normal((40, 40))
    matrix = half @ half.T + np.eye(40)
    assert surrogate._inverse(matrix) == pytest.approx(np.linalg.inv(matrix), abs=1e-8)
    assert surrogate._products(matrix, half) == pytest.approx(matrix @ half)


def test_a_name_is_no_trait_and_a_word_is():
    assert traits(ADAM, probe(ADAM)) == traits(ADAM.renamed("other"), probe(ADAM.renamed("other")))
    wider = parse(
        'genome: 1\nname: x\nsource: ""\nlr: 1e-3\nterms:\n  - {weight: 1.0, expr: "adam(g) + sign(ema(g, 0.9))"}\n'
    )
    assert set(traits(wider, probe(wider))) - set(traits(ADAM, probe(ADAM))) == {
        "terms: adam",
        "terms: sign",
    }  # the rest is in both


@pytest.mark.parametrize("name", ["sgd", "calibrated_adam", "muon", "schedule_free_adamw"])
def test_every_kind_of_genome_has_finite_traits(name: str):
    assert all(math.isfinite(value) for value in traits(catalogue.load(name), probe(catalogue.load(name))).values())
