"""The fast network for one thread: the same passes as `harness.model`, in buffers that are used again.

All trainable tensors lie in one vector ``theta``, in the parameter order, and their gradients in another; the tensors
are views of these. BatchNorm is torch's own kernel, which is one call each way instead of ten. Matrix products go to
oneDNN where torch has it: on processors where MKL leaves the widest instructions unused it takes half the time.
Gradients that nobody needs (frozen tensors, the data) are not computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from harness.model import NORM_EPS, NORM_MOMENTUM, Layout

_ONEDNN_DTYPES = (torch.float32,)
_ONEDNN_LEAST = 16  # of a product's sides: below, the call itself costs more than it saves
_ALL_THREE = [True, True, True]  # gradients of BatchNorm: input, scale, shift


@lru_cache
def _onednn_serves(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether oneDNN's product is there: torch calls it an internal of its compiler, so it may go some day."""
    if dtype not in _ONEDNN_DTYPES or device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    try:
        a = torch.ones(2, 2, dtype=dtype)
        return torch.equal(torch.ops.mkldnn._linear_pointwise(a, a, None, "none", [], ""), a @ a)
    except (AttributeError, RuntimeError):
        return False


def _onednn_product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a @ b.T + bias"""
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")


@dataclass(frozen=True, slots=True)
class Hidden:
    """A hidden layer's tensors. ``transposed``: the weight as ``[in, out]``; ``running``: mean and variance."""

    weight: Tensor
    bias: Tensor
    transposed: Tensor
    scale: Tensor
    shift: Tensor
    running: tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Layers:
    """A network's tensors, as its passes take them. ``weight``, ``bias``: the last Linear's."""

    hidden: list[Hidden]
    weight: Tensor
    bias: Tensor


class FlatNetwork:
    """Parameters in one vector, their gradients in another, and the passes that go from one to the other.

    ``theta``, ``gradient``: ``[trainable parameters]``. ``params``: all tensors; the trainable ones are views of
    ``theta``. Running statistics are changed in place.
    """

    def __init__(self, layout: Layout, initial: list[Tensor]) -> None:
        self.layout = layout
        self.trainable = [i for i, flag in enumerate(layout.trainable) if flag]
        self.theta = torch.cat([initial[i].reshape(-1) for i in self.trainable] or [initial[0].new_empty(0)])
        self.gradient = torch.zeros_like(self.theta)
        self.params = self.with_trainable(self.theta, initial)
        self._gradients = self.with_trainable(self.gradient, initial)
        self._onednn = _onednn_serves(self.theta.dtype, self.theta.device)
        self._activations: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        hidden = range(layout.num_hidden_layers)
        self._starts = [(layout.linear(i).start, layout.norm(i).start) for i in hidden]
        self._last = layout.linear(layout.num_hidden_layers).start
        trained = [layout.layers[i] for i in self.trainable]
        self._lowest_trained = min(trained, default=len(hidden))  # no gradient is needed below
        width = layout.shapes[1][0]
        self._batch_stats = [(self.theta.new_empty(width), self.theta.new_empty(width)) for _ in hidden]

    def with_trainable(self, vector: Tensor, others: list[Tensor]) -> list[Tensor]:
        """All tensors: the trainable ones as views of ``vector``, those in between from ``others``."""
        tensors = list(others)
        sizes = [self.layout.sizes[i] for i in self.trainable]
        for i, part in zip(self.trainable, vector.split(sizes), strict=True):
            tensors[i] = part.view(self.layout.shapes[i])
        return tensors

    def layers(self, params: list[Tensor]) -> Layers:
        """What `forward`, `backward` and `predict` take, of all tensors in the parameter order."""
        hidden = []
        for at, norm in self._starts:
            weight, bias, scale, shift, mean, var = *params[at : at + 2], *params[norm : norm + 4]
            hidden.append(Hidden(weight, bias, weight.T, scale, shift, (mean, var)))
        return Layers(hidden, *params[self._last : self._last + 2])

    def forward(self, layers: Layers, x: Tensor, *, move_running_stats: bool) -> Tensor:
        """The prediction ``[n, output_dims]`` in training mode; what `backward` needs is kept until the next pass."""
        inputs, activated = self._buffers(len(x))
        inputs[0] = x
        for i, layer in enumerate(layers.hidden):
            mean, var = layer.running if move_running_stats else (None, None)
            activated[i] = self._rectified(layer, inputs[i], activated[i])
            torch.native_batch_norm(
                activated[i], layer.scale, layer.shift, mean, var, True, NORM_MOMENTUM, NORM_EPS,
                out=(inputs[i + 1], *self._batch_stats[i]),
            )  # fmt: skip
        return torch.addmm(layers.bias, inputs[-1], layers.weight.T)

    def backward(self, layers: Layers, grad: Tensor) -> None:
        """Fill ``gradient``, given ``grad`` ``[n, output_dims]`` with respect to the last pass's prediction."""
        trainable, gradients = self.layout.trainable, self._gradients
        inputs, activated = self._buffers(len(grad))
        if trainable[self._last]:
            torch.mm(grad.T, inputs[-1], out=gradients[self._last])
            torch.sum(grad, 0, out=gradients[self._last + 1])
        below = grad @ layers.weight
        for i in range(len(self._starts) - 1, self._lowest_trained - 1, -1):
            layer, (at, norm) = layers.hidden[i], self._starts[i]
            grad, grad_scale, grad_shift = torch.ops.aten.native_batch_norm_backward(
                below, activated[i], layer.scale, None, None, *self._batch_stats[i], True, NORM_EPS, _ALL_THREE
            )
            if trainable[norm]:
                gradients[norm].copy_(grad_scale)
                gradients[norm + 1].copy_(grad_shift)
            torch.ops.aten.threshold_backward.grad_input(grad, activated[i], 0, grad_input=grad)
            if trainable[at]:
                torch.sum(grad, 0, out=gradients[at + 1])
                if self._onednn and inputs[i].shape[1] > _ONEDNN_LEAST:
                    gradients[at].copy_(_onednn_product(grad.T, inputs[i].T))
                else:
                    torch.mm(grad.T, inputs[i], out=gradients[at])
            if i > self._lowest_trained:
                below = _onednn_product(grad, layer.transposed) if self._onednn else grad @ layer.weight

    def predict(self, layers: Layers, x: Tensor) -> Tensor:
        """The prediction in evaluation mode: normalized by the running statistics."""
        for layer in layers.hidden:
            mean, var = layer.running
            factor = layer.scale * torch.rsqrt(var + NORM_EPS)
            activated = self._rectified(layer, x, None)
            x = torch.addcmul(layer.shift - mean * factor, activated, factor, out=activated)
        return torch.addmm(layers.bias, x, layers.weight.T)

    def _buffers(self, n: int) -> tuple[list[Tensor], list[Tensor]]:
        """For batches of ``n``: the input of each Linear, and each hidden layer's values after the ReLU."""
        if n not in self._activations:
            widths = [shape[0] for shape in self.layout.shapes[: 2 * self.layout.num_hidden_layers : 2]]
            inputs = [self.theta.new_empty(0), *(self.theta.new_empty(n, width) for width in widths)]
            self._activations[n] = inputs, [self.theta.new_empty(n, width) for width in widths]
        return self._activations[n]

    def _rectified(self, layer: Hidden, x: Tensor, out: Tensor | None) -> Tensor:
        """max(x @ weight.T + bias, 0), in ``out`` or in memory of its own."""
        if x.shape[1] == 1:
            return torch.addcmul(layer.bias, x, layer.transposed, out=out).relu_()
        if self._onednn:
            return _onednn_product(x, layer.weight, layer.bias).relu_()  # its own ReLU would turn NaN into 0
        return torch.addmm(layer.bias, x, layer.transposed, out=out).relu_()
