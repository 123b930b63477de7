"""A campaign whose trainings another program does: it asks what to train, and tells what came of it.

The campaign is a folder as any other: its ledger keeps every result as it is told, so that the program may be stopped
at any moment, and is then asked for the rest. Only who trains is different.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from evo.campaign.course import Begin, Course
from evo.campaign.folder import RunFolder
from evo.campaign.loop import Outcome, one_thread, outcome
from evo.campaign.progress import Progress
from evo.campaign.run import launched, reopened
from evo.campaign.status import has_progress
from evo.campaign.stop import Stop
from evo.errors import UsageError
from evo.records import Lane, Request, Results
from evo.training.devices import OTHER_PROGRAM
from harness.result import Training


class Driven:
    """A campaign under way, from `drive`. ``ask`` and ``tell`` may be called in any order, for lanes in any order."""

    def __init__(self, course: Course, progress: Progress) -> None:
        self._course, self._progress = course, progress
        self._request: Request | None = None
        self._results: Results = {}
        course.begin()
        self._advance()

    def ask(self) -> tuple[Lane, ...]:
        """The lanes that have no result yet, of those that the search wants now; none where the campaign is over.

        Asked again, it gives what is still open; it changes nothing.
        """
        if self._request is None:
            return ()
        return tuple(lane for lane in self._request.lanes if lane.key not in self._results)

    def tell(self, lane: Lane, result: Training | float | None) -> None:
        """Keep the result of a lane that was asked for; after the last open one the search goes on.

        ``result``: a `harness.result.Training`, or its quality, with all epochs trained, or None for one that failed.
        NaN and infinities count as failed. Raises UsageError for a lane that is not open, EvoError.
        """
        if lane.key not in {each.key for each in self.ask()}:
            raise UsageError("tell: this lane is not open: it has a result already, or was not asked for")
        assert self._request is not None
        training = result if isinstance(result, Training) else _training(lane, result)
        self._course.ledger.add([(lane, training)], self._request.purpose)
        self._results[lane.key] = training
        self._progress.lane(training)
        self._advance()

    @property
    def outcome(self) -> Outcome:
        """How far the campaign has come."""
        return outcome(self._course, self._request is None)

    def _advance(self) -> None:
        """Tell the search for as long as all results that it wants are there."""
        while not self.ask():
            if self._request is not None:
                self._course.tell(self._request, self._results)
                self._request = None
            if self._course.ended:
                return
            self._request, self._results = self._course.ask()


@contextlib.contextmanager
def drive(
    path: Path | str, overrides: Sequence[str] = (), *, progress: Progress | None = None, begin: Begin | None = None
) -> Iterator[Driven]:
    """Hold the campaign in the folder at ``path``, and begin it or go on with it.

    ``overrides``: ``KEY=VALUE`` for the recipe's keys. Raises UsageError (for a campaign that evo trains, too),
    LockedError, LedgerError, EvoError.
    """
    folder, stop, progress = RunFolder.find(path), Stop(), progress or Progress()  # signals are the program's own

    if has_progress(folder):
        opened = reopened(folder, overrides, stop, progress)
    else:
        opened = launched(folder, overrides, lambda: OTHER_PROGRAM, stop, progress)
    with opened as (recipe, ledger), progress, one_thread():
        if ledger.meta()["device"] != OTHER_PROGRAM:
            raise UsageError(f"{folder.path}: evo trains this campaign itself; launch another folder to drive")
        yield Driven(Course(folder, recipe, ledger, stop, progress, begin), progress)


def _training(lane: Lane, quality: float | None) -> Training:
    """The result of which only the quality is known."""
    if quality is None or not math.isfinite(quality):
        return Training.failed("diverged", "told by the program that trains")
    return Training("finished", "", lane.epochs, None, [], [], None, math.nan, float(quality), None, 0.0)
