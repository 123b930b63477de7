"""What a worker calls: functions from the fields of lanes, with their genomes' texts, to trainings.

`train_lanes` takes the fast path of the device: on a CPU one lane after another, on a GPU all together.
`train_lanes_literal` always takes the readable loop that defines what a training is. Both give the same results within
rounding. A pool takes either by its name, `worker.TRAIN_LANES` or `worker.TRAIN_LITERAL`.
"""

from __future__ import annotations

import traceback
from functools import cache, lru_cache
from typing import Any

import torch

from evo.errors import EvoError
from evo.training.batches import train_batch
from evo.training.worker import UNUSABLE, Answers, exit_process, failed_by, one_by_one
from genomes.backends import torch_reference
from genomes.backends.flat.optimizer import FlatProgram, serves
from genomes.compiler.lowering import lower
from genomes.compiler.program import Program
from genomes.language import genome
from harness import flat
from harness.task import Instance
from harness.train import train

# results are bit-equal only for a fixed number of threads, and one per lane is the fastest for many lanes
torch.set_num_threads(1)


def train_lanes(lanes: list[dict[str, Any]], *, patience: int, device: str, dtype: str = "float32") -> Answers:
    """Train ``lanes`` (`jobs.fields`) on the fast path; yields the position of each and the fields of its `Training`.

    On a GPU they must be of one task, depth and number of epochs.
    """
    if device == "cpu":
        yield from one_by_one(_train_fast, lanes, patience=patience, dtype=dtype)
    else:
        yield from _train_together(lanes, patience=patience, device=device, dtype=dtype)


def train_lanes_literal(lanes: list[dict[str, Any]], *, patience: int, device: str, dtype: str = "float32") -> Answers:
    """Train ``lanes`` as `train_lanes` does, but in the literal loop, one after another, on any device."""
    yield from one_by_one(train_literally, lanes, patience=patience, device=device, dtype=dtype)


def train_literally(lane: dict[str, Any], *, patience: int, device: str, dtype: str) -> dict[str, Any]:
    """Train one lane in the literal loop; returns the fields of its `Training`."""
    optimizer = torch_reference.optimizer(_program(lane["text"]))
    options: dict[str, Any] = {"patience": patience, "device": device, "dtype": getattr(torch, dtype)}
    return train(instance(lane), optimizer, epochs=lane["epochs"], **options).to_dict()


def _train_fast(lane: dict[str, Any], *, patience: int, dtype: str) -> dict[str, Any]:
    program = _program(lane["text"])
    if dtype != "float32" or not serves(program):
        return train_literally(lane, patience=patience, device="cpu", dtype=dtype)
    return flat.train(instance(lane), FlatProgram(program), epochs=lane["epochs"], patience=patience).to_dict()


def _train_together(lanes: list[dict[str, Any]], **options: Any) -> Answers:
    """A batch on a GPU; a genome that cannot be read is the ``error`` of its lanes alone."""
    try:
        expect_to_work(options["device"])
    except EvoError as error:
        exit_process(str(error), UNUSABLE)
    readable, program = {}, cache(_lowered)
    for position, lane in enumerate(lanes):
        try:
            readable[position] = program(lane["text"]), instance(lane)
        except Exception as error:
            yield position, failed_by(error).to_dict()
    if readable:
        yield from _train_batch(readable, epochs=lanes[0]["epochs"], **options)


def _train_batch(lanes: dict[int, tuple[Program, Instance]], **options: Any) -> Answers:
    """``lanes`` by position. After an exception the rest is tried again in halves, until its cause is alone."""
    positions = list(lanes)
    unanswered = dict(lanes)
    try:
        for index, training in train_batch(list(lanes.values()), **options):
            del unanswered[positions[index]]
            yield positions[index], training.to_dict()
        return
    except torch.AcceleratorError as error:  # after which CUDA refuses this process everything
        exit_process(f"the GPU failed: {error}")
    except Exception as error:
        if len(unanswered) == 1:
            yield next(iter(unanswered)), failed_by(error).to_dict()
            return
        traceback.print_exception(error)
    rest = list(unanswered.items())  # outside the handler, so that the memory of the failed batch is free again
    middle = (len(rest) + 1) // 2
    for half in (rest[:middle], rest[middle:]):
        if half:
            yield from _train_batch(dict(half), **options)


def expect_to_work(device: str) -> None:
    """Compute a little on ``device``. Raises EvoError where that fails."""
    try:
        torch.ones(1, device=device).item()
    except Exception as error:  # no driver, no memory left, a GPU that is gone: torch raises many types
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise EvoError(f"device {device} does not work: {reason}") from error


def instance(lane: dict[str, Any]) -> Instance:
    """The instance of a lane, from its `jobs.fields`. Raises ValueError for values out of range."""
    seed = bytes.fromhex(lane["seed"])
    return Instance(lane["task"], lane["num_hidden_layers"], seed, lane["init"], lane["accuracy_factor"])


def _lowered(text: str) -> Program:
    return lower(genome.parse(text))


_program = lru_cache(maxsize=1024)(_lowered)  # a genome comes back once per instance
