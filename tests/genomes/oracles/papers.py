"""Oracles transcribed from papers into NumPy float64, where no package has the optimizer; equations as numbered there.

A rule returns the update of one tensor. ``s`` keeps what lasts (unset names are 0); ``now.number`` counts from 1.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from tests.genomes.oracles.base import Gradient, MakeOracle, Memory, ruled
from tests.genomes.oracles.evaluation import (
    LAYERS_TRAINED,
    calibrated_mean,
    evaluated,
    mean_of_snapshots,
    mean_since,
    mean_with,
)
from tests.genomes.trajectory import Moment


def _adam(s, g, t, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Kingma & Ba 2015, algorithm 1: the direction."""
    s.m = beta1 * s.m + (1 - beta1) * g
    s.v = beta2 * s.v + (1 - beta2) * g**2
    return (s.m / (1 - beta1**t)) / (np.sqrt(s.v / (1 - beta2**t)) + epsilon)


# --- Adam's family ---------------------------------------------------------------------------------------------------


def padam(s, theta, g, now):
    """Chen et al. 2020, algorithm 1: no bias correction, the largest second moment so far, p = 1/8."""
    s.m = 0.9 * s.m + 0.1 * g
    s.v = 0.999 * s.v + 0.001 * g**2
    s.largest = np.maximum(s.largest, s.v)
    return -1e-2 * np.divide(s.m, s.largest**0.125, out=np.zeros_like(g), where=s.largest > 0)


def qhadam(s, theta, g, now):
    """Ma & Yarats 2019, equations 14 to 16, betas (0.95, 0.998), nus (0.7, 0.95)."""
    s.m = 0.95 * s.m + 0.05 * g
    s.v = 0.998 * s.v + 0.002 * g**2
    m, v = s.m / (1 - 0.95**now.number), s.v / (1 - 0.998**now.number)
    return -1e-3 * (0.3 * g + 0.7 * m) / (np.sqrt(0.05 * g**2 + 0.95 * v) + 1e-8)


def adam_atan2(s, theta, g, now):
    """Everett et al. 2024, section 4.3: arctan2 instead of division."""
    s.m = 0.9 * s.m + 0.1 * g
    s.v = 0.999 * s.v + 0.001 * g**2
    t = now.number
    return -1e-3 * 1.27 * np.arctan2(s.m / (1 - 0.9**t), np.sqrt(s.v / (1 - 0.999**t)))


def lamb(s, theta, g, now):
    """You et al. 2020, algorithm 2 with phi(z) = z."""
    r = _adam(s, g, now.number, epsilon=1e-6) + 1e-2 * theta
    norms = np.linalg.norm(theta), np.linalg.norm(r)
    return -5e-3 * r * (norms[0] / norms[1] if norms[0] > 0 and norms[1] > 0 else 1.0)


def evolved_2025(s, theta, g, now):
    """Marfinetz 2025: 100 steps of warm-up, then half a cosine until step 8000; no bias correction."""
    s.m = 0.8553 * s.m + (1 - 0.8553) * g
    s.v = 0.9358 * s.v + (1 - 0.9358) * g**2
    step = now.number - 1
    scale = (step + 1) / 100 if step < 100 else 0.5 * (1 + np.cos(np.pi * min(1.0, (step - 100) / (8000 - 100))))
    u = 0.7344 * np.sign(g) + 3.6352 * s.m / (np.sqrt(s.v) + 5.44e-9)
    return -1.2026e-3 * scale * (u + 9.745e-4 * theta)


def _code_book(intervals: int, signed: bool) -> np.ndarray:
    """Dettmers et al. 2022: for each decimal exponent, the middles of equal intervals of [0.1, 1]; and 0 and 1."""
    codes = [0.0, 1.0]
    for exponent in range(7):
        edges = np.linspace(0.1, 1.0, intervals // 2**exponent + 1)
        middles = (edges[:-1] + edges[1:]) / 2 / 10**exponent
        codes += [*middles, *(-middles if signed else ())]
    return np.sort(codes)


_SIGNED, _UNSIGNED = _code_book(64, True), _code_book(128, False)


def _quantised(x: np.ndarray, codes: np.ndarray) -> np.ndarray:
    blocks = x if x.ndim == 2 and x.shape[1] > 1 else x.reshape(1, -1)  # a row is a block; a vector is one
    scale = np.abs(blocks).max(axis=1, keepdims=True)
    unit = np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale > 0)
    nearest = codes[np.abs(unit[..., None] - codes).argmin(axis=-1)]
    return (nearest * scale).reshape(x.shape)


def adam8bit(s, theta, g, now):
    """Dettmers et al. 2022: the averages are read from 8 bits, updated, used, and written back to 8 bits."""
    t = now.number
    m = 0.9 * s.m + 0.1 * g
    v = 0.999 * s.v + 0.001 * g**2
    s.m, s.v = _quantised(m, _SIGNED), _quantised(v, _UNSIGNED)
    return -1e-3 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


# --- signs -----------------------------------------------------------------------------------------------------------


def _lion(s, g):
    c = 0.9 * s.m + 0.1 * g
    s.m = 0.99 * s.m + 0.01 * g
    return c


def lion_kappa(s, theta, g, now):
    """Chen et al. 2024, equation 3 with K(x) = sum of log cosh."""
    return -1e-4 * (np.tanh(_lion(s, g)) + 1e-2 * theta)


def cautious_lion(s, theta, g, now):
    """Liang et al. 2024, algorithm 2, masked as its algorithm 1."""
    u = np.sign(_lion(s, g))
    phi = (u * g > 0).astype(float)
    return -1e-4 * (u * phi * phi.size / (phi.sum() + 1) + 1e-2 * theta)


def powersign(s, theta, g, now):
    """Bello et al. 2017: e^(sign g * sign m) * g."""
    s.m = 0.9 * s.m + 0.1 * g
    return -1e-5 * np.e ** (np.sign(g) * np.sign(s.m)) * g


def addsign(s, theta, g, now):
    """Bello et al. 2017: (1 + sign g * sign m) * g."""
    s.m = 0.9 * s.m + 0.1 * g
    return -2e-5 * (1 + np.sign(g) * np.sign(s.m)) * g


def ef_signsgd(s, theta, g, now):
    """Karimireddy et al. 2019, algorithm 2: lines 4 to 7."""
    p = 3e-5 * g + s.error
    delta = np.abs(p).sum() / p.size * np.sign(p)
    s.error = p - delta
    return -delta


def dgc(s, theta, g, now):
    """Lin et al. 2018, algorithm 4 on one node; sparsities of section 3.3; ties with the threshold are sent."""
    sparsity = (0.75, 0.9375, 0.984375, 0.99609375, 0.999)[min(now.epoch, 4)]
    s.u = 0.9 * s.u + g
    s.v = s.v + s.u
    kept_back = math.ceil(sparsity * (g.size - 1))  # so many of the smallest lie below the threshold
    sent = np.zeros(g.size, dtype=bool)
    sent[np.argsort(np.abs(s.v), axis=None)[kept_back:]] = True
    sent = sent.reshape(g.shape)
    update = s.v * sent
    s.v, s.u = s.v * ~sent, s.u * ~sent
    return -3e-4 * update


# --- cautious and challenge ------------------------------------------------------------------------------------------


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


# --- matrices --------------------------------------------------------------------------------------------------------


def _newton_schulz5(m: np.ndarray) -> np.ndarray:
    """Jordan et al. 2024: the quintic iteration on the wide orientation of m."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = m.T if m.shape[0] > m.shape[1] else m
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if m.shape[0] > m.shape[1] else x


def muon(s, theta, g, now):
    """Jordan et al. 2024: Nesterov momentum as a blend, orthogonalised, times sqrt(max(1, rows / columns))."""
    if s.role != "weight":
        return -1e-3 * _adam(s, g, now.number, 0.9, 0.95, 1e-10)
    s.buffer = s.buffer + 0.05 * (g - s.buffer)
    update = g + 0.95 * (s.buffer - g)
    return -2e-2 * _newton_schulz5(update) * max(1.0, g.shape[0] / g.shape[1]) ** 0.5


def normuon(s, theta, g, now):
    """Li et al. 2025, algorithm 1: lines 4 to 11, without weight decay."""
    if s.role != "weight":
        return -1e-3 * _adam(s, g, now.number, 0.9, 0.95, 1e-10)
    s.m = 0.95 * s.m + 0.05 * g
    o = _newton_schulz5(s.m)
    s.v = 0.95 * s.v + 0.05 * (o**2).mean(axis=1, keepdims=True)
    o = o / (np.sqrt(s.v) + 1e-10)
    return -2e-3 * 0.2 * np.sqrt(o.size) / np.linalg.norm(o) * o


def swan(s, theta, g, now):
    """Ma et al. 2024, algorithm 1: GradNorm, then GradWhitening by the coupled Newton-Schulz iteration."""
    if g.ndim < 2 or g.shape[1] == 1:
        return -1e-3 * _adam(s, g, now.number)
    centred = g - g.mean(axis=1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True))
    normed = np.divide(centred, deviation, out=np.zeros_like(g), where=deviation > 0)
    normed = normed / (np.linalg.norm(normed) + 1e-7)
    y, z = normed @ normed.T, np.eye(len(g))
    for _ in range(10):
        correction = 0.5 * (3 * np.eye(len(g)) - z @ y)
        y, z = y @ correction, correction @ z
    return -1e-2 * z @ normed


# --- optimizers that look at all tensors together --------------------------------------------------------------------


class SamLastGradient:
    """Foret et al. 2021, equation 2: the gradient is taken at w + rho g / |g|, here with the last step's g."""

    def __init__(self, theta: list[Tensor]):
        self.theta = [p.clone() for p in theta]
        self.last: list[Tensor] = []

    def step(self, gradient: Gradient, now: Moment) -> list[Tensor]:
        at = self.theta
        if self.last:
            length = np.sqrt(sum(float((g**2).sum()) for g in self.last))
            at = [p + 0.05 * g / length for p, g in zip(self.theta, self.last, strict=True)]
        self.last = gradient(at)
        self.theta = [p - 3e-5 * g for p, g in zip(self.theta, self.last, strict=True)]
        return [p.clone() for p in self.theta]


class ApplyIfFinite:
    """optax.apply_if_finite: Adam's own step and state where all gradients are finite, else neither."""

    def __init__(self, theta: list[Tensor]):
        self.theta = [p.numpy().copy() for p in theta]
        self.memory = [Memory() for _ in theta]
        self.steps = 0

    def step(self, gradient: Gradient, now: Moment) -> list[Tensor]:
        gradients = [g.numpy() for g in gradient([torch.from_numpy(p.copy()) for p in self.theta])]
        if all(np.isfinite(g).all() for g in gradients):
            self.steps += 1
            directions = [_adam(s, g, self.steps) for s, g in zip(self.memory, gradients, strict=True)]
            self.theta = [p - 1e-3 * d for p, d in zip(self.theta, directions, strict=True)]
        return [torch.from_numpy(p.copy()) for p in self.theta]


class InducedMetric:
    """Harvey 2025: solves (1 + xi g g^T) d = g for the parameters as one long vector, then moves by -lr d."""

    def __init__(self, theta: list[Tensor]):
        self.theta = [p.clone() for p in theta]

    def step(self, gradient: Gradient, now: Moment) -> list[Tensor]:
        g = np.concatenate([part.numpy().ravel() for part in gradient(self.theta)])
        direction = np.linalg.solve(np.eye(g.size) + 1e-5 * np.outer(g, g), g)
        parts = np.split(direction, np.cumsum([p.numel() for p in self.theta])[:-1])
        moved = zip(self.theta, parts, strict=True)
        self.theta = [p - 1e-4 * torch.from_numpy(part).reshape(p.shape) for p, part in moved]
        return [p.clone() for p in self.theta]


class ZClipAdam:
    """Kumar et al. 2025, algorithm 1 (z-score 1.5, alpha 0.97, 25 steps to begin with), then Adam."""

    def __init__(self, theta: list[Tensor]):
        self.theta = [p.clone() for p in theta]
        self.first: list[float] = []
        self.moments = [SimpleNamespace(m=0.0, v=0.0) for _ in theta]
        self.mean = self.variance = 0.0

    def step(self, gradient: Gradient, now: Moment) -> list[Tensor]:
        g = [part.numpy() for part in gradient(self.theta)]
        norm = wanted = float(np.sqrt(sum((part**2).sum() for part in g)))
        if len(self.first) < 25:
            self.first.append(norm)
            self.mean, self.variance = np.mean(self.first), np.var(self.first)
        else:
            z = (norm - self.mean) / (np.sqrt(self.variance) + 1e-6)
            if z > 1.5:
                wanted = self.mean + 1.5 * np.sqrt(self.variance) / (z / 1.5)
            self.mean = 0.97 * self.mean + 0.03 * wanted
            self.variance = 0.97 * self.variance + 0.03 * (wanted - self.mean) ** 2
        directions = [_adam(s, part * (wanted / norm), now.number) for s, part in zip(self.moments, g, strict=True)]
        self.theta = [p - 1e-3 * torch.from_numpy(d) for p, d in zip(self.theta, directions, strict=True)]
        return [p.clone() for p in self.theta]


# --- statistics of rows and columns -----------------------------------------------------------------------------------


def _inverse_root(a, p, epsilon=1e-6):
    """(a + epsilon |a| I)^(-1/p), by eigenvalues."""
    values, vectors = np.linalg.eigh(a)
    return (vectors * (values + epsilon * np.linalg.norm(a)) ** (-1 / p)) @ vectors.T


def _rows(x, y):
    """x y^T; of one column the diagonal alone."""
    return np.diag((x * y)[:, 0]) if x.shape[1] == 1 else x @ y.T


def _adagrad(s, g):
    s.v = s.v + g**2
    return np.divide(g, np.sqrt(s.v) + 1e-8)


def shampoo(s, theta, g, now):
    """Gupta et al. 2018, algorithm 1, roots in every tenth step; order 1: diagonal."""
    if s.role != "weight":
        return -3e-3 * _adagrad(s, g)
    s.l, s.r = s.l + _rows(g, g), s.r + g.T @ g
    if now.number % 10 == 1:
        s.left, s.right = _inverse_root(s.l, 4), _inverse_root(s.r, 4)
    return -1e-2 * s.left @ g @ s.right


def one_sided_shampoo(s, theta, g, now):
    """An et al. 2025, algorithm 1, on a momentum; roots in every tenth step."""
    if s.role != "weight":
        return -3e-3 * _adagrad(s, g)
    s.m, s.l = 0.9 * s.m + 0.1 * g, s.l + _rows(g, g)
    if now.number % 10 == 1:
        s.root = _inverse_root(s.l, 2)
    return -1e-2 * s.root @ s.m


def kl_shampoo(s, theta, g, now):
    """Lin et al. 2025, equations of the moving averages, with exact roots in every tenth step."""
    if s.role != "weight":
        return -3e-3 * _adam(s, g, now.number, 0.9, 0.95, 1e-10)
    rows, columns = g.shape
    s.m = 0.9 * s.m + 0.1 * g
    a, b = (np.eye(rows), np.eye(columns)) if now.number == 1 else (s.a, s.b)
    anew = now.number % 10 == 1
    if anew:
        s.inverses = _inverse_root(a, 1, 1e-4), _inverse_root(b, 1, 1e-4)
    s.a = 0.95 * a + 0.05 / columns * _rows(g @ s.inverses[1], g)
    s.b = 0.95 * b + 0.05 / rows * (s.inverses[0] @ g).T @ g
    if anew:
        s.roots = _inverse_root(s.a, 2, 1e-4), _inverse_root(s.b, 2, 1e-4)
    return -3e-3 * s.roots[0] @ (s.m / (1 - 0.9**now.number)) @ s.roots[1]


def soap(s, theta, g, now):
    """Vyas et al. 2024, algorithms 3 and 4, from the identity; an orthogonal iteration in every tenth step."""
    if s.role != "weight":
        return -3e-3 * _adam(s, g, now.number, 0.95, 0.95)
    t = now.number
    left, right = (np.eye(g.shape[0]), np.eye(g.shape[1])) if t == 1 else s.bases
    s.m = 0.95 * s.m + 0.05 * g
    s.v = 0.95 * s.v + 0.05 * (left.T @ g @ right) ** 2
    m = left.T @ s.m @ right / (1 - 0.95**t)
    update = left @ (m / (np.sqrt(s.v / (1 - 0.95**t)) + 1e-8)) @ right.T
    s.l, s.r = 0.95 * s.l + 0.05 * _rows(g, g), 0.95 * s.r + 0.05 * g.T @ g
    if t % 10 == 0:
        left, right = (np.linalg.qr(a @ q / np.trace(a) + 1e-6 * q)[0] for a, q in ((s.l, left), (s.r, right)))
    s.bases = left, right
    return -3e-3 * update


_RULES = (
    padam, qhadam, adam_atan2, lamb, evolved_2025, adam8bit, lion_kappa, cautious_lion, powersign, addsign, ef_signsgd,
    cautious_adamw, cautious_adanw, muon, normuon, swan, shampoo, one_sided_shampoo, kl_shampoo, soap, dgc,
)  # fmt: skip


def _momentum(s, theta, g, now):
    s.m = 0.9 * s.m + g
    return -1e-4 * s.m


def _scheduled_adam(s, theta, g, now):
    rate = 2.5e-4 * min(1, (now.epoch + 1) / 4) * 0.5 * (1 + np.cos(np.pi * min(1, now.epoch / 300)))
    rate *= max(1, 9 / LAYERS_TRAINED) * (8 if s.layer == 0 else 1)
    return -rate * _adam(s, g, now.number, 0.9, 0.995)


def _freezeout(s, theta, g, now):
    """Brock et al. 2017, section 2, with the factor 1/2 that its authors add to the schedule's equation."""
    freezes_at = (0.8 + (1 - 0.8) * s.layer / (LAYERS_TRAINED - 1)) ** 3
    progress = now.epoch / 300
    rate = 1e-5 / freezes_at * (1 + math.cos(math.pi * progress / freezes_at)) / 2 if progress < freezes_at else 0.0
    s.buffer = 0.9 * s.buffer + g
    return -rate * (g + 0.9 * s.buffer)


ORACLES: dict[str, MakeOracle] = {
    "adam_ema": evaluated(lambda s, theta, g, now: -1e-3 * _adam(s, g, now.number), mean_with(0.99)),
    "sgd_swa": evaluated(_momentum, mean_since(75)),
    "sgd_swa_epochs": evaluated(_momentum, mean_of_snapshots(75)),
    "freezeout": evaluated(_freezeout, lambda oracle, shifts, now: [0.0] * len(oracle.theta)),
    "calibrated_adam": evaluated(_scheduled_adam, calibrated_mean(0.98, 1, 300), calibrated=True),
    "calibrated_cautious_adanw": evaluated(cautious_adanw, calibrated_mean(0.97, 1, 400), calibrated=True),
    **{rule.__name__: ruled(rule) for rule in _RULES},
    "apply_if_finite": lambda theta, roles: ApplyIfFinite(theta),
    "sam_last_gradient": lambda theta, roles: SamLastGradient(theta),
    "induced_metric": lambda theta, roles: InducedMetric(theta),
    "zclip_adam": lambda theta, roles: ZClipAdam(theta),
}
