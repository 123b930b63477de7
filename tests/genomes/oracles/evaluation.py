"""Oracles of optimizers that choose what evaluation sees: averages, and calibrated outputs. NumPy float64.

The frozen end of the trajectory's network is read here as a user would read it; its shifts come from a pseudo-inverse
and a bisection, where the project has Gram and Schmidt and Newton's method.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tests.genomes import trajectory
from tests.genomes.oracles.base import Gradient, MakeOracle, Memory
from tests.genomes.trajectory import STEPS_PER_EPOCH, Moment


def _normal_share(x: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda value: 0.5 * math.erfc(-value / math.sqrt(2)))(x)


def _mean_above_zero(center: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Mean of max(x, 0) for a normal x."""
    density = np.exp(-0.5 * (center / spread) ** 2) / math.sqrt(2 * math.pi)
    return center * _normal_share(center / spread) + spread * density


def output_shifts(shift: np.ndarray) -> np.ndarray:
    """``[outputs, n]``: for each output the least change of ``shift`` that moves its evaluated mean by 1."""
    weight, bias, scale, mean, var, last_weight = (p.numpy() for p in trajectory.start()[10:16])
    center = weight @ shift + bias
    low, high = np.full_like(center, 1e-6), np.full_like(center, 1e3)
    for _ in range(80):  # of a range of 21 nats: to the last bit
        middle = np.sqrt(low * high)
        below = _mean_above_zero(center, middle) < mean
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    active = _normal_share(center / high)
    jacobian = last_weight @ np.diag(active * scale / np.sqrt(var + 1e-5)) @ weight
    return np.linalg.pinv(jacobian).T


LAYERS = [layer for layer, trains in zip(trajectory.LAYERS, trajectory.TRAINABLE, strict=True) if trains]
LAYERS_TRAINED = 1 + max(LAYERS)


class Losses:
    """What an optimizer makes of the losses: the means of the targets, from epochs in which outputs were biased."""

    def __init__(self) -> None:
        self.train: dict[int, float] = {}
        self.error = [0.0, 0.0]

    def hear(self, now: Moment) -> None:
        if now.train_loss is None:
            return
        self.train.setdefault(now.epoch - 1, now.train_loss)
        if now.epoch >= 2:  # epoch 1 biased the first output by 100, epoch 2 the second
            self.error[0] = 2 * (self.train[0] - self.train[1]) / 200 + 50
        if now.epoch >= 3:
            self.error[1] = 2 * (self.train[0] - self.train[2]) / 200 + 50


class EvaluatedElsewhere:
    """``rule`` as in `ruled`; ``offset(oracle, after, now)``: per tensor, for the parameters after the step."""

    def __init__(self, theta: list[Tensor], roles: list[str], rule: Callable, offset: Callable, calibrated: bool):
        self.theta = [p.numpy().copy() for p in theta]
        told = zip(roles, LAYERS, self.theta, strict=True)
        self.memory = [Memory(role=role, layer=layer, start=p.copy()) for role, layer, p in told]
        self.rule, self.offset, self.calibrated = rule, offset, calibrated
        self.losses = Losses()
        self.added = [np.zeros_like(p) for p in self.theta]
        self.averages = [np.zeros_like(p) for p in self.theta]
        self.held = np.zeros_like(self.theta[-1])

    def step(self, gradient: Gradient, now: Moment) -> list[Tensor]:
        self.losses.hear(now)
        n = now.number
        at = [p.copy() for p in self.theta]
        if self.calibrated and now.epoch > 3 and n % 2 == 0 and n % STEPS_PER_EPOCH > 1:
            at[-1] = at[-1] + self.held
        gradients = [g.numpy() for g in gradient([torch.from_numpy(p.copy()) for p in at])]
        with np.errstate(all="ignore"):
            updates = [self.rule(s, p, g, now) for s, p, g in zip(self.memory, self.theta, gradients, strict=True)]
        last = n % STEPS_PER_EPOCH == 0
        shifts = output_shifts(self.theta[-1]) if self.calibrated and last else np.zeros((2, self.held.size))
        self.theta = [p + u for p, u in zip(self.theta, updates, strict=True)]
        offsets = self.offset(self, shifts, now)
        if not last:
            return [torch.from_numpy(p.copy()) for p in self.theta]
        self.held = self.losses.error @ shifts
        return [torch.from_numpy(p + o) for p, o in zip(self.theta, offsets, strict=True)]

    def averaged(self, weight: float) -> list[np.ndarray]:
        """The way to the averages, which move by ``weight`` towards the parameters."""
        self.averages = [a + weight * (p - a) for a, p in zip(self.averages, self.theta, strict=True)]
        return [a - p for a, p in zip(self.averages, self.theta, strict=True)]


def evaluated(rule: Callable, offset: Callable, calibrated: bool = False) -> MakeOracle:
    """An oracle from a rule for one tensor, and where it is evaluated. The last tensor is the one to be shifted."""
    return lambda theta, roles: EvaluatedElsewhere(theta, roles, rule, offset, calibrated)


def mean_with(beta: float) -> Callable:
    return lambda oracle, shifts, now: oracle.averaged(max(1 - beta, 1 / now.number))


def mean_since(start: int) -> Callable:
    """The mean of the parameters after all steps of epochs from ``start`` on."""

    def offset(oracle, shifts, now):
        oracle.count = getattr(oracle, "count", 0) + (now.epoch >= start)
        return oracle.averaged(1 / max(1, oracle.count))

    return offset


def mean_of_snapshots(start: int) -> Callable:
    """Izmailov et al. 2018, algorithm 1: the mean of copies of the parameters, one per epoch from ``start`` on."""

    def offset(oracle, shifts, now):
        if now.number == 1:
            oracle.snapshots = []
        if now.epoch >= start and now.number % STEPS_PER_EPOCH == 0:
            oracle.snapshots.append([p.copy() for p in oracle.theta])
        models = oracle.snapshots or [oracle.theta]
        return [np.mean(copies, axis=0) - p for p, *copies in zip(oracle.theta, *models, strict=True)]

    return offset


def calibrated_mean(beta: float, slack: float, epochs: int) -> Callable:
    """An average, and the outputs' means: the first less ``slack`` times the root of what is left of ``epochs``."""

    def offset(oracle, shifts, now):
        offsets = oracle.averaged(max(1 - beta, 1 / now.number))
        left = slack * math.sqrt(max(0.0, 1 - now.epoch / epochs))
        offsets[-1] = offsets[-1] + (np.array(oracle.losses.error) - [left, 0]) @ shifts
        return offsets

    return offset
