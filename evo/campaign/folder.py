"""The folder of a campaign: what is where in it, and the lock that admits one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evo import files
from evo.errors import EvoError, UsageError


class LockedError(EvoError):
    """Another process is at work in the folder."""


@dataclass(frozen=True)
class RunFolder:
    """``runs/<slug>/``: the recipe, and in ``out/`` all that the campaign makes."""

    path: Path

    @classmethod
    def find(cls, path: Path | str) -> RunFolder:
        """The folder at ``path``, or the one whose recipe that is. Raises UsageError where there is none."""
        path = Path(path)
        if path.name == "recipe.yaml" and path.is_file():
            path = path.parent
        if not path.is_dir():
            raise UsageError(f"{path}: there is no such folder; RUN is a folder with a recipe.yaml")
        return cls(path)

    @property
    def recipe(self) -> Path:
        """The campaign's recipe, written by a person."""
        return self.path / "recipe.yaml"

    @property
    def out(self) -> Path:
        """Where the campaign writes; not under version control."""
        return self.path / "out"

    @property
    def ledger(self) -> Path:
        """See `evo.ledger.ledger`."""
        return self.out / "ledger.sqlite"

    @property
    def champion(self) -> Path:
        """The genome of the present champion, YAML."""
        return self.out / "champion.yaml"

    @property
    def log(self) -> Path:
        """What was said, with times, and what workers wrote to standard error."""
        return self.out / "log.txt"

    @property
    def inbox(self) -> Path:
        """Genomes that people and programs add while the campaign is under way: see `evo.campaign.additions`."""
        return self.out / "inbox"

    @property
    def explanation(self) -> Path:
        """What each part of the champion earns, by ``evo explain``: see `evo.campaign.explained`."""
        return self.out / "explanation.json"

    @property
    def report(self) -> Path:
        """Where `evo report` writes its page."""
        return self.out / "report.html"

    @property
    def _lock(self) -> Path:
        return self.out / "lock"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock. Raises LockedError, which names the owner; EvoError where we may not write.

        The kernel lets go of the lock when its owner dies, however it dies: what the file says is for people. Raises
        EvoError at the end, too, where the folder is no longer what it was.
        """
        with _writable(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
        for file in (self._lock, self.log):
            if file.is_symlink() or (file.exists() and not file.is_file()):
                raise EvoError(f"{file}: not a regular file, and what it leads to is not written; remove it")
        with _writable(self._lock):
            descriptor = files.no_follow(str(self._lock), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            deadline = time.monotonic() + 0.5  # `in_use` holds it for a moment
            while not self._take(descriptor, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    owner = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
                    raise LockedError(f"{self.path}: another evo is at work here ({owner or 'just started'})")
                time.sleep(0.05)
            with _writable(self.out):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            yield
            if not self._is(descriptor):
                raise EvoError(
                    f"{self.path}: moved, deleted or replaced while the campaign ran; its results went with it"
                )
        finally:
            os.close(descriptor)

    def in_use(self) -> bool:
        """Whether a process holds the lock at this moment; False where files cannot be locked."""
        try:
            descriptor = files.no_follow(str(self._lock), os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            # a shared lock: on a network file system an exclusive one needs a right to write
            return not self._take(descriptor, fcntl.LOCK_SH)
        except EvoError:
            return False
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int, kind: int) -> bool:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise EvoError(
                f"{self._lock}: cannot be locked ({error.strerror}); is {self.path} on a network file system without"
                " locks? Move the folder to a local disk, then go on"
            ) from None
        return True

    def _is(self, descriptor: int) -> bool:
        """Whether the lock that is open still stands in this folder."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.lstat(self._lock))
        except OSError:
            return False


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EvoError(f"{path}: cannot be written: {error.strerror or error}") from None
