"""What ``evo evaluate`` and ``evo compare`` are asked: targets, instances and how to train, read from options."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from evo.errors import UsageError
from evo.targets import Target, resolve
from harness.sandbox import DEFAULT_LIMITS, Limits
from harness.task import INITS, SEED_BYTES, TASKS, Instance, seed_bytes

MAX_DEPTH = 64
MAX_INSTANCES = 100_000
_RANGE = re.compile(r"(\d{1,18}):(\d{1,18})")
_HEX = re.compile(r"hex:([0-9a-fA-F]{%d})" % (2 * SEED_BYTES))  # noqa: UP031  braces are the pattern's


@dataclass(frozen=True)
class Question:
    """What to train: every target on every instance. ``seeds``: each seed's bytes and how the user wrote it."""

    task: str
    targets: tuple[Target, ...]
    depths: tuple[int, ...]
    seeds: dict[bytes, int | str]
    epochs: int = 1000
    patience: int = 50
    init: str = "per_layer"
    accuracy_factor: int = 0

    @property
    def instances(self) -> list[Instance]:
        """Depth by depth, in the order asked."""
        return [
            Instance(self.task, depth, seed, self.init, self.accuracy_factor)
            for depth in self.depths
            for seed in self.seeds
        ]


def question(
    names: Sequence[str],
    *,
    task: str = "tig",
    depths: str = "4",
    seeds: str = "0:8",
    epochs: int = 1000,
    patience: int = 50,
    init: str = "per_layer",
    accuracy_factor: int = 0,
    limits: Limits = DEFAULT_LIMITS,
) -> Question:
    """Read what the user asks for. Raises UsageError that names every mistake."""
    errors: list[str] = []

    def read(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except UsageError as error:
            errors.append(str(error))
            return ()

    found = read(resolve, names, limits)
    if not names:
        errors.append("TARGET: name at least one, for example adam")
    if task not in TASKS:
        errors.append(f"--task {task}: not one of {', '.join(TASKS)}")
    elif accuracy_factor and not TASKS[task].threshold:
        errors.append(f"--accuracy-factor {accuracy_factor}: the task {task} has none")
    if init not in INITS:
        errors.append(f"--init {init}: not one of {', '.join(INITS)}")
    for option, value in (("--epochs", epochs), ("--patience", patience)):
        if value < 1:
            errors.append(f"{option} {value}: must be at least 1")
    chosen_depths, chosen_seeds = read(parse_depths, depths), read(parse_seeds, seeds)
    if len(chosen_depths) * len(chosen_seeds) > MAX_INSTANCES:
        errors.append(f"--seeds {seeds}: more than {MAX_INSTANCES} instances")
    if errors:
        raise UsageError("\n".join(errors))
    return Question(task, tuple(found), chosen_depths, chosen_seeds, epochs, patience, init, accuracy_factor)


def parse_depths(text: str) -> tuple[int, ...]:
    """``4,7`` -> (4, 7). Raises UsageError."""
    depths = []
    for part in text.split(","):
        if not re.fullmatch(r" *\d{1,4} *", part) or not 1 <= int(part) <= MAX_DEPTH:
            raise UsageError(f"--depths {text}: {part!r} is not a number of hidden layers from 1 to {MAX_DEPTH}")
        if int(part) not in depths:
            depths.append(int(part))
    return tuple(depths)


def parse_seeds(text: str) -> dict[bytes, int | str]:
    """``0:8,42,hex:00ff...`` -> the 32 bytes of each seed and the number or text that stands for it.

    ``a:b`` are the numbers from a to b - 1. Repeats count once. Raises UsageError.
    """
    seeds: dict[bytes, int | str] = {}
    for part in (part.strip() for part in text.split(",")):
        if match := _HEX.fullmatch(part):
            seeds.setdefault(bytes.fromhex(match[1]), part.lower())
            continue
        match = _RANGE.fullmatch(part) or _RANGE.fullmatch(f"{part}:{int(part) + 1}" if part.isdecimal() else "")
        if not match or not int(match[1]) < int(match[2]):
            raise UsageError(
                f"--seeds {text}: {part!r} is neither a number, nor a range a:b with a < b, nor hex: and "
                f"{2 * SEED_BYTES} digits"
            )
        if int(match[2]) - int(match[1]) > MAX_INSTANCES:
            raise UsageError(f"--seeds {text}: more than {MAX_INSTANCES} instances")
        for number in range(int(match[1]), int(match[2])):
            seeds.setdefault(seed_bytes(number), number)
    return seeds
