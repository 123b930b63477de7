"""What a campaign's trainings say about its genomes: one model of all qualities, with shrinkage.

    quality[genome, instance] = instance effect + genome effect + noise

Instance effects are free. Genome effects come from a mixture of normal distributions that is fitted to all genomes of
the campaign, so that an estimate from few instances is drawn towards what genomes usually are. The noise of a genome is
estimated from its own residuals and from those of the others (an inverse-gamma prior). Few iterations of mean-field
updates fit everything; sums are in one order, so that results are equal bit for bit.

Sources: Henderson (1975) for the mixed model, Stephens (2017), "False discovery rates: a new deal", for shrinkage by a
mixture, Smyth (2004) for moderated variances.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evo.records import Estimate, Observation

WORST_BELOW_BEST = 1.0  # a quality counts as at most this much below the best on its instance
_ITERATIONS = 60
_NOISE_ITERATIONS = 4
_UNKNOWN_NOISE = 0.1
_COMPONENTS = 3
_PRIOR_COUNT = 4.0  # instances that the noise of all genomes is worth, beside a genome's own
_LEAST_SPREAD = 1e-3  # of a component of the prior, and of noise


@dataclass(frozen=True)
class Evidence:
    """The fitted model. ``estimates``: of the expected quality, by genome; genomes with a failed training have none.

    ``noise``: standard deviation of a quality about its expectation, by genome. ``failed``: the genomes with a training
    that has no quality.
    """

    estimates: Mapping[str, Estimate]
    noise: Mapping[str, float]
    failed: frozenset[str]

    def difference(self, a: str, b: str) -> Estimate:
        """Expected quality of ``a`` less that of ``b``. Raises KeyError for a genome without an estimate."""
        first, second = self.estimates[a], self.estimates[b]
        return first.minus(second) if a != b else Estimate(0.0, 0.0, first.count)

    @cached_property
    def ranking(self) -> tuple[str, ...]:
        """The genomes with an estimate, best mean first."""
        return tuple(sorted(self.estimates, key=lambda genome: -self.estimates[genome].mean))


def fit(observations: Iterable[Observation]) -> Evidence:
    """Fit the model to all trainings so far, in whatever order. Each training must be among them once."""
    observed = sorted(observations, key=lambda o: (o.hash, o.instance))
    failed = frozenset(o.hash for o in observed if o.quality is None)
    sound = [(o.hash, o.instance, o.quality) for o in observed if o.quality is not None and o.hash not in failed]
    if not sound:
        return Evidence({}, {}, failed)
    genomes = {genome: i for i, genome in enumerate(dict.fromkeys(genome for genome, _, _ in sound))}
    instances = {instance: i for i, instance in enumerate(dict.fromkeys(instance for _, instance, _ in sound))}
    g = np.array([genomes[genome] for genome, _, _ in sound])
    i = np.array([instances[instance] for _, instance, _ in sound])
    y = np.array([quality for _, _, quality in sound], dtype=np.float64)
    best = np.full(len(instances), -np.inf)
    np.maximum.at(best, i, y)
    mean, variance, noise, level = _fit(g, i, np.maximum(y, best[i] - WORST_BELOW_BEST), len(genomes), len(instances))
    counts = np.bincount(g, minlength=len(genomes))
    return Evidence(
        {
            genome: Estimate(float(level + mean[k]), math.sqrt(variance[k]), int(counts[k]))
            for genome, k in genomes.items()
        },
        {genome: math.sqrt(noise[k]) for genome, k in genomes.items()},
        failed,
    )


def _fit(
    g: np.ndarray, i: np.ndarray, y: np.ndarray, genomes: int, instances: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Genome effects, their variances and noise variances ``[genome]``, and the mean of the instance effects.

    ``g``, ``i``, ``y``: genome, instance and quality of each observation.
    """

    def by_genome(values: np.ndarray) -> np.ndarray:
        return np.bincount(g, values, genomes)

    def by_instance(values: np.ndarray) -> np.ndarray:
        return np.bincount(i, values, instances)

    counts = by_genome(np.ones(len(y)))
    noise = np.ones(genomes)
    raw = np.zeros(genomes)
    level, free = np.zeros(instances), counts
    for _ in range(_NOISE_ITERATIONS):
        weight = 1 / noise[g]
        in_instance, in_genome = by_instance(weight), by_genome(weight)
        for _ in range(_ITERATIONS):
            level = by_instance(weight * (y - raw[g])) / in_instance
            raw = by_genome(weight * (y - level[i])) / in_genome
        # degrees of freedom: an instance that few genomes share tells less of them
        free = by_genome(1 - weight / in_instance[i])
        squares = by_genome((y - level[i] - raw[g]) ** 2)
        free_noise = np.maximum(free * (1 - 1 / counts), 0)
        upper = raw >= np.median(raw)
        pooled = (
            squares[upper].sum() / max(free_noise[upper].sum(), 1e-12)
            if free_noise[upper].sum() > 0
            else _UNKNOWN_NOISE**2
        )
        noise = np.maximum((_PRIOR_COUNT * pooled + squares) / (_PRIOR_COUNT + free_noise), _LEAST_SPREAD**2)
    uncertain = noise / np.maximum(free, 1e-9)
    prior = None
    for _ in range(_ITERATIONS):
        prior = _mixture(raw, uncertain, prior)
    effects, variance = _shrunk(raw, uncertain, prior) if prior else (raw, uncertain)
    return effects, variance, noise, float(level.mean())


_Mixture = tuple[np.ndarray, np.ndarray, np.ndarray]  # share, mean and variance of each component


def _mixture(values: np.ndarray, uncertain: np.ndarray, last: _Mixture | None) -> _Mixture:
    """One step of expectation maximization on the prior of genome effects, from their raw values and variances."""
    if last is None:
        quantiles = np.quantile(values, (np.arange(_COMPONENTS) + 0.5) / _COMPONENTS)
        spread = max(float(np.var(values)), _LEAST_SPREAD**2)
        last = np.full(_COMPONENTS, 1 / _COMPONENTS), quantiles, np.full(_COMPONENTS, spread)
    responsible, mean, variance = _responsibilities(values, uncertain, last)
    share = responsible.sum(0) + 1.0  # a genome's worth of each component keeps it alive
    center = (responsible * mean).sum(0) / np.maximum(responsible.sum(0), 1e-12)
    pull = responsible.sum(0) / share
    centers = pull * center + (1 - pull) * last[1]
    spread = (responsible * (variance + (mean - centers) ** 2)).sum(0) + last[2]
    return share / share.sum(), centers, np.maximum(spread / share, _LEAST_SPREAD**2)


def _shrunk(values: np.ndarray, uncertain: np.ndarray, prior: _Mixture) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each genome effect given its raw value."""
    responsible, mean, variance = _responsibilities(values, uncertain, prior)
    center = (responsible * mean).sum(1)
    return center, (responsible * (variance + (mean - center[:, None]) ** 2)).sum(1)


def _responsibilities(
    values: np.ndarray, uncertain: np.ndarray, prior: _Mixture
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which component a genome comes from, and its effect's mean and variance there, each ``[genome, component]``."""
    share, centers, spread = prior
    total = spread + uncertain[:, None]
    log = np.log(share) - 0.5 * (np.log(total) + (values[:, None] - centers) ** 2 / total)
    weight = np.exp(log - log.max(1, keepdims=True))
    pull = spread / total
    mean = centers + pull * (values[:, None] - centers)
    return weight / weight.sum(1, keepdims=True), mean, pull * uncertain[:, None]
