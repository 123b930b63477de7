"""Hypothesis strategies that draw expressions of the language from its table, and genomes made of them."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from genomes.language.decay import DECAY_KINDS
from genomes.language.expressions import Expression, number
from genomes.language.genome import ROLES, TENSOR_ROLES, Decay, Genome, Query, Term
from genomes.language.primitives import TABLE, Domain, Primitive

_PLAIN = st.sampled_from([0.0, 1.0, -1.0, 2.0, 0.5, 1e-8, 3.7, -0.25, 1e3])


def literals(domain: Domain) -> st.SearchStrategy[Expression]:
    """Constants of a domain: mostly from its prior, now and then its very ends."""
    low, high = domain.prior
    if domain.whole:
        drawn = st.integers(int(low), int(high)).map(float)
    elif domain.scale == "log":
        drawn = st.floats(math.log(low), math.log(high)).map(math.exp)
    else:
        drawn = st.floats(low, high)
    inside = drawn.filter(lambda value: domain.low <= value <= domain.high)
    return st.one_of(inside, inside, st.sampled_from([domain.low, domain.high])).map(number)


@st.composite
def expressions(draw: st.DrawFn, kind: str = "number", scope: str = "", depth: int = 4) -> Expression:
    """A valid expression of ``kind`` (number, mask, average) for a place of ``scope``."""
    fitting = [p for p in TABLE.values() if p.result == kind and (not p.scope or p.scope == scope)]
    leaves = [p for p in fitting if not p.parameters]
    if depth <= 1 and (leaves or kind == "number"):
        options = st.sampled_from([Expression(p.name) for p in leaves])
        return draw(st.one_of(_PLAIN.map(number), options) if kind == "number" else options)
    primitive = draw(st.sampled_from([p for p in fitting if p.parameters] if kind == "average" else fitting))
    return draw(_calls(primitive, scope, depth))


@st.composite
def _calls(draw: st.DrawFn, primitive: Primitive, scope: str, depth: int) -> Expression:
    arguments = []
    for parameter in primitive.parameters:
        if parameter.domain:
            arguments.append(draw(literals(parameter.domain)))
        else:
            arguments.append(draw(expressions(parameter.kind, scope, depth - 1)))
    return Expression(primitive.name, tuple(arguments))


@st.composite
def genomes(draw: st.DrawFn, depth: int = 4) -> Genome:
    """A genome that reads back; whether it has a meaning (classes that fit) is for ``lower`` to say."""
    weights = st.floats(-10, 10, allow_nan=False)
    terms = draw(st.lists(st.builds(Term, weights, expressions(depth=depth)), min_size=1, max_size=3))
    kind = draw(st.sampled_from(tuple(DECAY_KINDS)))
    decay = (
        Decay(kind, draw(st.floats(1e-4, 1.0)), tuple(draw(st.permutations(TENSOR_ROLES))))
        if kind != "none"
        else Decay()
    )
    if decay.roles:
        decay = Decay(decay.kind, decay.rate, tuple(r for r in TENSOR_ROLES if r in decay.roles))
    scaled = draw(st.lists(st.sampled_from(ROLES), unique=True, max_size=3))
    query = draw(st.none() | st.builds(Query, expressions("number", "post", depth - 1), st.just(_EVERY_OTHER)))
    return Genome(
        name="drawn",
        lr=draw(st.floats(1e-5, 1.0)),
        terms=tuple(terms),
        gates=tuple(draw(st.lists(expressions("number", "gates", depth - 1), max_size=2))),
        decay=decay if kind != "none" else Decay(),
        roles=tuple((role, draw(st.floats(0.1, 3.0).filter(lambda x: x != 1))) for role in ROLES if role in scaled),
        query=query,
        post=tuple(draw(st.lists(expressions("number", "post", depth - 1), max_size=2))),
    )


_EVERY_OTHER = Expression("eq", (Expression("mod", (Expression("t"), number(2))), number(0)))
