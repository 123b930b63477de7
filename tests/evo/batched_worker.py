"""What a worker does on a GPU, in torch operations on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evo.training.batches import train_batch
from evo.training.trainer import instance
from genomes.compiler.lowering import lower
from genomes.language.genome import parse


def train(lanes: list[dict[str, Any]], *, patience: int, **_: Any) -> Iterator[tuple[int, dict]]:
    batch = [(lower(parse(lane["text"])), instance(lane)) for lane in lanes]
    for position, training in train_batch(batch, epochs=lanes[0]["epochs"], patience=patience, device="cpu"):
        yield position, training.to_dict()
