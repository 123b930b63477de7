"""Why trainings did not finish, counted: messages that differ in the epoch alone are one reason."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from genomes.strict_yaml import escaped
from harness.result import Training

MOST = 5  # reasons that are named
_EPOCH = re.compile(r"^epoch (\d+): |, epoch (\d+)(?=:|$)")  # as `harness.train` and `harness.submission` write it


@dataclass(frozen=True)
class Reason:
    """``count`` trainings with one ``status`` and one ``message``, in which no epoch stands.

    ``first_epoch``, ``last_epoch``: in which it happened, counted from 0; None where no epoch is told.
    """

    status: str
    message: str
    count: int
    first_epoch: int | None = None
    last_epoch: int | None = None

    @property
    def epochs(self) -> str:
        """``epoch 0``, ``epochs 0 to 3``, or the empty text."""
        if self.first_epoch is None:
            return ""
        same = self.first_epoch == self.last_epoch
        return f"epoch {self.first_epoch}" if same else f"epochs {self.first_epoch} to {self.last_epoch}"

    def __str__(self) -> str:
        message = f": {escaped(self.message)}" if self.message else ""
        return f"{self.count} {self.status}{message}" + (f" ({self.epochs})" if self.epochs else "")


def reasons(trainings: Iterable[Training]) -> list[Reason]:
    """Why ``trainings`` did not finish or have no quality; the most frequent first."""
    epochs: dict[tuple[str, str], list[int | None]] = {}
    for training in trainings:
        if training.status != "finished" or training.quality is None:
            message = training.message or ("its test loss is NaN" if training.status == "finished" else "")
            found = _EPOCH.search(message)
            epoch = int(found[1] or found[2]) if found else None
            epochs.setdefault((training.status, _EPOCH.sub("", message, count=1)), []).append(epoch)
    counted = [Reason(*key, len(found), *_range(found)) for key, found in epochs.items()]
    return sorted(counted, key=lambda reason: (-reason.count, reason.status, reason.message))


def listed(found: list[Reason]) -> list[str]:
    """The first MOST reasons, a line for each, and one for the others."""
    others = found[MOST:]
    more = [f"{sum(reason.count for reason in others)} for {len(others)} more reasons"] if others else []
    return [*map(str, found[:MOST]), *more]


def _range(epochs: list[int | None]) -> tuple[int, int] | tuple[()]:
    known = [epoch for epoch in epochs if epoch is not None]
    return (min(known), max(known)) if known else ()
