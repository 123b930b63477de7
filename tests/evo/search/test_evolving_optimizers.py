"""The genetic algorithm of arXiv:2512.11853: its figures, its genome form, its mutation schedule."""

import json
import math
import random
from dataclasses import asdict, replace
from statistics import fmean, pstdev

import numpy as np
import pytest
import torch

from evo.recipe import reader
from evo.recipe.search_settings import EvolvingOptimizers
from evo.search import evolving_optimizers
from evo.search.evolving_optimizers import SEEDS, WORDS, Form, crossed, genome_of, mutated, random_form
from genomes.backends.flat.optimizer import FlatProgram
from genomes.compiler.identity import genome_identity
from genomes.compiler.lowering import lower
from genomes.language.genome import dump, parse
from tests.evo.search.played import play, recipe_of

STEPS = 12


def test_the_preset_has_the_figures_of_the_paper():
    recipe = reader.named("paper", "evolving_optimizers")
    assert (recipe.population, recipe.generations) == (50, 50)
    assert recipe.search == EvolvingOptimizers(
        tournament=4, elites=3, numbers=0.35, structure=0.15, flags=0.1, step=0.3, annealing=50
    )
    assert list(SEEDS) == ["form_sgd", "form_adam", "form_adamw", "form_rmsprop"]
    assert len(WORDS) == 7


def run_by_the_paper(form: Form, theta, gradients, total):
    """Its ``optimizer_step``, transcribed."""
    m, v, lr0, eps, wd = 0.0, 0.0, 10**form.log_lr, 10**form.log_epsilon, 10**form.log_decay
    for step, grad in enumerate(gradients):
        lr = lr0 * (step + 1) / form.warmup if form.warms_up and step < form.warmup else lr0
        lr *= 0.5 * (1 + math.cos(math.pi * step / total)) if form.cosine else 1
        g = np.clip(grad, -form.clip, form.clip) if form.clips else grad
        m = form.beta1 * m + (1 - form.beta1) * g if form.mean else g
        v = form.beta2 * v + (1 - form.beta2) * g * g if form.square else g * g
        m_hat = m / (1 - form.beta1 ** (step + 1)) if form.corrected and form.mean else m
        v_hat = v / (1 - form.beta2 ** (step + 1)) if form.corrected and form.square else v
        values = {
            "gradient": g,
            "momentum": m_hat,
            "rms_norm": g / (np.sqrt(v_hat) + eps),
            "adam": m_hat / (np.sqrt(v_hat) + eps),
            "sign": np.sign(g),
            "unit": g / (np.abs(g) + eps),
            "nesterov": m_hat + 0.9 * (g - m_hat),
        }
        theta = theta * (1 - lr * wd) - lr * sum(weight * values[word] for word, weight in form.terms)
    return theta


WINNER = Form(
    (("sign", 0.4121), ("sign", 0.3224), ("adam", 2.0030), ("adam", 1.6322)), -2.9199, 0.8553, 0.9358, -8.2642, -3.0112,
    corrected=False, warms_up=True, cosine=True,
)  # fmt: skip


def readable(form: Form) -> Form:
    """The form with numbers as short as a genome has them."""
    logs = {
        name: math.log10(float(f"{10 ** getattr(form, name):.3g}")) for name in ("log_lr", "log_epsilon", "log_decay")
    }
    return replace(
        form,
        terms=tuple((word, float(f"{weight:.4g}")) for word, weight in form.terms),
        beta1=float(f"{form.beta1:.6g}"), beta2=float(f"{form.beta2:.6g}"), clip=float(f"{form.clip:.4g}"), **logs,
    )  # fmt: skip


@pytest.mark.parametrize("form", [WINNER, *SEEDS.values(), *(random_form(random.Random(k)) for k in range(12))])
def test_a_genome_acts_as_its_form_does_in_the_paper(form):
    form = readable(form)
    genome = genome_of(form, "form", steps=40)
    assert parse(dump(genome)) == genome
    generator = np.random.default_rng(3)
    start, gradients = generator.standard_normal(6), generator.standard_normal((STEPS, 6))
    theta, gradient = torch.from_numpy(start.copy()), torch.zeros(6, dtype=torch.float64)
    run = FlatProgram(lower(genome)).bind(
        theta, gradient, seed=bytes(32), shapes=((3, 2),), roles=("weight",), layers=(0,), indices=(0,)
    )
    for given in gradients:
        gradient.copy_(torch.from_numpy(given))
        theta += run.step(0, None, None)
    np.testing.assert_allclose(theta.numpy(), run_by_the_paper(form, start, gradients, 40), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_mutation_changes_as_much_as_the_schedule_says(rate):
    form, rng = replace(WINNER, log_lr=-3.0, beta1=0.5, log_decay=-4.0), random.Random(0)
    children = [mutated(form, EvolvingOptimizers(), rate, rng) for _ in range(6000)]

    def share(changed):
        return fmean(map(changed, children))

    assert share(lambda c: c.log_lr != form.log_lr) == pytest.approx(0.35 * rate, abs=0.02)
    assert share(lambda c: c.cosine != form.cosine) == pytest.approx(0.10 * rate, abs=0.015)
    assert share(lambda c: [w for w, _ in c.terms] != [w for w, _ in form.terms]) == pytest.approx(
        0.15 * rate * (1 / 3 + 1 / 3 * 6 / 7), abs=0.015  # four terms have no room for more; a word may draw itself
    )  # fmt: skip
    steps = [c.log_lr - form.log_lr for c in children if c.log_lr != form.log_lr]
    assert pstdev(steps) == pytest.approx(0.3 * rate, rel=0.06)
    steps = [c.beta1 - form.beta1 for c in children if c.beta1 != form.beta1]
    assert pstdev(steps) == pytest.approx(0.2 * 0.3 * rate, rel=0.06)


def test_rates_fall_to_half_over_the_annealing(monkeypatch):
    rates = {}

    def noted(form, settings, rate, rng):
        rates[len(seen)] = rate
        return mutated(form, settings, rate, rng)

    monkeypatch.setattr(evolving_optimizers, "mutated", noted)
    recipe = recipe_of("evolving_optimizers", generations=5)
    recipe = recipe.model_copy(update={"search": recipe.search.model_copy(update={"annealing": 2})})
    seen: list[str] = []

    def quality(lane):
        seen.append(lane.hash)
        return 0.5

    play(recipe, quality)
    assert [*dict.fromkeys(rates.values())] == [1.0, 0.75, 0.5]


def test_a_child_has_the_first_terms_of_one_and_the_last_of_the_other():
    rng = random.Random(1)
    first = replace(WINNER, terms=tuple((word, 1.0) for word in WORDS[:4]))
    second = replace(random_form(rng), terms=tuple((word, 2.0) for word in WORDS[4:]))
    for _ in range(200):
        child = crossed(first, second, rng)
        heads = [t for t in child.terms if t[1] == 1.0]
        tails = [t for t in child.terms if t[1] == 2.0]
        assert child.terms == (*heads, *tails)
        assert 1 <= len(child.terms) <= 4
        assert tuple(heads) == first.terms[: len(heads)]
        assert tuple(tails) == second.terms[len(second.terms) - len(tails) :] or len(child.terms) == 4
        assert child.beta1 in (first.beta1, second.beta1)


def test_elites_train_again_and_children_have_two_parents_of_the_last_generation():
    recipe = recipe_of("evolving_optimizers")
    played = play(recipe)
    last: set[str] = set()
    for told, checkpoint in zip(played.tells, played.checkpoints, strict=True):
        if told.individuals:
            children = told.individuals
            population = set(checkpoint.state["own"]["population"])
            assert len(population) == recipe.population
            assert {i.id for i in children} <= population
            assert len(population) - len(children) == (3 if told.generation else 0), "elites stay"
            assert all(set(i.parents) <= last for i in children)
            last = population


def test_forms_are_kept_with_numbers_that_do_nothing_now():
    """A flag may flip and bring a number back: the genome alone does not say it."""
    form = replace(SEEDS["form_sgd"], beta2=0.77)
    other = replace(form, beta2=0.99)
    assert genome_identity(genome_of(form, "a", 10)) == genome_identity(genome_of(other, "a", 10))
    assert Form.restored(json.loads(json.dumps(asdict(form)))) == form


def test_forms_beyond_the_limits_are_drawn_again():
    recipe = recipe_of("evolving_optimizers")
    recipe = recipe.model_copy(update={"limits": recipe.limits.model_copy(update={"states": 1, "terms": 2})})
    start = recipe.start.model_copy(update={"catalogue": (), "random": 8})
    for individual in play(recipe.model_copy(update={"start": start})).known.values():
        assert len(individual.genome.terms) <= 2
        assert len(lower(individual.genome).slots) <= 2
