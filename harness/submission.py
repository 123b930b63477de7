"""Foreign submissions: a file with the three functions, run in a process of its own that can do nothing else.

The training loop stays in the caller's process. Parameters, gradients, updates and losses cross; data never do. Tensors
cross in shared memory, all else in small messages. How the process is held: `harness.sandbox`.

What no sandbox prevents: whoever guesses an instance's seed can rebuild its data. A submission gets a hash of the seed,
so small numbers can be found by trying them. Judge files that you do not trust on random seeds of 32 bytes.
"""

from __future__ import annotations

import base64
import fcntl
import math
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.confinement import LAYERS
from harness.optimizer import OptimizerFault
from harness.sandbox import DEFAULT_LIMITS, Limits, Sandbox
from harness.submission_worker import AREAS, INIT, QUERY, STEP, tensors_in

MAX_SOURCE = 1 << 20


@contextmanager
def open_submission(
    path: Path | str, limits: Limits = DEFAULT_LIMITS, layers: tuple[str, ...] = tuple(LAYERS)
) -> Iterator[Submission]:
    """The submission at ``path``, an `Optimizer` for one training at a time; its process ends with the context.

    ``layers``: the layers of isolation to use where the system has them. Raises OptimizerFault, here and in every call,
    with one of `harness.sandbox.STATUSES`.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SOURCE + 1)
    except OSError as error:
        raise OptimizerFault("error", f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_SOURCE:
        raise OptimizerFault("syntax_error", f"{path.name}: larger than {MAX_SOURCE} bytes")
    with Sandbox(limits, layers) as sandbox:
        request = {"call": "load", "name": path.name, "source": base64.b64encode(data).decode()}
        queries = sandbox.ask(request, "loading", limits.load_seconds) == "queries"
        yield Submission(sandbox, queries)


class Submission:
    """The three functions of a file, each call answered by its process. A file without a query never queries.

    ``isolation``: the layers that hold it. The state is a number here; what it stands for stays in the process.
    """

    def __init__(self, sandbox: Sandbox, queries: bool) -> None:
        self._sandbox = sandbox
        self._queries = queries
        self._state = 0
        self.isolation = sandbox.isolation

    def init_state(self, seed: bytes, param_sizes: list[int], **context: Any) -> int:
        """See `Optimizer.init_state`; the state is the number of the call. Raises OptimizerFault."""
        shapes: list[tuple[int, ...]] = context["shapes"]
        dtype: torch.dtype = context["dtype"]
        size = AREAS * sum(math.prod(shape) for shape in shapes) * dtype.itemsize
        shared, descriptor = _shared_memory(size)
        self._params, self._gradients, self._answers = tensors_in(shared, shapes, dtype)
        self._device: torch.device = context["device"]
        plain = {**context, "shapes": shapes, "dtype": str(dtype).removeprefix("torch.")}
        del plain["device"]  # always the processor: a submission has no accelerator
        request = {"call": "init", "seed": seed.hex(), "param_sizes": param_sizes, "context": plain}
        try:
            self._sandbox.call(request, INIT, descriptor)
        finally:
            os.close(descriptor)
        self._state += 1
        return self._state

    def query_at_params(
        self,
        state: int,
        model_params: list[Tensor],
        epoch: int,
        train_loss: float | None,
        val_loss: float | None,
    ) -> list[Tensor] | None:
        """See `Optimizer.query_at_params`. Raises OptimizerFault, and ValueError for a state of an earlier call."""
        if not self._queries:
            return None
        self._expect(state)
        _put(self._params, model_params)
        request = {"call": "query", "epoch": epoch, "train_loss": train_loss, "val_loss": val_loss}
        if self._sandbox.call(request, f"{QUERY}, epoch {epoch}") == "none":
            return None
        return self._take()

    def step(
        self,
        state: int,
        model_params: list[Tensor],
        gradients: list[Tensor],
        epoch: int,
        train_loss: float | None,
        val_loss: float | None,
    ) -> list[Tensor]:
        """See `Optimizer.step`. Raises OptimizerFault, and ValueError for a state of an earlier call."""
        self._expect(state)
        _put(self._params, model_params)
        _put(self._gradients, gradients)
        request = {"call": "step", "epoch": epoch, "train_loss": train_loss, "val_loss": val_loss}
        self._sandbox.call(request, f"{STEP}, epoch {epoch}")
        return self._take()

    def _expect(self, state: int) -> None:
        if state != self._state:
            raise ValueError("this state is gone: a submission holds the state of its latest init_state alone")

    def _take(self) -> list[Tensor]:
        """A copy of the tensors that the process gave: it could go on writing to the shared ones."""
        return [tensor.to(self._device, copy=True) for tensor in self._answers]


def _put(shared: list[Tensor], tensors: list[Tensor]) -> None:
    with torch.no_grad():
        for target, tensor in zip(shared, tensors, strict=True):
            target.copy_(tensor)


def _shared_memory(size: int) -> tuple[mmap.mmap, int]:
    """Memory that another process can map but not resize (which would kill us at the next access)."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("evo-submission", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, size)
    return mmap.mmap(descriptor, size), descriptor
