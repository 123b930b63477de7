"""How trials and champions are told to people, wherever that is."""

from __future__ import annotations

from collections.abc import Sequence

from evo.records import Addition, Trial

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


def addition(added: Addition) -> str:
    """What became of a genome from outside: ``mine from mine.yaml, by ann@host, 2026-11-27, in generation 4``."""
    joined = "waits for the next generation" if added.generation is None else f"in generation {added.generation + 1}"
    return f"{added.name} from {added.source}, by {added.by}, {added.time}, {joined}"
