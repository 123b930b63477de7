"""The frozen end of a network, and the change of what trains that moves the mean of its outputs.

A frozen end is: a trainable BatchNorm, then a frozen Linear, ReLU, a frozen BatchNorm, a frozen Linear. In training
the last BatchNorm gives its features the batch mean ``norm_shift`` whatever comes before, so the mean of the outputs
never changes and no gradient speaks of it. In evaluation it subtracts running means instead, which a change of
parameters in an epoch's last step leaves behind: that moves the mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def frozen_end(
    shapes: Sequence[Sequence[int]], roles: Sequence[str], layers: Sequence[int], trainable: Sequence[bool]
) -> list[int]:
    """The indices of a frozen end's tensors, in the order in which `output_shifts` takes them, then the last bias.

    Empty where the network ends otherwise. The arguments have one entry per tensor, in the parameter order.
    """
    at = {(layer, role): i for i, (layer, role) in enumerate(zip(layers, roles, strict=True))}
    last = max(layers, default=0)
    names = [(last - 2, "norm_shift")]
    names += [(last - 1, role) for role in ("weight", "bias", "norm_scale", "running_mean", "running_var")]
    names += [(last, "weight"), (last, "bias")]
    found = [at.get(name, -1) for name in names]
    frozen = [0 <= i < len(shapes) and not trainable[i] for i in found]
    return found if frozen[1:] == [True] * 7 and found[0] >= 0 and trainable[found[0]] else []


def output_shifts(
    shift: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, mean: Tensor, var: Tensor, last_weight: Tensor
) -> Tensor:
    """For each output k the change of ``shift`` that moves the evaluated mean of output k by 1, of the others by 0.

    ``shift`` ``[n]``: the mean of the frozen hidden layer's input; ``weight`` ``[units, n]``, ``bias``, ``scale``,
    ``mean``, ``var`` ``[units]``; ``last_weight`` ``[outputs, units]``. All may have lanes before these. Returns
    ``[outputs, n]``, the least change to first order::

        center = weight @ shift + bias
        active = Phi(center / spread)     where  center * Phi(center / spread) + spread * phi(center / spread) = mean
        J      = last_weight * (active * scale / sqrt(var + eps)) @ weight
        result = inverse(J @ J.T) @ J

    ``active``: share of samples at which a unit is above 0, as if its input were normal. An output that no change of
    ``shift`` can move apart from the others gets 0.
    """
    center = (weight @ shift.unsqueeze(-1)).squeeze(-1) + bias
    spread = _spread(center, mean, var)
    gain = _normal_share(center / spread) * scale * torch.rsqrt(var + 1e-5)
    jacobian = (last_weight * gain.unsqueeze(-2)) @ weight
    return torch.stack(_dual(list(jacobian.unbind(-2))), -2)


def feature_gains(
    shift: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, mean: Tensor, var: Tensor, moved: Tensor
) -> Tensor:
    """The frozen BatchNorm's scale with which a batch at ``shift + moved`` has the features of evaluation, ``[units]``.

    Training divides features by their standard deviation in the batch; evaluation at the same parameters divides by
    that of ``shift``, where the running variance was measured. Arguments as in `output_shifts`, ``moved`` ``[n]``::

        result = scale * sqrt((var * ratio + eps) / (var + eps))
        ratio  = sqrt(there / here * max(1 + (there - here) / var, 1 / 16))
        here   = variance(center),  there = variance(center + weight @ moved)

    ``variance(c)``: of ``max(z, 0)`` for a normal z of mean c and the unit's spread (see `output_shifts`). Units are
    not normal: the ratio of the two and their difference beside the measured ``var`` err to opposite sides, and their
    geometric mean errs half as much as either. The factor of scale is held to 1/4 ... 4.
    """
    center = (weight @ shift.unsqueeze(-1)).squeeze(-1) + bias
    spread = _spread(center, mean, var)
    least = 1e-6 * spread * spread
    here = _rectified_variance(center, spread) + least
    there = _rectified_variance(center + (weight @ moved.unsqueeze(-1)).squeeze(-1), spread) + least
    ratio = torch.sqrt(there / here * (1 + (there - here) / (var + 1e-12)).clamp(min=0.0625))
    return scale * torch.sqrt((var * ratio + 1e-5) / (var + 1e-5)).clamp(min=0.25, max=4.0)


def _spread(center: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """The standard deviation of a normal variable of mean ``center`` whose positive part has the mean ``mean``."""
    spread = torch.sqrt(3 * var + 1e-8)  # about right for a centered unit; then Newton's method
    for _ in range(8):
        ratio = center / spread
        density = torch.exp(-0.5 * ratio * ratio) / math.sqrt(2 * math.pi)
        excess = center * _normal_share(ratio) + spread * density - mean
        spread = (spread - excess / density.clamp(min=1e-3)).clamp(min=1e-4, max=1e4)
    return spread


def _rectified_variance(center: Tensor, spread: Tensor) -> Tensor:
    """The variance of ``max(z, 0)`` for a normal z."""
    ratio = center / spread
    share = _normal_share(ratio)
    part = spread * torch.exp(-0.5 * ratio * ratio) / math.sqrt(2 * math.pi)
    mean = center * share + part
    return ((center * center + spread * spread) * share + center * part - mean * mean).clamp(min=0)


def _normal_share(x: Tensor) -> Tensor:
    """The share of a standard normal variable below ``x``."""
    return 0.5 + 0.5 * torch.erf(x / math.sqrt(2))


def _dual(rows: list[Tensor]) -> list[Tensor]:
    """For each row the vector in the span of all whose product with that row is 1, with the others 0."""
    duals = []
    for k, row in enumerate(rows):
        rest, others = row, []
        for other in rows[:k] + rows[k + 1 :]:
            for earlier in others:
                other = other - _along(other, earlier)
            others.append(other)
        for other in others:
            rest = rest - _along(rest, other)
        size = (rest * row).sum(-1, keepdim=True)
        least = 1e-8 * (row * row).sum(-1, keepdim=True)  # nearer to the others' span, a shift would be huge
        duals.append(torch.where(size > least, rest / size, torch.zeros_like(rest)))
    return duals


def _along(x: Tensor, y: Tensor) -> Tensor:
    """The part of ``x`` along ``y``; 0 where ``y`` is 0."""
    size = (y * y).sum(-1, keepdim=True)
    return torch.where(size > 0, (x * y).sum(-1, keepdim=True) / size, torch.zeros_like(size)) * y
