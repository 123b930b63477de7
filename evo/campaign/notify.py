"""Tells a command of a person's choice what happens to a campaign: ``evo launch --notify COMMAND``.

The command runs in a process of its own, without a shell, within a time limit; the campaign waits for none. What
happened stands in environment variables alone, so that no name or message can become a part of the command.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from evo.campaign import wording
from evo.campaign.loop import Outcome
from evo.campaign.progress import Progress
from evo.errors import UsageError
from evo.formatting import interval
from evo.records import Champion, Generation, Statistics

SECONDS = 30.0  # that a command may take


class Notifier:
    """Runs a command for each new champion, and when the campaign stops or ends. Entered around the campaign."""

    def __init__(self, command: str, run: Path, progress: Progress, seconds: float = SECONDS):
        self._words, self._run, self._progress, self._seconds = parse(command), run, progress, seconds
        self._waiting: list[threading.Thread] = []
        self._ended = False
        progress.listeners.append(self.generation)

    def __enter__(self) -> Notifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self._ended:
            self._tell("stop", str(error) or (kind.__name__ if kind else ""))
        for thread in self._waiting:
            thread.join()

    def generation(self, generation: Generation) -> None:
        """A generation is complete: tells of a champion that is another one than before."""
        best = generation.statistics.champion
        earlier = (each.statistics.champion for each in reversed(self._progress.past[:-1]))
        before = next(filter(None, earlier), None)
        if best and before and best.id != before.id:
            self._tell("champion", f"new champion {best.name} {wording.quality_of(best, generation.statistics)}")

    def ended(self, outcome: Outcome) -> None:
        """A call of ``launch`` or ``resume`` came to its end."""
        self._ended = True
        complete = f"{outcome.generation} of {outcome.generations} generations"
        self._tell("end" if outcome.finished else "stop", f"{complete} are complete")

    def _tell(self, event: str, message: str) -> None:
        environment = os.environ | _facts(event, message, self._run, self._progress)
        thread = threading.Thread(target=_run, args=(self._words, environment, self._seconds, self._progress.say))
        thread.start()
        self._waiting = [*(each for each in self._waiting if each.is_alive()), thread]


def parse(command: str) -> list[str]:
    """The words of a command. Raises UsageError where it cannot be run."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--notify {command}: {error}") from None
    if not words:
        raise UsageError("--notify: name a command")
    if shutil.which(words[0]) is None:
        raise UsageError(f"--notify {command}: there is no command {words[0]}")
    return words


def _facts(event: str, message: str, run: Path, progress: Progress) -> dict[str, str]:
    statistics = progress.past[-1].statistics if progress.past else Statistics()
    found = {
        "EVO_EVENT": event,
        "EVO_MESSAGE": message,
        "EVO_RUN": str(run.resolve()),
        "EVO_NAME": progress.recipe.name if progress.recipe else "",
        "EVO_GENERATION": str(progress.done_generations),
        "EVO_GENERATIONS": str(progress.generations),
        **_champion(statistics.champion, statistics),
    }
    return {name: value.replace("\0", "") for name, value in found.items()}


def _champion(best: Champion | None, statistics: Statistics) -> dict[str, str]:
    if best is None:
        return {}
    return {
        "EVO_CHAMPION": best.name,
        "EVO_CHAMPION_ID": best.id,
        "EVO_QUALITY": f"{best.estimate.mean:.6f}",
        "EVO_QUALITY_LOW": f"{best.estimate.low:.6f}",
        "EVO_QUALITY_HIGH": f"{best.estimate.high:.6f}",
        "EVO_GAIN": interval(best.gain, sign=True) if best.gain else "",
        "EVO_REFERENCE": wording.reference(statistics) or "",
    }


def _run(words: list[str], environment: Mapping[str, str], seconds: float, say: Callable[[str], None]) -> None:
    """Run a command to its end, or end it with all its children when its time is over."""
    nothing = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            words, env=environment, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
        )
    except (OSError, ValueError) as error:
        say(f"--notify {words[0]}: cannot be run: {error}")
        return
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        say(f"--notify {words[0]}: ended after {seconds:g} s")
    else:
        if code:
            say(f"--notify {words[0]}: exit code {code}")
