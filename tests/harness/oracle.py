"""The training loop again: float64 NumPy, one statement a fact, no speed, nothing shared with `harness`.

Whoever calls it supplies data, orders and layer seeds, so that it depends on no generator of `harness`.
Arrays of a network stand in one list, in the parameter order. Optimizers are classes with ``query(params)``
and ``step(params, gradients)``, since none of those in the tests uses more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WIDTH = 256


@dataclass
class OracleTask:
    inputs: int
    outputs: int
    frozen_linears: int
    frozen_norms: int
    restores_running_stats: bool


TASKS = {"tig": OracleTask(1, 2, 2, 1, True), "seed": OracleTask(8, 1, 0, 0, False)}


def first_uniform(seed64):
    """First curand uniform of each seed in the uint64 array ``seed64``, in whole numbers modulo 2^32."""
    mask = 2**32 - 1
    low, high = [np.array(part, dtype=object) for part in (seed64 & np.uint64(mask), seed64 >> np.uint64(32))]
    t0 = (1099087573 * (low ^ 0xAAD26B49)) & mask
    t1 = (2591861531 * (high ^ 0xF7DCEFDD)) & mask
    v0, v4, d = (123456789 + t0) & mask, (5783321 + t0) & mask, (6615241 + t1 + t0) & mask
    t = v0 ^ (v0 >> 2)
    v4 = (v4 ^ (v4 << 4) ^ t ^ (t << 1)) & mask
    u = (v4 + d + 362437) & mask
    return u.astype(np.float32) * np.float32(2**-32) + np.float32(2**-33)


def initial_parameters(task, hidden, layer_seeds):
    """Float64 copies of the float32 values that training starts from."""
    widths = [TASKS[task].inputs] + [WIDTH] * hidden + [TASKS[task].outputs]
    params = []
    for layer in range(hidden + 1):
        fan_in, fan_out = widths[layer], widths[layer + 1]
        limit = np.float32(0.5 * (2 / (fan_in + fan_out)) ** 0.5)
        uniform = first_uniform(np.uint64(layer_seeds[layer]) + np.arange(fan_in * fan_out, dtype=np.uint64))
        weight = np.zeros((fan_out, fan_in))
        for i in range(fan_in):
            weight[:, i] = 2 * limit * uniform[i * fan_out : (i + 1) * fan_out] - limit
        params += [weight, np.zeros(fan_out)]
    for _ in range(hidden):
        params += [np.ones(WIDTH), np.zeros(WIDTH), np.zeros(WIDTH), np.ones(WIDTH)]
    return params


def trainable(task, hidden):
    spec, flags = TASKS[task], []
    for layer in range(hidden + 1):
        flags += [layer <= hidden - spec.frozen_linears] * 2
    for norm in range(hidden):
        flags += [norm < hidden - spec.frozen_norms] * 2 + [False, False]
    return flags


def evaluate(params, hidden, x):
    """Prediction with running statistics."""
    for layer in range(hidden):
        x = np.maximum(x @ params[2 * layer].T + params[2 * layer + 1], 0)
        scale, shift, mean, var = params[2 * hidden + 2 + 4 * layer :][:4]
        x = scale * (x - mean) / np.sqrt(var + 1e-5) + shift
    return x @ params[2 * hidden].T + params[2 * hidden + 1]


def train_batch(params, hidden, x, y):
    """Prediction, running statistics after the batch, and gradients of all tensors (frozen ones as well)."""
    n, tape, moved = len(x), [], []
    for layer in range(hidden):
        pre = x @ params[2 * layer].T + params[2 * layer + 1]
        active = np.maximum(pre, 0)
        scale, shift, mean, var = params[2 * hidden + 2 + 4 * layer :][:4]
        batch_mean = active.sum(axis=0) / n
        batch_var = ((active - batch_mean) ** 2).sum(axis=0) / n
        unbiased = ((active - batch_mean) ** 2).sum(axis=0) / (n - 1)
        moved += [0.9 * mean + 0.1 * batch_mean, 0.9 * var + 0.1 * unbiased]
        tape.append((x, pre, active, batch_mean, batch_var))
        x = scale * (active - batch_mean) / np.sqrt(batch_var + 1e-5) + shift
    prediction = x @ params[2 * hidden].T + params[2 * hidden + 1]

    gradients = [np.zeros_like(p) for p in params]
    grad = 2 * (prediction - y)
    gradients[2 * hidden], gradients[2 * hidden + 1] = grad.T @ x, grad.sum(axis=0)
    grad = grad @ params[2 * hidden]
    for layer in reversed(range(hidden)):
        x, pre, active, batch_mean, batch_var = tape[layer]
        at = 2 * hidden + 2 + 4 * layer
        std = np.sqrt(batch_var + 1e-5)
        gradients[at] = (grad * (active - batch_mean) / std).sum(axis=0)
        gradients[at + 1] = grad.sum(axis=0)
        # The chain rule, through normalized values, variance and mean one after the other.
        grad_normalized = grad * params[at]
        grad_var = (grad_normalized * (active - batch_mean)).sum(axis=0) * -0.5 * std**-3
        grad_mean = -(grad_normalized / std).sum(axis=0) - 2 * grad_var * (active - batch_mean).sum(axis=0) / n
        grad = grad_normalized / std + grad_var * 2 * (active - batch_mean) / n + grad_mean / n
        grad = np.where(pre > 0, grad, 0)
        gradients[2 * layer], gradients[2 * layer + 1] = grad.T @ x, grad.sum(axis=0)
        grad = grad @ params[2 * layer]
    return prediction, moved, gradients


def train(task, hidden, x, y, orders, layer_seeds, optimizer, patience=50):
    """At most ``len(orders)`` epochs. Returns train, validation and test loss, and the best epoch."""
    spec = TASKS[task]
    params = initial_parameters(task, hidden, layer_seeds)
    stats = [i for norm in range(hidden) for i in (2 * hidden + 4 + 4 * norm, 2 * hidden + 5 + 4 * norm)]
    flags = trainable(task, hidden)
    x, y = x.astype(np.float64), y.astype(np.float64)
    train_losses, val_losses = [], []
    best, best_epoch, best_loss, misses = None, None, np.inf, 0
    for epoch, order in enumerate(orders):
        squares = 0.0
        for start in range(0, 1000, 128):
            rows = order[start : start + 128]
            snapshot = [p.copy() for p in params]
            queried = optimizer.query(snapshot)
            if queried is not None:
                params = [p.copy() if i in stats else queried[i].copy() for i, p in enumerate(params)]
            prediction, moved, gradients = train_batch(params, hidden, x[rows], y[rows])
            for i, value in zip(stats, moved, strict=True):
                params[i] = value
            if queried is not None:
                for i, value in enumerate(snapshot):
                    if spec.restores_running_stats or i not in stats:
                        params[i] = value
            gradients = [g if flag else np.zeros_like(g) for g, flag in zip(gradients, flags, strict=True)]
            for i, update in enumerate(optimizer.step(params, gradients)):
                if flags[i]:
                    params[i] = params[i] + update
            squares += ((prediction - y[rows]) ** 2).sum() / spec.outputs
        train_losses.append(squares / 1000)
        val_losses.append(((evaluate(params, hidden, x[1000:1200]) - y[1000:1200]) ** 2).mean())
        if val_losses[-1] < best_loss - 1e-7:
            best, best_epoch, best_loss, misses = [p.copy() for p in params], epoch, val_losses[-1], 0
        else:
            misses += 1
            if misses == patience:
                break
    test_loss = ((evaluate(best, hidden, x[1200:]) - y[1200:]) ** 2).mean()
    return train_losses, val_losses, test_loss, best_epoch


class Optimizer:
    def query(self, params):
        return None


class SGD(Optimizer):
    def __init__(self, lr):
        self.lr = lr

    def step(self, params, gradients):
        return [-self.lr * g for g in gradients]


class Adam(Optimizer):
    def __init__(self, lr, beta1=0.9, beta2=0.999, eps=1e-8):
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps
        self.m = self.v = None
        self.t = 0

    def step(self, params, gradients):
        self.t += 1
        if self.m is None:
            self.m, self.v = [[np.zeros_like(g) for g in gradients] for _ in range(2)]
        updates = []
        for i, g in enumerate(gradients):
            self.m[i] = self.beta1 * self.m[i] + (1 - self.beta1) * g
            self.v[i] = self.beta2 * self.v[i] + (1 - self.beta2) * g**2
            m_hat = self.m[i] / (1 - self.beta1**self.t)
            v_hat = self.v[i] / (1 - self.beta2**self.t)
            updates.append(-self.lr * m_hat / (np.sqrt(v_hat) + self.eps))
        return updates


class Lion(Optimizer):
    def __init__(self, lr, beta1=0.9, beta2=0.99):
        self.lr, self.beta1, self.beta2 = lr, beta1, beta2
        self.m = None

    def step(self, params, gradients):
        if self.m is None:
            self.m = [np.zeros_like(g) for g in gradients]
        updates = [
            -self.lr * np.sign(self.beta1 * m + (1 - self.beta1) * g) for m, g in zip(self.m, gradients, strict=True)
        ]
        self.m = [self.beta2 * m + (1 - self.beta2) * g for m, g in zip(self.m, gradients, strict=True)]
        return updates


class Extrapolating(SGD):
    """SGD whose gradients are taken at 1.01 times the parameters."""

    def query(self, params):
        return [1.01 * p for p in params]
