"""Canonical form, composites, simplification: fewer words, the same optimizer."""

import random

import numpy as np
import pytest

from evo.recipe.schema import Limits
from evo.search.variation.random_genome import random_genome
from evo.search.variation.vary import vary
from genomes import catalogue
from genomes.analysis.describe import describe
from genomes.analysis.probe import probe, probe_hash
from genomes.analysis.simplify import simplify
from genomes.compiler.canonical import canonical, canonical_expression, recognize_composites
from genomes.compiler.lowering import lower
from genomes.language.genome import dump, parse
from genomes.language.parser import parse_expression
from genomes.language.printer import show
from tests.sampling import some_and_slow


def acts_alike(a, b):
    """Equal on the probe within 1e-10 of the largest value around."""
    x, y = probe(lower(a)).trace, probe(lower(b)).trace
    return x.shape == y.shape and np.allclose(x, y, rtol=1e-10, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", catalogue.names())
def test_canonical_form_keeps_behavior(name):
    genome = catalogue.load(name)
    form = canonical(genome)
    assert canonical(form) == form
    assert acts_alike(genome, form)
    assert parse(dump(form)) == form


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
    assert show(canonical_expression(parse_expression(text))) == form


def test_a_lone_weight_moves_into_the_learning_rate_where_that_is_exact():
    text = 'genome: 1\nname: x\nlr: 0.5\nterms: [{weight: 0.25, expr: "g"}]\n'
    form = canonical(parse(text))
    assert (form.lr, form.terms[0].weight) == (0.125, 1.0)
    gated = canonical(parse(text + 'gates: ["clip(u, 1)"]\n'))
    assert (gated.lr, gated.terms[0].weight) == (0.5, 0.25)


def test_equal_terms_join_and_empty_ones_go():
    terms = "[{expr: g}, {expr: theta * g}, {weight: 2, expr: g}, {weight: 0, expr: t}]"
    text = f"genome: 1\nname: x\nlr: 1\nterms: {terms}"
    form = canonical(parse(text))
    assert [(t.weight, show(t.expr)) for t in form.terms] == [(3.0, "g"), (1.0, "g * theta")]


def test_composites_are_recognized():
    expanded = "debias(ema(g, 0.9)) / (1e-8 + sqrt(debias(ema(g * g, 0.99))))"
    assert show(recognize_composites(parse_expression(expanded))) == "adam(g, beta1=0.9, beta2=0.99, epsilon=1e-08)"
    assert show(
        recognize_composites(parse_expression("debias(ema(g, 0.9)) / (sqrt(debias(ema(g * theta, 0.99))) + 1e-8)"))
    ).startswith("debias")


def test_simplify_removes_what_does_nothing_and_says_so():
    text = """genome: 1
name: bloat
lr: 1e-3
terms:
  - {expr: "adam(g + 0 * theta) * 1 + (theta - theta)"}
  - {expr: "sign(g) - sign(g)", weight: 3}
gates: ["where(t > 0, u, 3 * u)", "where(1 > 0, u, 0)"]
schedule: "min(1, linear_warmup(1)) + 0 * t"
decay: {kind: decoupled, rate: 0.1}
"""
    genome = parse(text)
    found = simplify(genome)
    assert probe_hash(found.genome) == probe_hash(genome)
    assert show(found.genome.terms[0].expr) == "adam(g, beta1=0.9, beta2=0.999, epsilon=1e-08)"
    assert len(found.genome.terms) == 1
    # t is never below 1, but that is more than the programs say: no where gives way to a branch on the probe's word
    assert [show(gate) for gate in found.genome.gates] == ["where(t > 0, u, 3 * u)"]
    assert found.genome.decay.kind == "decoupled", "it acts, so it stays"
    assert show(found.genome.schedule) == "min(1, linear_warmup(1))"
    assert "terms.1: sign(g) - sign(g) (exact)" in found.removed
    assert "gates.1: where(1 > 0, u, 0) (exact)" in found.removed


@pytest.mark.parametrize(
    ("genes", "removed"),
    [
        ('terms: [{expr: "clip(g, 1e6)"}]', ["terms.0: clip(g, 1000000) acts as g (on the probe)"]),
        ('terms: [{expr: g}]\nschedule: "min(1, linear_warmup(1))"',
         ["schedule: min(1, linear_warmup(1)) acts as linear_warmup(1) (on the probe)"]),
        ('terms: [{expr: g}]\ngates: ["clip(u, 1e6)"]', ["gates.0: clip(u, 1000000) (on the probe)"]),
        ('terms: [{expr: "g + (theta - theta)"}]', ["terms.0: g + (theta - theta) acts as g (exact)"]),
        ('terms: [{expr: "abs(0 * g) * 3 + sign(g)"}]', ["terms.0: abs(0 * g) * 3 + sign(g) acts as sign(g) (exact)"]),
        ('terms: [{expr: "ema(g, 0.9) + 0 * ema(g, 0.5)"}]',
         ["terms.0: ema(g, 0.9) + 0 * ema(g, 0.5) acts as ema(g, 0.9) (exact)"]),
        ('terms: [{expr: g}]\nquery: {offset: delta, when: "0 > 1"}', ["query: delta (exact)"]),
    ],
)  # fmt: skip
def test_simplify_says_how_surely(genes: str, removed: list[str]):
    found = simplify(parse(f"genome: 1\nname: x\nlr: 1e-3\n{genes}"))
    assert list(found.removed) == removed


@pytest.mark.parametrize(
    "genes",
    [
        # a guard against rounding: log(1000) / log(10) is 2.9999999999999996
        'terms: [{expr: g}]\nschedule: "0.5 ** floor(log(1 + 9 * epoch) / log(10) + 1e-9)"',
        'terms: [{expr: g}]\nschedule: "0.5 ** floor(min(epoch, 1e6) / 10)"',
        'terms: [{expr: g}]\nschedule: "1 + 1e-12 * (min(epoch, 1e6) % 7)"',
        # what the probe's losses never do
        'terms: [{expr: g}]\nschedule: "where(train_loss > 3 * val_loss, 0.5, 1)"',
        'terms: [{expr: "where(train_loss > 3 * val_loss, sign(g), g)"}]',
        'terms: [{expr: g}, {expr: "where(train_loss > 3 * val_loss, theta, 0)"}]',
        'terms: [{expr: g}]\ngates: ["where(train_loss > 3 * val_loss, clip(u, 1), u)"]',
        'terms: [{expr: g}]\npost: ["where(t > 1e6, 0, delta)"]',
        'terms: [{expr: g}]\ngates: ["freeze_after(u, 100000)"]',
        'terms: [{expr: g}]\nquery: {offset: delta, when: "t > 100000"}',
        'terms: [{expr: "where(train_loss > 3 * val_loss, 1, 0) * clip(theta, 1)"}, {expr: g}]',
        'terms: [{expr: "where(train_loss > 3 * val_loss, 1e9, 1) * sin(g)"}]\ngates: ["clip(u, 1e6)"]',
        # a choice that never lets them through on the probe comes after the terms, the gate, the decay
        'terms: [{expr: "ema(g, 0.5)"}, {expr: theta}]\nschedule: "where(train_loss > 3 * val_loss, 1, 0)"',
        'terms: [{expr: g}]\ngates: ["clip(u, 1)", "where(train_loss > 3 * val_loss, u, 0)"]',
        'terms: [{expr: g}]\ndecay: {kind: decoupled, rate: 0.1}\npost: ["where(t > 1e6, delta, 0)"]',
    ],
)
def test_simplify_does_not_trust_the_probe_with_choices(genes: str):
    genome = parse(f"genome: 1\nname: x\nlr: 1e-3\n{genes}")
    assert simplify(genome).removed == ()


def test_simplify_writes_what_can_be_read():
    """Without 0 * t the constant is 5, which is no beta."""
    genome = parse('genome: 1\nname: x\nlr: 1e-3\nterms: [{expr: "ema(g, min(0.9, 0 * t + 5))"}]')
    form = simplify(genome).genome
    assert parse(dump(form)) == form
    genome = parse('genome: 1\nname: x\nlr: 1e-3\nterms: [{expr: "ema(g, 0 * t + 5)"}]')
    form = simplify(genome).genome
    assert parse(dump(form)) == form


@pytest.mark.parametrize("name", ["cautious_adamw", "lion"])  # lion: few signs on the probe hang on its averages
def test_simplify_leaves_what_is_simple(name):
    assert simplify(catalogue.load(name)).removed == ()


@pytest.mark.parametrize("patience", [2, 3, 12, 13, 49])
def test_plateaus_of_different_patience_are_told_apart(patience):
    def hashed(text):
        return probe_hash(parse(f'genome: 1\nname: x\nlr: 1\nterms: [{{expr: g}}]\nschedule: "{text}"'))

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


@pytest.mark.parametrize("seed", some_and_slow(range(12), 4, also=[1]))
def test_canonical_form_keeps_behavior_of_what_variation_makes(seed):
    for genome in chain(seed, 5, Limits(nodes=160, states=8, terms=4)):
        form = canonical(genome)
        assert canonical(form) == form
        assert acts_alike(genome, form)
