"""Random terms, gates and schedules: mostly of forms that known optimizers have."""

from __future__ import annotations

import random

from deap import gp

from evo.search.variation.constants import draw, rounded
from evo.search.variation.deap_trees import Clock, Value, from_tree, grow
from genomes.language.expressions import Expression, call
from genomes.language.primitives import BETA, TABLE, Domain

_G, _U, _DELTA = Expression("g"), Expression("u"), Expression("delta")
_LIMIT = Domain(0.0, 1e9, (0.1, 10.0), "log")  # of a clipped gradient
_BLEND = Domain(0, 1, (0.0, 0.5))  # the gradient's share in a signed average


def random_weight(rng: random.Random) -> float:
    """The weight of a term beside others, 0.1 to 3 in magnitude; one in ten is negative."""
    return rounded(rng.choices((1, -1), (9, 1))[0] * 10 ** rng.uniform(-1, 0.5))


def random_term(rng: random.Random) -> Expression:
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
            return call("sign", call("blend", call("ema", x, beta1), _G, draw(_BLEND, rng)))
    return x


def random_gate(scope: str, rng: random.Random) -> Expression:
    """One of the table's gates over u (or delta), its constants drawn from their priors."""
    names = [p.name for p in TABLE.values() if p.group == "gate" and p.scope in ("", scope)]
    primitive = TABLE[rng.choice(names)]
    subject = _U if scope == "gates" else _DELTA
    arguments = [draw(p.domain, rng) if p.domain else subject for p in primitive.parameters]
    return call(primitive.name, *arguments)


def random_schedule(rng: random.Random) -> Expression:
    """One or two factors; now and then anything that is typed right."""
    if rng.random() < 0.1:
        return from_tree(gp.PrimitiveTree(grow("schedule", Clock, 3, rng)))
    first = random_factor(rng)
    return call("mul", first, random_factor(rng)) if rng.random() < 0.4 else first


def random_factor(rng: random.Random) -> Expression:
    """One of the table's schedules, its constants drawn from their priors."""
    primitive = rng.choice([p for p in TABLE.values() if p.group == "schedule"])
    return call(primitive.name, *(draw(p.domain, rng) for p in primitive.parameters if p.domain))
