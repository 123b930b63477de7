"""Mutations: how one genome makes a child. Each is one function, with its weight in the decorator."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from deap import gp

from evo.randomness import global_random
from evo.search.variation.constants import draw, perturbed, rounded, scaled
from evo.search.variation.deap_trees import Average, Mask, Square, Type, Value, from_tree, grow, primitive_set, to_tree
from evo.search.variation.measuring import WAYS, measured_by, ways
from evo.search.variation.operator import Edited, SameStepSize, operator
from evo.search.variation.paths import (
    Gene,
    at,
    expression_of,
    genes,
    literals,
    paths,
    replaced,
    scope_of,
    with_expression,
    with_term,
)
from evo.search.variation.random_parts import (
    random_average,
    random_factor,
    random_gate,
    random_norm_gain,
    random_schedule,
    random_term,
    random_weight,
    with_random_calibration,
    with_random_evaluation,
    with_random_when,
    with_training_at_evaluation,
)
from genomes.language.decay import DECAYING
from genomes.language.expressions import Expression, call, number
from genomes.language.genome import (
    ALWAYS,
    LR_RANGE,
    MAX_GATES,
    MAX_TERMS,
    ONE,
    RATE_RANGE,
    ROLE_RANGE,
    ROLES,
    TENSOR_ROLES,
    WEIGHT_RANGE,
    Decay,
    Evaluation,
    Genome,
    Query,
    Term,
)
from genomes.language.let import kinds, visible
from genomes.language.parser import body
from genomes.language.primitives import TABLE, Domain

_NAMES = 0.3  # probability of a name where a subtree could grow
_START = Domain(0, 1000, (1, 100), "integer", "epochs")


@operator(parents=1, weight=2.0)
def mutate_lr(parent: Genome, rng: random.Random) -> Genome:
    """The learning rate, by a factor of 2 or so."""
    return replace(parent, lr=scaled(parent.lr, 1.0, LR_RANGE, rng))


@operator(parents=1, weight=3.0)
def mutate_constant(parent: Genome, rng: random.Random) -> Edited:
    """One literal of one expression, on the scale of its domain; the learning rate where there is none."""
    places = [(gene, path) for gene in genes(parent) for path in literals(expression_of(parent, gene))]
    if not places:
        return mutate_lr(parent, rng)
    gene, (path, domain) = rng.choice(places)
    expression = expression_of(parent, gene)
    old = at(expression, path).value
    assert old is not None, "a literal has a value"
    return with_expression(parent, gene, replaced(expression, path, number(perturbed(old, domain, rng))))


@operator(parents=1, weight=1.0)
def mutate_weight(parent: Genome, rng: random.Random) -> Genome:
    """The weight of one term; its sign now and then."""
    i = rng.randrange(len(parent.terms))
    weight = scaled(parent.terms[i].weight, 1.0, WEIGHT_RANGE, rng) * (-1 if rng.random() < 0.05 else 1)
    return with_term(parent, i, replace(parent.terms[i], weight=weight))


@operator(parents=1, weight=1.0)
def mutate_role(parent: Genome, rng: random.Random) -> Genome:
    """The learning-rate multiplier of one role, or of all back to 1."""
    roles = dict(parent.roles)
    role = rng.choice(ROLES)
    if role in roles and rng.random() < 0.15:
        del roles[role]
    else:
        roles[role] = scaled(roles.get(role, 1.0), 1.2, ROLE_RANGE, rng)
    return replace(parent, roles=tuple((r, roles[r]) for r in ROLES if roles.get(r, 1.0) != 1))


@operator(parents=1, weight=1.0)
def mutate_decay(parent: Genome, rng: random.Random) -> Genome:
    """Rate, kind or roles of the weight decay; it appears and vanishes too."""
    decay = parent.decay
    if decay.kind == "none":
        kind = rng.choice(DECAYING)
        return replace(parent, decay=Decay(kind, rounded(10 ** rng.uniform(-4, -1)), ("weight",)))
    match rng.choices(("rate", "kind", "roles", "none"), (5, 2, 2, 1))[0]:
        case "rate":
            decay = replace(decay, rate=scaled(decay.rate, 1.0, RATE_RANGE, rng))
        case "kind":
            decay = replace(decay, kind=rng.choice(DECAYING))
        case "roles":
            role = rng.choice(TENSOR_ROLES)
            roles = set(decay.roles) ^ {role} or {"weight"}
            decay = replace(decay, roles=tuple(r for r in TENSOR_ROLES if r in roles))
        case "none":
            decay = Decay()
    return replace(parent, decay=decay)


@operator(parents=1, weight=1.0)
def mutate_subtree(parent: Genome, rng: random.Random) -> Edited:
    """A random subtree in place of one (DEAP's mutUniform)."""
    return _by_deap(
        parent,
        rng,
        lambda tree, gene: gp.mutUniform(tree, _grower(parent, gene, rng), primitive_set(scope_of(gene))),
    )


@operator(parents=1, weight=1.5)
def mutate_node(parent: Genome, rng: random.Random) -> Edited:
    """Another primitive with the same arguments, or another leaf (DEAP's mutNodeReplacement)."""
    return _by_deap(parent, rng, lambda tree, gene: gp.mutNodeReplacement(tree, primitive_set(scope_of(gene))))


@operator(parents=1, weight=1.0)
def mutate_insert(parent: Genome, rng: random.Random) -> Edited:
    """A primitive around a subtree (DEAP's mutInsert)."""
    return _by_deap(parent, rng, lambda tree, gene: gp.mutInsert(tree, primitive_set(scope_of(gene))))


@operator(parents=1, weight=1.0)
def mutate_shrink(parent: Genome, rng: random.Random) -> Edited:
    """A subtree in place of the one around it, below the root (DEAP's mutShrink)."""
    return _by_deap(parent, rng, lambda tree, gene: gp.mutShrink(tree))


@operator(parents=1, weight=0.5)
def open_composite(parent: Genome, rng: random.Random) -> Edited:
    """A composite such as adam(...) written out in its parts, so that they can vary one by one."""
    places = [
        (gene, path)
        for gene in genes(parent)
        for path, node in paths(expression_of(parent, gene))
        if can_open(node.name)
    ]
    if not places:
        return mutate_node(parent, rng)
    gene, path = rng.choice(places)
    expression = expression_of(parent, gene)
    opened = replaced(expression, path, _opened(at(expression, path)))
    return mutate_constant(with_expression(parent, gene, opened), rng)


@operator(parents=1, weight=1.0)
def add_term(parent: Genome, rng: random.Random) -> Edited:
    """A random term more, weighted to be smaller than the others; one less where there is no room."""
    if len(parent.terms) >= MAX_TERMS:
        return drop_term(parent, rng)
    term = Term(rounded(random_weight(rng) * 0.3), random_term(rng))
    return replace(parent, terms=(*parent.terms, term))


@operator(parents=1, weight=0.7)
def drop_term(parent: Genome, rng: random.Random) -> Edited:
    """A term less; a lone term stays and loses a node (``mutate_node``)."""
    if len(parent.terms) == 1:
        return mutate_node(parent, rng)
    i = rng.randrange(len(parent.terms))
    return SameStepSize(replace(parent, terms=parent.terms[:i] + parent.terms[i + 1 :]))


@operator(parents=1, weight=1.0)
def mutate_gates(parent: Genome, rng: random.Random) -> Genome:
    """A gate more, less or moved."""
    gates = list(parent.gates)
    if gates and rng.random() < 0.4:
        gates.pop(rng.randrange(len(gates)))
    elif len(gates) > 1 and rng.random() < 0.2:
        rng.shuffle(gates)
    elif len(gates) < MAX_GATES:
        gates.insert(rng.randrange(len(gates) + 1), random_gate("gates", rng))
    return replace(parent, gates=tuple(gates))


@operator(parents=1, weight=0.3)
def mutate_post(parent: Genome, rng: random.Random) -> Genome:
    """A step after the learning rate (lookahead, caps, averages of updates) more or less."""
    if parent.post and rng.random() < 0.5:
        return replace(parent, post=parent.post[:-1])
    return replace(parent, post=(*parent.post, random_gate("post", rng))[:MAX_GATES])


@operator(parents=1, weight=1.5)
def mutate_schedule(parent: Genome, rng: random.Random) -> Genome:
    """Another schedule, one factor more, or none."""
    schedule = parent.schedule
    match rng.choices(("new", "factor", "none"), (3, 3, 1))[0]:
        case "new":
            schedule = random_schedule(rng)
        case "factor":
            schedule = random_factor(rng) if schedule == ONE else call("mul", schedule, random_factor(rng))
        case "none":
            schedule = ONE
    return replace(parent, schedule=schedule)


@operator(parents=1, weight=0.2)
def mutate_query(parent: Genome, rng: random.Random) -> Genome:
    """Gradients at parameters ahead of, or behind, the last update; every so many steps."""
    if parent.query is not None and rng.random() < 0.5:
        return replace(parent, query=None)
    ahead = number(rng.choice((-1, 1)) * draw(Domain(0, 10, (0.1, 3.0), "log"), rng))
    period = float(rng.choice((2, 3, 4, 8)))
    when = call("eq", call("mod", Expression("t"), period), 0.0)
    return replace(parent, query=Query(call("mul", ahead, Expression("delta")), when))


def _evaluated_at(parent: Genome, evaluation: Evaluation, more: Expression) -> Genome:
    """The parent, evaluated ``more`` apart from where it was."""
    return replace(parent, evaluation=replace(evaluation, offset=call("add", evaluation.offset, more)))


def _with_another_when(parent: Genome, evaluation: Evaluation, rng: random.Random) -> Genome:
    """The parent, evaluated elsewhere in other epochs; in all of them now and then."""
    if evaluation.when != ALWAYS and rng.random() < 0.4:
        return replace(parent, evaluation=replace(evaluation, when=ALWAYS))
    return with_random_when(parent, rng)


def _measured_otherwise(parent: Genome, rng: random.Random) -> Genome:
    """The parent with its outputs' mean measured by other losses, or by some where it is not measured."""
    if not ways(parent):
        return with_random_calibration(parent, rng)
    return measured_by(parent, rng.choice([wanted for wanted in WAYS if wanted != ways(parent)]), rng)


@operator(parents=1, weight=0.5)
def mutate_evaluation(parent: Genome, rng: random.Random) -> Genome:
    """What evaluation sees, and when: averages of the parameters, calibrated outputs, scales of BatchNorm."""
    evaluation = parent.evaluation
    if evaluation is None or rng.random() < 0.2:
        return with_random_evaluation(parent, rng)
    cases = {"start": 2, "when": 2, "average": 2, "norms": 2, "measure": 3, "training": 2, "none": 1}
    match rng.choices(list(cases), list(cases.values()))[0]:
        case "start":
            return replace(parent, evaluation=replace(evaluation, start=round(draw(_START, rng))))
        case "when":
            return _with_another_when(parent, evaluation, rng)
        case "average":
            return _evaluated_at(parent, evaluation, random_average(rng))
        case "norms":
            return _evaluated_at(parent, evaluation, random_norm_gain(rng))
        case "measure":
            return _measured_otherwise(parent, rng)
        case "training":
            return with_training_at_evaluation(parent, rng)
    return replace(parent, evaluation=None, query=parent.query and replace(parent.query, outputs=()))


def can_open(name: str) -> bool:
    """Whether a word is a composite of one line; those with more (Prodigy) have state of their own, which no expression
    can hold."""
    return name in TABLE and TABLE[name].group == "composite" and len(body(name)) == 1


def _opened(node: Expression) -> Expression:
    """A composite's body with its arguments in place."""
    primitive = TABLE[node.name]
    given = dict(zip((p.name for p in primitive.parameters), node.arguments, strict=True))
    ((_, expression),) = body(node.name)

    def filled(part: Expression) -> Expression:
        if part.name in given:
            return given[part.name]
        return replace(part, arguments=tuple(filled(a) for a in part.arguments))

    return filled(expression)


def _by_deap(parent: Genome, rng: random.Random, mutate: Callable[[gp.PrimitiveTree, Gene], tuple]) -> Edited:
    """Apply a DEAP mutation to one expression, weighted by size; a direction keeps its step size."""
    choices = [gene for gene in genes(parent) if not gene[0].endswith("when")]
    sizes = [expression_of(parent, gene).size * (0.3 if gene[0] == "schedule" else 1.0) for gene in choices]
    gene = rng.choices(choices, sizes)[0]
    with global_random(rng):
        try:
            (tree,) = mutate(to_tree(expression_of(parent, gene), scope_of(gene)), gene)
        except IndexError:  # DEAP found no terminal of a type that has none
            return parent
    child = with_expression(parent, gene, from_tree(tree))
    return SameStepSize(child) if gene[0] in ("terms", "gates", "let") else child


_TYPES = {"mask": Mask, "average": Average, "square": Square}  # of names, by their kind; others are values


def _grower(parent: Genome, gene: Gene, rng: random.Random) -> Callable[..., list]:
    """What DEAP's mutUniform calls for a new subtree: where there are names of its type, one of them now and then."""
    known = kinds(parent.let)
    place = gene[1] if gene[0] == "let" else None
    named: dict[Type, list[str]] = {}
    for line in visible(parent.let, place):
        named.setdefault(_TYPES.get(known[line.name], Value), []).append(line.name)

    def grown(pset: gp.PrimitiveSetTyped, type_: Type) -> list:
        if type_ in named and rng.random() < _NAMES:
            return [gp.Terminal(rng.choice(named[type_]), True, type_)]
        return grow(scope_of(gene), type_, rng.randint(1, 3), rng)

    return grown
