"""How trials and champions are told to people, wherever that is."""

from __future__ import annotations

from collections.abc import Sequence

from evo.formatting import steps
from evo.records import Addition, Trial

FOUNDER_STAYS = "one of the founders: nothing bred from them has shown to be better"


def extent(generation: int, generations: int, lane_steps: int, budget: int, population: int = 0) -> str:
    """How far a campaign has come: ``3 of 20 generations of 24``, or by training steps where these end it.

    ``population``: of a generation; 0: not said.
    """
    each = f" of {population}" if population else ""
    if not budget:
        return f"{generation} of {generations} generations{each}"
    return f"{generation} generations{each}, {steps(lane_steps)} of {steps(budget)} training steps"


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
