"""Rust's ``StdRng`` (rand 0.8.5): ChaCha with 12 rounds, and the draws that the deployed loop makes from it.

Every draw takes the next 32-bit words of one stream. That holds for `StdRng.next_u64` as well: rand's block
buffer joins the last word of one block to the first of the next, so no word is ever skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np

_CONSTANTS = np.frombuffer(b"expand 32-byte k", dtype="<u4")
_DOUBLE_ROUNDS = 6
_FIRST_BLOCKS, _MOST_BLOCKS = (
    64,
    2048,
)  # fetched at a time: doubling, since most streams are left after a few words


def chacha12_words(seed: bytes, first_block: int, blocks: int) -> np.ndarray:
    """Words of the key stream, uint32 ``[16 * blocks]``: blocks ``first_block`` and following of the key
    ``seed``.

    Bernstein 2008, "ChaCha, a variant of Salsa20", with a 64-bit block counter and the nonce 0.
    """
    counter = np.arange(first_block, first_block + blocks, dtype=np.uint64)
    start = np.zeros((4, 4, blocks), dtype=np.uint32)
    start[0] = _CONSTANTS[:, None]
    start[1:3] = np.frombuffer(seed, dtype="<u4").reshape(2, 4, 1)
    start[3, 0] = counter & np.uint64(0xFFFFFFFF)
    start[3, 1] = counter >> np.uint64(32)
    a, b, c, d = (row.copy() for row in start)
    for _ in range(_DOUBLE_ROUNDS):
        for shift in (1, -1):  # a round over the columns, then one over the diagonals
            for turn, target, source, mixed in ((16, a, b, d), (12, c, d, b), (8, a, b, d), (7, c, d, b)):
                target += source
                mixed ^= target
                mixed[:] = (mixed << np.uint32(turn)) | (mixed >> np.uint32(32 - turn))
            b, c, d = np.roll(b, -shift, 0), np.roll(c, 2, 0), np.roll(d, shift, 0)
    return (np.stack((a, b, c, d)) + start).reshape(16, blocks).T.ravel()


class StdRng:
    """``StdRng::from_seed(seed)``."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self.next_u32 = chain.from_iterable(self._chunks()).__next__

    def _chunks(self) -> Iterator[list[int]]:
        first, blocks = 0, _FIRST_BLOCKS
        while True:
            yield chacha12_words(self._seed, first, blocks).tolist()
            first, blocks = first + blocks, min(2 * blocks, _MOST_BLOCKS)

    def next_u64(self) -> int:
        """The next two words, the low one first."""
        return self.next_u32() | self.next_u32() << 32

    def gen_bytes(self, count: int) -> bytes:
        """``gen::<[u8; count]>()``: the low byte of one word each."""
        return bytes(self.next_u32() & 0xFF for _ in range(count))

    def shuffles(self, length: int, count: int) -> np.ndarray:
        """``count`` times ``shuffle`` of a fresh ``0..length``, int16 ``[count, length]``.

        shuffle: for i = length - 1 .. 1, swap i and below(i + 1).
        below(n): draw u until the low half of u * n is at most (n << leading_zeros(n)) - 1; give the high
        half.
        """
        next_u32 = self.next_u32
        bounds = [(n, (n << (32 - n.bit_length())) - 1) for n in range(length, 1, -1)]
        products = []
        for _ in range(count):
            for n, zone in bounds:
                product = next_u32() * n
                while product & 0xFFFFFFFF > zone:
                    product = next_u32() * n
                products.append(product)
        chosen = (np.array(products, dtype=np.uint64) >> np.uint64(32)).astype(np.intp).reshape(count, length - 1)
        return _swap_from_the_end(chosen, length)


def _swap_from_the_end(chosen: np.ndarray, length: int) -> np.ndarray:
    """Swap ``length - 1 - k`` with ``chosen[:, k]``, k = 0, 1, ..., in one list ``0..length`` a row."""
    rows = np.arange(len(chosen))
    orders = np.tile(np.arange(length, dtype=np.int16), (len(chosen), 1))
    for k in range(length - 1):
        last = length - 1 - k
        moved = orders[:, last].copy()
        orders[:, last] = orders[rows, chosen[:, k]]
        orders[rows, chosen[:, k]] = moved
    return orders
