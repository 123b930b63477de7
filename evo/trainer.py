"""What a worker runs: one lane, from the genome's text to its training.

`train_lane` takes the quick path where there is one; `train_lane_literal` always the readable loop that defines what a
training is. Both give the same results within rounding, each bit-equal between runs. A campaign or a pool takes either
by its name, ``evo.trainer:train_lane``.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import Any

import torch

from genomes import genome
from genomes.backends import torch_flat, torch_reference
from genomes.lowering import lower
from genomes.program import Program
from harness import flat
from harness.task import Instance
from harness.train import train

# results are bit-equal only for a fixed number of threads, and one a lane is the quickest for many lanes
torch.set_num_threads(1)

TRAIN_LITERAL = "evo.trainer:train_lane_literal"


def train_lane(
    text: str, *, epochs: int, patience: int, device: str, dtype: str = "float32", **instance: Any
) -> dict[str, Any]:
    """Train one lane; returns the fields of a `Training`. ``text``: the genome; ``instance``: see `_instance`."""
    program = _program(text)
    if device != "cpu" or dtype != "float32" or not torch_flat.serves(program):
        return train_lane_literal(text, epochs=epochs, patience=patience, device=device, dtype=dtype, **instance)
    return asdict(flat.train(_instance(**instance), torch_flat.optimizer(program), epochs=epochs, patience=patience))


def train_lane_literal(
    text: str, *, epochs: int, patience: int, device: str, dtype: str = "float32", **instance: Any
) -> dict[str, Any]:
    """`train_lane` in the literal loop, whatever the genome and the device."""
    optimizer = torch_reference.optimizer(_program(text))
    precision = getattr(torch, dtype)
    options: dict[str, Any] = {"epochs": epochs, "patience": patience, "device": device, "dtype": precision}
    return asdict(train(_instance(**instance), optimizer, **options))


def _instance(task: str, num_hidden_layers: int, seed: str, init: str, accuracy_factor: int, **_: Any) -> Instance:
    """``seed``: 64 hex digits."""
    return Instance(task, num_hidden_layers, bytes.fromhex(seed), init, accuracy_factor)


@lru_cache(maxsize=1024)  # a genome comes back once an instance
def _program(text: str) -> Program:
    return lower(genome.parse(text))
