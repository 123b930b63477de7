"""When two genomes are the same optimizer: a hash of how they act, and a cheap test that they act sensibly.

The probe drives the three functions through a fixed pseudo-random trajectory in float64: odd shapes, all roles, epochs
and step counts that jump far ahead (so that schedules of any length show), losses that are unknown, improve and stall.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from genomes.backends.torch_reference import optimizer
from genomes.genome import Genome
from genomes.lowering import lower
from genomes.program import Program
from genomes.shapes import ShapeClass

DIGITS = 9  # significant digits that equal behaviour must share
_SHAPES = ((3, 1), (3,), (3,), (3,), (3, 3), (3,), (2, 3), (2,), (3,), (3,))
_ROLES = (
    "weight",
    "bias",
    "norm_scale",
    "norm_shift",
    "weight",
    "bias",
    "weight",
    "bias",
    "running_mean",
    "running_var",
)
_LAYERS = (0, 0, 0, 0, 1, 1, 2, 2, 0, 0)
_TRAINABLE = (True,) * 6 + (False,) * 4
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
_QUERY_STEPS = 400  # so many steps, eight an epoch, show when a program queries


@dataclass(frozen=True)
class Probe:
    """What a probe found. ``trace``: float64 ``[values]``, updates and queried offsets of all steps in order."""

    trace: np.ndarray

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.trace).all())


def probe(program: Program) -> Probe:
    """Drive a program through the fixed trajectory."""
    functions = optimizer(program)
    state = functions.init_state(
        bytes(32), [math.prod(shape) for shape in _SHAPES], shapes=list(_SHAPES), roles=list(_ROLES),
        trainable=list(_TRAINABLE), layers=list(_LAYERS), device=torch.device("cpu"), dtype=torch.float64,
    )  # fmt: skip
    params, gradients = _trajectory()
    theta = [p.clone() for p in params]
    trace = []
    step = 0
    remembers = any(slot.shape is ShapeClass.CLOCK for slot in program.slots)
    reads_epoch = any(node.op == "epoch" for node in program.nodes)
    for steps, epoch, train_loss, val_loss, skipped in (
        _PHASES + _STALE_PHASES * remembers + _EPOCH_PHASES * reads_epoch
    ):
        state.t += skipped
        for _ in range(steps):
            queried = functions.query_at_params(state, theta, epoch, train_loss, val_loss)
            if queried is not None:
                trace += [(q - p).flatten() for q, p in zip(queried, theta, strict=True)] + [torch.ones(1)]
            updates = functions.step(state, theta, gradients[step], epoch, train_loss, val_loss)
            trace += [u.flatten() for u in updates]
            # bounded, so that an optimizer with a huge learning rate is still told apart from its neighbours
            theta = [p + torch.tanh(u) for p, u in zip(theta, updates, strict=True)]
            step += 1
    if program.query:
        trace.append(torch.tensor(_asked(program), dtype=torch.float64))
    return Probe(torch.cat([part.double() for part in trace]).numpy())


def _asked(program: Program) -> list[bool]:
    """In which steps a program queries; a mask of the clock alone, so no step needs to be taken."""
    functions = optimizer(program)
    state = functions.init_state(
        bytes(32), [], shapes=[], roles=[], trainable=[], layers=[], device=torch.device("cpu"), dtype=torch.float64
    )
    asked = []
    for step in range(1, _QUERY_STEPS):
        state.t = step
        losses = (None, None) if step < 8 else (0.5, 0.6)
        asked.append(functions.query_at_params(state, [], step // 8, *losses) is not None)
    return asked


@lru_cache(maxsize=1)
def _trajectory() -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
    generator = np.random.Generator(np.random.PCG64(20240229))
    steps = sum(phase[0] for phase in _PHASES + _STALE_PHASES + _EPOCH_PHASES)
    params = [torch.from_numpy(0.5 * generator.standard_normal(shape)) for shape in _SHAPES]
    drift = [generator.standard_normal(shape) for shape in _SHAPES]
    gradients = []
    for step in range(steps):
        noise = [generator.standard_normal(shape) for shape in _SHAPES]
        scale = (30.0, 1.0, 0.05)[step % 3]  # large and small gradients: clips and epsilons show
        step_gradients = [
            torch.from_numpy(scale * (0.4 * d + n)) * float(flag)
            for d, n, flag in zip(drift, noise, _TRAINABLE, strict=True)
        ]
        if step == 5:
            step_gradients[4][1] = 0.0  # a dead unit
        gradients.append(step_gradients)
    return params, gradients


@lru_cache(maxsize=256)  # hash, screening and simplification look at one genome in a row
def probe_genome(genome: Genome) -> Probe:
    """The probe of a genome's program. Raises GenomeError."""
    return probe(lower(genome))


@lru_cache(maxsize=4096)
def semantic_hash(genome: Genome) -> str:
    """32 hex digits; genomes that act alike share them, whatever their text, name or source. Raises GenomeError."""
    trace = probe_genome(genome).trace
    with np.errstate(all="ignore"):
        exponent = np.floor(np.log10(np.abs(trace)))
        scale = 10.0 ** (DIGITS - 1 - exponent)
        rounded = np.where((trace == 0) | ~np.isfinite(trace), trace, np.round(trace * scale) / scale)
    text = ",".join(f"{value + 0.0:.{DIGITS - 1}e}" for value in rounded)  # + 0.0: no negative zero
    return hashlib.sha256(text.encode()).hexdigest()[:32]
