"""The network for one thread at full speed: the same passes as `harness.model`, in buffers that are used again.

All trainable tensors lie in one vector ``theta``, in the parameter order, and their gradients in another; the tensors
are views of these. BatchNorm is torch's own kernel, which is one call each way instead of ten. Matrix products go to
oneDNN where torch has it: on processors where MKL leaves the widest instructions unused it takes half the time.
Gradients that nobody needs (frozen tensors, the data) are not computed.
"""

from __future__ import annotations

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
        hidden = range(layout.num_hidden)
        self._hidden = [(layout.linear(i).start, layout.norm(i).start) for i in hidden]
        self._last = layout.linear(layout.num_hidden).start
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

    def forward(self, params: list[Tensor], x: Tensor, *, move_running_stats: bool) -> Tensor:
        """The prediction ``[n, output_dims]`` in training mode; what `backward` needs is kept until the next pass."""
        inputs, activated = self._buffers(len(x))
        inputs[0] = x
        for i, (at, norm) in enumerate(self._hidden):
            mean, var = params[norm + 2 : norm + 4] if move_running_stats else (None, None)
            activated[i] = self._rectified(inputs[i], params[at], params[at + 1], activated[i])
            torch.native_batch_norm(
                activated[i], params[norm], params[norm + 1], mean, var, True, NORM_MOMENTUM, NORM_EPS,
                out=(inputs[i + 1], *self._batch_stats[i]),
            )  # fmt: skip
        return torch.addmm(params[self._last + 1], inputs[-1], params[self._last].T)

    def backward(self, params: list[Tensor], grad: Tensor) -> None:
        """Fill ``gradient``, given ``grad`` ``[n, output_dims]`` with respect to the last pass's prediction."""
        trainable, gradients = self.layout.trainable, self._gradients
        inputs, activated = self._buffers(len(grad))
        if trainable[self._last]:
            self._product_into(gradients[self._last], grad.T, inputs[-1])
            torch.sum(grad, 0, out=gradients[self._last + 1])
        weight_above = params[self._last]
        for i in reversed(range(self._lowest_trained, len(self._hidden))):
            at, norm = self._hidden[i]
            grad, grad_scale, grad_shift = torch.ops.aten.native_batch_norm_backward(
                self._product(grad, weight_above), activated[i], params[norm], None, None,
                *self._batch_stats[i], True, NORM_EPS, _ALL_THREE,
            )  # fmt: skip
            if trainable[norm]:
                gradients[norm].copy_(grad_scale)
                gradients[norm + 1].copy_(grad_shift)
            torch.ops.aten.threshold_backward.grad_input(grad, activated[i], 0, grad_input=grad)
            if trainable[at]:
                self._product_into(gradients[at], grad.T, inputs[i])
                torch.sum(grad, 0, out=gradients[at + 1])
            weight_above = params[at]

    def predict(self, params: list[Tensor], x: Tensor) -> Tensor:
        """The prediction in evaluation mode: normalised by the running statistics."""
        for at, norm in self._hidden:
            scale, shift, running_mean, running_var = params[norm : norm + 4]
            factor = scale * torch.rsqrt(running_var + NORM_EPS)
            activated = self._rectified(x, params[at], params[at + 1], x.new_empty(len(x), len(params[at])))
            x = torch.addcmul(shift - running_mean * factor, activated, factor, out=activated)
        return torch.addmm(params[self._last + 1], x, params[self._last].T)

    def _buffers(self, n: int) -> tuple[list[Tensor], list[Tensor]]:
        """For batches of ``n``: the input of each Linear, and each hidden layer's values after the ReLU."""
        if n not in self._activations:
            widths = [shape[0] for shape in self.layout.shapes[: 2 * self.layout.num_hidden : 2]]
            inputs = [self.theta.new_empty(0), *(self.theta.new_empty(n, width) for width in widths)]
            self._activations[n] = inputs, [self.theta.new_empty(n, width) for width in widths]
        return self._activations[n]

    def _rectified(self, x: Tensor, weight: Tensor, bias: Tensor, out: Tensor) -> Tensor:
        """max(x @ weight.T + bias, 0), in ``out`` or in memory of its own."""
        if weight.shape[1] == 1:
            return torch.addcmul(bias, x, weight.view(-1), out=out).relu_()
        if self._onednn:
            # its own ReLU would turn NaN into 0
            return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "").relu_()
        return torch.addmm(bias, x, weight.T, out=out).relu_()

    def _product(self, a: Tensor, b: Tensor) -> Tensor:
        if self._onednn and min(*a.shape, b.shape[1]) > _ONEDNN_LEAST:
            return torch.ops.mkldnn._linear_pointwise(a, b.T, None, "none", [], "")
        return a @ b

    def _product_into(self, out: Tensor, a: Tensor, b: Tensor) -> None:
        if self._onednn and min(*a.shape, b.shape[1]) > _ONEDNN_LEAST:
            out.copy_(self._product(a, b))
        else:
            torch.mm(a, b, out=out)
