"""Variation returns sound genomes, whatever it is given; what each operator does is tested in test_operators.py."""

import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import genomes
from evo.recipe.limits import buffers
from evo.recipe.schema import Limits
from evo.search import screening
from evo.search.variation.constants import draw, perturbed
from evo.search.variation.deap_trees import Value, domain_type, from_tree, grow, primitive_set, to_tree
from evo.search.variation.mutation import can_open
from evo.search.variation.names import with_names_of
from evo.search.variation.operator import Operator, SameStepSize
from evo.search.variation.paths import expression_of, genes, scope_of
from evo.search.variation.random_genome import random_genome
from evo.search.variation.registry import OPERATORS
from evo.search.variation.vary import apply, edited, sound, vary
from genomes import catalogue
from genomes.analysis.probe import probe_hash
from genomes.compiler.canonical import canonical
from genomes.compiler.lowering import lower
from genomes.language.expressions import Expression, call
from genomes.language.genome import Genome, GenomeError, dump, parse
from genomes.language.let import names_in
from genomes.language.parser import parse_expression
from genomes.language.primitives import TABLE
from genomes.language.printer import show

ROOT = Path(__file__).parents[3]
BOUNDS = Limits(nodes=128, states=6, terms=4)
PARENTS = ("adam", "lion", "nadam", "cautious_adanw", "sgd", "adan")


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_mostly_finds_a_sound_child(name):
    parents = [catalogue.load("cautious_adanw"), catalogue.load("lion")]  # genes of every kind
    made = [apply(OPERATORS[name], parents, BOUNDS, random.Random(f"{name} {case}")) for case in range(2)]
    assert sum(child is not None for child in made) >= 2, "an operator that mostly fails earns nothing"


@pytest.mark.parametrize("name", catalogue.names())
def test_every_expression_is_a_tree(name):
    genome = catalogue.load(name)
    for gene in genes(genome):
        if gene[0] != "when":
            scope = scope_of(gene)
            expression = expression_of(genome, gene)
            assert from_tree(to_tree(expression, scope)) == expression


NAMED = parse("""
genome: 1
name: named
lr: 1e-3
let:
  - beta = 0.9
  - m = ema(g, beta)
  - big = abs(g) > 1
  - v from 0 = 0.999 * v + (1 - 0.999) * (g * g)
  - v_hat = v / (1 - 0.999 ** t)
  - warm = min(1, t / 10)
terms:
  - {expr: "where(big, debias(m), g) / (sqrt(v_hat) + 1e-8)"}
gates: ["clip(u, 2)"]
schedule: warm
""")
OTHER_NAMED = parse("""
genome: 1
name: other
lr: 1e-3
let:
  - B from 0 = B - d * d
  - m = ema(g, 0.99)
  - d from 0 = m / max(abs(B), 0.1)
terms:
  - {expr: d}
  - {weight: 0.5, expr: m}
gates: ["u + 0 * B"]
post: ["lookahead(delta, 5, 0.5) + 0.001 * m"]
evaluation: {offset: "0.5 * delta + 0 * d"}
""")


def _names_known(genome: Genome) -> bool:
    """Whether every name has its line, and every value is used below it alone."""
    places = {line.name: -1 if line.is_state else i for i, line in enumerate(genome.let)}
    uses = [(i, name) for i, line in enumerate(genome.let) for name in names_in([line.expr])]
    uses += [(len(genome.let), name) for name in names_in(genome.outside_let)]
    return all(name in places and places[name] < i for i, name in uses)


def check_names_are_varied_with_their_lines(name: str, cases: int) -> None:
    """No name is left without its line, and canonical forms read back; classes and ranges are for `sound` to judge."""
    rng = random.Random(name)
    adam = catalogue.load("adam")
    good = 0
    for _ in range(cases):
        parents = rng.sample([NAMED, OTHER_NAMED, adam, NAMED], 2)
        child = OPERATORS[name](*parents[: OPERATORS[name].parents], rng)
        child = child.genome if isinstance(child, SameStepSize) else child
        form = canonical(child)
        assert _names_known(child)
        assert _names_known(form)
        assert canonical(form) == form
        try:
            assert parse(dump(form)) == form
            lower(form)
            good += 1
        except GenomeError:
            continue
    assert good >= 0.86 * cases


@pytest.mark.parametrize("name", OPERATORS)
def test_names_are_varied_with_their_lines(name):
    check_names_are_varied_with_their_lines(name, 16)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATORS)
def test_names_are_varied_with_their_lines_often(name):
    check_names_are_varied_with_their_lines(name, 150)


@pytest.mark.parametrize("name", ["cross_terms", "cross_genes", "cross_gates"])
def test_a_crossing_keeps_what_names_mean(name):
    """What comes from the second parent acts as it did there: two names that are alike in letters stay apart."""
    for case in range(30):
        child = OPERATORS[name](NAMED, OTHER_NAMED, random.Random(case))
        child = child.genome if isinstance(child, SameStepSize) else child
        for line in child.let:
            assert [str(line)] == [str(one) for one in (*NAMED.let, *_renamed_lines()) if one.name == line.name]


def _renamed_lines():
    _, second = with_names_of(NAMED, OTHER_NAMED)
    assert [str(line) for line in second.let] == [
        "B from 0 = B - d * d",
        "m_2 = ema(g, 0.99)",
        "d from 0 = m_2 / max(abs(B), 0.1)",
    ]
    return second.let


def test_mutation_brings_names_to_new_places():
    children = [OPERATORS["mutate_subtree"](NAMED, random.Random(case)) for case in range(200)]
    genomes_made = [child.genome if isinstance(child, SameStepSize) else child for child in children]
    before = [node.name for tree in NAMED.outside_let for node in tree.walk()].count("v_hat")
    counts = [[n.name for tree in made.outside_let for n in tree.walk()].count("v_hat") for made in genomes_made]
    assert max(counts) > before


def test_genomes_with_names_go_on_varying():
    """A line of descent from named parents: every child is sound, and names stay in it."""
    rng = random.Random(3)
    pool = [NAMED, OTHER_NAMED]
    for _ in range(12):
        pool.append(vary(rng.sample(pool, 2), 0.6, {}, Limits(nodes=200, states=10), rng).genome)
    assert all(sound(made, Limits(nodes=200, states=10)) for made in pool[2:])
    assert any(made.let and made not in (NAMED, OTHER_NAMED) for made in pool)


def test_a_word_that_is_never_drawn_can_be_varied():
    text = 'genome: 1\nname: x\nlr: 1e-3\nterms: [{expr: "rectification(0.99) * g"}]\nschedule: "ema(0.5, 0.9)"'
    for name in ("mutate_subtree", "mutate_node", "mutate_insert", "mutate_shrink", "open_composite"):
        for case in range(15):
            edited(OPERATORS[name], [parse(text)], random.Random(case))


@pytest.mark.parametrize("name", [name for name in TABLE if TABLE[name].group == "composite"])
def test_composites_open_or_stay_whole(name):
    arguments = ", ".join(
        ["g"] + [f"{draw(p.domain, random.Random(1)):g}" for p in TABLE[name].parameters[1:] if p.domain]
    )
    genome = parse(f'genome: 1\nname: x\nlr: 1e-3\nterms: [{{expr: "{name}({arguments})"}}]')
    for case in range(5):
        child = edited(OPERATORS["open_composite"], [genome], random.Random(case))
        assert parse(dump(child)) == child
        assert (name not in dump(child).split("terms:")[1]) == can_open(name)


def test_a_constant_that_is_folded_out_of_its_domain_is_refused():
    genome = parse('genome: 1\nname: x\nlr: 1e-3\nterms: [{expr: "g / (1 + factored_square(g, 0.5))"}]')
    (term,) = genome.terms
    average = call("factored_square", Expression("g"), call("sub", 1, -0.8))  # no text is read as this
    folded = replace(term, expr=call("div", Expression("g"), call("add", 1, average)))
    assert sound(genome, BOUNDS)
    assert not sound(canonical(replace(genome, terms=(folded,))), BOUNDS)


def slope(case: int) -> Callable[[Tensor], Tensor]:
    """The gradient of an ill-conditioned quadratic whose minimum is near 0."""
    generator = torch.Generator().manual_seed(case)
    curvature = 10 ** torch.empty(5, 3, dtype=torch.float64).uniform_(0, 1.5, generator=generator)
    minimum = 0.05 * torch.randn(5, 3, dtype=torch.float64, generator=generator)
    return lambda params: curvature * (params - minimum)


def trained(genome: Genome, gradient: Callable[[Tensor], Tensor], steps: int) -> Tensor:
    """The parameters after so many steps from 0 along ``gradient``, by the public interface. 10 steps are an epoch."""
    optimizer, params = genomes.optimizer(genome), [torch.zeros(5, 3, dtype=torch.float64)]
    state = optimizer.init(params)
    for step in range(steps):
        loss = None if step < 10 else 0.9 ** (step // 10)
        clock = {"epoch": step // 10, "train_loss": loss, "val_loss": loss}
        updates, state = optimizer.update([gradient(params[0])], state, params, **clock)
        params = [params[0] + updates[0]]
    return params[0]


def test_chains_of_variation_give_optimizers_that_can_be_written_run_and_follow_the_gradient():
    rng = random.Random(4)
    population = [catalogue.load(name) for name in ("sgd", "lion", "adam")]  # plain ones, which are easily broken
    blind = 0  # in the first steps: an optimizer may wait longer than these
    for _ in range(25):
        parents = rng.sample(population, 2)
        child = vary(parents, 0.5, {}, BOUNDS, rng).genome
        assert parse(dump(child)) == child
        there, elsewhere = (trained(child, slope(case), 12) for case in (0, 1))
        assert there.isfinite().all()
        blind += torch.allclose(there, elsewhere, rtol=1e-6, atol=0)
        population[rng.randrange(len(population))] = child
    assert blind <= 3


def test_the_same_key_gives_the_same_child_and_leaves_global_random_alone():
    parents = [catalogue.load("adam"), catalogue.load("lion")]
    random.seed(1)
    before = random.getstate()
    first = [vary(parents, 0.5, {}, BOUNDS, random.Random(i)) for i in range(10)]
    assert random.getstate() == before
    random.seed(99)
    assert [vary(parents, 0.5, {}, BOUNDS, random.Random(i)) for i in range(10)] == first


def test_an_operator_with_two_parents_is_chosen_with_the_probability_of_crossover(monkeypatch):
    monkeypatch.setattr("evo.search.variation.vary.apply", lambda chosen, parents, limits, rng: parents[0])
    parents = [catalogue.load("adam"), catalogue.load("lion")]

    def share(parents: list[Genome], crossover: float) -> float:
        made = [vary(parents, crossover, {}, BOUNDS, random.Random(case)) for case in range(1000)]
        assert all(child.parents == OPERATORS[child.operator].parents for child in made)
        return sum(child.parents == 2 for child in made) / len(made)

    assert [share(parents, crossover) for crossover in (0.0, 0.2, 0.8, 1.0)] == pytest.approx(
        [0.0, 0.2, 0.8, 1.0], abs=0.05
    )
    assert share(parents[:1], 1.0) == 0.0


def test_weights_of_zero_switch_operators_off():
    weights = {name: 0.0 for name in OPERATORS if name != "mutate_lr"}
    children = [vary([catalogue.load("adam")], 0.5, weights, BOUNDS, random.Random(i)) for i in range(10)]
    assert {child.operator for child in children} == {"mutate_lr"}


def test_an_operator_that_is_not_named_has_its_own_weight():
    parents, own = [catalogue.load("adam"), catalogue.load("lion")], {o.name: o.weight for o in OPERATORS.values()}
    for case in range(5):
        children = [vary(parents, 0.5, weights, BOUNDS, random.Random(case)) for weights in ({}, own)]
        assert children[0] == children[1]


def test_bounds_hold():
    tight = Limits(nodes=20, states=2, terms=1)
    for case in range(20):
        child = vary([catalogue.load("adam"), catalogue.load("lion")], 0.5, {}, tight, random.Random(case)).genome
        assert child.size <= 20
        assert len(child.terms) == 1
        assert buffers(child) <= 2


def test_random_genomes_differ_and_descend():
    drawn = [random_genome(f"r{i}", BOUNDS, random.Random(i)) for i in range(6)]
    assert len({probe_hash(g) for g in drawn}) >= 5
    for genome in drawn:
        assert parse(dump(genome)) == genome
        gradient = slope(2)
        start, end = gradient(torch.zeros(5, 3, dtype=torch.float64)), gradient(trained(genome, gradient, 60))
        assert end.norm() < start.norm(), genome.name


@pytest.mark.parametrize(
    "expr", ["0 * g", "g * g", "theta", "abs(g)", "1", "t", "1e30 * exp(g) * exp(g)"], ids=lambda e: e
)
def test_screening_refuses_what_cannot_train(expr):
    genome = parse(f'genome: 1\nname: bad\nlr: 1\nterms: [{{expr: "{expr}"}}]')
    assert not (sound(genome, BOUNDS) and screening.descends(genome))


@pytest.mark.parametrize(
    "expr",
    [
        "where(t > 3, g, 0)", "where(epoch >= 30, g, 0)", "where(has_loss, g, 0)", "where(val_loss > train_loss, g, 0)",
        "prev(prev(prev(prev(g))))", "where(t % 8 == 0, ema(g, 0.9), 0)", "where(t % 64 == 0, ema(g, 0.9), 0)",
        "where(epoch % 3 == 2, g, 0)", "where(t > 200, sign(g), 0)",
    ],
    ids=lambda e: e,
)  # fmt: skip
def test_screening_accepts_what_waits(expr):
    genome = parse(f'genome: 1\nname: late\nlr: 1e-3\nterms: [{{expr: "{expr}"}}]')
    assert screening.problem(genome) is None
    assert sound(genome, BOUNDS)
    assert screening.update_size(genome) > 0
    assert screening.descends(genome)


@pytest.mark.parametrize(
    "expr",
    [
        "g * g", "abs(g)", "norm(g) * theta", "where(rows > 100, g, 0)", "where(layer_count > 20, g, 0)",
        "where(model_size > 10000, g, 0)", "where(epoch > 900, g, 0)",
    ],
    ids=lambda e: e,
)  # fmt: skip
def test_whatever_follows_the_gradient_acts(expr):
    assert screening.acts(parse(f'genome: 1\nname: x\nlr: 1e-3\nterms: [{{expr: "{expr}"}}]'))


@pytest.mark.parametrize(
    ("expr", "problem"),
    [
        ("theta", "its updates do not read the gradient"),
        ("theta + 0 * g", "its updates do not read the gradient"),
        ("prev(theta) + t", "its updates do not read the gradient"),
        (
            "sign(g * g)",
            "other gradients give the same updates, in 406 steps of epochs 0 to 999, on networks of 80 and ",
        ),
        ("where(t < 0, g, 0)", "it never moves, in 406 steps of epochs 0 to 999, on networks of 80 and"),
        ("exp(g * g) * exp(g * g) * 1e300", "its updates do not stay finite, in "),
    ],
    ids=str,
)
def test_screening_says_what_it_saw(expr, problem):
    found = screening.problem(parse(f'genome: 1\nname: x\nlr: 1e-3\nterms: [{{expr: "{expr}"}}]'))
    assert found is not None
    assert found.startswith(problem)


def test_screening_takes_the_gradient_where_the_genome_queries_it():
    genome = 'genome: 1\nname: x\nlr: 1e-3\nterms: [{expr: "sign(g)"}]\n'
    assert screening.descends(parse(genome))
    assert screening.descends(parse(genome + "query: {offset: delta, when: t > 0}"))
    astray = parse(genome + "query: {offset: 1000 * delta, when: t > 0}")
    assert screening.acts(astray)
    assert not screening.descends(astray), "it sees the gradient of a place far away"


def test_a_query_does_not_count_as_an_update():
    genome = 'genome: 1\nname: x\nlr: 1e-3\nterms: [{expr: "sign(g)"}]\n'
    queried = parse(genome + "query: {offset: 100 * delta, when: t > 0}")
    assert screening.update_size(queried) == screening.update_size(parse(genome))


def test_a_child_that_differs_late_is_no_copy_of_its_parent():
    parent = parse('genome: 1\nname: x\nlr: 1e-3\nterms: [{expr: "adam(g)"}]\npost: ["lookahead(delta, 20, 0.5)"]')
    child = parse('genome: 1\nname: x\nlr: 1e-3\nterms: [{expr: "adam(g)"}]\npost: ["lookahead(delta, 30, 0.5)"]')
    assert probe_hash(child) == probe_hash(parent)
    assert apply(Operator("other", 1, 1.0, lambda genome, rng: child), [parent], BOUNDS, random.Random(0)) == canonical(
        child
    )
    assert apply(Operator("same", 1, 1.0, lambda genome, rng: genome), [parent], BOUNDS, random.Random(0)) is None


def test_screening_accepts_every_known_optimizer():
    assert [
        n for n in PARENTS if not screening.descends(catalogue.load(n)) or not screening.acts(catalogue.load(n))
    ] == []


@pytest.mark.parametrize("scope", ["", "gates", "post", "schedule"])
def test_trees_and_expressions_are_two_forms_of_one_thing(scope):
    for case in range(50):
        rng = random.Random(f"{scope} {case}")
        kind = primitive_set(scope).ret if scope == "schedule" else Value
        nodes = grow(scope, kind, 4, rng)
        expression = from_tree(nodes)
        assert parse_expression(show(expression), scope if scope in ("gates", "post") else "") == expression
        assert from_tree(to_tree(expression, scope)) == expression


def test_drawn_and_perturbed_constants_keep_to_their_domain():
    rng = random.Random(0)
    for primitive in TABLE.values():
        for parameter in primitive.parameters:
            if (domain := parameter.domain) is None:
                continue
            assert domain_type(domain) is domain_type(domain)
            value = draw(domain, rng)
            for _ in range(50):
                assert domain.low <= value <= domain.high, (primitive.name, parameter.name, value)
                value = perturbed(value, domain, rng)


def test_the_names_of_operators_come_without_torch():
    code = "import sys; from evo.search.variation.registry import OPERATORS; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
