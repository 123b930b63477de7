"""Noise for landscapes whose truth is a formula: residuals of real trainings, drawn anew.

An instance is a recorded one, with its effect on all genomes; what a genome has of its own there is a residual of one
of the recorded genomes of about its quality, so that bad genomes scatter more, and fail now and then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.task import Instance
from searching.landscape import drawn
from searching.recorded import Recorded

ALIKE = 16  # recorded genomes that lend their residuals


@dataclass(frozen=True)
class Noise:
    """Residuals ``[genome, instance]`` of ``recorded``, its genomes by rising truth."""

    recorded: Recorded
    truths: np.ndarray
    residuals: np.ndarray

    @classmethod
    def of(cls, recorded: Recorded) -> Noise:
        """The noise of a recorded landscape."""
        order = np.argsort(recorded.truths)
        return cls(recorded, recorded.truths[order], recorded.qualities[order] - recorded.truths[order, None])

    def quality(self, truth: float, quantile: float, hash: str, instance: Instance) -> float | None:
        """The outcome of one training of a genome; ``quantile``: of the recorded qualities, its own."""
        center = round(quantile * (len(self.truths) - 1))
        first = min(max(0, center - ALIKE // 2), max(0, len(self.truths) - ALIKE))
        row = first + drawn(hash, instance.seed) % min(ALIKE, len(self.truths))
        residual = self.residuals[row, self.recorded.column(instance)]
        return None if np.isnan(residual) else truth + float(residual)
