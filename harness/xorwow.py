"""curand's XORWOW generator, many independent ones at a time (Marsaglia 2003, "Xorshift RNGs", section 3.1).

The data set and the initial weights are drawn by one generator a row: ``curand_init(seed + index, 0, 0)``.
"""

from __future__ import annotations

import numpy as np

_UINT32 = np.uint32
_SCALE = np.float32(2.0**-32)
_HALF_STEP = np.float32(2.0**-33)
_TWO_PI = np.float32(2 * np.pi)


class Xorwow:
    """Generators for seeds ``(seed + indices) mod 2^64``; a draw gives one number of each, ``[indices]``."""

    def __init__(self, seed: int, indices: np.ndarray) -> None:
        seeds = indices.astype(np.uint64) + np.uint64(seed)
        low = (seeds & np.uint64(0xFFFFFFFF)).astype(_UINT32)
        high = (seeds >> np.uint64(32)).astype(_UINT32)
        t0 = (low ^ _UINT32(0xAAD26B49)) * _UINT32(1099087573)
        t1 = (high ^ _UINT32(0xF7DCEFDD)) * _UINT32(2591861531)
        self._v = [
            t0 + _UINT32(123456789),
            t0 ^ _UINT32(362436069),
            t1 + _UINT32(521288629),
            t1 ^ _UINT32(88675123),
            t0 + _UINT32(5783321),
        ]
        self._d = t0 + t1 + _UINT32(6615241)

    def draw(self) -> np.ndarray:
        """The next 32 random bits, uint32."""
        first, *rest = self._v
        last = rest[-1]
        t = first ^ (first >> _UINT32(2))
        new = (last ^ (last << _UINT32(4))) ^ (t ^ (t << _UINT32(1)))
        self._v = [*rest, new]
        self._d = self._d + _UINT32(362437)
        return new + self._d

    def uniform(self) -> np.ndarray:
        """Uniform on (0, 1], float32: draw * 2^-32 + 2^-33."""
        return self.draw().astype(np.float32) * _SCALE + _HALF_STEP

    def normal(self) -> np.ndarray:
        """Standard normal, float32: Box and Muller's cosine half of two uniforms; the sine is thrown away."""
        radius = np.sqrt(np.float32(-2) * np.log(self.uniform()))
        return radius * np.cos(_TWO_PI * self.uniform())
