"""``evo doctor``: whether this machine has what a campaign needs."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("torch", "numpy", "deap", "pydantic", "typer", "rich", "jinja2", "matplotlib", "scipy")
FREE_BYTES = 500_000_000


@dataclass(frozen=True)
class Check:
    """One thing looked at. ``optional``: evo works without it."""

    name: str
    ok: bool
    found: str
    optional: bool = False


def print_checks(as_json: bool) -> bool:
    """Print all checks; returns whether those hold that evo cannot do without."""
    found = examine()
    if as_json:
        print(json.dumps({"checks": [vars(check) for check in found]}))
    else:
        for check in found:
            mark = "ok" if check.ok else "--" if check.optional else "!!"
            print(f"{mark} {check.name:<10} {check.found}".replace("\n", "\n" + " " * 14))
    return all(check.ok or check.optional for check in found)


def examine(folder: Path = Path()) -> list[Check]:
    """All checks, in order; takes a few seconds, because it starts a worker and trains with it."""
    examiners = (_python, _packages, _cpu, _device, lambda: _disk(folder), _training, _sandbox)
    return [check for examiner in examiners for check in _guarded(examiner)]


def _guarded(examiner: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from examiner()
    except Exception as error:  # what fails is a finding, not the end of the examination
        yield Check(examiner.__name__.strip("_"), False, f"{type(error).__name__}: {error}")


def _python() -> Iterator[Check]:
    yield Check("python", sys.version_info >= (3, 11), f"{platform.python_version()} on {platform.platform()}")
    yield Check("sqlite", sqlite3.sqlite_version_info >= (3, 31), sqlite3.sqlite_version)


def _packages() -> Iterator[Check]:
    for name in PACKAGES:
        try:
            yield Check(name, True, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Check(name, False, "is not installed")


def _cpu() -> Iterator[Check]:
    from evo.training.pool import available_cpus

    yield Check("cpus", True, f"{available_cpus()} for workers, of {os.cpu_count()}")


def _device() -> Iterator[Check]:
    import torch

    from evo.errors import EvoError
    from evo.training import devices

    threads = f"{torch.get_num_threads()} threads by default; each worker takes one"
    yield Check("threads", True, threads)
    seen = torch.cuda.is_available()
    found = "none that torch sees; CPUs do the work"
    if seen:
        free, total = (size / 2**30 for size in torch.cuda.mem_get_info())
        found = f"{torch.cuda.get_device_name()}, {free:.0f} of {total:.0f} GiB free"
    yield Check("cuda", seen, found, optional=True)
    try:
        yield Check("nvrtc", True, f"{devices.kernel_compiler()}: kernels for a GPU can be compiled", optional=True)
    except EvoError as error:
        yield Check("nvrtc", False, str(error), optional=True)
    yield Check("device", True, f"campaigns train on {devices.for_campaign('auto')} unless told otherwise")


def _disk(folder: Path) -> Iterator[Check]:
    for place in (folder.absolute(), Path(tempfile.gettempdir())):
        try:
            with tempfile.TemporaryFile(dir=place):
                free = shutil.disk_usage(place).free
            yield Check("disk", free > FREE_BYTES, f"{place} can be written, {free / 1e9:.1f} GB are free")
        except OSError as error:
            yield Check("disk", False, f"{place} cannot be written: {error.strerror}")


def _training() -> Iterator[Check]:
    from evo.records import Lane
    from evo.training.pool import LocalPool
    from evo.training.worker import TRAIN_LANES
    from genomes import catalogue
    from genomes.language import genome
    from harness.task import Instance, seed_bytes

    text, epochs = genome.dump(catalogue.load("adam")), 10
    lanes = [Lane("adam", text, Instance("tig", 4, seed_bytes(seed)), epochs) for seed in (0, 1)]
    with LocalPool(1, function=TRAIN_LANES) as pool:
        started = time.monotonic()
        trainings = [training for _, training in pool.train(lanes)]
        seconds = time.monotonic() - started
    pace = epochs / trainings[-1].seconds if trainings[-1].seconds else 0.0
    ok = all(training.status == "finished" for training in trainings)
    found = f"{pace:.0f} epochs per second and worker at 4 hidden layers; a worker was ready after {seconds:.1f} s"
    yield Check("training", ok, found if ok else f"{trainings[0].status}: {trainings[0].message}")


def _sandbox() -> Iterator[Check]:
    from harness.sandbox import isolation_level

    level = isolation_level()
    yield Check("sandbox", bool(level.active), str(level), optional=True)
