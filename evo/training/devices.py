"""The devices that trainings run on: which there are, and which one a campaign takes.

What needs torch is imported late, as in `evo.campaign.run`.
"""

from __future__ import annotations

from collections.abc import Callable

from evo.errors import EvoError, UsageError


def for_campaign(name: str, say: Callable[[str], None] = lambda _: None) -> str:
    """``auto``, ``cpu`` or ``cuda`` -> the device of a campaign, ``cpu`` or ``cuda``.

    ``auto``: cuda where torch sees a GPU and kernels for it can be compiled. ``say`` is told when only the
    compiler is missing. Raises UsageError for another name, EvoError where the device cannot be used here.
    """
    if name == "auto":
        if not _gpu():
            return "cpu"
        try:
            kernel_compiler()
        except EvoError as error:
            say(f"training on the CPU, although torch sees a GPU: {error}")
            return "cpu"
        return "cuda"
    _check(name, "auto, cpu or cuda")
    if name == "cuda":
        kernel_compiler()
    return name


def for_literal_loop(name: str) -> None:
    """Raises UsageError unless ``name`` is ``cpu`` or ``cuda``, EvoError where torch does not see it."""
    _check(name, "cpu or cuda")


def expect_to_work(name: str) -> None:
    """Compute a little on the device ``name``. Raises EvoError where that fails."""
    import torch

    try:
        torch.ones(1, device=name).item()
    except Exception as error:  # no driver, no memory left, a GPU that is gone: torch has many words for it
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise EvoError(f"device {name} does not work: {reason}") from error


def kernel_compiler() -> str:
    """The name of what compiles kernels here, after a trial. Raises EvoError that says what is missing."""
    from evo.training.gpu.compile import nvrtc

    compiler = nvrtc()
    try:
        compiler.compile('extern "C" __global__ void nothing() {}')
    except Exception as error:  # the bindings are there, the library is not
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise EvoError(f"cannot compile CUDA kernels here: {compiler.name} does not work: {reason}") from error
    return compiler.name


def _check(name: str, known: str) -> None:
    if name not in ("cpu", "cuda"):
        raise UsageError(f"--device: must be {known}, got {name!r}")
    if name == "cuda" and not _gpu():
        raise EvoError("device cuda: torch sees none here")


def _gpu() -> bool:
    import torch

    return torch.cuda.is_available()
