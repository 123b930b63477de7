"""Random terms, gates and schedules: mostly of forms that known optimizers have."""

from __future__ import annotations

import random
from dataclasses import replace

from deap import gp

from evo.search.variation.constants import draw, rounded
from evo.search.variation.deap_trees import Clock, Value, from_tree, grow
from genomes.language.expressions import Expression, call, number
from genomes.language.genome import NEVER, Evaluation, Genome, Query
from genomes.language.primitives import BETA, EPOCHS, GAIN, PROBE, TABLE, Domain

_G, _U, _DELTA = Expression("g"), Expression("u"), Expression("delta")
_LIMIT = Domain(0.0, 1e9, (0.1, 10.0), "log")  # of a clipped gradient
_SLACK = Domain(0.0, 100.0, (0.1, 2.0), "log")  # of a mean error that is left on purpose
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


def random_average(rng: random.Random) -> Expression:
    """The way from the next parameters to an average of all."""
    after = _after()
    tail = call("tail_average", after, draw(EPOCHS, rng))
    mean = call("average", after, draw(BETA, rng)) if rng.random() < 0.8 else tail
    return call("sub", mean, after)


def random_norm_gain(rng: random.Random) -> Expression:
    """Scales of BatchNorm that are a little larger in evaluation."""
    return call("norm_gain", _after(), draw(GAIN, rng))


def _after() -> Expression:
    """The parameters that the step leaves behind."""
    return call("add", Expression("theta"), _DELTA)


def with_random_evaluation(genome: Genome, rng: random.Random) -> Genome:
    """The genome evaluated at an average, with calibrated outputs, or both; its query measures what those need."""
    kind = rng.choices(("average", "calibration", "both"), (1, 1, 2))[0]
    average = random_average(rng)
    if kind == "average":
        return replace(genome, evaluation=Evaluation(average))
    slack = draw(_SLACK, rng) if rng.random() < 0.5 else 0.0
    calibration = call("calibration", slack, draw(EPOCHS, rng))
    offset = calibration if kind == "calibration" else call("add", average, calibration)
    query = genome.query or Query(number(0), NEVER)
    size = draw(PROBE, rng)
    outputs = tuple(call("output_probe", k, 1, size) for k in range(2))
    calibrated = replace(genome, query=replace(query, outputs=outputs), evaluation=Evaluation(offset, 3))
    return with_training_at_evaluation(calibrated, rng) if rng.random() < 0.5 else calibrated


def with_training_at_evaluation(genome: Genome, rng: random.Random) -> Genome:
    """The genome with some gradients at the calibrated parameters, in the middle of each epoch."""
    often = float(rng.choice((2, 3, 4)))
    here = call("mod", Expression("t"), Expression("steps_per_epoch"))
    when = call("and", call("gt", here, 1.0), call("eq", call("mod", here, often), 0.0))
    held = call("hold", call("calibration", 0.0, 300), Expression("last_step_of_epoch"))
    outputs = genome.query.outputs if genome.query else ()
    return replace(genome, query=Query(held, when, outputs, rng.random() < 0.5))
