"""The gate: a challenger becomes champion only when fresh instances say that it beats the champion and the founders.

A trial trains the challenger and its rivals on fresh instances, block by block, and looks at the paired differences
after each. Against every rival a sequential t test runs: the evidence is a Bayes factor for a positive standardized
difference, which may be looked at as often as one likes; where it reaches ``1 / error_rate``, the rival is beaten, and
the chance that a challenger which is no better gets there, ever, is at most ``error_rate``. It has to beat all of them.

Sources: Rouder et al. (2009) for the t test's Bayes factor; Ville's inequality for looking at any time; Wang and
Ramdas (2024), "Anytime-valid t-tests", for both together.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evo.records import Individual, Trial

_EFFECTS = np.linspace(0.05, 2.0, 40)  # standardized differences that an alternative may have
_WEIGHTS = np.exp(-0.5 * (_EFFECTS / 0.7) ** 2)
_LEAST = 4  # differences before the test says anything
_HOPE = 1.0  # standard errors that a mean may be above what is seen, where a trial is given up


@dataclass(frozen=True)
class UnderWay:
    """A trial under way. ``number``: of the campaign's trials, from 0. ``looks``: blocks of instances that are trained.

    ``beaten``: the rivals that the challenger has beaten already; they train no more.
    """

    number: int
    challenger: Individual
    rivals: tuple[Individual, ...]
    looks: int = 0
    beaten: tuple[str, ...] = ()

    @property
    def open(self) -> tuple[Individual, ...]:
        """The rivals that are not beaten yet."""
        return tuple(rival for rival in self.rivals if rival.id not in self.beaten)

    def state(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "number": self.number,
            "challenger": self.challenger.id,
            "rivals": [rival.id for rival in self.rivals],
            "looks": self.looks,
            "beaten": list(self.beaten),
        }

    def looked(
        self,
        differences: Sequence[Sequence[float]],
        error_rate: float,
        most: int,
        failed: Collection[str] = (),
    ) -> UnderWay | Trial:
        """The trial after a further look, or how it ended.

        ``differences``: challenger less rival, of each of ``rivals``, on the instances that both were trained on.
        ``most``: instances that a trial may take. ``failed``: hashes of those with a failed training: a challenger
        among them has lost, a rival is beaten.
        """
        if self.challenger.hash in failed:
            return self.ended(differences, False, "failed a training")
        beaten = tuple(
            rival.id
            for rival, seen in zip(self.rivals, differences, strict=True)
            if rival.id in self.beaten or rival.hash in failed or evidence(seen) >= 1 / error_rate
        )
        after = replace(self, looks=self.looks + 1, beaten=beaten)
        count = max(map(len, differences))
        if not after.open:
            return after.ended(differences, True, f"better in {count} instances (error rate {error_rate:g})")
        for rival, seen in zip(self.rivals, differences, strict=True):
            if rival.id not in beaten and hopeless(seen, error_rate, most):
                return after.ended(differences, False, f"no better than {rival.name} in {len(seen)} instances")
        if count >= most:
            return after.ended(differences, False, f"not surely better in {count} instances")
        return after

    def ended(self, differences: Sequence[Sequence[float]], promoted: bool, reason: str) -> Trial:
        """How the trial ended."""
        gains = tuple(float(np.mean(seen)) if len(seen) else 0.0 for seen in differences)
        count = max(map(len, differences), default=0)
        rivals = tuple(rival.id for rival in self.rivals)
        return Trial(self.challenger.id, rivals, gains, count, promoted, reason)


def evidence(differences: Sequence[float]) -> float:
    """The Bayes factor of paired ``differences`` for a positive mean against a mean of 0 or less; 1 says nothing.

    The mean over standardized differences ``d > 0`` of ``p(t | d) / p(t | 0)``, t the differences' t statistic.
    """
    count = len(differences)
    if count < _LEAST:
        return 1.0
    mean, spread = float(np.mean(differences)), float(np.std(differences, ddof=1))
    if spread == 0:
        return math.inf if mean > 0 else 0.0
    from scipy import stats  # here alone: it takes a second to load

    t, free = mean / spread * math.sqrt(count), count - 1
    ratio = stats.nct.pdf(t, free, _EFFECTS * math.sqrt(count)) / stats.t.pdf(t, free)
    return float(np.average(np.nan_to_num(ratio, nan=0.0), weights=_WEIGHTS))


def hopeless(differences: Sequence[float], error_rate: float, most: int) -> bool:
    """Whether ``most`` instances would not do, were the mean a standard error better than it is."""
    count = len(differences)
    if count < 2 * _LEAST:
        return False
    mean, spread = float(np.mean(differences)), float(np.std(differences, ddof=1))
    from scipy import stats  # here alone: it takes a second to load

    hoped = mean + _HOPE * spread / math.sqrt(count)
    return hoped <= 0 or (spread > 0 and hoped / spread * math.sqrt(most) < float(stats.norm.isf(error_rate)))


def needed(gain: float, noise: float, error_rate: float) -> float:
    """About how many instances a trial takes where the mean difference is ``gain`` and its spread ``noise``."""
    return 2 * (math.log(1 / error_rate) + 1.5) * (noise / gain) ** 2 if gain > 0 else math.inf
