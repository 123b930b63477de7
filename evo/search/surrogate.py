"""What a genome has in common with others says how it will train: a Gaussian process on its traits.

Traits are numbers that cost a genome no training: how often each word stands in each gene, how large its updates are,
how far they look back. On 268 recorded trainings (`docs/search-bench.md`) the prediction ranks children that it has not
seen with a correlation of 0.6, their parents' qualities do with 0.3.

    quality = mean + f(traits) + rest    f ~ normal, covariance  spread^2 * exp(-distance^2 / (2 * LENGTH_2))

The predictions choose which of several children trains; they are no evidence, and enter no estimate.

Source: Rasmussen and Williams (2006), "Gaussian Processes for Machine Learning", algorithm 2.1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evo.records import Estimate
from evo.search import screening
from evo.search.variation.paths import expression_of, genes, paths
from genomes.analysis.probe import probe_genome
from genomes.language.genome import Genome

Traits = Mapping[str, float]
Probe = tuple[float, ...]  # the traits that take a probe, in the order of PROBED; empty: without them

PROBED = ("size", "memory")

LENGTH_2 = 8.0  # squared distance over which predictions forget
FAR = 9.0  # most that one trait adds to a squared distance
REST = 0.3  # variance that traits do not tell, as a share of the variance they do
LEAST = 12  # genomes from which a prediction is worth something
_FAINT = -30.0  # log2 of the size of updates that are 0
_MEMORY_SCALE = 4.0  # from 0 to 1 it goes twice as far as an update that doubles twice
_WORST_QUARTER = 0.25  # all there is to know of the genomes below is that they are bad


def probe(genome: Genome) -> Probe:
    """How large the genome's updates are, and how far they look back: a twentieth of a second's work."""
    size = screening.update_size(genome)
    return math.log2(size) if size else _FAINT, _MEMORY_SCALE * probe_genome(genome).memory


def traits(genome: Genome, probed: Probe) -> dict[str, float]:
    """The genome's traits, each on a scale on which 1 is a notable difference. ``probed``: what `probe` gives of it."""
    words = Counter(
        f"{gene[0]}: {node.name}"
        for gene in genes(genome)
        for _, node in paths(expression_of(genome, gene))
        if node.value is None
    )
    found = {word: math.log2(1 + count) for word, count in words.items()}
    found |= {f"role: {name}": math.log2(factor) if factor > 0 else _FAINT for name, factor in genome.roles}
    found["lr"] = math.log2(genome.lr)
    found["terms"] = float(len(genome.terms))
    found["decay"] = float(genome.decay.kind != "none")
    return found | dict(zip(PROBED, probed, strict=False))


@dataclass(frozen=True)
class Surrogate:
    """A fitted process. ``names``: of the traits, ``at``: of the known genomes ``[genome, trait]``."""

    names: tuple[str, ...]
    at: np.ndarray
    mean: float
    spread: float
    weights: np.ndarray
    inverse: np.ndarray

    def predict(self, genome: Traits) -> tuple[float, float]:
        """Mean and standard deviation of the expected quality of a genome with these traits."""
        near = _covariance(_vector(genome, self.names)[None], self.at)[0]
        unknown = sum(min(value * value, FAR) for name, value in genome.items() if name not in self.names)
        near = near * math.exp(-unknown / (2 * LENGTH_2))
        told = float(_products(near[None], self.inverse)[0] @ near) if len(near) else 0.0
        return self.mean + float((near * self.weights).sum()), self.spread * math.sqrt(max(1 + REST - told, 0.0))


def fit(known: Sequence[tuple[Traits, Estimate]]) -> Surrogate | None:
    """The process of genomes with estimates; None where they are too few, or all alike."""
    if len(known) < LEAST:
        return None
    means = np.array([estimate.mean for _, estimate in known])
    values = np.maximum(means, np.quantile(means, _WORST_QUARTER))
    mean, variance = float(values.mean()), float(values.var())
    if variance == 0:
        return None
    names = tuple(sorted({name for found, _ in known for name in found}))
    at = np.stack([_vector(found, names) for found, _ in known])
    noise = np.array([estimate.sd**2 for _, estimate in known]) / variance
    inverse = _inverse(_covariance(at, at) + np.diag(REST + noise))
    return Surrogate(names, at, mean, math.sqrt(variance), _products(inverse, (values - mean)[:, None])[:, 0], inverse)


def _vector(found: Traits, names: Sequence[str]) -> np.ndarray:
    return np.array([found.get(name, 0.0) for name in names])


def _covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of genomes with traits ``a`` ``[n, trait]`` and ``b`` ``[m, trait]``, as ``[n, m]``, with variance 1."""
    distance = np.zeros((len(a), len(b)))
    for trait in range(a.shape[1]):
        apart = a[:, trait, None] - b[None, :, trait]
        distance += np.minimum(apart * apart, FAR)
    return np.exp(-distance / (2 * LENGTH_2))


# Products and inverse in numpy's elementwise operations: a BLAS may round otherwise for another number of threads, and
# what a campaign breeds must not depend on the machine's number of CPUs.


def _products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a[:, :, None] * b[None]).sum(1)


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Of a positive definite matrix, by Gauss-Jordan elimination, which needs no pivots there."""
    found = matrix.copy()
    for i in range(len(found)):
        pivot, column = found[i, i], found[:, i].copy()
        row = found[i] / pivot
        found -= column[:, None] * row
        found[i], found[:, i] = row, -column / pivot
        found[i, i] = 1 / pivot
    return found
