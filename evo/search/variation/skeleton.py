"""The numbers of a genome apart from its structure: as a vector on the scales that they are varied on.

A step of 1 in a coordinate is a factor of 2 for learning rates, weights, rates and constants on a log scale, of
2 in ``1 - beta``, and a fifth of the prior's range for constants on a linear scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from evo.search.variation.constants import PLAIN, one_minus, rounded
from evo.search.variation.paths import (
    Gene,
    Path,
    at,
    expression_of,
    genes,
    literals,
    replaced,
    with_expression,
    with_item,
)
from genomes.language.expressions import number
from genomes.language.genome import LR_RANGE, RATE_RANGE, ROLE_RANGE, WEIGHT_RANGE, Genome
from genomes.language.primitives import Domain

_LINEAR_STEP = 0.2  # of the prior's range


@dataclass(frozen=True)
class _Place:
    """Where a number stands: how it is read from a genome, and how a genome with another one is made."""

    domain: Domain
    read: Callable[[Genome], float]
    written: Callable[[Genome, float], Genome]


def coordinates(genome: Genome) -> tuple[float, ...]:
    """The genome's numbers as a vector; as long as `with_coordinates` of the same structure wants it.

    Left out: zeros on a log scale, and ones in arithmetic (``1 - a``, ``t == 1``), which are structure; whole numbers
    that count or name things; the weight of the first term, which the learning rate covers.
    """
    return tuple(_coordinate(place.read(genome), place.domain) for place in _places(genome))


def with_coordinates(genome: Genome, vector: Sequence[float]) -> Genome:
    """The genome with other numbers, each inside its domain and short enough to read."""
    places = _places(genome)
    if len(vector) != len(places):
        raise ValueError(f"vector: {len(vector)} numbers for a genome of {len(places)}")
    for place, value in zip(places, vector, strict=True):
        genome = place.written(genome, _number(value, place.domain, place.read(genome)))
    return genome


def skeleton(genome: Genome) -> Genome:
    """The structure: the genome with every number of `coordinates` at 1 (or what is nearest), and without a name."""
    return with_coordinates(genome, [0.0] * len(_places(genome))).renamed("skeleton", "")


def _places(genome: Genome) -> list[_Place]:
    places = [_Place(_log(LR_RANGE), lambda g: g.lr, lambda g, value: replace(g, lr=value))]
    places += [_weight(i) for i in range(1, len(genome.terms))]
    if genome.decay.kind != "none":
        places.append(
            _Place(
                _log(RATE_RANGE),
                lambda g: g.decay.rate,
                lambda g, value: replace(g, decay=replace(g.decay, rate=value)),
            )
        )
    places += [_role(i) for i in range(len(genome.roles))]
    for gene in genes(genome):
        places += [_literal(gene, path, domain) for path, domain in literals(expression_of(genome, gene))]
    return [place for place in places if varies(place.read(genome), place.domain)]


def _weight(i: int) -> _Place:
    def written(genome: Genome, value: float) -> Genome:
        return replace(genome, terms=with_item(genome.terms, i, replace(genome.terms[i], weight=value)))

    return _Place(_log(WEIGHT_RANGE), lambda g: g.terms[i].weight, written)


def _role(i: int) -> _Place:
    def written(genome: Genome, value: float) -> Genome:
        return replace(genome, roles=with_item(genome.roles, i, (genome.roles[i][0], value)))

    return _Place(_log(ROLE_RANGE), lambda g: g.roles[i][1], written)


def _literal(gene: Gene, path: Path, domain: Domain) -> _Place:
    def read(genome: Genome) -> float:
        value = at(expression_of(genome, gene), path).value
        assert value is not None, "a literal has a value"
        return value

    def written(genome: Genome, value: float) -> Genome:
        return with_expression(genome, gene, replaced(expression_of(genome, gene), path, number(value)))

    return _Place(domain, read, written)


def _log(allowed: tuple[float, float]) -> Domain:
    return Domain(*allowed, (1e-6, 1e3), "log")


def varies(value: float, domain: Domain) -> bool:
    """Whether a number is one of `coordinates`, and no structure."""
    if domain.scale == "index" or (domain is PLAIN and value == 1):
        return False
    return value != 0 or domain.scale not in ("log", "integer")


def _coordinate(value: float, domain: Domain) -> float:
    match domain.scale:
        case "log" | "integer":
            return math.log2(abs(value))
        case "one_minus_log":
            return -math.log2(max(1 - value, 1e-12))
    low, high = domain.prior
    return value / (_LINEAR_STEP * (high - low))


def _number(coordinate: float, domain: Domain, old: float) -> float:
    """The inverse of ``_coordinate``; keeps the sign of ``old`` on a log scale."""
    match domain.scale:
        case "log" | "integer":
            size = 2.0 ** min(max(coordinate, -60.0), 60.0)
            new = math.copysign(max(1.0, float(round(size))) if domain.scale == "integer" else rounded(size), old)
        case "one_minus_log":
            new = one_minus(min(1.0, 2.0 ** min(max(-coordinate, -60.0), 60.0)))
        case _:
            low, high = domain.prior
            new = rounded(coordinate * _LINEAR_STEP * (high - low))
    return min(max(new, domain.low), domain.high)
