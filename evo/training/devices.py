"""The devices that trainings run on: which there are, and which one a campaign takes."""

from __future__ import annotations

from collections.abc import Callable

from evo.errors import EvoError, UsageError
from evo.training.gpu.compile import nvrtc

OTHER_PROGRAM = "another program"  # in place of the device of campaigns that evo does not train


def for_campaign(name: str, say: Callable[[str], None] = lambda _: None) -> str:
    """The device of a campaign, ``cpu`` or ``cuda``, for the name ``auto``, ``cpu`` or ``cuda``.

    ``auto``: cuda where torch sees a GPU and kernels for it can be compiled. ``say`` is told when only the
    compiler is missing. Raises UsageError for another name and for OTHER_PROGRAM, EvoError where the device cannot be
    used here.
    """
    if name == OTHER_PROGRAM:
        raise UsageError("another program trains this campaign, through evo.drive: go on with it there")
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
    """Check a device for the literal loop.

    Raises UsageError unless ``name`` is ``cpu`` or ``cuda``, EvoError where torch does not see it.
    """
    _check(name, "cpu or cuda")


def kernel_compiler() -> str:
    """The name of what compiles kernels here, after a trial. Raises EvoError that says what is missing."""
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
    import torch  # here alone, since what names a device need not start torch

    return torch.cuda.is_available()
