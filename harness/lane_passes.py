"""The passes of `harness.lane_network` in torch operations, for any device: the readable form of the kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

import numpy as np
import torch
from torch import Tensor

from harness.data import SampleOrders
from harness.lane_network import Gradients, Norm
from harness.model import NORM_EPS, NORM_MOMENTUM


class TorchPasses:
    """The `harness.lane_network.Passes` in torch operations."""

    def normalize(self, activated: Tensor, output: Tensor, bias: Tensor, norm: Norm, moves: Tensor) -> None:
        """See `Passes.normalize`."""
        rows = activated.shape[1]
        activated.add_(bias.unsqueeze(1)).clamp_min_(0)
        torch.mean(activated, 1, out=norm.mean)
        centered = activated - norm.mean.unsqueeze(1)
        variance = (centered * centered).mean(1)
        torch.rsqrt(variance + NORM_EPS, out=norm.inverse_std)
        centered.mul_(norm.inverse_std.unsqueeze(1))
        output.copy_(torch.addcmul(norm.shift.unsqueeze(1), centered, norm.scale.unsqueeze(1)))
        moving = moves.unsqueeze(1) != 0
        for running, batch in ((norm.running_mean, norm.mean), (norm.running_var, variance * (rows / (rows - 1)))):
            moved = (1 - NORM_MOMENTUM) * running + NORM_MOMENTUM * batch
            running.copy_(torch.where(moving, moved, running))

    def normalize_backward(self, grad: Tensor, activated: Tensor, norm: Norm, gradients: Gradients) -> None:
        """See `Passes.normalize_backward`."""
        rows = grad.shape[1]
        normalized = (activated - norm.mean.unsqueeze(1)) * norm.inverse_std.unsqueeze(1)
        grad_scale, grad_shift = (grad * normalized).sum(1), grad.sum(1)
        factor = (norm.scale * norm.inverse_std).unsqueeze(1)
        found = grad - (grad_shift / rows).unsqueeze(1) - normalized * (grad_scale / rows).unsqueeze(1)
        grad.copy_(torch.ops.aten.threshold_backward(found * factor, activated, 0))
        targets = gradients.bias, gradients.scale, gradients.shift
        for target, value in zip(targets, (grad.sum(1), grad_scale, grad_shift), strict=True):
            if target is not None:
                target.copy_(value)

    def normalize_by_running(self, values: Tensor, bias: Tensor, norm: Norm) -> None:
        """See `Passes.normalize_by_running`."""
        values.add_(bias.unsqueeze(1)).clamp_min_(0).sub_(norm.running_mean.unsqueeze(1))
        values.mul_(torch.rsqrt(norm.running_var + NORM_EPS).unsqueeze(1))
        values.mul_(norm.scale.unsqueeze(1)).add_(norm.shift.unsqueeze(1))

    def copy_lanes(self, target: Tensor, source: Tensor, flags: Tensor) -> None:
        """See `Passes.copy_lanes`."""
        target.copy_(torch.where(flags.unsqueeze(1) != 0, source, target))

    def mark_nan(self, lost: Tensor, slab: Tensor, flags: Tensor) -> None:
        """See `Passes.mark_nan`."""
        lost.copy_(lost | (flags != 0) & slab.isnan().any(1))

    def shuffler(self, seeds: Sequence[bytes], device: torch.device) -> Callable[[Tensor], None]:
        """See `Passes.shuffler`. The host shuffles."""
        of_seeds, epochs = [SampleOrders(seed) for seed in seeds], count()

        def shuffle(orders: Tensor) -> None:
            for target, epoch in zip(orders, epochs, strict=False):
                target.copy_(torch.from_numpy(np.stack([of_seed[epoch] for of_seed in of_seeds])))

        return shuffle
