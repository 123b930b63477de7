"""Oracles transcribed from papers into NumPy float64, where no package has the optimizer; equations as numbered there.

A rule returns the update of one tensor. ``s`` keeps what lasts (unset names are 0); ``now.number`` counts from 1.
"""

from __future__ import annotations

import numpy as np

from tests.genomes.oracles.base import MakeOracle, ruled


def _adam(s, g, t, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Kingma & Ba 2015, algorithm 1: the direction."""
    s.m = beta1 * s.m + (1 - beta1) * g
    s.v = beta2 * s.v + (1 - beta2) * g**2
    return (s.m / (1 - beta1**t)) / (np.sqrt(s.v / (1 - beta2**t)) + epsilon)


def cautious_adamw(s, theta, g, now):
    """Liang et al. 2024, algorithm 1: lines 9 to 12."""
    u = _adam(s, g, now.number)
    phi = (u * g > 0).astype(float)
    return -1e-3 * phi * phi.size / (phi.sum() + 1) * u - 1e-3 * 1e-2 * theta


def cautious_adanw(s, theta, g, now):
    """The challenge's published family: its five formulas in order."""
    d = g - s.g if now.number > 1 else np.zeros_like(g)
    s.g = g.copy()
    s.m = 0.98 * s.m + 0.02 * g
    s.v = 0.92 * s.v + 0.08 * d
    s.n = 0.99 * s.n + 0.01 * (g + 0.92 * d) ** 2
    a = (s.m + 0.92 * s.v) / (np.sqrt(s.n) + 1e-8)
    u = a + (1.6e-3 * theta * (a * theta >= 0) if s.role == "weight" else 0.0)
    if now.number == 1:
        s.scale, s.best, s.stale, s.epoch = 1.0, np.inf, 0, 0
    if now.epoch > s.epoch:
        s.epoch = now.epoch
        if now.val_loss < s.best:
            s.best, s.stale, s.scale = now.val_loss, 0, min(1.0, 1.03 * s.scale)
        else:
            s.stale += 1
            if s.stale % 12 == 0:
                s.scale = max(0.35, 0.82 * s.scale)
    progress = min(1.0, now.epoch / 700)
    cosine = 2e-5 + (3.4e-3 - 2e-5) * 0.5 * (1 + np.cos(np.pi * progress))
    planned = min(1.0, (now.epoch + 1) / 8) * cosine
    rate = 2e-5 + (planned - 2e-5) * s.scale
    role = {"weight": 1.0, "bias": 1.25, "norm_scale": 0.55, "norm_shift": 0.8}[s.role]
    return -rate * role * u * np.where(u * g > 0, 1.0, 0.25)


ORACLES: dict[str, MakeOracle] = {
    "cautious_adamw": ruled(cautious_adamw),
    "cautious_adanw": ruled(cautious_adanw),
}
