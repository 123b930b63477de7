"""``evo control``: the controls of a campaign, one after another, and what they found beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from evo.campaign.controls import CONTROLS, prepare
from evo.campaign.folder import RunFolder
from evo.campaign.run import Machine
from evo.campaign.status import status
from evo.cli.campaigns import launch_campaign, resume_campaign
from evo.cli.messages import say
from evo.cli.terminal import console
from evo.formatting import command, gain, interval, steps


def run_controls(path: Path, algorithms: Sequence[str], *, machine: Machine) -> bool:
    """Run or go on with each control, then print the table. False where one was stopped before its end."""
    folder = RunFolder.find(path)
    controls = prepare(folder, tuple(algorithms) or tuple(CONTROLS))
    for control in controls:
        say(f"control {control.algorithm} in {control.folder.path}")
        if control.under_way:
            finished = resume_campaign(control.folder.path, (), machine=machine)
        else:
            finished = launch_campaign(control.folder.path, (), device=control.device, machine=machine)
        if not finished:
            say(f"go on with all of them: {command('control', path, *_named(algorithms))}")
            return False
    folders = [folder, *(control.folder for control in controls)]
    console().print(_table(folders))
    champions = [own.champion for own in folders if own.champion.is_file()]
    say("each campaign knows its own champion best, so judge them on instances that none of them met:")
    say(f"  {command('compare', *champions, '--instances', 'unseen:64')}")
    return True


def _named(algorithms: Sequence[str]) -> list[str]:
    return [word for name in algorithms for word in ("--algorithm", name)]


def _table(folders: Sequence[RunFolder]) -> Table:
    table = Table(title="the campaign and its controls")
    for name in ("campaign", "steps", "generations", "champion", "founder", "quality", "over the first baseline"):
        table.add_column(name, justify="right" if name in ("steps", "generations") else "left", overflow="fold")
    for folder in folders:
        found = status(folder.path)
        best = found.statistics.champion if found.statistics else None
        row = [folder.path.name, steps(found.lane_steps), str(found.generation)]
        if best:
            row += [best.name, "yes" if best.founder else "no", interval(best.estimate)]
            row.append(gain(best.gain) if best.gain else "–")
        table.add_row(*row)
    return table
