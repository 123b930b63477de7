"""Where a campaign stands; it may be running meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evo.campaign import inbox, wording
from evo.campaign.folder import RunFolder
from evo.errors import UsageError
from evo.formatting import command, duration, gain, interval, steps
from evo.ledger import backup
from evo.ledger.errors import LedgerError
from evo.ledger.ledger import Ledger
from evo.recipe import reader
from evo.records import Addition, Generation, Statistics, Trial, lane_steps, plain


@dataclass(frozen=True)
class Status:
    """Where a campaign stands. ``state``: ``not launched``, ``running``, ``stopped`` or ``finished``.

    ``generation``: how many of ``generations`` are complete; ``statistics``: of the last of them. ``evaluations``: how
    many by status of the training. ``trials``, ``lane_steps`` (training steps of all lanes), ``seconds`` (wall time):
    of all complete generations; ``budget``: the training steps that end it, 0: no such end. ``created``: ISO 8601.
    ``added``: genomes that joined it, or wait to (``generation`` None), as the ledger and the inbox have them.
    ``kinds``: how many instances each kind of hardware of a cluster trains on.
    """

    run: str
    state: str
    name: str = ""
    task: str = ""
    generation: int = 0
    generations: int = 0
    population: int = 0
    evaluations: dict[str, int] = field(default_factory=dict)
    statistics: Statistics | None = None
    trials: tuple[Trial, ...] = ()
    lane_steps: int = 0
    budget: int = 0
    seconds: float = 0.0
    created: str = ""
    added: tuple[Addition, ...] = ()
    kinds: dict[str, int] = field(default_factory=dict)

    @property
    def trainings(self) -> int:
        """How many trainings are stored, of whatever status."""
        return sum(self.evaluations.values())

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON; of a campaign that was not launched, no more than that."""
        if self.state == "not launched":
            return {"run": self.run, "state": self.state}
        return plain(self) | {"statistics": plain(self.statistics) if self.statistics else {}}


def status(path: Path | str) -> Status:
    """Where the campaign in the folder at ``path`` stands. Raises UsageError without a folder, LedgerError."""
    return status_and_past(path)[0]


def status_and_past(path: Path | str) -> tuple[Status, list[Generation]]:
    """As `status`, with the complete generations."""
    folder = RunFolder.find(path)
    if not has_progress(folder):
        return Status(str(folder.path), "not launched"), []
    running = folder.in_use()
    with open_to_read(folder, "show") as ledger:
        past = ledger.past()
        return standing(folder, ledger, past, ledger.statuses(), running=running), past


def standing(
    folder: RunFolder, ledger: Ledger, past: Sequence[Generation], evaluations: dict[str, int], *, running: bool
) -> Status:
    """Where a campaign stands by what was read of its ledger: ``past`` its generations, ``evaluations`` by status."""
    meta, spent = ledger.meta(), lane_steps(past)
    recipe = reader.from_text(meta["recipe"])
    finished = recipe.ended(len(past), spent)
    return Status(
        run=str(folder.path),
        state="running" if running else "finished" if finished else "stopped",
        name=recipe.name,
        task=recipe.task,
        generation=len(past),
        generations=len(past) if finished else recipe.generations,
        population=recipe.population,
        evaluations=evaluations,
        statistics=past[-1].statistics if past else None,
        trials=tuple(trial for each in past for trial in each.statistics.trials),
        lane_steps=spent,
        budget=recipe.lane_steps,
        seconds=sum(each.seconds for each in past),
        created=meta["created"],
        kinds=ledger.kinds(),
        added=(*ledger.additions(), *inbox.waiting(folder, ledger, recipe.limits)),
    )


def summary(status: Status) -> str:
    """A campaign's status in a few lines for people."""
    if status.state == "not launched":
        return f"{status.run}: not launched yet; begin with: {command('launch', status.run)}"
    extent = wording.extent(status.generation, status.generations, status.lane_steps, status.budget, status.population)
    lines = [
        f"{status.name}: {status.state}, {extent} (task {status.task})",
    ]
    for label, text in facts(status):
        lines.append(f"{label}: {text}" if label else f"  {text}")
    if status.evaluations.keys() - {"finished"}:
        lines.insert(-1, f"why trainings did not finish: {command('report', status.run)}")
    lines += [f"added: {each.id or each.name}: {wording.addition(each)}" for each in status.added]
    if status.state == "finished" and any(each.generation is None for each in status.added):
        lines.append(f"let it join: {command('resume', status.run, '--set', f'generations={status.generation + 1}')}")
    if status.state == "stopped":
        lines.append(f"go on with: {command('resume', status.run)}")
    return "\n".join(lines)


def facts(status: Status) -> list[tuple[str, str]]:
    """What is known of a campaign that was launched, as label and text; without a label: on the line above."""
    found, listed = status.statistics, []
    if found:
        if best := found.champion:
            told = f"{best.name} {wording.quality_of(best, found)}, from {best.estimate.count} instances"
            listed.append(("champion", told))
            if best.founder:
                listed.append(("", wording.FOUNDER_STAYS))
        last = f"{gain(found.gain)} over {wording.reference(found)}" if found.gain else interval(found.best)
        listed.append(("best of the last generation", last))
        if found.baselines:
            listed.append(("baselines", ", ".join(wording.baselines(found))))
        listed.append(("trials on fresh instances", wording.summary(status.trials)))
    by_status = ", ".join(f"{count} {name}" for name, count in sorted(status.evaluations.items()))
    listed.append(("trainings", f"{status.trainings}{f' ({by_status})' if by_status else ''}"))
    if several := wording.hardware(status.kinds):
        listed.append(("hardware", several))
    listed.append(("complete generations", f"{steps(status.lane_steps)} training steps in {duration(status.seconds)}"))
    return listed


def open_to_read(folder: RunFolder, purpose: str) -> Ledger:
    """The ledger of the campaign in a folder, to read; ``purpose``: a verb for messages.

    Raises UsageError where no campaign has begun, LedgerError where its file is gone or cannot be read.
    """
    if not has_progress(folder):
        raise UsageError(f"{folder.path}: nothing to {purpose}; begin with: {command('launch', folder.path)}")
    if not folder.ledger.is_file():
        raise LedgerError(
            f"{folder.ledger}: gone, and a copy is left: put the file back, or go on from the copy with:"
            f" {command('resume', folder.path)}"
        )
    return Ledger.open_to_read(folder.ledger)


def has_progress(folder: RunFolder) -> bool:
    """Whether a campaign has begun in the folder, even if nothing of its ledger is left but a copy."""
    return any(file.is_file() for file in (folder.ledger, *backup.copies(folder.ledger)))
