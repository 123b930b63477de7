"""Samples instances to train on: difficulties by one of three samplers, seeds by hashing a key."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from harness.task import Instance

SAMPLERS = ("stratified", "uniform", "curriculum")


def sample_instances(
    task: str,
    *,
    count: int,
    key: bytes,
    purpose: str,
    depths: Sequence[int],
    accuracy_factors: tuple[int, int] = (0, 0),
    sampler: str = "stratified",
    progress: float = 1.0,
    init: str = "per_layer",
) -> list[Instance]:
    """``count`` instances that follow from the arguments alone; other purposes or keys give other seeds.

    ``depths``: the values of ``num_hidden_layers`` to choose from. ``accuracy_factors``: least and greatest,
    both included (task ``seed`` only; the greater, the harder). ``sampler``:

    - ``stratified``: every depth equally often, up to one (which depths get one more is drawn); the range of
      accuracy factors in ``count`` equal strata, one drawn from each, matched to the depths at random.
    - ``uniform``: every instance draws both on its own.
    - ``curriculum``: stratified over what is open at ``progress`` in [0, 1] (generation over generations):
      of D depths, shallow first, the first min(D, 1 + floor(progress * D)); accuracy factors from least to
      least + floor(progress * (greatest - least)).

    Raises ValueError, which names the argument, for values out of range.
    """
    least, greatest = accuracy_factors
    depths = sorted(set(depths))
    if count < 0:
        raise ValueError(f"count: must not be negative, got {count}")
    if not depths:
        raise ValueError("depths: must name at least one")
    if least > greatest:
        raise ValueError(f"accuracy_factors: the first must not exceed the second, got {least}, {greatest}")
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler: {sampler!r} is not one of {', '.join(SAMPLERS)}")
    if not 0 <= progress <= 1:
        raise ValueError(f"progress: must lie between 0 and 1, got {progress}")

    if sampler == "curriculum":
        depths = depths[: min(len(depths), 1 + math.floor(progress * len(depths)))]
        greatest = least + math.floor(progress * (greatest - least))
    draw = _Draws(key, purpose)
    if sampler == "uniform":
        chosen_depths = [depths[draw.below(len(depths), "depth", i)] for i in range(count)]
        factors = [least + draw.below(greatest - least + 1, "accuracy_factor", i) for i in range(count)]
    else:
        rounds, extra = divmod(count, len(depths))
        chosen_depths = depths * rounds + sorted(draw.shuffled(depths, "extra depth")[:extra])
        factors = draw.shuffled(_one_per_stratum(least, greatest, count, draw), "match")
    return [
        Instance(task, depth, draw.digest("seed", i), init, factor)
        for i, (depth, factor) in enumerate(zip(chosen_depths, factors, strict=True))
    ]


def _one_per_stratum(least: int, greatest: int, count: int, draw: _Draws) -> list[int]:
    width = greatest - least + 1
    factors = []
    for i in range(count):
        start, stop = i * width // count, (i + 1) * width // count
        factors.append(least + start + draw.below(max(1, stop - start), "accuracy_factor", i))
    return factors


class _Draws:
    """Numbers that depend on (key, purpose, what, index) alone: SHA-256 of the four with their lengths."""

    def __init__(self, key: bytes, purpose: str) -> None:
        self._parts = (key, purpose.encode())

    def digest(self, what: str, index: int) -> bytes:
        parts = (*self._parts, what.encode(), str(index).encode())
        return hashlib.sha256(b"".join(len(part).to_bytes(8, "little") + part for part in parts)).digest()

    def below(self, n: int, what: str, index: int) -> int:
        return int.from_bytes(self.digest(what, index), "little") % n

    def shuffled(self, values: list[int], what: str) -> list[int]:
        by_hash = sorted(range(len(values)), key=lambda i: self.digest(what, i))
        return [values[i] for i in by_hash]
