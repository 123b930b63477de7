"""Small steps lead from one known optimizer to another: each is one operator's work, and sound by itself."""

import random
from dataclasses import replace

import pytest

from evo.recipe.schema import Limits
from evo.search.variation.paths import expression_of, genes, literals, paths, replaced, with_expression
from evo.search.variation.registry import OPERATORS
from evo.search.variation.vary import edited, sound
from genomes import catalogue
from genomes.analysis.probe import probe_hash
from genomes.compiler.canonical import canonical
from genomes.language.expressions import number
from genomes.language.genome import Decay, Genome, Term
from genomes.language.parser import parse_expression

ALL = ("weight", "bias", "norm_scale", "norm_shift")


def term(genome, text):
    return replace(genome, terms=(Term(1.0, parse_expression(text)),))


def to_lion(genome):
    yield "mutate_subtree", (genome := term(genome, "sign(g)"))
    yield "mutate_insert", (genome := term(genome, "sign(ema(g, 0.9))"))
    yield "mutate_subtree", (genome := term(genome, "sign(blend(prev(g), g, 0.3))"))
    yield "mutate_insert", (genome := term(genome, "sign(blend(prev(ema(g, 0.9)), g, 0.3))"))
    yield "mutate_constant", (genome := term(genome, "sign(blend(prev(ema(g, 0.99)), g, 0.3))"))
    yield "mutate_constant", (genome := term(genome, "sign(blend(prev(ema(g, 0.99)), g, 0.1))"))
    yield "mutate_lr", (genome := replace(genome, lr=1e-4))
    yield "mutate_decay", (genome := replace(genome, decay=Decay("decoupled", 0.003, ("weight",))))
    yield "mutate_decay", (genome := replace(genome, decay=Decay("decoupled", 0.01, ("weight",))))
    for count in (2, 3, 4):
        yield "mutate_decay", (genome := replace(genome, decay=Decay("decoupled", 0.01, ALL[:count])))


def to_cautious_adamw(genome):
    yield "mutate_gates", (genome := replace(genome, gates=(parse_expression("cautious_rescaled(u)", "gates"),)))
    yield "mutate_decay", (genome := replace(genome, decay=Decay("decoupled", 0.02, ("weight",))))
    yield "mutate_decay", (genome := replace(genome, decay=Decay("decoupled", 0.01, ("weight",))))
    for count in (2, 3, 4):
        yield "mutate_decay", (genome := replace(genome, decay=Decay("decoupled", 0.01, ALL[:count])))


def one_place(before: Genome, after: Genome) -> bool:
    """Whether at most one gene differs, and an expression by one subtree alone."""
    changed = [f for f in ("lr", "gates", "decay", "schedule", "roles", "query", "post") if
               getattr(before, f) != getattr(after, f)]  # fmt: skip
    if before.terms == after.terms:
        return len(changed) == 1
    (old,), (new,) = before.terms, after.terms
    return not changed and any(
        replaced(old.expr, path, part) == new.expr for path, _ in paths(old.expr) for _, part in paths(new.expr)
    )


@pytest.mark.parametrize(("walk", "goal"), [(to_lion, "lion"), (to_cautious_adamw, "cautious_adamw")])
def test_single_mutations_lead_from_adam(walk, goal):
    genome = catalogue.load("adam")
    for operator, step in walk(genome):
        assert OPERATORS[operator].parents == 1
        assert one_place(genome, step)
        assert sound(step, Limits())
        assert probe_hash(step) != probe_hash(genome), "a step that changes nothing would not be taken"
        genome = step
    assert probe_hash(genome) == probe_hash(catalogue.load(goal))


@pytest.mark.slow
@pytest.mark.parametrize("operator", ["mutate_subtree", "mutate_insert", "mutate_gates", "mutate_decay"])
def test_the_operators_of_the_walks_make_such_steps(operator):
    """Structure as in the walks comes up by itself: constants aside, some seed gives each kind of step."""
    start = term(catalogue.load("adam"), "abs(g)" if operator == "mutate_subtree" else "sign(g)")
    goal = {
        "mutate_subtree": term(start, "abs(sign(g))"),
        "mutate_insert": term(start, "sign(ema(g, 0.9))"),
        "mutate_gates": replace(start, gates=(parse_expression("cautious_rescaled(u)", "gates"),)),
        "mutate_decay": replace(start, decay=Decay("decoupled", 0.01, ("weight",))),
    }[operator]
    wanted = canonical(goal)
    made = (canonical(edited(OPERATORS[operator], [start], random.Random(seed))) for seed in range(3000))
    assert skeleton(wanted) in (skeleton(child) for child in made if child.size == wanted.size)


def skeleton(genome: Genome) -> Genome:
    """The genome with every constant set to one half and every rate to 1."""
    for gene in genes(genome):
        for path, _ in literals(expression_of(genome, gene)):
            genome = with_expression(genome, gene, replaced(expression_of(genome, gene), path, number(0.5)))
    decay = replace(genome.decay, rate=1.0) if genome.decay.kind != "none" else genome.decay
    return replace(genome, lr=1.0, decay=decay)
