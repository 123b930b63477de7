"""What a campaign says while it runs: a line per generation, and the log. For a terminal see `evo.campaign.live`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import TextIO

from evo import files
from evo.campaign import wording
from evo.formatting import duration, gain, interval, steps
from evo.recipe.schema import Recipe
from evo.records import Champion, Generation, Request, lane_steps
from harness.result import Training

HEARTBEAT_SECONDS = 60
BREEDING = "breeding"  # what is under way before a request


class Progress:
    """Keeps count of a campaign and writes its log; subclasses show it."""

    def __init__(self) -> None:
        self.log: Path | None = None
        self.recipe: Recipe | None = None
        self.done_generations = 0
        self.past: list[Generation] = []
        self.purpose, self.total, self.done = "", 0, 0  # lanes of the request under way, or individuals bred
        self.listeners: list[Callable[[Generation], None]] = []  # called with each complete generation
        self._generation_started = self.started = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    # --- told by the campaign --------------------------------------------------------------------------

    def say(self, message: str) -> None:
        """A message for people."""
        if self.log:
            moment = datetime.now().astimezone().isoformat(timespec="seconds")
            log = {"encoding": "utf-8", "errors": "backslashreplace", "opener": files.no_follow}
            with suppress(OSError), open(self.log, "a", **log) as file:
                file.writelines(f"{moment} {line}\n" for line in message.splitlines())
        self._show(message)

    def begin(self, recipe: Recipe, past: Sequence[Generation], begun: bool = False) -> None:
        """A campaign starts, or goes on after the complete generations ``past``. ``begun``: something is trained."""
        self.recipe, self.done_generations, self.past = recipe, len(past), list(past)
        self._generation_started = self.started = time.monotonic()
        verb = "begins" if not (past or begun) else f"goes on after generation {len(past)}"
        self.say(f"{recipe.name} {verb}: task {recipe.task}, {_extent(recipe)} of {recipe.population}")

    def bred(self, done: int, total: int) -> None:
        """``done`` of ``total`` individuals of the next generation are bred."""
        self.purpose, self.done, self.total = BREEDING, done, total

    def request(self, request: Request, known: int) -> None:
        """The search asks for lanes, ``known`` of which are in the ledger."""
        self.purpose, self.total, self.done = request.purpose.value, len(request.lanes), known

    def lane(self, training: Training) -> None:
        """A lane is trained."""
        self.done += 1

    def generation(self, generation: Generation) -> None:
        """A generation is complete and saved."""
        self.done_generations = generation.number
        self.past.append(generation)
        self._generation_started = time.monotonic()
        self.purpose, self.total, self.done = "", 0, 0
        self.say(self._line(generation))
        for listener in self.listeners:
            listener(generation)

    @property
    def under_way(self) -> str:
        """What is under way, and how far: ``breeding 120 of 5000``, ``search lanes 3/64``."""
        if self.purpose == BREEDING:
            return f"{BREEDING} {self.done} of {self.total}"
        return f"{self.purpose} lanes {self.done}/{self.total}" if self.total else ""

    @property
    def champion(self) -> Champion | None:
        """The best of the hall of fame after the last complete generation."""
        return self.past[-1].statistics.champion if self.past else None

    # --- shown by subclasses ---------------------------------------------------------------------------

    def _show(self, message: str) -> None:
        pass

    @property
    def generations(self) -> int:
        """How many generations the campaign is to have; 0 before it begins. With an end by steps: as far as known."""
        if not self.recipe:
            return 0
        spent = lane_steps(self.past)
        if not self.recipe.lane_steps or not spent:
            return self.recipe.generations
        left = math.ceil(max(0, self.recipe.lane_steps - spent) * len(self.past) / spent)
        return min(self.recipe.generations, len(self.past) + left)

    def seconds_left(self) -> float | None:
        """An estimate: from the median of past generations, or from the lanes of the first one."""
        spent = time.monotonic() - self._generation_started
        left = self.generations - self.done_generations
        if self.past:
            usual = median(generation.seconds for generation in self.past[-9:])
            return max(0.0, usual - spent) + usual * (left - 1) if left else 0.0
        if self.done and self.total and spent > 2 and self.purpose != BREEDING:
            return max(0.0, spent * self.total / self.done * left - spent)
        return None

    def _line(self, generation: Generation) -> str:
        found = generation.statistics
        reference = wording.reference(found)
        parts = [f"generation {self.done_generations}/{self.generations}"]
        parts.append(f"best {gain(found.gain)} over {reference}" if found.gain else f"best {interval(found.best)}")
        parts += wording.baselines(found)
        if best := found.champion:
            parts.append(f"champion {best.name} {gain(best.gain) if best.gain else interval(best.estimate)}")
        parts += [f"{trial.challenger} {wording.outcome(trial)}" for trial in found.trials]
        parts.append(f"trained {found.trained}")
        if found.diverged:
            parts.append(f"failed {found.diverged}")
        left = self.seconds_left()
        parts.append(f"{duration(generation.seconds)}{f', {duration(left)} left' if left else ''}")
        return "  ".join(parts)


def _extent(recipe: Recipe) -> str:
    return (
        f"{steps(recipe.lane_steps)} training steps in generations"
        if recipe.lane_steps
        else f"{recipe.generations} generations"
    )


class PlainProgress(Progress):
    """A line per generation, and one per minute while it is bred and trained."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._last = time.monotonic()

    def _show(self, message: str) -> None:
        with suppress(OSError, ValueError):  # nobody reads any more: no reason to stop
            print(message, file=self._stream, flush=True)
        self._last = time.monotonic()

    def bred(self, done: int, total: int) -> None:
        """Individuals are bred; says so where nothing was said for a minute."""
        super().bred(done, total)
        self._beat()

    def lane(self, training: Training) -> None:
        """A lane is trained; says so where nothing was said for a minute."""
        super().lane(training)
        self._beat()

    def _beat(self) -> None:
        if time.monotonic() - self._last > HEARTBEAT_SECONDS:
            number = f"{min(self.done_generations + 1, self.generations)}/{self.generations}"
            self._show(f"generation {number}: {self.under_way}")
