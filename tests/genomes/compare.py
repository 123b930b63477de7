"""Drives a genome and its oracle through the same training and measures how far they part."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genomes import catalogue
from genomes.backends.torch_reference import optimizer
from genomes.compiler.lowering import lower
from genomes.language.genome import Genome
from tests.genomes import trajectory
from tests.genomes.oracles import ORACLES

TOLERANCE = 1e-9
SPOILED = ("apply_if_finite",)  # optimizers that are made for gradients that are not finite


@dataclass(frozen=True)
class Comparison:
    """``error``: largest difference of two updates, relative to that tensor's largest update so far."""

    name: str
    oracle: str
    steps: int
    error: float


def compare(name: str, genome: Genome | None = None, few: bool = False) -> Comparison:
    """Compare the catalogue's entry (or ``genome``) with its oracle, each on its own trajectory, in float64.

    ``few``: over a third of the trajectory's steps, see `trajectory.moments`.
    """
    genome = genome or catalogue.load(name)
    functions = optimizer(lower(genome))
    trainable = [i for i, flag in enumerate(trajectory.TRAINABLE) if flag]
    theta = trajectory.start()
    frozen = {i: p for i, p in enumerate(theta) if i not in trainable}
    state = functions.init_state(bytes(32), trajectory.sizes(), **trajectory.context())
    oracle = ORACLES[name]([theta[i].clone() for i in trainable], [trajectory.ROLES[i] for i in trainable])
    before = [theta[i].clone() for i in trainable]
    largest = [0.0] * len(trainable)
    error, steps = 0.0, 0
    for now in trajectory.moments(spoiled=name in SPOILED, few=few):
        queried = functions.query_at_params(state, theta, now.epoch, now.train_loss, now.val_loss)
        gradients = now.gradient(theta if queried is None else queried)
        updates = functions.step(state, theta, gradients, now.epoch, now.train_loss, now.val_loss)
        theta = [p + u for p, u in zip(theta, updates, strict=True)]

        def gradient(at: list[Tensor], now: trajectory.Moment = now) -> list[Tensor]:
            everything = [frozen.get(i, torch.empty(0)) for i in range(len(trajectory.SHAPES))]
            for i, p in zip(trainable, at, strict=True):
                everything[i] = p
            found = now.gradient(everything)
            return [found[i] for i in trainable]

        after = oracle.step(gradient, now)
        steps += 1
        for k, i in enumerate(trainable):
            expected = after[k] - before[k]
            largest[k] = max(largest[k], float(expected.abs().max()))
            difference = float((updates[i] - expected).abs().max())
            if math.isnan(difference):
                return Comparison(name, genome.oracle, steps, math.nan)
            error = max(error, difference / largest[k] if largest[k] else difference)
        before = after
    return Comparison(name, genome.oracle, steps, error)
