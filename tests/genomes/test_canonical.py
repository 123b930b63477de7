"""Canonical form, composites, simplification: fewer words, the same optimizer."""

import random

import numpy as np
import pytest

from evo.variation import Bounds, random_genome, vary
from genomes import catalogue
from genomes.canonical import canonical, canonical_expression, recognise
from genomes.describe import describe
from genomes.expressions import parse, show
from genomes.genome import dump
from genomes.genome import parse as parse_genome
from genomes.identity import probe, semantic_hash
from genomes.lowering import lower
from genomes.simplify import simplify


def acts_alike(a, b):
    """Equal on the probe within 1e-10 of the largest value around."""
    x, y = probe(lower(a)).trace, probe(lower(b)).trace
    return x.shape == y.shape and np.allclose(x, y, rtol=1e-10, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", catalogue.names())
def test_canonical_form_keeps_behaviour(name):
    genome = catalogue.load(name)
    form = canonical(genome)
    assert canonical(form) == form
    assert acts_alike(genome, form)
    assert parse_genome(dump(form)) == form


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("g * 2", "2 * g"),
        ("theta + g", "g + theta"),
        ("1e-8 + g", "g + 1e-08"),
        ("g * 1 + 0", "g"),
        ("(2 + 3) * g", "5 * g"),
        ("g / 1", "g"),
        ("-(-g)", "g"),
        ("g - 0", "g"),
        ("sqrt(4) * g", "2 * g"),
        ("max(theta, g)", "max(g, theta)"),
        ("g / theta", "g / theta"),
        ("g / 0", "g / 0"),
    ],
)
def test_forms(text, form):
    assert show(canonical_expression(parse(text))) == form


def test_a_lone_weight_moves_into_the_learning_rate_where_that_is_exact():
    text = 'genome: 1\nname: x\nlr: 0.5\nterms: [{weight: 0.25, expr: "g"}]\n'
    form = canonical(parse_genome(text))
    assert (form.lr, form.terms[0].weight) == (0.125, 1.0)
    gated = canonical(parse_genome(text + 'gates: ["clip(u, 1)"]\n'))
    assert (gated.lr, gated.terms[0].weight) == (0.5, 0.25)


def test_equal_terms_join_and_empty_ones_go():
    terms = "[{expr: g}, {expr: theta * g}, {weight: 2, expr: g}, {weight: 0, expr: t}]"
    text = f"genome: 1\nname: x\nlr: 1\nterms: {terms}"
    form = canonical(parse_genome(text))
    assert [(t.weight, show(t.expr)) for t in form.terms] == [(3.0, "g"), (1.0, "g * theta")]


def test_composites_are_recognised():
    expanded = "debias(ema(g, 0.9)) / (1e-8 + sqrt(debias(ema(g * g, 0.99))))"
    assert show(recognise(parse(expanded))) == "adam(g, beta1=0.9, beta2=0.99, epsilon=1e-08)"
    assert show(recognise(parse("debias(ema(g, 0.9)) / (sqrt(debias(ema(g * theta, 0.99))) + 1e-8)"))).startswith(
        "debias"
    )


def test_simplify_removes_what_does_nothing_and_says_so():
    text = """genome: 1
name: bloat
lr: 1e-3
terms:
  - {expr: "adam(g + 0 * theta) * 1 + (theta - theta)"}
  - {expr: "sign(g) - sign(g)", weight: 3}
gates: ["where(t > 0, u, 3 * u)"]
schedule: "min(1, linear_warmup(1))"
decay: {kind: decoupled, rate: 0.1}
"""
    genome = parse_genome(text)
    found = simplify(genome)
    assert semantic_hash(found.genome) == semantic_hash(genome)
    assert show(found.genome.terms[0].expr) == "adam(g, beta1=0.9, beta2=0.999, epsilon=1e-08)"
    assert len(found.genome.terms) == 1
    assert found.genome.gates == ()
    assert found.genome.decay.kind == "decoupled", "it acts, so it stays"
    assert any("schedule" in line for line in found.removed)


def test_simplify_leaves_what_is_simple():
    assert simplify(catalogue.load("cautious_adamw")).removed == ()


@pytest.mark.parametrize("patience", [2, 3, 12, 13, 49])
def test_plateaus_of_different_patience_are_told_apart(patience):
    def hashed(text):
        return semantic_hash(parse_genome(f'genome: 1\nname: x\nlr: 1\nterms: [{{expr: g}}]\nschedule: "{text}"'))

    assert hashed(f"plateau({patience})") != hashed(f"plateau({patience + 1})")
    assert hashed(f"plateau({patience})") != hashed("1")


def test_describe_counts_buffers_operations_and_passes():
    assert len(describe(catalogue.load("sgd")).buffers) == 0
    assert len(describe(catalogue.load("adam")).buffers) == 2
    assert describe(catalogue.load("lion")).buffers == ("ema_1",)
    assert describe(catalogue.load("adam")).passes == 1
    assert describe(catalogue.load("cautious_adamw")).passes == 2


def chain(seed, steps, bounds):
    rng = random.Random(seed)
    genome = random_genome("r", bounds, rng) if seed % 2 else catalogue.load(rng.choice(catalogue.names()))
    for _ in range(steps):
        genome = vary([genome], 0.0, {}, bounds, rng).genome
        yield genome


@pytest.mark.parametrize("seed", range(12))
def test_canonical_form_keeps_behaviour_of_what_variation_makes(seed):
    for genome in chain(seed, 5, Bounds(nodes=160, states=8, terms=4)):
        form = canonical(genome)
        assert canonical(form) == form
        assert acts_alike(genome, form)
