"""A remote worker: a pool of one local worker, spoken to in JSON text.

``hello``: ``{"numerics": version, "kind": kind of hardware}``. ``work`` takes a job, ``{"lanes": {position: fields}}``,
or an empty text for further answers, and returns as soon as there are some: ``{"answers": [[position, training], ...],
"log": what was written to standard error}``; or ``{"unusable": reason}`` where no worker starts here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from evo.records import Key, Lane
from evo.training.jobs import lane
from evo.training.pool import LocalPool, WorkerError, environment
from harness.result import NUMERICS_VERSION, Training

DESCRIBING_SECONDS = 300.0  # longest wait for the kind of hardware: torch may come from a slow disk


class Agent:
    """``options``: keyword arguments of `LocalPool`, and ``describe``, the module that prints the kind of hardware."""

    def __init__(self, options: str) -> None:
        given = json.loads(options)
        self._describe, self._device = given.pop("describe"), given["device"]
        self._pool = LocalPool(1, **given)
        self._positions: dict[Key, int] = {}
        self._rounds: Iterator[list[tuple[Lane, Training]]] = iter(())

    def hello(self, describe: bool) -> str:
        """Say who is here; ``kind`` is empty unless ``describe``, for it takes seconds and the memory of torch."""
        return json.dumps({"numerics": NUMERICS_VERSION, "kind": self._kind() if describe else ""})

    def work(self, text: str) -> str:
        """Begin a job, or go on with it, until there are answers."""
        if text:
            lanes = {int(position): lane(fields) for position, fields in json.loads(text)["lanes"].items()}
            self._positions = {each.key: position for position, each in lanes.items()}
            self._rounds = self._pool.rounds(lanes.values())
        try:
            done = next(filter(None, self._rounds), [])
        except WorkerError as error:
            return json.dumps({"unusable": str(error), "log": self._pool.said()})
        answers = [(self._positions[each.key], training.to_dict()) for each, training in done]
        return json.dumps({"answers": answers, "log": self._pool.said()})

    def _kind(self) -> str:
        command = [sys.executable, "-P", "-m", self._describe, self._device]
        found = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=DESCRIBING_SECONDS)
        if found.returncode:
            raise WorkerError((found.stderr.strip().splitlines() or [f"exit code {found.returncode}"])[-1])
        return found.stdout.strip()
