"""The network of many lanes of one depth: their tensors in slabs, both passes written out in batched products.

A slab is ``[lane, n]``: all tensors of one kind of a lane in a row, in the parameter order. Products go to torch
(cuBLAS on a GPU); what is bound by memory, ReLU with BatchNorm each way, goes to `Passes`, which has two forms:
torch operations (`harness.lane_passes`) and CUDA kernels (`harness.lane_kernels`). Nothing here waits for the device
or decides by what it computed, so a whole epoch can be recorded as a CUDA graph.

Shapes: ``[lane, rows, width]`` for activations, ``[lane, out, in]`` for weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harness.model import RUNNING_ROLES, Layout, initial_parameters
from harness.task import HIDDEN_WIDTH, Instance

ROWS = 128  # of the largest batch


@dataclass(frozen=True)
class Norm:
    """A BatchNorm of all lanes: ``[lane, width]`` each, views of slabs; ``mean``, ``inverse_std``: the batch's."""

    scale: Tensor
    shift: Tensor
    running_mean: Tensor
    running_var: Tensor
    mean: Tensor
    inverse_std: Tensor


class Passes(Protocol):
    """The passes over every number of a slab or of the activations, and the shuffling of the samples.

    Passes write the arguments that come first.

    ``flags``, ``moves``: int32 ``[lane]``; where they are 0 a lane's tensors stay as they are.
    """

    def normalize(self, activated: Tensor, output: Tensor, bias: Tensor, norm: Norm, moves: Tensor) -> None:
        """Training mode, for ``activated`` = the products x W^T:

        activated = max(activated + bias, 0); output = scale * (activated - mean) * inverse_std + shift, with the mean
        and 1 / sqrt(biased variance + eps) of the batch. Where ``moves``, running = 0.9 * running + 0.1 * batch (the
        variance unbiased).
        """
        ...

    def normalize_backward(self, grad: Tensor, activated: Tensor, norm: Norm, gradients: Gradients) -> None:
        """From the gradient of `normalize`'s output to that of the products, in place; fills ``gradients``."""
        ...

    def normalize_by_running(self, values: Tensor, bias: Tensor, norm: Norm) -> None:
        """Evaluation mode, in place: scale (max(values + bias, 0) - running_mean) / sqrt(running_var + eps) + shift"""
        ...

    def copy_lanes(self, target: Tensor, source: Tensor, flags: Tensor) -> None:
        """target = source, ``[lane, n]``, in the lanes with a flag."""
        ...

    def mark_nan(self, lost: Tensor, slab: Tensor, flags: Tensor) -> None:
        """lost = 1 where a lane with a flag has a NaN in ``slab`` ``[lane, n]``."""
        ...

    def shuffler(self, seeds: Sequence[bytes], device: torch.device) -> Callable[[Tensor], None]:
        """What writes the orders of the next epochs, those of `harness.data.SampleOrders`: int64
        ``[epoch, seed, TRAIN_SIZE]`` on ``device``. A call goes on where the one before ended."""
        ...


@dataclass(frozen=True)
class Gradients:
    """Where the backward pass writes sums over the batch, ``[lane, width]`` each; None for what is frozen."""

    bias: Tensor | None
    scale: Tensor | None
    shift: Tensor | None


@dataclass(frozen=True)
class Kinds:
    """Which tensors of a layout lie in which slab: their indices in the parameter order."""

    layout: Layout
    trainable: list[int]
    frozen: list[int]
    running: list[int]

    @classmethod
    def of(cls, layout: Layout) -> Kinds:
        """The kinds of a layout's tensors."""
        numbers = range(len(layout.shapes))
        running = [i for i in numbers if layout.roles[i] in RUNNING_ROLES]
        trainable = [i for i in numbers if layout.trainable[i]]
        return cls(layout, trainable, sorted({*numbers} - {*running} - {*trainable}), running)

    def size(self, kind: list[int]) -> int:
        """Numbers per lane in the slab of ``kind``."""
        return sum(self.layout.sizes[i] for i in kind)

    def views(self, theta: Tensor, frozen: Tensor, running: Tensor) -> list[Tensor]:
        """All tensors ``[lane, ...]`` in the parameter order, as views of the three slabs."""
        found: dict[int, Tensor] = {}
        for slab, kind in ((theta, self.trainable), (frozen, self.frozen), (running, self.running)):
            for i, part in zip(kind, slab.split([self.layout.sizes[i] for i in kind], dim=1), strict=True):
                found[i] = part.unflatten(1, self.layout.shapes[i])
        return [found[i] for i in range(len(found))]

    def initial(self, instances: Sequence[Instance], like: Tensor) -> list[Tensor]:
        """The slabs ``[lane, n]`` before training: trainable, frozen, running; of the device and type of ``like``."""
        unique = list(dict.fromkeys(instances))
        index_of = {instance: k for k, instance in enumerate(unique)}
        lanes = torch.tensor([index_of[instance] for instance in instances], device=like.device)
        rows: list[list[np.ndarray]] = [[], [], []]
        for values in map(initial_parameters, unique):
            for found, kind in zip(rows, (self.trainable, self.frozen, self.running), strict=True):
                found.append(np.concatenate([np.empty(0, np.float32), *(values[i].reshape(-1) for i in kind)]))
        return [torch.from_numpy(np.stack(found)).to(like).index_select(0, lanes) for found in rows]


def activation_size(layout: Layout) -> int:
    """Numbers per lane in the buffers of `LaneNetwork`."""
    return HIDDEN_WIDTH * (ROWS * (2 * layout.num_hidden_layers + 2) + 2 * layout.num_hidden_layers)


class LaneNetwork:
    """Forward, backward and evaluation of all lanes at once, in buffers that are used again.

    ``gradient`` ``[lane, n]`` takes the gradients of all trainable tensors.
    """

    def __init__(self, kinds: Kinds, gradient: Tensor, running: Tensor, passes: Passes) -> None:
        self.kinds, self.layout, self.passes = kinds, kinds.layout, passes
        lanes, hidden = len(gradient), range(kinds.layout.num_hidden_layers)
        parts = gradient.split([self.layout.sizes[i] for i in kinds.trainable], dim=1)
        self._gradients = {
            i: part.unflatten(1, self.layout.shapes[i]) for i, part in zip(kinds.trainable, parts, strict=True)
        }
        # layer by layer, so that a layer's matrices lie at equal distances in one block
        self._activated, self._outputs = ([gradient.new_empty(lanes, ROWS, HIDDEN_WIDTH) for _ in hidden] for _ in "ao")
        self._grads = [gradient.new_empty(lanes, ROWS, HIDDEN_WIDTH) for _ in range(2)]
        self._stats = [gradient.new_empty(2, lanes, HIDDEN_WIDTH) for _ in hidden]
        trained = [self.layout.layers[i] for i in kinds.trainable]
        self._lowest_trained = min(trained, default=self.layout.num_hidden_layers)  # no gradient is needed below
        self._x = gradient.new_empty(0)

    def forward(self, params: list[Tensor], x: Tensor, moves: Tensor) -> Tensor:
        """The prediction ``[lane, rows, outputs]`` in training mode.

        ``x``: ``[lane, rows, inputs]``; ``moves``: int32 ``[lane]``, where the running statistics move.
        """
        self._x, rows = x, x.shape[1]
        for i in range(self.layout.num_hidden_layers):
            weight, bias = params[self.layout.linear(i)]
            activated, output = self._activated[i][:, :rows], self._outputs[i][:, :rows]
            torch.bmm(x, weight.mT, out=activated)
            self.passes.normalize(activated, output, bias, self._norm(params, i), moves)
            x = output
        weight, bias = params[self.layout.linear(self.layout.num_hidden_layers)]
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    def backward(self, params: list[Tensor], grad: Tensor) -> None:
        """Fill the gradients, sums over the batch, given ``grad`` with respect to the last pass's prediction."""
        layout, rows = self.layout, grad.shape[1]
        last = layout.linear(layout.num_hidden_layers).start
        if layout.trainable[last]:
            torch.bmm(grad.mT, self._outputs[-1][:, :rows], out=self._gradients[last])
            torch.sum(grad, 1, out=self._gradients[last + 1])
        weight_above = params[last]
        for i in reversed(range(self._lowest_trained, layout.num_hidden_layers)):
            at, norm = layout.linear(i).start, layout.norm(i).start
            below = self._grads[i % 2][:, :rows]
            torch.bmm(grad, weight_above, out=below)
            grad = below
            gradients = Gradients(*(self._gradients.get(k) for k in (at + 1, norm, norm + 1)))
            self.passes.normalize_backward(grad, self._activated[i][:, :rows], self._norm(params, i), gradients)
            if layout.trainable[at]:
                layer_input = self._x if i == 0 else self._outputs[i - 1][:, :rows]
                torch.bmm(grad.mT, layer_input, out=self._gradients[at])
            weight_above = params[at]

    def squared_errors(self, params: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
        """Sum of squared errors ``[lane]`` in evaluation mode, in double; at most ROWS rows. ``params`` may hold fewer
        lanes than the network has buffers for."""
        lanes, rows = x.shape[:2]
        for i in range(self.layout.num_hidden_layers):
            weight, bias = params[self.layout.linear(i)]
            values = self._grads[i % 2][:lanes, :rows]
            torch.bmm(x, weight.mT, out=values)
            self.passes.normalize_by_running(values, bias, self._norm(params, i))
            x = values
        weight, bias = params[self.layout.linear(self.layout.num_hidden_layers)]
        error = torch.baddbmm(bias.unsqueeze(1), x, weight.mT) - y
        return (error * error).mean((1, 2)).double() * (error.shape[1] * error.shape[2])

    def _norm(self, params: list[Tensor], i: int) -> Norm:
        return Norm(*params[self.layout.norm(i)], *self._stats[i])
