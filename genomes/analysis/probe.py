"""How a genome acts, by sample: on some steps, epochs and losses of one small network, never on all.

What it tells apart is different; what it does not may differ elsewhere: `genomes.compiler.identity` says what is the
same optimizer.

The probe drives a program through a fixed pseudo-random trajectory in float64: odd shapes, all roles, epochs and step
counts that jump far ahead, losses that are unknown, improve and stall. It takes the flat back end, which is five times
as quick on tensors so small; the tests hold it to the reference here too.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from genomes.backends.flat.optimizer import FlatProgram
from genomes.compiler.lowering import lower
from genomes.compiler.program import Program
from genomes.compiler.shapes import ShapeClass
from genomes.language.genome import Genome

DIGITS = 9  # significant digits that equal behavior must share
_SHAPES = ((3, 1), (3,), (3,), (3,), (3, 3), (3,))
_ROLES = ("weight", "bias", "norm_scale", "norm_shift", "weight", "bias")
_LAYERS = (0, 0, 0, 0, 1, 1)
# (steps, epoch, training loss, validation loss, how many steps are skipped before)
_PHASES = (
    (3, 0, None, None, 0), (2, 1, 0.9, 1.1, 0), (2, 2, 0.7, 0.8, 0), (1, 3, 0.6, 0.9, 3), (1, 4, 0.5, 0.95, 6),
    (1, 5, 0.5, 0.85, 0), (1, 6, 0.4, 0.7, 11), (2, 9, 0.4, 0.75, 50), (1, 17, 0.3, 0.72, 100), (1, 31, 0.3, 0.71, 200),
    (1, 75, 0.25, 0.6, 400), (1, 150, 0.2, 0.65, 1000), (1, 320, 0.2, 0.62, 2000), (2, 699, 0.2, 0.61, 4000),
)  # fmt: skip
# For programs that remember across epochs (plateaus): an improvement, then stale epochs for as long as the challenge's
# patience lets them last, then another improvement.
_STALE_PHASES = tuple((1, 700 + k, 0.2, 0.5 if k == 0 else 0.3 if k == 53 else 0.7, 0) for k in range(56))

# For programs that read the epoch: each of the first twenty, then every tenth part more, so that a threshold shows.
_EPOCH_PHASES = tuple((1, epoch, 0.2, 0.61, 0) for epoch in (*range(7, 21), *(round(21 * 1.1**k) for k in range(41))))
_STEPS_PER_EPOCH = 8
_QUERY_STEPS = 400  # so many steps, eight per epoch, show when a program queries


@dataclass(frozen=True)
class Probe:
    """What a probe found. ``trace``: float64 ``[values]``, updates and queried offsets of all steps in order.

    ``updates``: float64 ``[step, entry]``.
    """

    trace: np.ndarray
    updates: np.ndarray

    @property
    def finite(self) -> bool:
        """Whether all updates and offsets are finite numbers."""
        return bool(np.isfinite(self.trace).all())

    @property
    def memory(self) -> float:
        """How far the updates look back: one less their median cosine with the descent direction, from 0 to 1.

        0 for steepest descent, 0.2 for its sign, 0.6 for Adam, 1 for what the present gradient does not move.
        """
        _, gradients = _trajectory()
        down = -torch.stack(gradients[: len(self.updates)]).numpy()
        with np.errstate(all="ignore"):
            norms = np.sqrt((self.updates**2).sum(1) * (down**2).sum(1))
            cosines = (self.updates * down).sum(1) / norms
        known = cosines[np.isfinite(cosines)]
        return float(np.clip(1 - np.median(known), 0, 1)) if len(known) else 1.0


def probe(program: Program, backend: Callable[[Program], Any] = FlatProgram) -> Probe:
    """Drive a program through the fixed trajectory. ``backend``: makes of it what can be bound, like `FlatProgram`."""
    start, gradients = _trajectory()
    theta, gradient = start.clone(), torch.zeros_like(start)
    run = backend(program).bind(
        theta, gradient, seed=bytes(32), shapes=_SHAPES, roles=_ROLES, layers=_LAYERS, indices=range(len(_SHAPES)),
        network=_network(theta),
    )  # fmt: skip
    trace, updates = [], []
    step = 0
    remembers = any(slot.shape is ShapeClass.CLOCK for slot in program.slots)
    reads_epoch = any(node.op == "epoch" for node in program.nodes)
    for steps, epoch, train_loss, val_loss, skipped in (
        _PHASES + _STALE_PHASES * remembers + _EPOCH_PHASES * reads_epoch
    ):
        run.t += skipped
        for _ in range(steps):
            queried = run.query(epoch, train_loss, val_loss)
            if queried is not None:
                trace += [queried - theta, torch.ones(1, dtype=torch.float64)]
            gradient.copy_(gradients[step])
            update = run.step(epoch, train_loss, val_loss).clone()
            trace.append(update)
            updates.append(update)
            # bounded, so that an optimizer with a huge learning rate is still told apart from its neighbors
            theta += torch.tanh(update)
            step += 1
    if program.queries:
        trace.append(torch.tensor(_asked(program), dtype=torch.float64))
    return Probe(torch.cat(trace).numpy(), torch.stack(updates).numpy())


def _network(theta: torch.Tensor) -> SimpleNamespace:
    """All tensors, as a `harness.flat.Network`: the first BatchNorm stands before a frozen end of two outputs, too.

    What trains behind it is in a branch of its own, beside the frozen end's first layer, so that genomes that read a
    frozen end act here.
    """
    units = torch.arange(1.0, 13.0, dtype=torch.float64).reshape(4, 3).sin()
    ones = torch.ones(4, dtype=torch.float64)
    frozen = [units, 0 * ones, ones, 0.3 * ones, 0.2 * ones, units.T[:2], 0 * ones[:2]]
    roles = ("weight", "bias", "norm_scale", "running_mean", "running_var", "weight", "bias")
    params = [
        part.view(shape) for part, shape in zip(theta.split([math.prod(s) for s in _SHAPES]), _SHAPES, strict=True)
    ]
    layers = [*_LAYERS, 1, 1, 1, 1, 1, 2, 2]
    return SimpleNamespace(
        params=[*params, *frozen], shapes=[*_SHAPES, *(tuple(p.shape) for p in frozen)], roles=[*_ROLES, *roles],
        layers=layers, trainable=[True] * len(_SHAPES) + [False] * len(frozen), steps_per_epoch=_STEPS_PER_EPOCH,
    )  # fmt: skip


def _asked(program: Program) -> list[bool]:
    """In which steps a program queries; a mask of the clock alone, so no step needs to be taken."""
    theta = torch.zeros(sum(map(math.prod, _SHAPES)), dtype=torch.float64)
    run = FlatProgram(program).bind(
        theta, theta, seed=bytes(32), shapes=_SHAPES, roles=_ROLES, layers=_LAYERS, indices=range(len(_SHAPES)),
        network=_network(theta),
    )  # fmt: skip
    asked = []
    for step in range(1, _QUERY_STEPS):
        run.t = step
        losses = (None, None) if step < 8 else (0.5, 0.6)
        asked.append(run.query(step // 8, *losses) is not None)
    return asked


@lru_cache(maxsize=1)
def _trajectory() -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The parameters before the first step, and the gradient of each step: all tensors one after another."""
    generator = np.random.Generator(np.random.PCG64(20240229))
    steps = sum(phase[0] for phase in _PHASES + _STALE_PHASES + _EPOCH_PHASES)
    size = sum(math.prod(shape) for shape in _SHAPES)
    dead = slice(*(sum(math.prod(shape) for shape in _SHAPES[:4]) + k for k in (3, 6)))  # a row of the second weight
    params, drift = 0.5 * generator.standard_normal(size), generator.standard_normal(size)
    gradients = []
    for step in range(steps):
        scale = (30.0, 1.0, 0.05)[step % 3]  # large and small gradients: clips and epsilons show
        gradient = scale * (0.4 * drift + generator.standard_normal(size))
        if step == 5:
            gradient[dead] = 0.0  # a dead unit
        gradients.append(torch.from_numpy(gradient))
    return torch.from_numpy(params), gradients


@lru_cache(maxsize=256)  # hash, screening and simplification look at one genome in a row
def probe_genome(genome: Genome) -> Probe:
    """The probe of a genome's program. Raises GenomeError."""
    return probe(lower(genome))


@lru_cache(maxsize=4096)
def probe_hash(genome: Genome) -> str:
    """32 hex digits; genomes that act alike on the probe, to ``DIGITS`` digits, share them. Raises GenomeError."""
    trace = probe_genome(genome).trace
    with np.errstate(all="ignore"):
        exponent = np.floor(np.log10(np.abs(trace)))
        scale = 10.0 ** (DIGITS - 1 - exponent)
        rounded = np.where((trace == 0) | ~np.isfinite(trace), trace, np.round(trace * scale) / scale)
    text = ",".join(f"{value + 0.0:.{DIGITS - 1}e}" for value in rounded)  # + 0.0: no negative zero
    return hashlib.sha256(text.encode()).hexdigest()[:32]
