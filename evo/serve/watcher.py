"""The threads that look after the campaigns: one looks for commits, one reads ledgers through and draws."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from evo.campaign.folder import RunFolder
from evo.campaign.runs import find_runs
from evo.errors import EvoError
from evo.serve.campaign import Campaign

LOOK_SECONDS = 0.02  # between two looks at a campaign that somebody watches
GLANCE_SECONDS = 0.5  # at one that stands in a list alone
FIND_SECONDS = 2.0  # between two looks for new folders
_KEY = re.compile(r"[^A-Za-z0-9_.-]+")


class Watcher:
    """Keeps the campaigns of some folders up to date, and wakes who waits for news of them."""

    def __init__(self, paths: Sequence[Path]):
        self._paths = paths
        self._campaigns: dict[str, Campaign] = {}
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._lock = threading.Lock()
        self.find()

    def __enter__(self) -> Watcher:
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._look, self._read)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._wake()
        for thread in self._threads:
            thread.join(timeout=5)

    @property
    def campaigns(self) -> list[Campaign]:
        """All of them, in the order in which they were found."""
        return list(self._campaigns.values())

    @property
    def ended(self) -> bool:
        """Whether there will be no more news."""
        return self._ended.is_set()

    def get(self, key: str) -> Campaign | None:
        """The campaign of that name in addresses, which somebody wants to see now."""
        campaign = self._campaigns.get(key)
        if campaign:
            campaign.touch()
        return campaign

    def find(self) -> None:
        """Take in the campaigns that are there now; those that were known stay. Raises UsageError."""
        known = {campaign.folder.path for campaign in self.campaigns}
        for folder in find_runs(self._paths):
            if folder.path not in known:
                key = self._key(folder)
                self._campaigns = {**self._campaigns, key: Campaign(key, folder)}

    def _key(self, folder: RunFolder) -> str:
        name = _KEY.sub("-", folder.path.resolve().name)[:64].strip("-.") or "run"
        key, number = name, 2
        while key in self._campaigns:
            key, number = f"{name}-{number}", number + 1
        return key

    @contextlib.contextmanager
    def news(self) -> Iterator[asyncio.Event]:
        """An event that is set, inside, whenever there may be something new to show."""
        entry = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            self._waiting.add(entry)
        try:
            yield entry[1]
        finally:
            with self._lock:
                self._waiting.discard(entry)

    def _wake(self) -> None:
        with self._lock:
            waiting = tuple(self._waiting)
        for loop, event in waiting:
            with contextlib.suppress(RuntimeError):  # a loop that has ended
                loop.call_soon_threadsafe(event.set)

    def _look(self) -> None:
        next_look: dict[str, float] = {}
        next_find = 0.0
        while not self._ended.is_set():
            now = time.monotonic()
            if now >= next_find:
                next_find = now + FIND_SECONDS
                with contextlib.suppress(EvoError):  # a folder that has gone, and may come back
                    self.find()
            for campaign in self.campaigns:
                if not campaign.is_wanted and now < next_look.get(campaign.key, 0.0):
                    continue
                if campaign.look():
                    self._wake()
                campaign.drop()
                next_look[campaign.key] = now + GLANCE_SECONDS
            self._ended.wait(max(LOOK_SECONDS, time.monotonic() - now))

    def _read(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            for campaign in self.campaigns:
                if campaign.is_due and not self._ended.is_set():
                    campaign.read(self._wake)
