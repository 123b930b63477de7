"""How trials and champions are told to people, wherever that is."""

from __future__ import annotations

from collections.abc import Sequence

from evo.records import Trial

FOUNDER_STAYS = "one of the founders: nothing bred from them has shown to be better"


def outcome(trial: Trial) -> str:
    """How a trial ended: ``promoted: better in 24 instances (error rate 0.05)``."""
    return f"{'promoted' if trial.promoted else 'not promoted'}: {trial.reason}"


def summary(trials: Sequence[Trial]) -> str:
    """How many trials there were, and how the last of them ended."""
    if not trials:
        return "none"
    promoted, last = sum(trial.promoted for trial in trials), trials[-1]
    return f"{len(trials)}, {promoted or 'none'} promoted; the last: {last.challenger} {outcome(last)}"
