"""One odd little training that every optimizer is driven through: shapes, gradients, epochs, losses.

The shapes are awkward on purpose (1x1, one row, one column, a vector of one), the gradients are those of a noisy
quadratic bowl at the *queried* parameters, some units are dead for a while, and the losses are unknown in epoch 0, then
improve, stall long enough for every plateau rule, improve again. Later epochs are one step long and the last ones jump
ahead, so that warm-up, decay and restarts all end inside the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

SHAPES = (
    (33, 17),
    (33,),
    (7, 1),
    (7,),
    (1, 7),
    (1, 1),
    (1,),
    (5,),
    (3, 2),
    (4,),
    (6, 4),
    (6,),
    (6,),
    (6,),
    (6,),
    (2, 6),
    (2,),
)
ROLES = (
    "weight",
    "bias",
    "weight",
    "norm_scale",
    "weight",
    "weight",
    "norm_shift",
    "running_mean",
    "weight",
    "norm_shift",
    "weight",
    "bias",
    "norm_scale",
    "running_mean",
    "running_var",
    "weight",
    "bias",
)  # a frozen end
LAYERS = (0, 0, 1, 1, 2, 3, 3, 0, 4, 4, 5, 5, 5, 5, 5, 6, 6)
TRAINABLE = (True,) * 7 + (False, False, True) + (False,) * 7
STEPS_PER_EPOCH = 8
EPOCHS = (*range(100), 120, 349, 350, 699, 700, 701, 999)
SPOILED = {1: math.inf, 6: math.nan, 7: -math.inf, 8: math.inf, 40: math.nan, 90: math.inf}  # steps
LONG_EPOCHS = 9  # these have 8 steps, the others 1
FEW_EPOCHS = (*range(13), 20, 40, 41, 120, 349, 350, 699, 700, 999)  # with fewer long ones: a third of the steps
FEW_LONG_EPOCHS = 6


@dataclass(frozen=True)
class Moment:
    """What an optimizer is told in one step. ``gradient``: parameters -> gradients of this step's batch."""

    number: int  # from 1
    epoch: int
    train_loss: float | None
    val_loss: float | None
    gradient: Callable[[list[Tensor]], list[Tensor]]


def context(dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """What init_state is told besides the seed and the sizes."""
    return {
        "shapes": [tuple(shape) for shape in SHAPES],
        "roles": list(ROLES),
        "trainable": list(TRAINABLE),
        "layers": list(LAYERS),
        "steps_per_epoch": STEPS_PER_EPOCH,
        "device": torch.device("cpu"),
        "dtype": dtype,
    }


def sizes() -> list[int]:
    return [math.prod(shape) for shape in SHAPES]


def start(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Parameters before the first step: weights drawn, biases and shifts 0, scales 1, as in the challenge."""
    generator = np.random.Generator(np.random.PCG64(1))
    drawn = [torch.from_numpy(0.5 * generator.standard_normal(shape)).to(dtype) for shape in SHAPES]
    constant = {"bias": 0.0, "norm_shift": 0.0, "norm_scale": 1.0, "running_mean": 0.3, "running_var": 0.2}
    return [torch.full_like(p, constant[role]) if role in constant else p for p, role in zip(drawn, ROLES, strict=True)]


def losses(epoch: int) -> tuple[float | None, float | None]:
    """Training and validation loss that are known in ``epoch``."""
    if epoch == 0:
        return None, None
    improving = epoch if epoch < 6 else 6 if epoch < 9 else 9 if epoch < 40 else 11 if epoch < 300 else 12
    return 0.9**epoch + 0.05, 0.9**improving + 0.3 + 0.01 * (epoch % 3) * (epoch != improving)


def moments(limit: int | None = None, spoiled: bool = False, few: bool = False) -> Iterator[Moment]:
    """All steps in order; at most ``limit`` of them. ``spoiled``: a NaN or an infinity is in some gradients;
    ``few``: over FEW_EPOCHS.
    """
    number = 0
    for epoch in FEW_EPOCHS if few else EPOCHS:
        for _ in range(STEPS_PER_EPOCH if epoch < (FEW_LONG_EPOCHS if few else LONG_EPOCHS) else 1):
            number += 1
            if limit is not None and number > limit:
                return
            yield Moment(
                number, epoch, *losses(epoch), gradient=_gradient(number, SPOILED.get(number, 0.0) if spoiled else 0.0)
            )


def _gradient(number: int, spoil: float) -> Callable[[list[Tensor]], list[Tensor]]:
    scale = (1.0, 20.0, 0.1, 3.0)[number % 4]  # so that clips, caps and epsilons all show

    def gradient(theta: list[Tensor]) -> list[Tensor]:
        result = []
        for i, (p, offset) in enumerate(zip(theta, _offsets(number, theta[0].dtype), strict=True)):
            g = scale * (0.5 * p + offset) if TRAINABLE[i] else torch.zeros_like(p)
            if 10 <= number < 14 and i in (0, 1):
                g[3:5] = 0.0  # dead units
            result.append(g)
        if spoil:
            result[number % 4].view(-1)[-1] = spoil
        return result

    return gradient


@lru_cache(maxsize=1000)
def _offsets(number: int, dtype: torch.dtype) -> list[Tensor]:
    """Noise of a step, less half of where the bowl's bottom is."""
    generator = np.random.Generator(np.random.PCG64((7, number)))
    bottoms = [0.15 * np.cos(np.arange(math.prod(shape))).reshape(shape) for shape in SHAPES]
    noise = [0.8 * generator.standard_normal(shape) for shape in SHAPES]
    return [torch.from_numpy(n - b).to(dtype) for n, b in zip(noise, bottoms, strict=True)]
