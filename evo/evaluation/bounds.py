"""What reference predictors reach in a task: a Gaussian process that knows the kernel, f less its mean, and zero."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from harness.data import NOISE_STD, TEST, TRAIN, load_data
from harness.score import quality
from harness.task import TASKS, Instance

MEAN_BLIND = "bound of mean-blind optimizers"
_CACHED_SEEDS = 4096


def gaussian_process_loss(task: str, seed: bytes) -> float:
    """Test loss of the posterior mean K(test, train) (K(train, train) + noise^2 I)^-1 y, each output on its own.

    K(x, x') = exp(-|x - x'|^2 / (2 length^2)), 1 / length the standard deviation of the task's frequencies: the limit
    of the covariance of sqrt(2 / n) * sum a cos(w x + b) for many features (Rahimi & Recht 2007, with a ~ N(0, 1), so
    that the variance is 1).
    """
    from scipy.linalg import cho_factor, cho_solve  # here alone: SciPy takes a moment to load

    data = load_data(task, seed)
    length = TASKS[task].omega_divisor
    x, y = data.x.astype(np.float64), data.y.astype(np.float64)
    covariance = _kernel(x[TRAIN], x[TRAIN], length)
    covariance[np.diag_indices_from(covariance)] += NOISE_STD**2
    weights = cho_solve(cho_factor(covariance), y[TRAIN])
    return float(np.mean((_kernel(x[TEST], x[TRAIN], length) @ weights - y[TEST]) ** 2))


def _kernel(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    """``[n, dims]``, ``[m, dims]`` -> ``[n, m]``"""
    from scipy.spatial.distance import cdist  # here alone: SciPy takes a moment to load

    return np.exp(cdist(a, b, "sqeuclidean") / (-2 * length**2))


def zero_loss(task: str, seed: bytes) -> float:
    """Test loss of a model that always predicts 0."""
    return float(np.mean(load_data(task, seed).y[TEST].astype(np.float64) ** 2))


def mean_blind_loss(task: str, seed: bytes) -> float:
    """Test loss of the best predictor whose outputs have mean 0 over the training rows: f less its mean there.

    mean((f[TEST] - mu - y[TEST])^2) over rows and outputs, mu = mean(f[TRAIN]) over rows: ``[output_dims]``. On average
    that is noise^2 + mean(mu^2). Running means average batches of training rows, so mu is the mean over these rows and
    not the one over all inputs, sqrt(2 / 128) * sum of a * cos(b) * sin(w) / w, from which it differs by about 0.03.
    """
    data = load_data(task, seed)
    f = data.f.astype(np.float64)
    return float(np.mean((f[TEST] - f[TRAIN].mean(axis=0) - data.y[TEST]) ** 2))


def mean_blind_quality(instance: Instance) -> float | None:
    """The bound of optimizers that ignore the mean of the outputs; None for a task that does not hide it.

    A run passes it by what lags: running means are not those of the evaluated network, and rounding moves them.
    """
    return (
        _mean_blind_quality(instance.task, instance.seed, instance.alpha) if TASKS[instance.task].hides_mean else None
    )


@lru_cache(maxsize=_CACHED_SEEDS)
def _mean_blind_quality(task: str, seed: bytes, alpha: float) -> float | None:
    """Kept, for an instance recurs at every depth and with every optimizer."""
    return quality(mean_blind_loss(task, seed), load_data(task, seed).target_loss(alpha))
