"""Cheap checks of a genome before any training: whether it acts, how large its updates are, whether it descends."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from genomes.analysis.probe import probe_genome
from genomes.backends.flat.optimizer import FlatProgram, FlatRun
from genomes.compiler.graph import before
from genomes.compiler.lowering import lower
from genomes.compiler.program import Program
from genomes.language.genome import LR_RANGE, Genome

_STEPS_PER_EPOCH = 8


@dataclass(frozen=True)
class _Network:
    """Parameters to be updated: one entry per tensor.

    ``epochs``: those that a run goes through without a gap; of late ones it takes the last ``late_steps``.
    """

    shapes: tuple[tuple[int, ...], ...]
    roles: tuple[str, ...]
    layers: tuple[int, ...]
    epochs: int
    late_steps: int

    @property
    def size(self) -> int:
        return sum(map(math.prod, self.shapes))

    def bind(self, program: Program, theta: Tensor, gradient: Tensor) -> FlatRun:
        """Begin a run; both vectors ``[size]``."""
        return FlatProgram(program).bind(
            theta, gradient, seed=bytes(32), shapes=self.shapes, roles=self.roles, layers=self.layers,
            indices=range(len(self.shapes)),
        )  # fmt: skip


_ROLES = ("weight", "bias", "norm_scale", "norm_shift", "weight", "bias", "weight", "bias")
_SMALL = _Network(
    ((6, 4), (6,), (6,), (6,), (4, 6), (4,), (2, 4), (2,)), _ROLES, (0, 0, 0, 0, 1, 1, 2, 2), 25, _STEPS_PER_EPOCH
)
# for genomes that act on wide and deep networks alone
_LARGE = _Network(
    ((256, 4), (256,), (256,), (256,), (256, 256), (256,), (2, 256), (2,)), _ROLES, (0, 0, 0, 0, 32, 32, 64, 64), 2, 2
)
_LATE_EPOCHS = (25, 30, 40, 50, 60, 75, 100, 125, 150, 200, 250, 300, 400, 500, 600, 700, 800, 900, 999)
_GRADIENTS = 6  # different ones in a run, again and again
_CASES, _LONGEST = 3, 512  # probe problems of `descends`, and the steps that it takes at most


def problem(genome: Genome) -> str | None:
    """Why it cannot train, as seen on the probe and on two runs with independent gradients; None where it can.

    Raises GenomeError.
    """
    found = probe_genome(genome)
    if not found.finite:
        return f"its updates do not stay finite, in {len(found.updates)} steps of the probe"
    seen = _seen(genome)
    if seen is None:
        return "its updates do not read the gradient"
    if seen.differ:
        return None if seen.finite else f"its updates do not stay finite, in {seen.steps} steps"
    return f"it never moves, in {seen}" if not seen.size else f"other gradients give the same updates, in {seen}"


def acts(genome: Genome) -> bool:
    """Whether its updates are finite, and others for other gradients. Raises GenomeError."""
    return problem(genome) is None


@dataclass(frozen=True)
class _Seen:
    """What two runs with independent gradients showed, up to the first step in which their updates differed.

    ``size``: median magnitude of the non-zero updates of that step, or of the last that had any; 0 without.
    """

    differ: bool
    finite: bool
    size: float
    steps: int
    epoch: int

    def __str__(self) -> str:
        sizes = " and ".join(str(network.size) for network in (_SMALL, _LARGE))
        return f"{self.steps} steps of epochs 0 to {self.epoch}, on networks of {sizes} parameters"


@lru_cache(maxsize=4096)
def _seen(genome: Genome) -> _Seen | None:
    """What driving it shows; None for a genome that cannot follow the gradient, since no update reads it."""
    program = lower(genome)
    if not any(program.nodes[i].op == "g" for i in before(program, [program.update])):
        return None
    small = _driven(program, _SMALL)
    if small.differ:
        return small
    large = _driven(program, _LARGE)
    return replace(large, steps=small.steps + large.steps, size=large.size or small.size)


def _driven(program: Program, network: _Network) -> _Seen:
    theta = torch.from_numpy(0.1 * _normal(network.size, 0))
    pair = (torch.zeros_like(theta), torch.zeros_like(theta))
    one, other = (network.bind(program, theta, gradient) for gradient in pair)
    moved = torch.zeros_like(theta)  # the last update with an entry that is not 0
    steps, epoch = 0, 0
    for steps, (t, epoch, train_loss, val_loss) in enumerate(_moments(network), start=1):
        for run, gradient, given in zip((one, other), pair, _gradients(network.size), strict=True):
            run.t = t - 1
            gradient.copy_(given[steps % _GRADIENTS])
        update, second = (run.step(epoch, train_loss, val_loss) for run in (one, other))
        if not torch.allclose(update, second, rtol=1e-6, atol=0, equal_nan=True):
            both = torch.cat([update, second])
            return _Seen(True, bool(both.isfinite().all()), _median_size(both.numpy()), steps, epoch)
        if update.any():
            moved.copy_(update)
        theta += torch.tanh(update)
    return _Seen(False, True, _median_size(moved.numpy()), steps, epoch)


def _moments(network: _Network) -> Iterator[tuple[int, int, float | None, float | None]]:
    """Step from 1, epoch, training loss and validation loss.

    The losses are unknown, fall, and fall on; the one of validation rises for a while, and again at the end.
    """
    late = [epoch for epoch in _LATE_EPOCHS if epoch >= network.epochs]
    for epoch in (*range(network.epochs), *late):
        train_loss = 0.9 * 0.93**epoch + 0.01
        val_loss = 1.2 * train_loss + (0.5 if 8 <= epoch < 14 or epoch >= 300 else 0.0)
        known = epoch > 0
        first = 0 if epoch < network.epochs else _STEPS_PER_EPOCH - network.late_steps
        for step in range(first, _STEPS_PER_EPOCH):
            t = epoch * _STEPS_PER_EPOCH + step + 1
            yield t, epoch, train_loss if known else None, val_loss if known else None


@lru_cache(maxsize=2)
def _gradients(size: int) -> tuple[list[Tensor], list[Tensor]]:
    """The gradients ``[size]`` of two runs, alike in scale and nothing else."""
    first, second = (
        [
            torch.from_numpy((30.0, 1.0, 0.05)[k % 3] * (drift + _normal(size, run, k)))
            for k in range(_GRADIENTS)
            for drift in (0.4 * _normal(size, run),)
        ]
        for run in (1, 2)
    )
    return first, second


def _normal(size: int | tuple[int, ...], *seed: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64([7, *seed])).standard_normal(size)


def _median_size(updates: np.ndarray) -> float:
    """The median magnitude of the finite entries that are not 0; 0 without."""
    magnitudes = np.abs(updates[np.isfinite(updates)])
    magnitudes = magnitudes[magnitudes > 0]
    return float(np.median(magnitudes)) if len(magnitudes) else 0.0


@lru_cache(maxsize=4096)
def update_size(genome: Genome) -> float:
    """Median magnitude of its non-zero updates on the probe, or later where it waits so long. Raises GenomeError."""
    size = _median_size(probe_genome(genome).updates)
    if not size and (seen := _seen(genome)):
        return seen.size
    return size


def with_update_size(genome: Genome, target: float) -> Genome | None:
    """The genome with the learning rate at which ``update_size`` is about ``target``; None where there is none.

    Raises GenomeError.
    """
    size = update_size(genome)
    if not size or not math.isfinite(size) or not genome.lr:
        return None
    lr = float(f"{genome.lr * target / size:.3g}")
    return replace(genome, lr=lr) if LR_RANGE[0] < lr <= LR_RANGE[1] else None


@lru_cache(maxsize=4096)
def descends(genome: Genome) -> bool:
    """Whether it lowers each of three noisy quadratics by at least 5 %, in 64, 128, 256 or 512 steps.

    The gradient is taken where the genome queries it. Raises GenomeError.
    """
    program = lower(genome)
    return all(_lowers(program, case) for case in range(_CASES))


@dataclass(frozen=True)
class _Bowl:
    """f = sum of 0.5 * curvature * (theta - target)^2, ``[size]`` each; ``noise``: ``[step, size]``, of the target.

    Its gradients are about as large as the summed ones of the challenge's network.
    """

    start: Tensor
    target: Tensor
    curvature: Tensor
    noise: Tensor

    def loss(self, theta: Tensor) -> float:
        return float((0.5 * self.curvature * (theta - self.target) ** 2).sum())

    def gradient(self, theta: Tensor, step: int) -> Tensor:
        return 30 * self.curvature * (theta - self.target + self.noise[step])


@lru_cache(maxsize=_CASES)
def _bowl(case: int) -> _Bowl:
    size = _SMALL.size
    start, away, curvature = (torch.from_numpy(_normal(size, 3, case, part)) for part in range(3))
    noise = torch.from_numpy(0.01 * _normal((_LONGEST, size), 3, case, 3))
    return _Bowl(0.1 * start, 0.1 * start + 0.05 * away, 10 ** curvature.tanh(), noise)


def _lowers(program: Program, case: int) -> bool:
    bowl = _bowl(case)
    theta, gradient = bowl.start.clone(), torch.zeros_like(bowl.start)
    run = _SMALL.bind(program, theta, gradient)
    start = last = bowl.loss(theta)
    for step in range(_LONGEST):
        epoch = step // _STEPS_PER_EPOCH
        losses = (last / start, 1.1 * last / start) if epoch else (None, None)
        queried = run.query(epoch, *losses)
        gradient.copy_(bowl.gradient(theta if queried is None else queried, step))
        theta += run.step(epoch, *losses)
        taken = step + 1
        if taken % _STEPS_PER_EPOCH == 0:
            last = bowl.loss(theta)
            if not last <= 1e6 * start:
                return False
            if taken in (64, 128, 256, 512) and last <= 0.95 * start:
                return True
    return False
