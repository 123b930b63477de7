"""Random numbers that follow from a key: (campaign seed, generation, individual, purpose), and nothing else.

So results depend neither on the number of workers nor on where a campaign was interrupted.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

Part = str | int


def key_bytes(*parts: Part) -> bytes:
    """32 bytes that differ for different parts (and for different splits of the same letters)."""
    return hashlib.sha256(repr(parts).encode()).digest()


def generator(*parts: Part) -> random.Random:
    """A generator of its own for this key."""
    return random.Random(int.from_bytes(key_bytes(*parts), "little"))


@contextmanager
def global_random(rng: random.Random) -> Iterator[None]:
    """DEAP draws from the module ``random``: inside, that continues from ``rng``; outside, nothing has changed."""
    before = random.getstate()
    random.seed(rng.getrandbits(64))
    try:
        yield
    finally:
        random.setstate(before)
