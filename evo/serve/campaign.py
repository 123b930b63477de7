"""One campaign as the page shows it: what was read of its ledger last, and when to read it again."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from evo.campaign.folder import RunFolder
from evo.campaign.runs import Listed
from evo.campaign.status import Status, has_progress, standing
from evo.errors import EvoError
from evo.ledger.file import companions
from evo.ledger.ledger import Ledger
from evo.records import Generation
from evo.report import panels
from evo.report.data import Report, brief, full, read_in_batches
from evo.report.panels import Shown
from evo.serve.genomes import GenomeTable

REST = 4  # a ledger is read through again after so many times the processor time that this took
WANTED_SECONDS = 40.0  # that somebody looks at a campaign after a request
KEPT_SECONDS = 600.0  # that panels and table are kept when nobody looks any more
IN_USE_SECONDS = 0.5  # between two looks at the lock
DRAWING = threading.Lock()  # matplotlib's settings are those of the process


@dataclass(frozen=True)
class Drawn:
    """A panel. ``version``: differs where its HTML does."""

    shown: Shown
    version: str


class Campaign:
    """What is known of a campaign. `look` is quick and belongs to one thread; so does `read`, which may take long.

    ``listed``: where it stands. ``panels``, ``table``: of the last reading. ``key``: its name in
    addresses.
    """

    def __init__(self, key: str, folder: RunFolder):
        self.key, self.folder = key, folder
        self.listed = Listed(Status(str(folder.path), "not launched"))
        self.panels: list[Drawn] = []
        self.table: GenomeTable | None = None
        self._ledger: Ledger | None = None
        self._place: tuple[int, int] | None = None
        self._known: tuple[int, int] | None = None  # the file whose header was checked
        self._file_traits: tuple[int, ...] | None = None
        self._failed: tuple[int, ...] | None = None  # traits of the file that could not be read last
        self._past: list[Generation] = []
        self._seen: tuple[int, bool] | None = None
        self._running, self._running_known = False, 0.0
        self._wanted = self._read_again = 0.0
        self._looked = False
        self._tells: int | None = None  # None where there is no ledger to read
        self._tells_read: int | None = None
        self._unreadable = ""  # why it could not be read through last

    @property
    def past(self) -> list[Generation]:
        """The complete generations, in order."""
        return self._past

    @property
    def is_known(self) -> bool:
        """Whether it was looked at."""
        return self._looked

    @property
    def address(self) -> str:
        """Where its page is."""
        return f"/c/{self.key}"

    # --- whether anybody looks ---------------------------------------------------------------------------

    def touch(self) -> None:
        """Somebody looks at it."""
        self._wanted = time.monotonic() + WANTED_SECONDS

    @property
    def is_wanted(self) -> bool:
        """Whether somebody looks at it."""
        return time.monotonic() < self._wanted

    # --- the quick look ----------------------------------------------------------------------------------

    def look(self) -> bool:
        """Read where it stands, if something was committed since the last look; returns whether that differs."""
        try:
            found = self._standing()
        except Exception as error:  # whatever stands in the file: the page says so, and goes on
            self._close()
            failed, self._failed = self._failed, self._traits_now()
            if self._looked and failed != self._failed:
                return False  # who writes a file makes it look damaged to those who had found it standing still
            found = Listed(Status(str(self.folder.path), "stopped"), self._problem(error))
        if found is None or (found == self.listed and self._looked):
            return False
        self.listed, self._looked = found, True
        return True

    def _standing(self) -> Listed | None:
        """Where it stands; None where nothing was committed since."""
        if not has_progress(self.folder):
            self._close()
            return Listed(Status(str(self.folder.path), "not launched"))
        ledger = self._opened()
        seen = (ledger.commits(), self._is_running())
        if seen == self._seen:
            return None
        self._tells = ledger.tells()
        self._past = ledger.past_since(self._past) if self._past else ledger.past()
        found = standing(self.folder, ledger, self._past, ledger.count_by_status(), running=seen[1])
        self._seen = seen
        return Listed(found, self._unreadable)

    def _opened(self) -> Ledger:
        """The ledger; opened anew where its file changed otherwise than by commits to what is open.

        A file that nobody writes is opened as one that stands still, and would show nothing of what comes.
        """
        place, traits = _traits(self.folder.ledger)
        if place != self._place:
            self._close()
        if self._ledger is None or traits != self._file_traits:
            if self._ledger:
                self._ledger.close()
            self._ledger = Ledger.open_to_watch(self.folder.ledger, header=place != self._known)
            if place != self._known:
                self._tells_read, self._unreadable = None, ""
            self._place, self._known, self._file_traits, self._seen = place, place, traits, None
        return self._ledger

    def _is_running(self) -> bool:
        now = time.monotonic()
        if now - self._running_known > IN_USE_SECONDS:
            self._running, self._running_known = self.folder.in_use(), now
        return self._running

    def _traits_now(self) -> tuple[int, ...] | None:
        try:
            return _traits(self.folder.ledger)[1]
        except OSError:
            return None

    def _problem(self, error: Exception) -> str:
        known = isinstance(error, EvoError | OSError)
        return str(error) if known else f"{self.folder.ledger}: cannot be shown: {type(error).__name__}: {error}"

    def _close(self) -> None:
        if self._ledger:
            self._ledger.close()
        self._ledger, self._place, self._past, self._seen, self._tells = None, None, [], None, None

    # --- the long one ------------------------------------------------------------------------------------

    @property
    def is_due(self) -> bool:
        """Whether it is to be read through: somebody looks, there is something new, and the last time is long ago."""
        return self.is_wanted and time.monotonic() >= self._read_again and self._tells not in (None, self._tells_read)

    def read(self, changed: Callable[[], None]) -> None:
        """Read the ledger through and draw the panels, at first those that need no such reading.

        ``changed``: called whenever there is something new to show.
        """
        started, tells, traits = time.thread_time(), self._tells, self._traits_now()
        try:
            with Ledger.open_to_watch(self.folder.ledger) as ledger:
                if not self.panels:
                    self._draw(brief(ledger))
                    changed()
                read = read_in_batches(ledger)
                version = 0 if self.table is None else self.table.version + 1
                self.table = GenomeTable(read.members, read.evidence, version)
                changed()
                self._draw(full(ledger, read))
                if self._unreadable:
                    self._unreadable, self.listed = "", replace(self.listed, problem="")
                changed()
        except Exception as error:  # as in `look`
            if self._traits_now() != traits:
                tells = None  # it was written meanwhile: read it again
            else:
                self._unreadable = self._problem(error)
                self.listed = replace(self.listed, problem=self._unreadable)
                changed()
        self._tells_read = tells
        self._read_again = time.monotonic() + REST * (time.thread_time() - started)

    def _draw(self, report: Report) -> None:
        with DRAWING:
            shown = panels.shown(replace(report, link=self.link))
        self.panels = [Drawn(each, hashlib.blake2b(repr(each).encode(), digest_size=8).hexdigest()) for each in shown]

    def link(self, id: str) -> str:
        """The address of a genome's page."""
        return f"{self.address}/g/{id}"

    def drop(self) -> None:
        """Forget panels and table where nobody has looked for long."""
        if time.monotonic() > self._wanted + KEPT_SECONDS and (self.panels or self.table):
            self.panels, self.table, self._tells_read = [], None, None


def _traits(path: Path) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Which file stands at ``path``; its size, when it was written, and which files SQLite keeps beside it."""
    found = path.stat()
    beside = (part.exists() for part in companions(path))
    return (found.st_dev, found.st_ino), (found.st_size, found.st_mtime_ns, *beside)
