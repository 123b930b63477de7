"""Every operator of variation does what its name says, and touches nothing else."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import pytest

from evo.recipe.schema import Limits
from evo.search import screening
from evo.search.variation import measuring, mutation
from evo.search.variation.operator import SameStepSize
from evo.search.variation.paths import Path, at, expression_of, genes, literals, paths, replaced
from evo.search.variation.random_parts import with_random_evaluation
from evo.search.variation.registry import OPERATORS
from evo.search.variation.vary import edited, sound
from genomes import catalogue
from genomes.analysis.calibration import switched_off
from genomes.analysis.probe import probe_hash
from genomes.language.expressions import Expression, number
from genomes.language.genome import ALWAYS, MAX_GATES, MAX_TERMS, ONE, Decay, Genome, parse
from genomes.language.parser import parse_expression
from genomes.language.primitives import TABLE

FULL = parse("""
genome: 1
name: full
lr: 1.23456e-3
terms:
  - {weight: 1.0, expr: "adam(g, 0.9, 0.99)"}
  - {weight: 0.5, expr: "sign(0.3 * ema(g, 0.9) + 0.7 * g)"}
gates: ["cautious(u, 0.25)", "clip_rms(u, 2)"]
decay: {kind: decoupled, rate: 0.01, roles: [weight]}
schedule: "linear_warmup(5) * cosine(100, 0.1)"
roles: {bias: 0.5, norm_scale: 2.0}
query: {offset: "0.5 * delta", when: "mod(t, 2) == 0"}
post: ["lookahead(delta, 5, 0.5)"]
evaluation: {offset: "0.5 * delta + calibration()", from: 3}
""")
OTHER = parse("""
genome: 1
name: other
lr: 3e-2
terms:
  - {weight: 2.0, expr: "momentum(g, 0.95)"}
  - {weight: -0.25, expr: "tanh(g) * abs(theta)"}
gates: ["trust_ratio(u)", "centralise(u)"]
decay: {kind: coupled, rate: 0.001, roles: [weight, bias]}
schedule: "exponential_decay(0.95)"
roles: {first: 3.0}
""")
G = Expression("g")
BARE = parse('{genome: 1, name: bare, lr: 0.1, terms: [{expr: "g"}]}')


def changed(before: Genome, after: Genome) -> set[str]:
    """The genes that differ."""
    return {f.name for f in fields(Genome) if getattr(before, f.name) != getattr(after, f.name)}


def without_numbers(expression: Expression) -> Expression:
    for path, _ in literals(expression):
        expression = replaced(expression, path, number(0.5))
    return expression


def changed_expression(before: Genome, after: Genome) -> tuple[str, Expression, Expression]:
    """The one expression that differs: the kind of its gene, and how it was and is."""
    assert genes(before) == genes(after)
    (gene,) = [gene for gene in genes(before) if expression_of(before, gene) != expression_of(after, gene)]
    assert changed(before, after) <= {"query" if gene[0] in ("offset", "when", "outputs") else gene[0].split()[0]}
    return gene[0], expression_of(before, gene), expression_of(after, gene)


def changed_path(old: Expression, new: Expression) -> Path:
    """The path to the smallest subtree that holds every difference."""
    differing = [i for i, (a, b) in enumerate(zip(old.arguments, new.arguments, strict=False)) if a != b]
    if old.name == new.name and len(differing) == 1 and len(old.arguments) == len(new.arguments):
        (i,) = differing
        return (i, *changed_path(old.arguments[i], new.arguments[i]))
    return ()


def changed_node(old: Expression, new: Expression) -> tuple[Expression, Expression]:
    """The smallest subtrees at one place that hold every difference."""
    path = changed_path(old, new)
    return at(old, path), at(new, path)


def places(old: Expression, new: Expression) -> list[tuple[Expression, Expression]]:
    """The subtrees (old, new) at each place where the new in the old's place is all that differs."""
    both = [(path, part) for path, part in paths(old) if path in dict(paths(new))]
    return [(part, at(new, path)) for path, part in both if replaced(old, path, at(new, path)) == new]


def is_head_and_tail(joined: Sequence, first: Sequence, second: Sequence) -> bool:
    """Whether the joined items are the first ones of ``first`` and the last ones of ``second``."""
    return any((*first[:i], *second[j:]) == (*joined,) for i in range(len(first) + 1) for j in range(len(second) + 1))


def is_schedule_factor(expression: Expression) -> bool:
    """Whether it is one of the table's schedules, with literals."""
    known = TABLE.get(expression.name)
    return known is not None and known.group == "schedule" and all(a.value is not None for a in expression.arguments)


# --- one check for each operator, which names what was done ----------------------------------------------------------


def lr(child: Genome, parent: Genome) -> str:
    assert changed(parent, child) == {"lr"}
    return "more" if child.lr > parent.lr else "less"


def constant(child: Genome, parent: Genome) -> str:
    kind, old, new = changed_expression(parent, child)
    assert without_numbers(old) == without_numbers(new)
    assert len([1 for path, _ in literals(old) if at(old, path) != at(new, path)]) == 1
    return kind


def weight(child: Genome, parent: Genome) -> str:
    assert changed(parent, child) == {"terms"}
    assert [t.expr for t in child.terms] == [t.expr for t in parent.terms]
    ((old, new),) = [(o.weight, n.weight) for o, n in zip(parent.terms, child.terms, strict=True) if o != n]
    return "sign" if old * new < 0 else "more" if new > old else "less"


def role(child: Genome, parent: Genome) -> str:
    assert changed(parent, child) == {"roles"}
    old, new = dict(parent.roles), dict(child.roles)
    assert len([r for r in old.keys() | new.keys() if old.get(r, 1.0) != new.get(r, 1.0)]) == 1
    return "removed" if len(new) < len(old) else "added" if len(new) > len(old) else "changed"


def decay(child: Genome, parent: Genome) -> str:
    assert changed(parent, child) == {"decay"}
    old, new = parent.decay, child.decay
    if "none" in (old.kind, new.kind):
        return "removed" if new == Decay() else f"added {new.kind}"
    ((what, _),) = [(f.name, f) for f in fields(Decay) if getattr(old, f.name) != getattr(new, f.name)]
    return what


def subtree(child: Genome, parent: Genome) -> str:
    """The gene; `test_every_place_of_an_expression_is_replaced_alone` looks at which subtree it is."""
    kind, _, _ = changed_expression(parent, child)
    return kind


def node(child: Genome, parent: Genome) -> str:
    kind, old, new = changed_expression(parent, child)
    before, after = changed_node(old, new)
    assert before.name != after.name or before.value != after.value
    assert before.arguments == after.arguments
    return kind


def insert(child: Genome, parent: Genome) -> str:
    kind, old, new = changed_expression(parent, child)
    assert any(part in whole.arguments for part, whole in places(old, new))
    return kind


def shrink(child: Genome, parent: Genome) -> str:
    kind, old, new = changed_expression(parent, child)
    assert any(part in whole.arguments for whole, part in places(old, new))
    return kind


def opened(child: Genome, parent: Genome) -> str:
    """The composite that is gone; `test_an_opened_composite_acts_as_before` looks at what stands in its place."""
    before, after = ([n.name for g in genes(x) for _, n in paths(expression_of(x, g))] for x in (parent, child))
    (gone,) = {name for name in before if mutation.can_open(name) and after.count(name) < before.count(name)}
    return gone


def add(child: Genome, parent: Genome) -> str:
    assert changed(parent, child) == {"terms"}
    assert child.terms[:-1] == parent.terms
    assert 0 < abs(child.terms[-1].weight) < 1
    return "added"


def drop(child: Genome, parent: Genome) -> str:
    assert changed(parent, child) == {"terms"}
    return next(f"{i}" for i in range(len(parent.terms)) if child.terms == parent.terms[:i] + parent.terms[i + 1 :])


def gates(child: Genome, parent: Genome) -> str:
    assert changed(parent, child) == {"gates"}
    fewer, more = sorted((parent.gates, child.gates), key=len)
    if len(fewer) == len(more):
        assert sorted(map(repr, fewer)) == sorted(map(repr, more))
        return "moved"
    assert any(more[:i] + more[i + 1 :] == fewer for i in range(len(more)))
    return "added" if more == child.gates else "removed"


def post(child: Genome, parent: Genome) -> str:
    assert changed(parent, child) == {"post"}
    fewer, more = sorted((parent.post, child.post), key=len)
    assert more[:-1] == fewer
    return "added" if more == child.post else "removed"


def schedule(child: Genome, parent: Genome) -> str:
    assert changed(parent, child) == {"schedule"}
    if child.schedule == ONE:
        return "removed"
    new = child.schedule
    if new.name == "mul" and new.arguments[0] == parent.schedule:
        assert is_schedule_factor(new.arguments[1])
        return "factor"
    if all(map(is_schedule_factor, new.arguments if new.name == "mul" else (new,))):
        return "new"
    assert not {node.name for _, node in paths(new)} & {"g", "theta", "u", "delta"}, "the same for all parameters"
    return "anything"


def query(child: Genome, parent: Genome) -> str:
    assert changed(parent, child) == {"query"}
    if child.query is None:
        return "removed"
    ahead, delta = child.query.offset.arguments
    assert (child.query.offset.name, delta, ahead.arguments) == ("mul", Expression("delta"), ())
    assert ahead.value
    assert abs(ahead.value) <= 10
    (period,) = [k for k in (2, 3, 4, 8) if child.query.when == parse_expression(f"mod(t, {k}) == 0")]
    return f"{'ahead' if ahead.value > 0 else 'behind'} every {period}"


def evaluation(child: Genome, parent: Genome) -> str:
    assert changed(parent, child) <= {"query", "evaluation"}
    if child.evaluation is None:
        assert child.query == replace(parent.query, outputs=())
        return "removed"
    applied = _applied(child)
    if parent.evaluation is None:
        assert _measured(child) in MEASURED
        return "new"
    old, new = parent.evaluation, child.evaluation
    if child.query == parent.query and replace(new, when=old.when) == old:
        assert applied != "late" or new.when.arguments[1].value > new.start
        return f"when {applied}"
    if child.query == parent.query and replace(new, start=old.start) == old:
        return "start"
    if new == old:
        return "training"
    if new == replace(old, offset=new.offset) and old.offset in new.offset.arguments:
        return "norms" if new.offset.arguments[1].name == "norm_gain" else "average"
    if new == replace(old, offset=new.offset) and switched_off(new.offset, {}) == switched_off(old.offset, {}):
        return f"by {_measured(child).removesuffix(' late')}"
    assert _measured(child) in MEASURED
    return "new"


def _applied(genome: Genome) -> str:
    """In which epochs it is evaluated elsewhere."""
    evaluation = genome.evaluation
    if evaluation.when == ALWAYS:
        return "always"
    if evaluation.when in [parse_expression(f"epoch % {k} == 0") for k in (2, 3, 4)]:
        return "every few"
    epoch, late = evaluation.when.arguments
    assert (evaluation.when.name, epoch) == ("gt", Expression("epoch"))
    assert late.value >= 1
    return "late"


def _measured(genome: Genome) -> str:
    """By which losses it measures the outputs' mean, and from which epoch on."""
    found = measuring.ways(genome)
    probes = genome.query.outputs if genome.query else ()
    assert [probe.name for probe in probes] == ["output_probe"] * 2 * ("training" in found)
    assert [probe.arguments[0].value for probe in probes] == [0, 1][: len(probes)]
    assert len({probe.arguments[1] for probe in probes}) <= 1
    late = " late" if any(probe.arguments[1].value > 1 for probe in probes) else ""
    return " and ".join(sorted(found)) + late


def cross_terms(child: Genome, first: Genome, second: Genome) -> str:
    assert changed(first, child) == {"terms"}
    assert is_head_and_tail(child.terms, first.terms, second.terms)
    return f"{sum(t in first.terms for t in child.terms)}+{sum(t in second.terms for t in child.terms)}"


def cross_genes(child: Genome, first: Genome, second: Genome) -> str:
    taken = changed(first, child)
    assert taken <= {"decay", "schedule", "roles", "gates", "post", "query", "evaluation"}
    assert all(getattr(child, gene) == getattr(second, gene) for gene in taken)
    return " ".join(sorted(taken)) if len(taken) == 1 else "more"


def cross_subtrees(child: Genome, first: Genome, second: Genome) -> str:
    kind, old, new = changed_expression(first, child)
    donated = [part for term in second.terms for _, part in paths(term.expr)]
    assert any(part in donated for _, part in places(old, new))
    return kind


def cross_gates(child: Genome, first: Genome, second: Genome) -> str:
    assert changed(first, child) == {"gates"}
    assert is_head_and_tail(child.gates, first.gates, second.gates)
    return f"{sum(t in first.gates for t in child.gates)}+{sum(t in second.gates for t in child.gates)}"


@dataclass(frozen=True)
class Effect:
    """``check``: takes child and parents, fails where the operator did what it must not, else names what it did.

    ``on_full``: what it does to FULL, each of these for some seed and nothing else. ``on_bare``: the same for BARE.
    """

    check: Callable[..., str]
    on_full: set[str]
    on_bare: frozenset[str] | set[str] = frozenset()


TREES = {"terms", "gates", "schedule", "post", "offset", "evaluation"}
SUMS = {"0+1", "0+2", "1+0", "1+1", "1+2", "2+1", "2+2"}
BEGUN_DECAYS = {"added coupled", "added decoupled", "added cautious", "added start"}
QUERIES = {f"{side} every {period}" for side in ("ahead", "behind") for period in (2, 3, 4, 8)}
APPLIED = {"always", "late", "every few"}
MEASURED = {"", "training", "training late", "validation", "training and validation", "training and validation late"}
EVALUATIONS = {"new", "start", "when late", "when every few", "average", "norms", "training", "removed"}
EVALUATIONS |= {"by validation", "by training and validation"}
EFFECTS = {
    "mutate_lr": Effect(lr, {"more", "less"}),
    "mutate_constant": Effect(constant, {*TREES, "when"}),
    "mutate_weight": Effect(weight, {"more", "less", "sign"}),
    "mutate_role": Effect(role, {"added", "removed", "changed"}, {"added"}),
    "mutate_decay": Effect(decay, {"rate", "kind", "roles", "removed"}, BEGUN_DECAYS),
    "mutate_subtree": Effect(subtree, TREES),
    "mutate_node": Effect(node, TREES),
    "mutate_insert": Effect(insert, TREES),
    "mutate_shrink": Effect(shrink, {"terms", "evaluation"}),  # below a root, which others have no room for
    "open_composite": Effect(opened, {"adam"}),
    "add_term": Effect(add, {"added"}, {"added"}),
    "drop_term": Effect(drop, {"0", "1"}),
    "mutate_gates": Effect(gates, {"added", "removed", "moved"}, {"added"}),
    "mutate_post": Effect(post, {"added", "removed"}, {"added"}),
    "mutate_schedule": Effect(schedule, {"new", "factor", "anything", "removed"}, {"new", "anything"}),
    "mutate_query": Effect(query, {*QUERIES, "removed"}, QUERIES),
    "mutate_evaluation": Effect(evaluation, EVALUATIONS, {"new"}),
    "cross_terms": Effect(cross_terms, SUMS),
    "cross_genes": Effect(cross_genes, {"decay", "schedule", "roles", "gates", "post", "more"}),
    "cross_subtrees": Effect(cross_subtrees, {"terms"}),
    "cross_gates": Effect(cross_gates, {*SUMS, "0+0"}),
}


def children(name: str, parents: Sequence[Genome], count: int = 300) -> list[Genome]:
    """What the operator makes of the parents, where it is another genome; at the learning rate that it leaves."""
    found = []
    for case in range(count):
        child = OPERATORS[name](*parents[: OPERATORS[name].parents], random.Random(f"{name} {case}"))
        found.append(child.genome if isinstance(child, SameStepSize) else child)
    return [child for child in found if child != parents[0]]


def test_every_operator_is_in_the_table():
    assert EFFECTS.keys() == OPERATORS.keys()


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_does_what_it_is_for_and_nothing_else(name):
    effect = EFFECTS[name]
    for first, expected in ((FULL, effect.on_full), (BARE, effect.on_bare)):
        if expected:
            parents = (first, OTHER)[: OPERATORS[name].parents]
            assert {effect.check(child, *parents) for child in children(name, parents)} == expected


@pytest.mark.parametrize(
    ("name", "parent", "instead"),
    [
        ("mutate_constant", BARE, "mutate_lr"),
        ("open_composite", BARE, "mutate_node"),
        ("drop_term", BARE, "mutate_node"),
        ("add_term", replace(FULL, terms=FULL.terms[:1] * MAX_TERMS), "drop_term"),
    ],
)
def test_an_operator_that_finds_nothing_to_do_gives_way(name, parent, instead):
    for case in range(20):
        assert OPERATORS[name](parent, random.Random(case)) == OPERATORS[instead](parent, random.Random(case))


def test_an_opened_composite_acts_as_before(monkeypatch):
    monkeypatch.setattr(mutation, "mutate_constant", lambda genome, rng: genome)
    (child,) = set(children("open_composite", [FULL]))
    assert probe_hash(child) == probe_hash(FULL)


@pytest.mark.parametrize(("name", "first"), [("mutate_subtree", 0), ("mutate_node", 1)])  # DEAP leaves the root's node
def test_every_place_of_an_expression_is_replaced_alone(name, first):
    parent = parse('{genome: 1, name: x, lr: 0.1, terms: [{expr: "sign(0.3 * ema(g, 0.9) + 0.7 * g)"}]}')
    old = parent.terms[0].expr
    made = [child.terms[0].expr for child in children(name, [parent])]
    replaced_at = [changed_path(old, new) for new in made]
    assert set(replaced_at) == {path for path, _ in paths(old)[first:]}
    if name == "mutate_subtree":
        leaf = [at(new, path).size for new, path in zip(made, replaced_at, strict=True) if at(old, path) == G]
        assert min(leaf) == 1
        assert max(leaf) > 3, "a subtree may grow where a leaf was"


def test_a_list_of_gates_does_not_outgrow_the_language():
    parent = replace(FULL, gates=FULL.gates[:1] * MAX_GATES, post=FULL.post * MAX_GATES)
    for name in ("mutate_gates", "mutate_post", "cross_gates"):
        assert all(max(len(c.gates), len(c.post)) <= MAX_GATES for c in children(name, [parent, parent]))


@pytest.mark.parametrize("name", OPERATORS)
def test_where_the_direction_changes_the_updates_stay_about_as_large(name):
    sized = {"mutate_subtree", "mutate_node", "mutate_insert", "mutate_shrink", "drop_term"}
    sized |= {"cross_terms", "cross_genes", "cross_subtrees"}
    parents = [replace(FULL, gates=(), schedule=ONE, query=None, post=(), evaluation=None), OTHER]
    asked = [OPERATORS[name](*parents[: OPERATORS[name].parents], random.Random(case)) for case in range(8)]
    assert {isinstance(child, SameStepSize) for child in asked} == {name in sized}
    for case, child in enumerate(asked):
        if isinstance(child, SameStepSize) and screening.with_update_size(child.genome, 1e-3):
            made = edited(OPERATORS[name], parents, random.Random(case))
            assert screening.update_size(made) == pytest.approx(screening.update_size(parents[0]), rel=0.2)


def test_a_random_evaluation_says_all_that_the_gene_can():
    made = [with_random_evaluation(FULL, random.Random(case)) for case in range(400)]
    assert {_applied(genome) for genome in made} == APPLIED
    assert {_measured(genome) for genome in made} == MEASURED


@pytest.mark.parametrize("way", measuring.WAYS, ids=lambda way: " and ".join(sorted(way)))
def test_every_way_to_measure_the_mean_leads_to_the_others(way):
    """From a genome that measures one way, in late epochs alone; a child of each form is sound."""
    parent = measuring.measured_by(catalogue.load("calibrated_adam"), way, random.Random(0))
    parent = replace(parent, evaluation=replace(parent.evaluation, when=parse_expression("epoch > 20")))
    made = children("mutate_evaluation", [parent], 150)
    forms = {form: child for child in made if child.evaluation for form in (measuring.ways(child), _applied(child))}
    assert forms.keys() >= {*measuring.WAYS, *APPLIED}
    assert all(sound(child, Limits()) for child in forms.values())  # within limits, and parses back
    for other in measuring.WAYS:
        back = measuring.measured_by(measuring.measured_by(parent, other, random.Random(1)), way, random.Random(2))
        assert measuring.ways(back) == way
        assert bool(back.query.outputs) == ("training" in way)
