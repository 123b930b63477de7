"""What runs of one contestant on one landscape come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from searching.landscape import Landscape
from searching.play import Change, Play

POINTS = 60  # of a curve


@dataclass(frozen=True)
class Run:
    """One run. ``lanes``, ``truths``: when the champion changed, and its true quality from then on."""

    seed: int
    lanes: tuple[int, ...]
    truths: tuple[float, ...]
    changes: tuple[Change, ...]

    @classmethod
    def of(cls, play: Play) -> Run:
        """What is kept of a run that is over."""
        truths = tuple(play.landscape.truth(hash) for _, hash in play.declared)
        return cls(play.seed, tuple(lanes for lanes, _ in play.declared), truths, tuple(play.changes))

    def truth(self, lanes: float, before: float) -> float:
        """True quality of the champion after so many lanes; ``before``: of what counts as one while there is none."""
        at = np.searchsorted(self.lanes, lanes, side="right")
        return self.truths[at - 1] if at else before


@dataclass(frozen=True)
class Summary:
    """Runs of a contestant. ``regrets``: ``[quartile][lanes]``, the landscape's best less the champion's truth.

    ``final``: quartiles of the final regret; ``worse``: runs that ended below the best founder. ``promotions``,
    ``false``: of all runs together. ``trials``, ``unworthy``: tests of challengers, and those of challengers that are
    truly no better; ``error``: how many of these passed, as a share.
    """

    name: str
    runs: int
    lanes: tuple[float, ...]
    regrets: tuple[tuple[float, ...], ...]
    final: tuple[float, float, float]
    gain: float
    worse: int
    promotions: int
    false: int
    trials: int
    unworthy: int
    error: float | None


def summarized(name: str, landscape: Landscape, runs: Sequence[Run], budget: int) -> Summary:
    """The summary of all runs of a contestant."""
    breeder = landscape.breeder(landscape.recipe(0))
    before = fmean(landscape.truth(breeder.identity(breeder.known(name))) for name in landscape.founders)
    lanes = np.linspace(0, budget, POINTS + 1)[1:]
    regrets = np.array([[landscape.best - run.truth(at, before) for at in lanes] for run in runs])
    quartiles = np.quantile(regrets, (0.25, 0.5, 0.75), axis=0)
    changes = [change for run in runs for change in run.changes]
    promoted, unworthy = (sum(getattr(c, name) for c in changes) for name in ("promoted", "unworthy"))
    false = sum(change.false for change in changes)
    return Summary(
        name=name,
        runs=len(runs),
        lanes=tuple(map(float, lanes)),
        regrets=tuple(tuple(np.round(row, 5).tolist()) for row in quartiles),
        final=tuple(np.round(quartiles[:, -1], 5).tolist()),
        gain=round(float(np.median(landscape.best - regrets[:, -1]) - landscape.best_founder), 5),
        worse=int(sum(landscape.best - regrets[:, -1] < landscape.best_founder - 1e-9)),
        promotions=promoted,
        false=false,
        trials=len(changes),
        unworthy=unworthy,
        error=round(false / unworthy, 4) if unworthy else None,
    )


def lanes_to_reach(summary: Summary, regret: float) -> float | None:
    """Lanes until the median regret is at most this, for good; None where it never is."""
    above = [i for i, found in enumerate(summary.regrets[1]) if found > regret + 1e-9]
    first = above[-1] + 1 if above else 0
    return summary.lanes[first] if first < len(summary.lanes) else None
