"""The network and its derivative, written out: hidden layers of Linear -> ReLU -> BatchNorm, then one Linear.

Parameter order, here and in all that the optimizer sees: weight ``[out, in]`` and bias of each Linear in
order; then per BatchNorm scale, shift, running mean and running variance. Nothing here changes its arguments.
``n``: samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from harness.chacha import StdRng
from harness.task import HIDDEN_WIDTH, TASKS, Instance
from harness.xorwow import Xorwow

NORM_EPS = 1e-5
NORM_MOMENTUM = 0.1

RUNNING_ROLES = ("running_mean", "running_var")
_NORM_ROLES = ("norm_scale", "norm_shift", *RUNNING_ROLES)
_CACHED_INITS = 8  # at most 5 MB each


@dataclass(frozen=True)
class Layout:
    """What the tensors of a network are, one entry each, in the parameter order.

    ``layers``: the Linear that a tensor belongs to; BatchNorm i belongs to Linear i. ``trainable``: False for
    frozen tensors and for running statistics.
    """

    shapes: tuple[tuple[int, ...], ...]
    roles: tuple[str, ...]
    trainable: tuple[bool, ...]
    layers: tuple[int, ...]

    @property
    def sizes(self) -> list[int]:
        """Number of elements of each tensor."""
        return [int(np.prod(shape)) for shape in self.shapes]

    @property
    def num_hidden_layers(self) -> int:
        """Number of hidden layers."""
        return self.layers[-1] + 1  # the last tensor belongs to the last BatchNorm

    def linear(self, i: int) -> slice:
        """The indices of weight and bias of Linear ``i``."""
        return slice(2 * i, 2 * i + 2)

    def norm(self, i: int) -> slice:
        """The indices of scale, shift, running mean and running variance of BatchNorm ``i``."""
        first = 2 * (self.num_hidden_layers + 1) + 4 * i
        return slice(first, first + 4)

    @property
    def last_scale(self) -> int:
        """The index of the last BatchNorm's scale."""
        return self.norm(self.num_hidden_layers - 1).start


@lru_cache
def network_layout(task: str, num_hidden_layers: int) -> Layout:
    """The tensors of a task's network. The task's last Linears and BatchNorms are frozen."""
    spec = TASKS[task]
    widths = [spec.input_dims, *[HIDDEN_WIDTH] * num_hidden_layers, spec.output_dims]
    tensors: list[tuple[tuple[int, ...], str, bool, int]] = []
    linears = num_hidden_layers + 1
    for i, (fan_in, fan_out) in enumerate(pairwise(widths)):
        trainable = i < linears - spec.frozen_linears
        tensors += [((fan_out, fan_in), "weight", trainable, i), ((fan_out,), "bias", trainable, i)]
    for i in range(num_hidden_layers):
        trainable = i < num_hidden_layers - spec.frozen_norms
        tensors += [((HIDDEN_WIDTH,), role, trainable and role not in RUNNING_ROLES, i) for role in _NORM_ROLES]
    return Layout(*zip(*tensors, strict=True))


@lru_cache(maxsize=_CACHED_INITS)
def _initial_values(task: str, num_hidden_layers: int, seed: bytes, init: str) -> tuple[np.ndarray, ...]:
    layout = network_layout(task, num_hidden_layers)
    rng = StdRng(seed)
    layer_seeds = [int.from_bytes(rng.gen_bytes(32)[:8], "little") for _ in range(num_hidden_layers + 1)]
    if init == "shared":
        layer_seeds = [layer_seeds[0]] * len(layer_seeds)
    values = []
    for shape, role, layer in zip(layout.shapes, layout.roles, layout.layers, strict=True):
        if role == "weight":
            fan_out, fan_in = shape
            limit = np.sqrt(np.float32(2 / (fan_in + fan_out))) * np.float32(0.5)
            uniform = Xorwow(layer_seeds[layer], np.arange(fan_in * fan_out)).uniform()
            value = (uniform * np.float32(2) * limit - limit).reshape(fan_in, fan_out).T.copy()
        elif role in ("norm_scale", "running_var"):
            value = np.ones(shape, dtype=np.float32)
        else:
            value = np.zeros(shape, dtype=np.float32)
        value.setflags(write=False)
        values.append(value)
    return tuple(values)


def initial_parameters(instance: Instance) -> tuple[np.ndarray, ...]:
    """All tensors before training, float32 and read-only, in the parameter order.

    Weights U(-lim, lim), lim = 0.5 * sqrt(2 / (fan_in + fan_out)): weight [out, in] is the first uniform of
    the generator ``layer_seed + in * fan_out + out``. Biases 0, scale 1, shift 0, running mean 0, running
    variance 1.
    """
    return _initial_values(instance.task, instance.num_hidden_layers, instance.seed, instance.init)


@dataclass(frozen=True)
class HiddenPass:
    """What one hidden layer keeps of a pass in training mode.

    ``input`` ``[n, in]``; ``activated`` (after the ReLU) and ``normalized``, ``[n, 256]``; ``mean``,
    ``variance`` (biased) and ``inverse_std`` of the batch, ``[256]``.
    """

    input: Tensor
    activated: Tensor
    normalized: Tensor
    mean: Tensor
    variance: Tensor
    inverse_std: Tensor


@dataclass(frozen=True)
class Forward:
    """A pass in training mode: ``prediction`` ``[n, output_dims]`` and what its derivative needs."""

    prediction: Tensor
    hidden: list[HiddenPass]
    features: Tensor  # input of the last Linear


def forward(layout: Layout, params: list[Tensor], x: Tensor) -> Forward:
    """Training mode: batches are normalized by their own mean and biased variance. ``x``: ``[n, inputs]``."""
    hidden = []
    for i in range(layout.num_hidden_layers):
        weight, bias = params[layout.linear(i)]
        scale, shift, _, _ = params[layout.norm(i)]
        activated = torch.addmm(bias, x, weight.T).clamp_min_(0)
        mean = activated.mean(0)
        centered = activated - mean
        variance = (centered * centered).mean(0)
        inverse_std = torch.rsqrt(variance + NORM_EPS)
        normalized = centered.mul_(inverse_std)
        hidden.append(HiddenPass(x, activated, normalized, mean, variance, inverse_std))
        x = torch.addcmul(shift, normalized, scale)
    weight, bias = params[layout.linear(layout.num_hidden_layers)]
    return Forward(torch.addmm(bias, x, weight.T), hidden, x)


def backward(layout: Layout, params: list[Tensor], passed: Forward, grad: Tensor) -> list[Tensor]:
    """Gradients of all tensors, given ``grad`` ``[n, output_dims]`` with respect to the prediction.

    They are sums over the batch. Frozen tensors and running statistics get zeros, without the work of a
    product. BatchNorm, with N = normalized and G = grad with respect to its output (Ioffe & Szegedy 2015,
    section 3): grad input = scale * inverse_std * (G - mean(G) - N * mean(G * N)).
    """
    gradients: list[Tensor | None] = [None] * len(params)
    n = len(grad)
    layer_input = passed.features
    for i in reversed(range(layout.num_hidden_layers + 1)):
        weight_index, norm_index = layout.linear(i).start, layout.norm(i).start
        if i < layout.num_hidden_layers:
            kept = passed.hidden[i]
            grad_scale = (grad * kept.normalized).sum(0)
            grad_shift = grad.sum(0)
            if layout.trainable[norm_index]:
                gradients[norm_index], gradients[norm_index + 1] = grad_scale, grad_shift
            grad = torch.addcmul(grad, kept.normalized, grad_scale, value=-1 / n)
            grad.sub_(grad_shift / n).mul_(params[norm_index] * kept.inverse_std)
            grad = torch.ops.aten.threshold_backward(grad, kept.activated, 0)  # zero where the ReLU gave zero
            layer_input = kept.input
        if layout.trainable[weight_index]:
            gradients[weight_index], gradients[weight_index + 1] = grad.T @ layer_input, grad.sum(0)
        if i > 0:
            grad = grad @ params[weight_index]
    return [torch.zeros_like(p) if g is None else g for p, g in zip(params, gradients, strict=True)]


def move_running_stats(layout: Layout, params: list[Tensor], passed: Forward) -> list[Tensor]:
    """``params`` with running = 0.9 * running + 0.1 * batch; the running variance takes the unbiased."""
    moved = list(params)
    n = len(passed.prediction)
    for i, kept in enumerate(passed.hidden):
        mean_index = layout.norm(i).start + 2
        for index, batch_value in ((mean_index, kept.mean), (mean_index + 1, kept.variance * (n / (n - 1)))):
            moved[index] = (1 - NORM_MOMENTUM) * params[index] + NORM_MOMENTUM * batch_value
    return moved


def predict(layout: Layout, params: list[Tensor], x: Tensor) -> Tensor:
    """Evaluation mode: normalized by the running statistics. ``[n, input_dims]`` -> ``[n, output_dims]``."""
    for i in range(layout.num_hidden_layers):
        weight, bias = params[layout.linear(i)]
        scale, shift, running_mean, running_var = params[layout.norm(i)]
        activated = torch.addmm(bias, x, weight.T).clamp_min_(0)
        x = (activated - running_mean) * torch.rsqrt(running_var + NORM_EPS) * scale + shift
    weight, bias = params[layout.linear(layout.num_hidden_layers)]
    return torch.addmm(bias, x, weight.T)
