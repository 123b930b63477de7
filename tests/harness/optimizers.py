"""Plain optimizers as three functions over an explicit state, for the tests of the harness."""

from __future__ import annotations

import torch


class SGD:
    """update = -lr * gradient, where gradients are sums over the batch."""

    def __init__(self, lr):
        self.lr = lr

    def init_state(self, seed, param_sizes, **context):
        return None

    def query_at_params(self, state, model_params, epoch, train_loss, val_loss):
        return None

    def step(self, state, model_params, gradients, epoch, train_loss, val_loss):
        return [-self.lr * g for g in gradients]


class Adam(SGD):
    """Kingma & Ba 2015, algorithm 1."""

    beta1, beta2, eps = 0.9, 0.999, 1e-8

    def init_state(self, seed, param_sizes, *, shapes, dtype, device, **context):
        zeros = [torch.zeros(shape, dtype=dtype, device=device) for shape in shapes]
        return {"t": 0, "m": zeros, "v": [zero.clone() for zero in zeros]}

    def step(self, state, model_params, gradients, epoch, train_loss, val_loss):
        state["t"] += 1
        debias1, debias2 = 1 - self.beta1 ** state["t"], 1 - self.beta2 ** state["t"]
        updates = []
        for m, v, g in zip(state["m"], state["v"], gradients, strict=True):
            m.mul_(self.beta1).add_(g, alpha=1 - self.beta1)
            v.mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
            updates.append(-self.lr * (m / debias1) / ((v / debias2).sqrt() + self.eps))
        return updates


class Lion(SGD):
    """Chen et al. 2023, algorithm 2, without weight decay."""

    beta1, beta2 = 0.9, 0.99

    def init_state(self, seed, param_sizes, *, shapes, dtype, device, **context):
        return [torch.zeros(shape, dtype=dtype, device=device) for shape in shapes]

    def step(self, state, model_params, gradients, epoch, train_loss, val_loss):
        updates = []
        for m, g in zip(state, gradients, strict=True):
            updates.append(-self.lr * torch.sign(self.beta1 * m + (1 - self.beta1) * g))
            m.mul_(self.beta2).add_(g, alpha=1 - self.beta2)
        return updates


class Extrapolating(SGD):
    """SGD whose gradients are taken at 1.01 times the parameters."""

    def query_at_params(self, state, model_params, epoch, train_loss, val_loss):
        return [1.01 * p for p in model_params]


class Recording(SGD):
    """SGD that keeps everything it is given: ``context`` and one dict a call in ``queries`` and ``steps``."""

    def __init__(self, lr=0.0):
        super().__init__(lr)
        self.queries, self.steps = [], []

    def init_state(self, seed, param_sizes, **context):
        self.seed, self.param_sizes, self.context = seed, param_sizes, context

    def query_at_params(self, state, model_params, epoch, train_loss, val_loss):
        self.queries.append({"params": model_params, "epoch": epoch, "losses": (train_loss, val_loss)})

    def step(self, state, model_params, gradients, epoch, train_loss, val_loss):
        self.steps.append(
            {"params": model_params, "gradients": gradients, "epoch": epoch, "losses": (train_loss, val_loss)}
        )
        return super().step(state, model_params, gradients, epoch, train_loss, val_loss)
