"""Landscapes whose truth is a formula: real genomes and the real operators of variation, without training.

    truth = base + structure(words) - constants(numbers)

    structure   each word of the language is worth something here (those of the founders nothing bad), and some pairs
                of words are worth more or less together; what good ones add saturates, and every node costs a little
    constants   each number has its best value, on the scale that it is varied on, for those of the founders within a
                few steps of theirs; the learning rate's depends on the words of the direction and on other numbers; far
                above it trainings fail

The noise is that of a recorded landscape (`searching.noise`).
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path
from statistics import fmean

import numpy as np

from evo.randomness import generator
from evo.recipe.schema import Recipe
from evo.records import Individual
from evo.search.breeding import Breeder
from evo.search.surrogate import Probe
from evo.search.variation import skeleton
from evo.search.variation.operator import SameStepSize
from evo.search.variation.paths import at, expression_of, genes, literals, paths
from evo.search.variation.random_parts import random_gate, random_schedule, random_term
from evo.search.variation.registry import OPERATORS
from evo.search.variation.vary import Child
from genomes import catalogue
from genomes.language.genome import Genome, GenomeError, Term, dump
from genomes.language.primitives import TABLE, Domain
from harness.task import Instance
from searching.landscape import Landscape, uniform
from searching.noise import Noise

FOUNDERS = ("sgd", "heavy_ball", "nesterov", "adam", "rmsprop", "lion", "cautious_adanw")
RANDOM = 5
BASE = 0.35  # truth of the best structure among the founders, with its best numbers
OFF = 5.0  # steps between the best numbers that founders' may have
MOST_LOST = 0.5  # by bad numbers
TOO_HIGH = 4.0  # steps of the learning rate above its best, from where on trainings fail
KNOWN_BEST = Path(__file__).parent / "best.json"  # of `Synthetic.best`, which takes long


@dataclass(frozen=True)
class Weights:
    """How much structure and constants matter. ``structure``: most that good words add; ``constants``: a factor."""

    structure: float
    constants: float


SYNTHETIC = {
    "constants": Weights(structure=0.1, constants=1.5),
    "structure": Weights(structure=0.3, constants=0.15),
    "mixed": Weights(structure=0.2, constants=0.6),
}


class Synthetic(Landscape):
    """See the module's text. ``name``: one of SYNTHETIC."""

    founders = FOUNDERS
    random = RANDOM
    constants = True

    def __init__(self, name: str, noise: Noise) -> None:
        self.name = name
        self.weights = SYNTHETIC[name]
        self.noise = noise
        self.depths = noise.recorded.depths
        self.genomes: dict[str, Genome] = {}
        self._truths: dict[str, tuple[float, float]] = {}

    def breeder(self, recipe: Recipe) -> Breeder:
        return QuickBreeder(recipe, self)

    def truth(self, hash: str) -> float:
        return self._known(hash)[0]

    def quality(self, hash: str, instance: Instance) -> float | None:
        truth, failing = self._known(hash)
        if failing and uniform(self.name, hash, instance.seed, "fails") < failing:
            return None
        return self.noise.quality(truth, self.quantile(truth), hash, instance)

    def _known(self, hash: str) -> tuple[float, float]:
        if hash not in self._truths:
            genome = self.genomes[hash]
            above, penalty = self.penalty(genome)
            truth = BASE + self.structure(words(genome), genome.size) - penalty
            self._truths[hash] = truth, min(1.0, max(0.0, above - TOO_HIGH) / 4)
        return self._truths[hash]

    def quantile(self, truth: float) -> float:
        """Where a truth stands among the recorded ones, whose best counts as this landscape's founders' best."""
        shifted = truth - self.best_founder + self.noise.recorded.best_founder
        return float(np.searchsorted(self.noise.truths, shifted)) / len(self.noise.truths)

    # --- structure ---------------------------------------------------------------------------------------------------

    def structure(self, present: frozenset[str], size: int) -> float:
        """What words add to the best founder's."""
        raw = self.raw(present, size) - self._founders_raw
        return self.weights.structure * (math.tanh(raw / 3) if raw > 0 else 2 * math.tanh(raw / 6))

    def raw(self, present: frozenset[str], size: int) -> float:
        """The sum of what words and pairs of words are worth, less the cost of nodes."""
        known = sorted(present)
        single = sum(self._worth(word) for word in known)
        pairs = sum(self._together(a, b) for i, a in enumerate(known) for b in known[i + 1 :])
        return single + pairs - 0.02 * size

    @cached_property
    def _founders_raw(self) -> float:
        return max(self.raw(words(genome), genome.size) for genome in map(catalogue.load, self.founders))

    @cache  # noqa: B019  landscapes live as long as the bench
    def _worth(self, word: str) -> float:
        kind = uniform(self.name, word, "kind")
        size = -math.log(1 - uniform(self.name, word, "size"))
        if word in _founders()[0]:
            return 0.2 * size
        return 0.8 * size if kind < 0.12 else 0.0 if kind < 0.5 else -0.7 * size

    @cache  # noqa: B019
    def _together(self, a: str, b: str) -> float:
        kind = uniform(self.name, a, b, "kind")
        return 1.5 * (uniform(self.name, a, b, "size") - 0.5) if kind < 0.06 else 0.0

    # --- constants ---------------------------------------------------------------------------------------------------

    def penalty(self, genome: Genome) -> tuple[float, float]:
        """Steps of the learning rate above its best, and what all numbers cost together."""
        cost, shift = 0.0, 0.0
        for key, value, domain in numbers(genome):
            away = value - self.optimum(key, domain)
            sharp = 0.004 * 4 ** uniform(self.name, key, "sharp")
            cost += sharp * away**2 / (1 + away**2 / 16)
            if uniform(self.name, key, "joint") < 0.4:
                shift += 0.3 * max(-4.0, min(4.0, away))
        above = math.log2(genome.lr) - self.best_lr(genome) + max(-2.0, min(2.0, shift))
        cost += 0.03 * above**2 / (1 + above**2 / 40) if above < 0 else 0.03 * above**2
        return above, MOST_LOST * math.tanh(self.weights.constants * cost / MOST_LOST)

    @cache  # noqa: B019
    def optimum(self, key: str, domain: Domain) -> float:
        """The best coordinate of a number: near that of the founders, or in the middle half of its prior."""
        if key in (usual := _founders()[1]):
            return usual[key] + OFF * (uniform(self.name, key, "optimum") - 0.5)
        low, high = (coordinate(value, domain) for value in domain.prior)
        return low + (0.25 + 0.5 * uniform(self.name, key, "optimum")) * (high - low)

    def best_lr(self, genome: Genome) -> float:
        """The coordinate of the best learning rate, but for other numbers: a sum over the direction's words."""
        direction = {node.name for term in genome.terms for _, node in paths(term.expr) if node.name}
        return -10 + sum(1.5 * (uniform(self.name, word, "lr") - 0.5) for word in sorted(direction))

    # --- the best there is -------------------------------------------------------------------------------------------

    @cached_property
    def best(self) -> float:
        known = json.loads(KNOWN_BEST.read_text()) if KNOWN_BEST.exists() else {}
        key = f"{self.name} {self.weights}"
        if key not in known:
            known = {name: value for name, value in known.items() if not name.startswith(f"{self.name} ")}
            known[key] = round(BASE + self._best_structure(), 4)
            KNOWN_BEST.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        return known[key]

    def _best_structure(self, generations: int = 60, count: int = 60) -> float:
        """Of a long search without noise; with the best numbers, which exist for every structure."""
        breeder = QuickBreeder(self.recipe(0), self)
        population = [breeder.known(name) for name in self.founders]
        worth = {genome: self.structure(words(genome), genome.size) for genome in population}
        for generation in range(generations):
            rng = generator(generation, "best")
            ranked = sorted(worth, key=worth.__getitem__, reverse=True)[: count // 2]
            for _ in range(count):
                parents = [ranked[min(rng.randrange(len(ranked)) for _ in range(2))] for _ in range(2)]
                child = breeder.child(parents, rng, 0.5, {}).genome.renamed("x")
                worth[child] = self.structure(words(child), child.size)
            worth = {genome: worth[genome] for genome in sorted(worth, key=worth.__getitem__, reverse=True)[:count]}
        return max(worth.values())


@dataclass(frozen=True)
class QuickBreeder(Breeder):
    """Makes real genomes by the real operators, without the probe: a child takes about a millisecond.

    Where an operator asks for updates as large as the parent's, the learning rate keeps its distance to the best one.
    """

    landscape: Synthetic

    def switched_off(self, individual: Individual) -> None:
        """Never: no landscape knows of the outputs' mean."""

    def probe(self, genome: Genome) -> Probe:
        """Nothing: no landscape knows of updates."""
        return ()

    def known(self, name: str) -> Genome:
        """A known optimizer, its learning rate within a few steps of the landscape's best one."""
        genome = catalogue.load(name)
        off = 5 * (uniform(self.landscape.name, name, "off") - 0.5)
        off += math.copysign(0.5, off)
        return replace(genome, lr=2.0 ** (self.landscape.best_lr(genome) + off))

    def random(self, name: str, rng: random.Random) -> Genome:
        genome = Genome(name=name, lr=1.0, terms=(Term(1.0, random_term(rng)),), source="random")
        if rng.random() < 0.3:
            genome = replace(genome, gates=(random_gate("gates", rng),))
        if rng.random() < 0.5:
            genome = replace(genome, schedule=random_schedule(rng))
        return replace(genome, lr=2.0 ** (self.landscape.best_lr(genome) + rng.gauss(0, 2)))

    def child(
        self, parents: Sequence[Genome], rng: random.Random, crossover: float, weights: Mapping[str, float]
    ) -> Child:
        limits = self.recipe.limits
        for _ in range(20):
            arity = 2 if len(parents) > 1 and rng.random() < crossover else 1
            choices = {
                found: weights.get(name, found.weight) for name, found in OPERATORS.items() if found.parents == arity
            }
            chosen = rng.choices(list(choices), list(choices.values()))[0]
            try:
                edited = chosen(*parents[:arity], rng)
                genome = self._rescaled(parents[0], edited.genome) if isinstance(edited, SameStepSize) else edited
                if genome != parents[0] and genome.size <= limits.nodes and len(genome.terms) <= limits.terms:
                    coordinates(genome)
                    return Child(genome, chosen.name, arity)
            except (GenomeError, OverflowError):
                continue
        return Child(parents[0], "copy", 1)

    def _rescaled(self, parent: Genome, child: Genome) -> Genome:
        moved = math.log2(parent.lr) + self.landscape.best_lr(child) - self.landscape.best_lr(parent)
        return replace(child, lr=float(f"{2.0 ** min(max(moved, -60.0), 6.0):.3g}"))

    def coordinates(self, genome: Genome) -> tuple[float, ...]:
        return coordinates(genome)

    def structure(self, genome: Genome) -> Genome:
        return structure(genome)

    def identity(self, genome: Genome) -> str:
        hash = blake2b(dump(genome.renamed("x")).encode(), digest_size=16).hexdigest()
        self.landscape.genomes.setdefault(hash, genome)
        return hash


@lru_cache(maxsize=20_000)
def coordinates(genome: Genome) -> tuple[float, ...]:
    """See `evo.search.variation.skeleton`."""
    return skeleton.coordinates(genome)


@lru_cache(maxsize=20_000)
def structure(genome: Genome) -> Genome:
    """See `evo.search.variation.skeleton`."""
    return skeleton.skeleton(genome)


def words(genome: Genome) -> frozenset[str]:
    """The words of a genome, those of the direction apart from those elsewhere, and its other parts."""
    found = {f"decay {genome.decay.kind}", *(f"role {role}" for role, _ in genome.roles)}
    for gene in genes(genome):
        found |= {f"{gene[0]} {node.name}" for _, node in paths(expression_of(genome, gene)) if node.name}
    return frozenset(found)


@lru_cache(maxsize=1)
def _founders() -> tuple[frozenset[str], dict[str, float]]:
    """The words of the founders, and the mean coordinates of their numbers."""
    genomes = [catalogue.load(name) for name in FOUNDERS]
    values: dict[str, list[float]] = {}
    for key, value, _ in (number for genome in genomes for number in numbers(genome)):
        values.setdefault(key, []).append(value)
    return frozenset().union(*map(words, genomes)), {key: fmean(found) for key, found in values.items()}


def numbers(genome: Genome) -> Iterator[tuple[str, float, Domain]]:
    """What `skeleton.coordinates` varies but the learning rate: a name that children inherit, coordinate and domain."""
    weight = Domain(0, 1e3, (0.03, 3.0), "log")
    for i, term in enumerate(genome.terms[1:]):
        if term.weight:
            yield f"weight {i}", math.log2(abs(term.weight)), weight
    if genome.decay.kind != "none" and genome.decay.rate:
        yield "decay", math.log2(genome.decay.rate), Domain(0, 1, (1e-4, 1e-1), "log")
    for role, factor in genome.roles:
        if factor:
            yield f"role {role}", math.log2(factor), Domain(0, 100, (0.1, 10.0), "log")
    for gene in genes(genome):
        expression = expression_of(genome, gene)
        for path, domain in literals(expression):
            value = at(expression, path).value
            if value is None or not skeleton.varies(value, domain):
                continue
            place = "alone"
            if path:
                above = at(expression, path[:-1]).name
                place = f"{above} {TABLE[above].parameters[path[-1]].name}"
            yield f"{gene[0]} {place}", coordinate(value, domain), domain


def coordinate(value: float, domain: Domain) -> float:
    """A number on the scale that it is varied on, see `evo.search.variation.skeleton`."""
    match domain.scale:
        case "log" | "integer":
            return math.log2(abs(value))
        case "one_minus_log":
            return -math.log2(max(1 - value, 1e-12))
    low, high = domain.prior
    return value / (0.2 * (high - low))
