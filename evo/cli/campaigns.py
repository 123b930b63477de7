"""What ``evo launch`` and ``evo resume`` print."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from evo.campaign.folder import RunFolder
from evo.campaign.notify import Notifier
from evo.campaign.progress import PlainProgress, Progress
from evo.campaign.run import Machine, Outcome, launch, resume
from evo.campaign.wording import FOUNDER_STAYS, extent
from evo.cli.messages import say
from evo.formatting import command, interval


def shown_progress() -> Progress:
    """The live table where standard error is a terminal that can show it, else plain lines."""
    if not sys.stderr.isatty():
        return PlainProgress(sys.stderr)
    from evo.campaign import live  # Rich is for a terminal alone

    return live.on()


def launch_campaign(
    run: Path, overrides: Sequence[str], *, device: str, machine: Machine, notify: str | None = None
) -> bool:
    """Begin a campaign, and say how it ended; False where it was stopped before its end."""

    def work(progress: Progress) -> Outcome:
        return launch(run, overrides, device=device, machine=machine, progress=progress)

    return _ended(run, _notified(run, notify, work))


def resume_campaign(run: Path, overrides: Sequence[str], *, machine: Machine, notify: str | None = None) -> bool:
    """Go on with a campaign, and say how it ended; False where it was stopped before its end."""

    def work(progress: Progress) -> Outcome:
        return resume(run, overrides, machine=machine, progress=progress)

    return _ended(run, _notified(run, notify, work))


def _notified(run: Path, command: str | None, work: Callable[[Progress], Outcome]) -> Outcome:
    """The outcome of ``work``, of which ``command`` is told: see `evo.campaign.notify`."""
    progress = shown_progress()
    if command is None:
        return work(progress)
    with Notifier(command, run, progress) as notifier:
        outcome = work(progress)
        notifier.ended(outcome)
        return outcome


def _ended(run: Path, outcome: Outcome) -> bool:
    """Say how a campaign ended and what comes next; returns whether it is complete."""
    champion = outcome.champion
    if champion:
        found = f"quality {interval(champion.estimate)} from {champion.estimate.count} instances"
        say(f"champion {champion.individual.name}, {found} ({RunFolder.find(run).champion})")
        if champion.individual.is_founder:
            say(f"  {FOUNDER_STAYS}")
    reached = extent(outcome.generation, outcome.generations, outcome.lane_steps, outcome.budget)
    if not outcome.finished:
        say(f"stopped after {reached}, all that was trained is kept")
        say(f"go on with: {command('resume', run)}")
        return False
    say(f"complete: {reached}")
    say(f"look at it: {command('report', run)}")
    if champion:
        say(f"take it along: {command('export', run, '--format', 'python', '--out', 'champion.py')}")
    else:
        say("no champion: the hall of fame is empty, since no genome finished all its trainings; the report says why")
    return True
