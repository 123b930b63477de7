"""Random terms, gates and schedules: mostly of forms that known optimizers have."""

from __future__ import annotations

import random
from dataclasses import replace

from deap import gp

from evo.search.variation.constants import draw, rounded
from evo.search.variation.deap_trees import Clock, Value, from_tree, grow
from evo.search.variation.measuring import WAYS, epochs_until_measured, measured_by, shift_without_slack
from genomes.language.expressions import Expression, call, number
from genomes.language.genome import Evaluation, Genome, Query
from genomes.language.primitives import BETA, EPOCHS, GAIN, TABLE, Domain

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
    """The genome evaluated at an average, with calibrated outputs, or both; now and then after some epochs alone."""
    kind = rng.choices(("average", "calibration", "both"), (1, 1, 2))[0]
    genome = replace(genome, evaluation=Evaluation(number(0) if kind == "calibration" else random_average(rng)))
    if kind != "average":
        genome = with_random_calibration(genome, rng)
    return with_random_when(genome, rng) if rng.random() < 0.2 else genome


def with_random_calibration(genome: Genome, rng: random.Random) -> Genome:
    """A genome with an evaluation, its outputs calibrated by training losses, validation losses or both."""
    assert genome.evaluation, "there is an offset to add to"
    slack = draw(_SLACK, rng) if rng.random() < 0.5 else 0.0
    calibration = call("calibration", slack, draw(EPOCHS, rng))
    offset = genome.evaluation.offset
    offset = calibration if offset == number(0) else call("add", offset, calibration)
    evaluation, query = replace(genome.evaluation, offset=offset), genome.query and replace(genome.query, outputs=())
    genome = measured_by(replace(genome, evaluation=evaluation, query=query), rng.choices(WAYS, (3, 1, 1))[0], rng)
    genome = _evaluated_from(genome, epochs_until_measured(genome))
    return with_training_at_evaluation(genome, rng) if rng.random() < 0.5 else genome


def _evaluated_from(genome: Genome, epoch: int) -> Genome:
    """The genome with its evaluation's offset from this epoch on, or a later one that it has."""
    evaluation = genome.evaluation
    return replace(genome, evaluation=evaluation and replace(evaluation, start=max(evaluation.start, epoch)))


def with_random_when(genome: Genome, rng: random.Random) -> Genome:
    """A genome with an evaluation, its offset in late epochs or every so many; late as its schedule says."""
    assert genome.evaluation, "there is an offset to apply"
    epoch = Expression("epoch")
    late = genome.evaluation.start + max(1, round(rng.uniform(0, 0.8) * _scheduled(genome)))
    often = call("eq", call("mod", epoch, float(rng.choice((2, 3, 4)))), 0.0)
    when = call("gt", epoch, float(late)) if rng.random() < 0.75 else often
    return replace(genome, evaluation=replace(genome.evaluation, when=when))


def _scheduled(genome: Genome) -> float:
    """The most epochs of which the schedule speaks; 100 where it speaks of none."""
    nodes = [node for node in genome.schedule.walk() if node.name in TABLE]
    pairs = [(p.domain, a) for node in nodes for p, a in zip(TABLE[node.name].parameters, node.arguments, strict=True)]
    epochs = [a.value for domain, a in pairs if domain and domain.unit == "epochs" and a.value is not None]
    return max(epochs, default=100.0)


def with_training_at_evaluation(genome: Genome, rng: random.Random) -> Genome:
    """The genome with some gradients at the calibrated parameters, in the middle of each epoch."""
    often = float(rng.choice((2, 3, 4)))
    here = call("mod", Expression("t"), Expression("steps_per_epoch"))
    when = call("and", call("gt", here, 1.0), call("eq", call("mod", here, often), 0.0))
    shift = shift_without_slack(genome.evaluation.offset if genome.evaluation else number(0))
    held = call("hold", shift, Expression("last_step_of_epoch"))
    outputs = genome.query.outputs if genome.query else ()
    return replace(genome, query=Query(held, when, outputs, rng.random() < 0.5))
