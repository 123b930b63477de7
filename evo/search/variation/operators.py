"""How genomes vary: one function for each operator, listed in OPERATORS with its usual weight.

An operator takes the parents and a random generator and returns a genome, which may be of no use. ``vary`` keeps
trying, with fresh draws, until a child is sound: it lowers, stays within the limits and acts unlike its parent.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from deap import gp

from evo.randomness import global_random
from evo.search import screening
from evo.search.variation.deap_trees import (
    PLAIN,
    Clock,
    Value,
    draw,
    from_tree,
    grow,
    one_minus,
    primitive_set,
    rounded,
    to_tree,
)
from evo.search.variation.paths import at, expression_of, genes, literals, paths, replaced, with_expression, with_term
from genomes.analysis.identity import semantic_hash
from genomes.compiler.canonical import canonical
from genomes.language.decay import DECAYING
from genomes.language.expressions import Expression, call, number
from genomes.language.genome import (
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
    Genome,
    GenomeError,
    Query,
    Term,
    dump,
    parse,
)
from genomes.language.parser import body
from genomes.language.primitives import BETA, TABLE, Domain

ATTEMPTS = 12  # draws before an operator gives way to another
_G, _U, _DELTA = Expression("g"), Expression("u"), Expression("delta")


@dataclass(frozen=True)
class Bounds:
    """What a genome may cost: expression nodes, state buffers as large as the model, terms."""

    nodes: int = 128
    states: int = 6
    terms: int = 4


@dataclass(frozen=True)
class Operator:
    """A way to make a child. ``parents``: 1 or 2. ``weight``: how often, beside the others of as many parents."""

    name: str
    parents: int
    weight: float
    function: Callable[..., Genome]


OPERATORS: dict[str, Operator] = {}


def operator(parents: int, weight: float) -> Callable[[Callable[..., Genome]], Callable[..., Genome]]:
    """Register a function ``(parent, ..., rng) -> Genome`` under its own name."""

    def register(function: Callable[..., Genome]) -> Callable[..., Genome]:
        OPERATORS[function.__name__] = Operator(function.__name__, parents, weight, function)
        return function

    return register


@dataclass(frozen=True)
class Child:
    genome: Genome
    operator: str
    parents: int  # how many of the given parents it came from


def vary(
    parents: Sequence[Genome], crossover: float, weights: Mapping[str, float], bounds: Bounds, rng: random.Random
) -> Child:
    """A sound child of one or both ``parents``; a copy of the first where every attempt fails.

    ``crossover``: probability of an operator with two parents. ``weights``: of operators, by name; those not named
    have their usual weight.
    """
    for _ in range(5):
        arity = 2 if len(parents) > 1 and rng.random() < crossover else 1
        choices = [o for o in OPERATORS.values() if o.parents == arity and weights.get(o.name, o.weight) > 0]
        if not choices:
            continue
        chosen = rng.choices(choices, [weights.get(o.name, o.weight) for o in choices])[0]
        genome = apply(chosen, parents, bounds, rng)
        if genome is not None:
            return Child(genome, chosen.name, arity)
    return Child(parents[0], "copy", 1)


def apply(chosen: Operator, parents: Sequence[Genome], bounds: Bounds, rng: random.Random) -> Genome | None:
    """A sound child by this operator that acts unlike its first parent, or None."""
    for _ in range(ATTEMPTS):
        child = canonical(chosen.function(*parents[: chosen.parents], rng))
        if child != parents[0] and sound(child, bounds) and semantic_hash(child) != semantic_hash(parents[0]):
            return child
    return None


def sound(genome: Genome, bounds: Bounds) -> bool:
    """Whether a genome can be written and read again, is within bounds, and has finite updates that depend on the
    gradient."""
    if len(genome.terms) > bounds.terms or genome.size > bounds.nodes:
        return False
    try:
        # the reader knows every domain: a constant may have been folded to where it is not allowed
        readable = parse(dump(genome)) == genome
        return readable and screening.buffers(genome) <= bounds.states and screening.acts(genome)
    except GenomeError:
        return False


def random_genome(name: str, bounds: Bounds, rng: random.Random) -> Genome:
    """A random genome that descends on the probe quadratic; its learning rate fits the size of its direction.

    Raises RuntimeError where 1000 draws give none (bounds too narrow).
    """
    for _ in range(1000):
        count = min(bounds.terms, rng.choices((1, 2, 3), (6, 3, 1))[0])
        terms = tuple(Term(_weight(rng) if i else 1.0, _random_term(rng)) for i in range(count))
        gates = (_random_gate("gates", rng),) if rng.random() < 0.3 else ()
        schedule = _random_schedule(rng) if rng.random() < 0.5 else ONE
        genome = Genome(name=name, lr=1.0, terms=terms, gates=gates, schedule=schedule, source="random")
        if not sound(genome, bounds):
            continue
        target = 10 ** rng.uniform(-3.7, -2.3)  # root mean square of an update, beside weights of about 0.05
        genome = screening.with_update_size(genome, target)
        if genome is not None and screening.descends(genome):
            return genome
    raise RuntimeError("no random genome within the limits descends: raise limits.nodes or limits.states")


# --- one parent: numbers ---------------------------------------------------------------------------------------------


@operator(parents=1, weight=2.0)
def mutate_lr(parent: Genome, rng: random.Random) -> Genome:
    return replace(parent, lr=_scaled(parent.lr, 1.0, LR_RANGE, rng))


@operator(parents=1, weight=3.0)
def mutate_constant(parent: Genome, rng: random.Random) -> Genome:
    """One literal of one expression, on the scale of its domain."""
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
    i = rng.randrange(len(parent.terms))
    weight = _scaled(parent.terms[i].weight, 1.0, WEIGHT_RANGE, rng) * (-1 if rng.random() < 0.05 else 1)
    return with_term(parent, i, replace(parent.terms[i], weight=weight))


@operator(parents=1, weight=1.0)
def mutate_role(parent: Genome, rng: random.Random) -> Genome:
    """The learning-rate multiplier of one role, or of all back to 1."""
    roles = dict(parent.roles)
    role = rng.choice(ROLES)
    if role in roles and rng.random() < 0.15:
        del roles[role]
    else:
        roles[role] = _scaled(roles.get(role, 1.0), 1.2, ROLE_RANGE, rng)
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
            decay = replace(decay, rate=_scaled(decay.rate, 1.0, RATE_RANGE, rng))
        case "kind":
            decay = replace(decay, kind=rng.choice(DECAYING))
        case "roles":
            role = rng.choice(TENSOR_ROLES)
            roles = set(decay.roles) ^ {role} or {"weight"}
            decay = replace(decay, roles=tuple(r for r in TENSOR_ROLES if r in roles))
        case "none":
            decay = Decay()
    return replace(parent, decay=decay)


# --- one parent: structure -------------------------------------------------------------------------------------------


@operator(parents=1, weight=1.0)
def mutate_subtree(parent: Genome, rng: random.Random) -> Genome:
    """A random subtree in place of one (DEAP's mutUniform)."""
    return _by_deap(parent, rng, lambda tree, scope: gp.mutUniform(tree, _grower(scope, rng), primitive_set(scope)))


@operator(parents=1, weight=1.5)
def mutate_node(parent: Genome, rng: random.Random) -> Genome:
    """Another primitive with the same arguments, or another leaf (DEAP's mutNodeReplacement)."""
    return _by_deap(parent, rng, lambda tree, scope: gp.mutNodeReplacement(tree, primitive_set(scope)))


@operator(parents=1, weight=1.0)
def mutate_insert(parent: Genome, rng: random.Random) -> Genome:
    """A primitive around a subtree (DEAP's mutInsert)."""
    return _by_deap(parent, rng, lambda tree, scope: gp.mutInsert(tree, primitive_set(scope)))


@operator(parents=1, weight=1.0)
def mutate_shrink(parent: Genome, rng: random.Random) -> Genome:
    """A subtree in place of the one around it (DEAP's mutShrink)."""
    return _by_deap(parent, rng, lambda tree, scope: gp.mutShrink(tree))


@operator(parents=1, weight=0.5)
def open_composite(parent: Genome, rng: random.Random) -> Genome:
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
    opened = mutate_constant(
        with_expression(parent, gene, replaced(expression, path, opened_composite(at(expression, path)))), rng
    )
    return opened


@operator(parents=1, weight=1.0)
def add_term(parent: Genome, rng: random.Random) -> Genome:
    """A random term, weighted to be smaller than the others."""
    if len(parent.terms) >= MAX_TERMS:
        return drop_term(parent, rng)
    term = Term(rounded(_weight(rng) * 0.3), _random_term(rng))
    return replace(parent, terms=(*parent.terms, term))


@operator(parents=1, weight=0.7)
def drop_term(parent: Genome, rng: random.Random) -> Genome:
    if len(parent.terms) == 1:
        return mutate_node(parent, rng)
    i = rng.randrange(len(parent.terms))
    return _same_size(replace(parent, terms=parent.terms[:i] + parent.terms[i + 1 :]), parent)


@operator(parents=1, weight=1.0)
def mutate_gates(parent: Genome, rng: random.Random) -> Genome:
    """A gate more, less or moved."""
    gates = list(parent.gates)
    if gates and rng.random() < 0.4:
        gates.pop(rng.randrange(len(gates)))
    elif len(gates) > 1 and rng.random() < 0.2:
        rng.shuffle(gates)
    elif len(gates) < MAX_GATES:
        gates.insert(rng.randrange(len(gates) + 1), _random_gate("gates", rng))
    return replace(parent, gates=tuple(gates))


@operator(parents=1, weight=0.3)
def mutate_post(parent: Genome, rng: random.Random) -> Genome:
    """A step after the learning rate (lookahead, caps, averages of updates) more or less."""
    if parent.post and rng.random() < 0.5:
        return replace(parent, post=parent.post[:-1])
    return replace(parent, post=(*parent.post, _random_gate("post", rng))[:MAX_GATES])


@operator(parents=1, weight=1.5)
def mutate_schedule(parent: Genome, rng: random.Random) -> Genome:
    """Another schedule, one factor more, or none."""
    schedule = parent.schedule
    match rng.choices(("new", "factor", "none"), (3, 3, 1))[0]:
        case "new":
            schedule = _random_schedule(rng)
        case "factor":
            schedule = _random_factor(rng) if schedule == ONE else call("mul", schedule, _random_factor(rng))
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
    return replace(parent, query=Query(call("mul", ahead, _DELTA), when))


# --- two parents -----------------------------------------------------------------------------------------------------


@operator(parents=2, weight=1.0)
def cross_terms(first: Genome, second: Genome, rng: random.Random) -> Genome:
    """The first terms of one parent before the last terms of the other, scaled to the first's updates."""
    head = first.terms[: rng.randint(0, len(first.terms))]
    tail = second.terms[rng.randint(0, len(second.terms)) :]
    terms = (*head, *tail)[:MAX_TERMS] or first.terms
    return _same_size(replace(first, terms=terms), first)


@operator(parents=2, weight=1.0)
def cross_genes(first: Genome, second: Genome, rng: random.Random) -> Genome:
    """Decay, schedule, roles, gates, post and query each from either parent; the direction from the first."""
    taken: dict[str, Any] = {}
    for gene in ("decay", "schedule", "roles", "gates", "post", "query"):
        if rng.random() < 0.5:
            taken[gene] = getattr(second, gene)
    return _same_size(replace(first, **taken), first)


@operator(parents=2, weight=1.0)
def cross_subtrees(first: Genome, second: Genome, rng: random.Random) -> Genome:
    """A subtree of one of the second's terms in one of the first's (DEAP's cxOnePoint, typed)."""
    i = rng.randrange(len(first.terms))
    donor = rng.choice(second.terms).expr
    with global_random(rng):
        tree, _ = gp.cxOnePoint(to_tree(first.terms[i].expr, ""), to_tree(donor, ""))
    child = with_term(first, i, replace(first.terms[i], expr=from_tree(tree)))
    return _same_size(child, first)


@operator(parents=2, weight=0.5)
def cross_gates(first: Genome, second: Genome, rng: random.Random) -> Genome:
    """The first gates of one parent before the last gates of the other."""
    gates = first.gates[: rng.randint(0, len(first.gates))] + second.gates[rng.randint(0, len(second.gates)) :]
    return replace(first, gates=gates[:MAX_GATES])


# --- pieces ----------------------------------------------------------------------------------------------------------


def perturbed(value: float, domain: Domain, rng: random.Random) -> float:
    """``value`` moved on the scale of its domain, inside its hard bounds; now and then a fresh draw."""
    if rng.random() < 0.15:
        return draw(domain, rng)
    factor = 2 ** rng.gauss(0, 1)
    match domain.scale:
        case "one_minus_log":
            moved = one_minus(min(1.0, (1 - value) * factor))
        case "integer":
            moved = float(round(value * factor)) or 1.0
            moved = moved if moved != value else value + rng.choice((-1, 1))
        case "log":
            moved = rounded(value * factor) if value else draw(domain, rng)
            if domain is PLAIN and rng.random() < 0.05:
                moved = -moved
        case _:
            low, high = domain.prior
            moved = rounded(value + rng.gauss(0, 0.2) * (high - low))
    return min(max(moved, domain.low), domain.high)


def can_open(name: str) -> bool:
    """Whether a word is a composite of one line; those with more (Prodigy) have state of their own, which no expression
    can hold."""
    return name in TABLE and TABLE[name].group == "composite" and len(body(name)) == 1


def opened_composite(node: Expression) -> Expression:
    """A composite's body with its arguments in place."""
    primitive = TABLE[node.name]
    given = dict(zip((p.name for p in primitive.parameters), node.arguments, strict=True))
    ((_, expression),) = body(node.name)

    def filled(part: Expression) -> Expression:
        if part.name in given:
            return given[part.name]
        return replace(part, arguments=tuple(filled(a) for a in part.arguments))

    return filled(expression)


def _scaled(value: float, deviation: float, allowed: tuple[float, float], rng: random.Random) -> float:
    """``value`` times 2^N(0, deviation), inside ``allowed``."""
    low, high = allowed
    return min(max(rounded(value * 2 ** rng.gauss(0, deviation)), low), high)


def _weight(rng: random.Random) -> float:
    return rounded(rng.choices((1, -1), (9, 1))[0] * 10 ** rng.uniform(-1, 0.5))


def _random_term(rng: random.Random) -> Expression:
    """A term: usually a direction known to make sense, dressed up; sometimes anything that is typed right."""
    if rng.random() < 0.3:
        return from_tree(gp.PrimitiveTree(grow("", Value, rng.randint(2, 4), rng)))
    x: Expression = _G
    if rng.random() < 0.25:
        x = rng.choice((call("change", _G), call("clip", _G, draw(_LIMIT, rng)), call("centralise", _G)))
    beta1, beta2 = draw(BETA, rng), draw(BETA, rng)
    match rng.choices(("adam", "momentum", "nesterov", "rms", "sign", "raw"), (4, 2, 1, 2, 2, 1))[0]:
        case "adam":
            return call("adam", x, beta1, beta2)
        case "momentum":
            return call("momentum", x, beta1)
        case "nesterov":
            return call("nesterov", x, beta1)
        case "rms":
            return call("rms_scaled", call("momentum", x, beta1) if rng.random() < 0.5 else x, beta2)
        case "sign":
            return call("sign", call("blend", call("ema", x, beta1), _G, draw(Domain(0, 1, (0.0, 0.5)), rng)))
    return x


_LIMIT = Domain(0.0, 1e9, (0.1, 10.0), "log")


def _random_gate(scope: str, rng: random.Random) -> Expression:
    """One of the table's gates over u (or delta), its constants drawn from their priors."""
    names = [p.name for p in TABLE.values() if p.group == "gate" and p.scope in ("", scope)]
    primitive = TABLE[rng.choice(names)]
    subject = _U if scope == "gates" else _DELTA
    arguments = [draw(p.domain, rng) if p.domain else subject for p in primitive.parameters]
    return call(primitive.name, *arguments)


def _random_factor(rng: random.Random) -> Expression:
    primitive = rng.choice([p for p in TABLE.values() if p.group == "schedule"])
    return call(primitive.name, *(draw(p.domain, rng) for p in primitive.parameters if p.domain))


def _random_schedule(rng: random.Random) -> Expression:
    if rng.random() < 0.1:
        return from_tree(gp.PrimitiveTree(grow("schedule", Clock, 3, rng)))
    first = _random_factor(rng)
    return call("mul", first, _random_factor(rng)) if rng.random() < 0.4 else first


def _same_size(child: Genome, parent: Genome) -> Genome:
    """The child with its learning rate set so that its updates are as large as the parent's.

    Un-normalised directions want learning rates a hundred times smaller than normalised ones; without this, most
    mixtures would diverge or stand still.
    """
    try:
        size = screening.update_size(parent)
        sized = screening.with_update_size(child, size) if size else None
    except GenomeError:
        return child
    return sized or child


def _grower(scope: str, rng: random.Random) -> Callable[..., list]:
    def expression(pset: gp.PrimitiveSetTyped, type_: type) -> list:
        return grow(scope, type_, rng.randint(1, 3), rng)  # type: ignore[arg-type]

    return expression


def _by_deap(parent: Genome, rng: random.Random, mutate: Callable[[gp.PrimitiveTree, str], tuple]) -> Genome:
    """Apply a DEAP mutation to one expression, weighted by size; the learning rate follows the update's size."""
    choices = [gene for gene in genes(parent) if gene[0] != "when"]
    sizes = [expression_of(parent, gene).size * (0.3 if gene[0] == "schedule" else 1.0) for gene in choices]
    gene = rng.choices(choices, sizes)[0]
    scope = {"terms": "", "offset": "post"}.get(gene[0], gene[0])
    with global_random(rng):
        try:
            (tree,) = mutate(to_tree(expression_of(parent, gene), scope), scope)
        except IndexError:  # DEAP found no terminal of a type that has none
            return parent
    child = with_expression(parent, gene, from_tree(tree))
    return _same_size(child, parent) if gene[0] in ("terms", "gates") else child
