"""Cheap checks of a genome before any training: what it costs, whether it acts, how large its updates are."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from genomes.analysis.probe import probe_genome
from genomes.backends.torch_reference import optimizer
from genomes.compiler.lowering import lower
from genomes.language.genome import LR_RANGE, Genome

# The probe problem of `descends`: noisy quadratics, f = sum of 0.5 * curvature * (theta - target)^2, whose summed-batch
# gradients are about as large as those that the challenge's network sees.
_SHAPES = ((6, 4), (6,), (6,))
_ROLES = ("weight", "bias", "norm_scale")
_STEPS, _STEPS_PER_EPOCH = 60, 6


@lru_cache(maxsize=4096)
def _probe_summary(genome: Genome) -> tuple[bool, float, bool]:
    """(finite, median magnitude of the non-zero updates, whether any update is not 0)."""
    trace = probe_genome(genome).trace
    magnitudes = np.abs(trace[np.isfinite(trace)])
    magnitudes = magnitudes[magnitudes > 0]
    size = float(np.median(magnitudes)) if len(magnitudes) else 0.0
    return bool(np.isfinite(trace).all()), size, bool(len(magnitudes))


def acts(genome: Genome) -> bool:
    """Whether its updates on the probe are finite, not all 0, and others for other gradients. Raises GenomeError."""
    finite, _, moves = _probe_summary(genome)
    return finite and moves and _follows_gradient(genome)


@lru_cache(maxsize=4096)
def _follows_gradient(genome: Genome) -> bool:
    """Whether two different gradients give different first updates."""
    first, second = (_first_update(genome, sign) for sign in (1.0, -1.0))
    return not np.allclose(first, second, rtol=1e-6, atol=0, equal_nan=True)


def _first_update(genome: Genome, sign: float) -> np.ndarray:
    functions = optimizer(lower(genome))
    state = _start(functions)
    params, generator = _problem(0)
    updates = []
    for _ in range(3):
        gradients = [sign * torch.from_numpy(generator.standard_normal(shape)) for shape in _SHAPES]
        updates += functions.step(state, params, gradients, 0, None, None)
    return torch.cat([u.flatten() for u in updates]).numpy()


def update_size(genome: Genome) -> float:
    """Median magnitude of its non-zero updates on the probe. Raises GenomeError."""
    return _probe_summary(genome)[1]


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
    """Whether it lowers each of three noisy probe quadratics by at least 5 % and ends finite. Raises GenomeError."""
    functions = optimizer(lower(genome))
    for case in range(3):
        params, generator = _problem(case)
        state = _start(functions)
        curvature = [torch.from_numpy(10 ** generator.uniform(-1, 1, shape)) for shape in _SHAPES]
        target = [p + 0.05 * torch.from_numpy(generator.standard_normal(p.shape)) for p in params]
        start = last = _loss(params, target, curvature)
        for step in range(_STEPS):
            epoch = step // _STEPS_PER_EPOCH
            known = None if epoch == 0 else last / start
            noise = [torch.from_numpy(0.2 * generator.standard_normal(shape)) for shape in _SHAPES]
            gradients = [
                30 * c * (p - y + 0.05 * n) for c, p, y, n in zip(curvature, params, target, noise, strict=True)
            ]
            updates = functions.step(state, params, gradients, epoch, known, known)
            params = [p + u for p, u in zip(params, updates, strict=True)]
            if step % _STEPS_PER_EPOCH == _STEPS_PER_EPOCH - 1:
                last = _loss(params, target, curvature)
                if not math.isfinite(last) or last > 1e6 * start:
                    return False
        if last > 0.95 * start:
            return False
    return True


def _problem(case: int) -> tuple[list[torch.Tensor], np.random.Generator]:
    generator = np.random.Generator(np.random.PCG64([7, case]))
    params = [torch.from_numpy(0.1 * generator.standard_normal(shape)) for shape in _SHAPES]
    return params, generator


def _start(functions):
    sizes = [math.prod(shape) for shape in _SHAPES]
    return functions.init_state(
        bytes(32), sizes, shapes=list(_SHAPES), roles=list(_ROLES), trainable=[True] * len(_SHAPES),
        layers=[0] * len(_SHAPES), device=torch.device("cpu"), dtype=torch.float64,
    )  # fmt: skip


def _loss(params: list[torch.Tensor], target: list[torch.Tensor], curvature: list[torch.Tensor]) -> float:
    return float(sum((0.5 * c * (p - y) ** 2).sum() for c, p, y in zip(curvature, params, target, strict=True)))
