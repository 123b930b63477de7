"""What a worker runs: one lane, from the genome's text to its training."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import Any

import torch

from genomes import genome
from genomes.backends import torch_reference
from genomes.lowering import lower
from genomes.program import Program
from harness.task import Instance
from harness.train import train

# results are bit-equal only for a fixed number of threads, and one a lane is the quickest for many lanes
torch.set_num_threads(1)


def train_lane(
    text: str,
    task: str,
    num_hidden_layers: int,
    seed: str,
    init: str,
    accuracy_factor: int,
    epochs: int,
    patience: int,
    device: str,
    **_: Any,
) -> dict[str, Any]:
    """Train one lane; returns the fields of a `Training`. ``text``: the genome; ``seed``: 64 hex digits."""
    instance = Instance(task, num_hidden_layers, bytes.fromhex(seed), init, accuracy_factor)
    optimizer = torch_reference.optimizer(_program(text))
    return asdict(train(instance, optimizer, epochs=epochs, patience=patience, device=device))


@lru_cache(maxsize=1024)  # a genome comes back once an instance
def _program(text: str) -> Program:
    return lower(genome.parse(text))
