"""Hypothesis strategies that draw expressions of the language from its table, and genomes made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from hypothesis import strategies as st

from genomes.language.decay import DECAY_KINDS
from genomes.language.expressions import Expression, number
from genomes.language.genome import ROLES, TENSOR_ROLES, Decay, Genome, Query, Term
from genomes.language.let import Line, kinds
from genomes.language.primitives import TABLE, Domain, Primitive

_LET_NAMES = ("m", "v", "v_hat", "new_m", "i", "state", "double", "ema_1", "v3", "update")  # some mean much in code
_STARTS = (0.0, 1.0, -0.5, 1e-8, "theta")
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


Names = Mapping[str, str]  # names of `let` lines -> kinds


@st.composite
def expressions(
    draw: st.DrawFn, kind: str = "number", scope: str = "", depth: int = 4, names: Names = MappingProxyType({})
) -> Expression:
    """A valid expression of ``kind`` (number, mask, average) for a place of ``scope``, where ``names`` are known."""
    named = [name for name, its_kind in names.items() if its_kind == kind]
    if named and draw(st.integers(0, 3)) == 0:
        return Expression(draw(st.sampled_from(named)))
    fitting = [p for p in TABLE.values() if p.result == kind and (not p.scope or p.scope == scope)]
    leaves = [p for p in fitting if not p.parameters]
    if depth <= 1 and kind == "square":
        fitting = [TABLE["outer"], TABLE["inner"]]
    if depth <= 1 and (leaves or kind == "number"):
        options = st.sampled_from([Expression(p.name) for p in leaves])
        return draw(st.one_of(_PLAIN.map(number), options) if kind == "number" else options)
    primitive = draw(st.sampled_from([p for p in fitting if p.parameters] if kind == "average" else fitting))
    return draw(_calls(primitive, scope, depth, names))


@st.composite
def _calls(draw: st.DrawFn, primitive: Primitive, scope: str, depth: int, names: Names) -> Expression:
    arguments = []
    for parameter in primitive.parameters:
        if parameter.domain:
            arguments.append(draw(literals(parameter.domain)))
        else:
            arguments.append(draw(expressions(parameter.kind, scope, depth - 1, names)))
    return Expression(primitive.name, tuple(arguments))


@st.composite
def let_lines(draw: st.DrawFn, depth: int = 3) -> tuple[Line, ...]:
    """Up to four named values and states, whose expressions use one another's names."""
    drawn = draw(st.lists(st.sampled_from(_LET_NAMES), unique=True, max_size=4))
    starts = {name: draw(st.none() | st.sampled_from(_STARTS)) for name in drawn}
    known = {name: "number" for name, start in starts.items() if start is not None}
    lines = []
    for name, start in starts.items():
        kind = "number" if start is not None else draw(st.sampled_from(("number", "number", "mask", "average")))
        lines.append(Line(name, draw(expressions(kind, "", depth, known)), start))
        known[name] = kind
    return tuple(lines)


@st.composite
def genomes(draw: st.DrawFn, depth: int = 4, named: bool = False) -> Genome:
    """A genome that reads back; whether it has a meaning (classes that fit) is for ``lower`` to say.

    ``named``: with `let` lines, as a rule.
    """
    weights = st.floats(-10, 10, allow_nan=False)
    let = draw(let_lines(depth - 1)) if named else ()
    names = kinds(let)
    terms = draw(st.lists(st.builds(Term, weights, expressions(depth=depth, names=names)), min_size=1, max_size=3))
    kind = draw(st.sampled_from(tuple(DECAY_KINDS)))
    decay = (
        Decay(kind, draw(st.floats(1e-4, 1.0)), tuple(draw(st.permutations(TENSOR_ROLES))))
        if kind != "none"
        else Decay()
    )
    if decay.roles:
        decay = Decay(decay.kind, decay.rate, tuple(r for r in TENSOR_ROLES if r in decay.roles))
    scaled = draw(st.lists(st.sampled_from(ROLES), unique=True, max_size=3))
    query = draw(st.none() | st.builds(Query, expressions("number", "post", depth - 1, names), st.just(_EVERY_OTHER)))
    return Genome(
        name="drawn",
        lr=draw(st.floats(1e-5, 1.0)),
        terms=tuple(terms),
        gates=tuple(draw(st.lists(expressions("number", "gates", depth - 1, names), max_size=2))),
        decay=decay if kind != "none" else Decay(),
        roles=tuple((role, draw(st.floats(0.1, 3.0).filter(lambda x: x != 1))) for role in ROLES if role in scaled),
        query=query,
        let=let,
        post=tuple(draw(st.lists(expressions("number", "post", depth - 1, names), max_size=2))),
    )


_EVERY_OTHER = Expression("eq", (Expression("mod", (Expression("t"), number(2))), number(0)))
