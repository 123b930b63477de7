"""The instance's data set, target loss and sample orders: all a function of the task and the 32-byte seed.

Seeds that differ by a small integer give near copies of one instance, for row i of the seed n + 1 is row i +
1 of the seed n: 1449 of 1450 inputs are shared and f correlates by 0.99. Only seeds without such a relation,
like those of `harness.sampling`, are independent samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from harness.chacha import StdRng
from harness.task import TASKS
from harness.xorwow import Xorwow

TRAIN_SIZE, VALIDATION_SIZE, TEST_SIZE = 1000, 200, 250
TRAIN = slice(0, TRAIN_SIZE)
VALIDATION = slice(TRAIN_SIZE, TRAIN_SIZE + VALIDATION_SIZE)
TEST = slice(TRAIN_SIZE + VALIDATION_SIZE, TRAIN_SIZE + VALIDATION_SIZE + TEST_SIZE)

FEATURES = 128  # random Fourier features per output
NOISE_STD = 0.2

_ROWS = TRAIN_SIZE + VALIDATION_SIZE + TEST_SIZE
_FIRST_SAMPLE_INDEX = _ROWS  # sample generators come after those of the features, with room to spare
_CACHED_INSTANCES = 16
_ORDER_CHUNK = (16, 128)  # epochs shuffled at a time: doubling between these


@dataclass(frozen=True)
class Data:
    """Rows 0-999 train, 1000-1199 validate, 1200-1449 test. All float32 and read-only.

    ``x``: inputs ``[1450, input_dims]``. ``f``: the function without noise, ``y``: with noise, both
    ``[1450, output_dims]``.
    """

    x: np.ndarray
    f: np.ndarray
    y: np.ndarray

    def target_loss(self, alpha: float) -> float:
        """eps*^2 = alpha / 250 * sum of (y - f)^2 over all test entries, outputs summed, not averaged."""
        noise = self.y[TEST].astype(np.float64) - self.f[TEST]
        return float(alpha / TEST_SIZE * np.sum(noise**2))


@lru_cache(maxsize=_CACHED_INSTANCES)
def load_data(task: str, seed: bytes) -> Data:
    """The data set of every instance with this task and seed: y = f + noise at x ~ U(-1, 1).

    f = sqrt(2 / 128) * sum over features of a * cos(w . x + b), with a ~ N(0, 1), b ~ U(0, 2 pi) and
    w ~ N(0, 1 / omega_divisor^2). All in float32.
    """
    spec = TASKS[task]
    seed64 = int.from_bytes(seed[:8], "little")

    features = Xorwow(seed64, np.arange(spec.output_dims * FEATURES))
    a = features.normal()
    b = features.uniform() * np.float32(2 * np.pi)
    w = np.stack([features.normal() for _ in range(spec.input_dims)], axis=1) / np.float32(spec.omega_divisor)

    samples = Xorwow(seed64, _FIRST_SAMPLE_INDEX + np.arange(_ROWS))
    x = np.stack([samples.uniform() * np.float32(2) - np.float32(1) for _ in range(spec.input_dims)], axis=1)
    noise = np.stack([samples.normal() * np.float32(NOISE_STD) for _ in range(spec.output_dims)], axis=1)

    phase = np.zeros((_ROWS, len(w)), dtype=np.float32)
    for i in range(spec.input_dims):  # one rounding per term, as a fused multiply-add on the device
        phase = (phase + x[:, i : i + 1].astype(np.float64) * w[:, i]).astype(np.float32)
    waves = np.cos(phase + b).reshape(_ROWS, spec.output_dims, FEATURES)
    weights = a.reshape(spec.output_dims, FEATURES)
    f = np.stack([waves[:, out] @ weights[out] for out in range(spec.output_dims)], axis=1)
    f *= np.sqrt(np.float32(2 / FEATURES))
    y = f + noise
    for array in (x, f, y):
        array.setflags(write=False)
    return Data(x, f, y)


class SampleOrders:
    """The order of the training samples in each epoch, ``orders[epoch]``: int64 ``[1000]``; made as epochs
    are reached.

    A generator of its own serves the orders, fresh from the instance seed; so does another one the layer
    seeds.
    """

    def __init__(self, seed: bytes) -> None:
        self._rng = StdRng(seed)
        self._orders = np.empty((0, TRAIN_SIZE), dtype=np.int16)

    def __getitem__(self, epoch: int) -> np.ndarray:
        least, most = _ORDER_CHUNK
        while epoch >= len(self._orders):
            chunk = min(max(least, len(self._orders)), most)
            self._orders = np.concatenate([self._orders, self._rng.shuffles(TRAIN_SIZE, chunk)])
        return self._orders[epoch].astype(np.int64)


@lru_cache(maxsize=_CACHED_INSTANCES)
def sample_orders(seed: bytes) -> SampleOrders:
    """The sample orders that follow from an instance seed (whatever the task); at most 16 seeds are kept."""
    return SampleOrders(seed)
