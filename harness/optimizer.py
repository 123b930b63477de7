"""The three functions that drive a training, and the guard that holds them to their contract."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor


def optimizer_seed(instance_seed: bytes) -> bytes:
    """The 32 bytes of seed that an optimizer gets: from the instance's own seed it could rebuild the test data."""
    return hashlib.sha256(b"optimizer" + instance_seed).digest()


class OptimizerFault(Exception):
    """Raised when an optimizer cannot go on; the run ends with ``status`` and the one-line ``message``."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Optimizer(Protocol):
    """Three functions over an explicit state, which they alone may change.

    Losses are None throughout epoch 0, later the averages of the previous epoch. ``epoch`` counts from 0.
    Parameters must not be changed in place; gradients may. Both may be kept: the loop never changes them.
    """

    def init_state(self, seed: bytes, param_sizes: list[int], **context: Any) -> Any:
        """The state before the first step.

        ``seed``: 32 bytes for the optimizer's own randomness. ``param_sizes``: elements of each tensor, in
        the parameter order of `harness.model`. ``context``, one entry per tensor in the same order: ``shapes``
        (``list[tuple[int, ...]]``), ``roles`` (``weight``, ``bias``, ``norm_scale``, ``norm_shift``,
        ``running_mean``, ``running_var``), ``trainable`` (``list[bool]``), ``layers`` (index of the Linear
        that the tensor belongs to; BatchNorm i belongs to Linear i); and ``steps_per_epoch``, ``device``, ``dtype``.
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
        """The updates, signed: they are added to trainable parameters. Gradients are sums over the batch."""
        ...


class GuardedOptimizer:
    """An optimizer with every breach of the contract turned into an `OptimizerFault`.

    Status ``error``: it raised an exception. Status ``invalid_update``: wrong type, count, shape, dtype,
    device or memory layout of what it returned, or parameters changed in place.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def init_state(self, seed: bytes, param_sizes: list[int], **context: Any) -> Any:
        """See `Optimizer.init_state`. Raises OptimizerFault."""
        return _call("init_state", self._optimizer.init_state, seed, param_sizes, **context)

    def query_at_params(
        self,
        state: Any,
        model_params: list[Tensor],
        epoch: int,
        train_loss: float | None,
        val_loss: float | None,
    ) -> list[Tensor] | None:
        """See `Optimizer.query_at_params`. Raises OptimizerFault."""
        name, query = "query_at_params", self._optimizer.query_at_params
        returned = _call_on_params(name, query, state, model_params, epoch, train_loss, val_loss)
        return None if returned is None else checked(name, returned, model_params)

    def step(
        self,
        state: Any,
        model_params: list[Tensor],
        gradients: list[Tensor],
        epoch: int,
        train_loss: float | None,
        val_loss: float | None,
    ) -> list[Tensor]:
        """See `Optimizer.step`. Raises OptimizerFault."""
        name, step = "step", self._optimizer.step
        returned = _call_on_params(name, step, state, model_params, gradients, epoch, train_loss, val_loss)
        return checked(name, returned, model_params)


def _call(name: str, function: Callable[..., Any], *args: Any, **context: Any) -> Any:
    try:
        return function(*args, **context)
    except OptimizerFault:
        raise
    except Exception as error:
        told = " ".join(str(error).split())
        raise OptimizerFault("error", f"{name} raised {type(error).__name__}: {told}"[:500]) from error


def _call_on_params(name: str, function: Callable[..., Any], state: Any, params: list[Tensor], *rest: Any) -> Any:
    versions = [param._version for param in params]  # torch counts the changes made in place
    returned = _call(name, function, state, list(params), *rest)
    for i, (param, version) in enumerate(zip(params, versions, strict=True)):
        if param._version != version:
            raise _invalid(name, f"changed model_params[{i}] in place; return the change instead")
    return returned


def checked(name: str, returned: Any, params: list[Tensor]) -> list[Tensor]:
    """The tensors ``returned`` by the function ``name``, if they are like ``params``. Raises OptimizerFault."""
    if not isinstance(returned, (list, tuple)):
        raise _invalid(name, f"expected a list of {len(params)} tensors, got {type(returned).__name__}")
    if len(returned) != len(params):
        raise _invalid(name, f"expected {len(params)} tensors, got {len(returned)}")
    for i, (tensor, param) in enumerate(zip(returned, params, strict=True)):
        if not isinstance(tensor, Tensor):
            raise _invalid(name, f"tensor {i}: expected a torch.Tensor, got {type(tensor).__name__}")
        if tensor.shape != param.shape:
            raise _invalid(name, f"tensor {i}: expected shape {list(param.shape)}, got {list(tensor.shape)}")
        if tensor.dtype != param.dtype:
            raise _invalid(name, f"tensor {i}: expected {param.dtype}, got {tensor.dtype}")
        if tensor.device != param.device:
            raise _invalid(name, f"tensor {i}: expected device {param.device}, got {tensor.device}")
        if tensor.layout != torch.strided or not tensor.is_contiguous():
            raise _invalid(name, f"tensor {i}: expected contiguous memory, got {_memory(tensor)}")
    return list(returned)


def _memory(tensor: Tensor) -> str:
    return f"strides {tensor.stride()}" if tensor.layout == torch.strided else str(tensor.layout)


def _invalid(name: str, what: str) -> OptimizerFault:
    return OptimizerFault("invalid_update", f"{name}: {what}")
