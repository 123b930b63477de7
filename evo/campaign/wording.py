"""How campaigns are told to people: in the live table, by `evo status`, in the report, on the page of `evo serve`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evo.formatting import duration, gain, interval, steps
from evo.records import Addition, Champion, Generation, Statistics, Trial
from genomes.strict_yaml import escaped

FOUNDER_STAYS = "one of the founders: nothing bred from them has shown to be better"
GENERATION_COLUMNS = ("gen.", "best", "champion", "trial", "trained", "failed", "time")


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


def hardware(kinds: Mapping[str, int]) -> str:
    """How many instances each of several kinds trains on; empty for one kind."""
    counts = [f"{count} on {escaped(kind)}" for kind, count in kinds.items()]
    return f"each instance on one kind: {'; '.join(counts)}" if len(counts) > 1 else ""


def reference(statistics: Statistics) -> str | None:
    """The baseline that differences are to: the first one."""
    return next(iter(statistics.baselines), None)


def quality_of(champion: Champion, statistics: Statistics) -> str:
    """A champion's estimate, and what it is over the reference."""
    over = f", {gain(champion.gain)} over {reference(statistics)}" if champion.gain else ""
    return f"{interval(champion.estimate)}{over}"


def baselines(statistics: Statistics) -> list[str]:
    """Each baseline with its estimate: ``adam 0.500 ± 0.039``."""
    return [f"{name} {interval(value)}" for name, value in statistics.baselines.items()]


def what_is_shown(statistics: Statistics) -> str:
    """What `generation_row` says of best and champion: ``gain over adam``, or ``quality`` without baselines."""
    name = reference(statistics)
    return f"gain over {name}" if name else "quality"


def generation_row(generation: Generation) -> tuple[str, ...]:
    """The cells of a generation below `GENERATION_COLUMNS`: gains over the reference; without one, estimates."""
    found = generation.statistics
    differs = reference(found) is not None
    champion = found.champion and (found.champion.gain if differs else found.champion.estimate)
    return (
        str(generation.number),
        interval(found.gain if differs else found.best, sign=differs),
        interval(champion, sign=differs),
        ", ".join("promoted" if trial.promoted else "refused" for trial in found.trials),
        str(found.trained),
        str(found.diverged or ""),
        duration(generation.seconds),
    )
