"""What other searches make of the same landscape: random search, a plain (1 + lambda), DEAP and Optuna.

Each declares its champion whenever it changes its mind, and plays until OutOfBudget. ``instances`` of a setting:
``fixed`` scores every genome on the same ``k`` ones, ``fresh`` on new ones for every batch, less the first founder's
quality there.
"""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from deap import algorithms, base, tools

from evo.randomness import generator, global_random
from evo.search.breeding import Breeder
from genomes.language.genome import Genome
from harness.task import Instance
from searching.play import OutOfBudget, Play

CONVERGED = 20  # trials in a row without a new training, after which Optuna goes on to the next founder

Settings = Mapping[str, Any]


class Scores:
    """Scores genomes on ``k`` instances, see the module's text. ``best``: the one with the highest score so far."""

    def __init__(self, play: Play, k: int, instances: str) -> None:
        self.play = play
        self.breeder: Breeder = play.landscape.breeder(play.landscape.recipe(play.seed))
        self.founders = [self.breeder.known(name) for name in play.landscape.founders]
        self._founders = {self.breeder.identity(genome) for genome in self.founders}
        self.fresh = instances == "fresh"
        self.k = k
        self.best = float("-inf")
        self.block: list[Instance] = []

    def start_batch(self) -> None:
        """Go to the instances of the next batch."""
        if self.fresh or not self.block:
            self.block = self.play.fresh(self.k)

    def __call__(self, genome: Genome, instances: Sequence[Instance] = ()) -> float:
        """The score of a genome on the batch's instances, or on these."""
        on = instances or self.block
        score = fmean(self.play.qualities(self.breeder.identity(genome), on))
        if self.fresh:
            score -= fmean(self.play.qualities(self.breeder.identity(self.founders[0]), on))
        return score

    def consider(self, genome: Genome, score: float) -> None:
        """Declare the genome where no other has had a higher score."""
        if score > self.best:
            self.best = score
            self.declare(genome)

    def declare(self, genome: Genome) -> None:
        """Name the champion."""
        hash = self.breeder.identity(genome)
        self.play.declare(hash, hash in self._founders)

    def start(self) -> list[Genome]:
        """The founders and the random genomes of a first generation."""
        count = self.play.landscape.random
        found = [self.breeder.random(f"random{i + 1}", generator(self.play.seed, i, "peer")) for i in range(count)]
        return [*self.founders, *found]

    def child(self, parents: Sequence[Genome], rng: random.Random, crossover: float = 0.5) -> Genome:
        """A child by the campaign's variation."""
        return self.breeder.child(parents, rng, crossover, {}).genome


def random_search(play: Play, settings: Settings) -> None:
    """Founders first, then each time a founder after a few random variations, whatever the scores."""
    scores = Scores(play, settings["k"], settings["instances"])
    rng = generator(play.seed, "random search")
    waiting = scores.start()
    while True:
        scores.start_batch()
        for genome in waiting:
            scores.consider(genome, scores(genome))
        waiting = []
        for _ in range(8):
            genome = rng.choice(scores.founders)
            while True:
                genome = scores.child([genome], rng)
                if rng.random() < 0.5:
                    break
            waiting.append(genome)


def one_plus_lambda(play: Play, settings: Settings) -> None:
    """The best founder, then the best of it and its mutants, all on the same ``k`` fresh instances each time."""
    scores = Scores(play, settings["k"], "fixed")
    rng = generator(play.seed, "one plus lambda")
    first = scores.start()
    offspring = first[1:]
    parent = first[0]
    while True:
        block = play.fresh(settings["k"])
        found = [(scores(genome, block), -i, genome) for i, genome in enumerate([parent, *offspring])]
        parent = max(found)[2]
        scores.declare(parent)
        offspring = [scores.child([parent], rng) for _ in range(settings["lambda"])]


class _Quality(base.Fitness):
    weights = (1.0,)


class _Member:
    """A genome as DEAP wants it."""

    def __init__(self, genome: Genome) -> None:
        self.genome = genome
        self.fitness = _Quality()


def deap_mu_plus_lambda(play: Play, settings: Settings) -> None:
    """DEAP's ``eaMuPlusLambda``: ``mu`` parents, ``lambda`` children by crossover or mutation, the best survive."""
    scores = Scores(play, settings["k"], settings["instances"])
    rng = generator(play.seed, "deap")
    toolbox = base.Toolbox()

    def mate(a: _Member, b: _Member) -> tuple[_Member, _Member]:
        a.genome = scores.child([a.genome, b.genome], rng, crossover=1.0)
        return a, b

    def mutate(member: _Member) -> tuple[_Member]:
        member.genome = scores.child([member.genome], rng)
        return (member,)

    def evaluated(evaluate: Callable[[_Member], tuple[float]], members: Sequence[_Member]) -> list[tuple[float]]:
        scores.start_batch()
        return [evaluate(member) for member in members]

    def evaluate(member: _Member) -> tuple[float]:
        score = scores(member.genome)
        scores.consider(member.genome, score)
        return (score,)

    toolbox.register("mate", mate)
    toolbox.register("mutate", mutate)
    toolbox.register("map", evaluated)
    toolbox.register("evaluate", evaluate)
    toolbox.register("select", tools.selBest)
    population = [_Member(genome) for genome in scores.start()]
    with global_random(rng):
        algorithms.eaMuPlusLambda(
            population, toolbox, settings["mu"], settings["lambda"], cxpb=0.4, mutpb=0.6, ngen=10**6, verbose=False
        )


def optuna_tpe(play: Play, settings: Settings) -> None:
    """Optuna's TPE sampler on the constants of the best founders."""
    _optuna(play, settings, lambda optuna, start, seed: optuna.samplers.TPESampler(seed=seed, multivariate=True))


def optuna_cmaes(play: Play, settings: Settings) -> None:
    """Optuna's CMA-ES sampler on the constants of the best founders."""
    _optuna(play, settings, lambda optuna, start, seed: optuna.samplers.CmaEsSampler(x0=start, sigma0=0.7, seed=seed))


def _optuna(play: Play, settings: Settings, sampler: Callable[[Any, dict[str, float], int], Any]) -> None:
    """Train the founders, then tune the ``founders`` best of them, best first, with equal shares of the budget."""
    import optuna

    logging.getLogger("optuna").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="optuna")
    scores = Scores(play, settings["k"], settings["instances"])
    scores.start_batch()
    block = play.fresh(8)
    ranked = sorted(scores.founders, key=lambda genome: -scores(genome, block))
    scores.declare(ranked[0])
    able = [genome for genome in ranked if len(scores.breeder.coordinates(genome)) > 1][: settings["founders"]]
    for i, founder in enumerate(able):
        share = play.lanes + (play.budget - play.lanes) // (len(able) - i)
        start = {f"x{j}": x for j, x in enumerate(scores.breeder.coordinates(founder))}
        study = optuna.create_study(direction="maximize", sampler=sampler(optuna, start, play.seed * 100 + i))
        study.enqueue_trial(start)
        while play.lanes < share and play.idle < CONVERGED:
            trial = study.ask()
            vector = [trial.suggest_float(name, x - 3, x + 3) for name, x in start.items()]
            genome = scores.breeder.tuned(founder, vector)
            scores.start_batch()
            score = scores(genome)
            study.tell(trial, score)
            scores.consider(genome, score)
    raise OutOfBudget
