"""The campaigns of a folder, and where each of them stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from evo.campaign import wording
from evo.campaign.folder import RunFolder
from evo.campaign.status import Status, has_progress, status
from evo.errors import EvoError, UsageError
from evo.formatting import gain, interval


@dataclass(frozen=True)
class Listed:
    """A campaign in a list. ``problem``: why its status cannot be read; ``status`` says where it is, no more, then."""

    status: Status
    problem: str = ""

    @property
    def name(self) -> str:
        """The folder's name."""
        return Path(self.status.run).resolve().name

    @property
    def state(self) -> str:
        """As of its status, or ``damaged``."""
        return "cannot be read" if self.problem else self.status.state

    @property
    def progress(self) -> str:
        """How many generations are complete, of how many."""
        return f"{self.status.generation} of {self.status.generations}" if self.status.generations else ""

    @property
    def champion(self) -> str:
        """The champion's name and estimate."""
        found = self.status.statistics
        return f"{found.champion.name} {interval(found.champion.estimate)}" if found and found.champion else ""

    @property
    def gap(self) -> str:
        """What the champion is above the reference."""
        found = self.status.statistics
        if not (found and found.champion and found.champion.gain):
            return ""
        return f"{gain(found.champion.gain)} over {wording.reference(found)}"


def find_runs(paths: Iterable[Path]) -> list[RunFolder]:
    """The campaigns among ``paths`` and right below them. Raises UsageError where a path is no folder."""
    found: dict[Path, RunFolder] = {}
    for path in paths:
        folder = RunFolder.find(path)
        try:
            inside = [] if is_run(folder) else map(RunFolder, sorted(filter(Path.is_dir, folder.path.iterdir())))
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
        for each in (folder, *inside):
            if is_run(each):
                found.setdefault(each.path.resolve(), each)
    return list(found.values())


def is_run(folder: RunFolder) -> bool:
    """Whether there is a recipe in the folder, or what a campaign left."""
    try:
        return folder.recipe.is_file() or has_progress(folder)
    except OSError:  # a folder that we may not look into
        return False


def listed(folder: RunFolder) -> Listed:
    """Where the campaign in a folder stands, whatever its state."""
    try:
        return Listed(status(folder.path))
    except EvoError as error:
        return Listed(Status(str(folder.path), "stopped"), str(error))
