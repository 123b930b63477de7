"""What a worker runs: lanes, from their genomes' texts to their trainings.

`train_lanes` takes the quick path of the device: on a CPU one lane after another, on a GPU all together.
`train_lanes_literal` always takes the readable loop that defines what a training is. Both give the same results within
rounding. A campaign or a pool takes either by its name, TRAIN_LANES or TRAIN_LITERAL.
"""

from __future__ import annotations

import traceback
from dataclasses import asdict
from functools import cache, lru_cache
from typing import Any

import torch

from evo.errors import EvoError
from evo.training import devices
from evo.training.worker import UNUSABLE, Answers, erred, leave, one_by_one
from genomes.backends import torch_reference
from genomes.backends.flat import optimizer as torch_flat
from genomes.compiler.lowering import lower
from genomes.compiler.program import Program
from genomes.language import genome
from harness import flat
from harness.task import Instance
from harness.train import train

# results are bit-equal only for a fixed number of threads, and one a lane is the quickest for many lanes
torch.set_num_threads(1)

TRAIN_LITERAL = "evo.training.trainer:train_lanes_literal"


def train_lanes(lanes: list[dict[str, Any]], *, patience: int, device: str, dtype: str = "float32") -> Answers:
    """Train ``lanes`` (`jobs.fields`) on the quick path; yields position and fields of a `Training` for each.

    On a GPU they must be of one task, depth and number of epochs.
    """
    if device == "cpu":
        yield from one_by_one(_train_quickly, lanes, patience=patience, dtype=dtype)
    else:
        yield from _train_together(lanes, patience=patience, device=device, dtype=dtype)


def train_lanes_literal(lanes: list[dict[str, Any]], *, patience: int, device: str, dtype: str = "float32") -> Answers:
    """`train_lanes` in the literal loop, one after another, whatever the genome and the device."""
    yield from one_by_one(train_literally, lanes, patience=patience, device=device, dtype=dtype)


def train_literally(lane: dict[str, Any], *, patience: int, device: str, dtype: str) -> dict[str, Any]:
    """Train one lane in the literal loop; returns the fields of its `Training`."""
    optimizer = torch_reference.optimizer(_program(lane["text"]))
    options: dict[str, Any] = {"patience": patience, "device": device, "dtype": getattr(torch, dtype)}
    return asdict(train(instance(lane), optimizer, epochs=lane["epochs"], **options))


def _train_quickly(lane: dict[str, Any], *, patience: int, dtype: str) -> dict[str, Any]:
    program = _program(lane["text"])
    if dtype != "float32" or not torch_flat.serves(program):
        return train_literally(lane, patience=patience, device="cpu", dtype=dtype)
    optimizer = torch_flat.optimizer(program)
    return asdict(flat.train(instance(lane), optimizer, epochs=lane["epochs"], patience=patience))


def _train_together(lanes: list[dict[str, Any]], **options: Any) -> Answers:
    """A batch on a GPU; a genome that cannot be read is the ``error`` of its lanes alone."""
    try:
        devices.expect_to_work(options["device"])
    except EvoError as error:
        leave(str(error), UNUSABLE)
    readable, program = {}, cache(_lowered)
    for position, lane in enumerate(lanes):
        try:
            readable[position] = program(lane["text"]), instance(lane)
        except Exception as error:
            yield position, erred(error)
    if readable:
        yield from _train_batch(readable, epochs=lanes[0]["epochs"], **options)


def _train_batch(lanes: dict[int, tuple[Program, Instance]], **options: Any) -> Answers:
    """``lanes`` by position. After an exception the rest is tried again in halves, until its cause is alone."""
    from evo.training.gpu.batches import train_batch  # a worker on a CPU needs nothing of it

    positions = list(lanes)
    unanswered = dict(lanes)
    try:
        for index, training in train_batch(list(lanes.values()), **options):
            del unanswered[positions[index]]
            yield positions[index], asdict(training)
        return
    except torch.AcceleratorError as error:  # after which CUDA refuses this process everything
        leave(f"the GPU failed: {error}")
    except Exception as error:
        if len(unanswered) == 1:
            yield next(iter(unanswered)), erred(error)
            return
        traceback.print_exception(error)
    rest = list(unanswered.items())  # beyond the handler, so that the failed batch has let go of its memory
    middle = (len(rest) + 1) // 2
    for half in (rest[:middle], rest[middle:]):
        if half:
            yield from _train_batch(dict(half), **options)


def instance(lane: dict[str, Any]) -> Instance:
    seed = bytes.fromhex(lane["seed"])
    return Instance(lane["task"], lane["num_hidden_layers"], seed, lane["init"], lane["accuracy_factor"])


def _lowered(text: str) -> Program:
    return lower(genome.parse(text))


_program = lru_cache(maxsize=1024)(_lowered)  # a genome comes back once an instance
