"""What results depend on beside recipe and numerics: versions of packages, and how the processor computes.

``python -m evo.training.computer DEVICE`` prints the `kind` of this machine, for those who do not want torch in theirs.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path

# settings that make torch, MKL or oneDNN take other kernels; torch's reading of the first is ``cpu``
_SETTINGS = ("ATEN_CPU_CAPABILITY", "MKL_", "ONEDNN_", "DNNL_", "OPENBLAS_CORETYPE", "TORCH_MKLDNN_")
DESCRIBE = "evo.training.computer"  # the module that prints the `kind` of its machine
_LIBRARIES = re.compile(r"(MKL-DNN|Math Kernel Library) (?:Version )?(\S+)")
_THREADS = ("_NUM_THREADS", "_DYNAMIC")  # a worker sets its own


def description() -> dict[str, str]:
    """The versions of python and packages, and what `processor` says."""
    names = {"evo": "evo-optimizers", "torch": "torch", "numpy": "numpy"}
    found = {"python": platform.python_version()}
    for name, package in names.items():
        try:
            found[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            continue
    return found | processor()


def processor() -> dict[str, str]:
    """``cpu``: the instructions that torch takes; ``processor``: its model; ``libraries`` and ``settings`` for both."""
    import torch  # here alone: it takes seconds to load

    settings = (f"{key}={value}" for key, value in sorted(os.environ.items()) if _changes_kernels(key))
    return {
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "processor": _model(),
        "libraries": ", ".join(map(" ".join, _LIBRARIES.findall(torch.__config__.show()))) or "none",
        "settings": " ".join(settings) or "none",
    }


def kind(device: str) -> str:
    """The kind of hardware, in one line: trainings on machines of one kind are equal to the last bit.

    ``device``: ``cpu`` or ``cuda``.
    """
    if device == "cpu":
        return kind_of_cpu(description())
    import torch  # here alone: it takes seconds to load

    return f"cuda, {torch.cuda.get_device_name()}, torch {torch.__version__}"


def kind_of_cpu(found: Mapping[str, str]) -> str:
    """The `kind` of the CPUs of a machine, from its `description`; what was not noted is left out."""
    versions = (f"{name} {found[name]}" for name in ("torch", "numpy") if name in found)
    processor = (found.get(name, "none") for name in ("processor", "cpu", "libraries", "settings"))
    return ", ".join(["cpu", *(each for each in processor if each != "none"), *versions])


def differences(launched: Mapping[str, str]) -> list[str]:
    """What is not as it was when a campaign was ``launched``, for people; what was not noted then is left out."""
    now = description()
    return [
        f"launched with {name} {before}, now {now.get(name)}: results may differ slightly"
        for name, before in launched.items()
        if before != now.get(name)
    ]


def _changes_kernels(key: str) -> bool:
    return key.startswith(_SETTINGS) and not key.endswith(_THREADS)


def _model() -> str:
    """The model of the processor, by which MKL and oneDNN choose kernels."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()


if __name__ == "__main__":
    print(kind(sys.argv[1]))
