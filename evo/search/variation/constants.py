"""Numbers in genomes: drawn from the prior of their domain, moved on its scale, and short enough to read."""

from __future__ import annotations

import math
import random
from typing import Protocol

from genomes.language.primitives import Domain

# The domain of free-standing numbers in expressions: mixing weights, mostly.
PLAIN = Domain(-1e6, 1e6, (0.01, 10.0), "log")


class Draws(Protocol):
    """A source of random numbers: a ``random.Random``, or the module ``random``."""

    def random(self) -> float:
        """A number from 0 to 1, 1 excluded."""
        ...

    def uniform(self, a: float, b: float) -> float:
        """A number from ``a`` to ``b``."""
        ...


def draw(domain: Domain, rng: Draws) -> float:
    """A constant from the domain's prior, rounded to what a person would write."""
    low, high = domain.prior
    match domain.scale:
        case "one_minus_log":
            return one_minus(math.exp(rng.uniform(math.log(1 - high), math.log(1 - low))))
        case "index":
            return float(math.floor(rng.uniform(low, high + 1)) if low < high else low)
        case "log" | "integer":
            value = math.exp(rng.uniform(math.log(max(low, 1e-12)), math.log(high)))
            return float(round(value)) if domain.scale == "integer" else rounded(value)
    return rounded(rng.uniform(low, high))


def rounded(value: float, digits: int = 3) -> float:
    """``value`` with few digits: genomes are for reading."""
    return float(f"{value:.{digits}g}")


def one_minus(gap: float) -> float:
    """1 - gap for a gap rounded to two digits, without the tail of the subtraction."""
    return float(f"{1 - rounded(gap, 2):.10g}")


def perturbed(value: float, domain: Domain, rng: random.Random) -> float:
    """``value`` moved on the scale of its domain, inside its hard bounds; now and then a fresh draw."""
    if rng.random() < 0.15:
        return draw(domain, rng)
    factor = 2 ** rng.gauss(0, 1)
    match domain.scale:
        case "one_minus_log":
            moved = one_minus(min(1.0, (1 - value) * factor))
        case "index":
            moved = draw(domain, rng)
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


def scaled(value: float, deviation: float, allowed: tuple[float, float], rng: random.Random) -> float:
    """``value`` times 2^N(0, deviation), inside ``allowed``."""
    low, high = allowed
    return min(max(rounded(value * 2 ** rng.gauss(0, deviation)), low), high)
