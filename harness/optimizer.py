"""The three functions that drive a training, and what happens when they break their contract."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class OptimizerFault(Exception):
    """Raised when an optimizer cannot go on; the run ends with ``status`` and the one-line ``message``."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Optimizer(Protocol):
    """Three functions over an explicit state; the state may be mutated or replaced by nothing but these.

    Losses are None throughout epoch 0, later the averages of the previous epoch. ``epoch`` counts from 0.
    """

    def init_state(self, seed: bytes, param_sizes: list[int], **context: Any) -> Any:
        """The state before the first step.

        ``seed``: 32 bytes for the optimizer's own randomness. ``param_sizes``: elements of each tensor, in the
        parameter order of `harness.model`. ``context``, one entry a tensor in the same order: ``shapes``
        (``list[tuple[int, ...]]``), ``roles`` (``weight``, ``bias``, ``norm_scale``, ``norm_shift``,
        ``running_mean``, ``running_var``), ``trainable`` (``list[bool]``), ``layers`` (index of the Linear that the
        tensor belongs to; BatchNorm i belongs to Linear i); and ``device``, ``dtype``.
        """
        ...

    def query_at_params(
        self,
        state: Any,
        model_params: list[Tensor],
        epoch: int,
        train_loss: float | None,
        val_loss: float | None,
    ) -> list[Tensor] | None:
        """Parameters at which to take this batch's gradients, or None for the current ones."""
        ...

    def step(
        self,
        state: Any,
        model_params: list[Tensor],
        gradients: list[Tensor],
        epoch: int,
        train_loss: float | None,
        val_loss: float | None,
    ) -> list[Tensor]:
        """The updates, signed: they are added to the trainable parameters. Gradients are sums over the batch."""
        ...
