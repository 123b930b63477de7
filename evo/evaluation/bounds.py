"""What two reference predictors reach in a task: a Gaussian process that knows the kernel, and zero."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import cdist

from harness.data import NOISE_STD, TEST, TRAIN, load_data
from harness.task import TASKS


def gaussian_process_loss(task: str, seed: bytes) -> float:
    """Test loss of the posterior mean K(test, train) (K(train, train) + noise^2 I)^-1 y, each output on its own.

    K(x, x') = exp(-|x - x'|^2 / (2 length^2)), 1 / length the standard deviation of the task's frequencies: the limit
    of the covariance of sqrt(2 / n) * sum a cos(w x + b) for many features (Rahimi & Recht 2007, with a ~ N(0, 1), so
    that the variance is 1).
    """
    data = load_data(task, seed)
    length = TASKS[task].omega_divisor
    x, y = data.x.astype(np.float64), data.y.astype(np.float64)
    covariance = _kernel(x[TRAIN], x[TRAIN], length)
    covariance[np.diag_indices_from(covariance)] += NOISE_STD**2
    weights = cho_solve(cho_factor(covariance), y[TRAIN])
    return float(np.mean((_kernel(x[TEST], x[TRAIN], length) @ weights - y[TEST]) ** 2))


def _kernel(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    """``[n, dims]``, ``[m, dims]`` -> ``[n, m]``"""
    return np.exp(cdist(a, b, "sqeuclidean") / (-2 * length**2))


def zero_loss(task: str, seed: bytes) -> float:
    """Test loss of a model that always predicts 0."""
    return float(np.mean(load_data(task, seed).y[TEST].astype(np.float64) ** 2))
