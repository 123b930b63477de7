"""What is to be trained: targets, instances and how, read from what the user wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from evo.errors import UsageError
from evo.evaluation.defaults import ACCURACY_FACTOR, DEPTHS, DTYPE, EPOCHS, INIT, PATIENCE, SEEDS, TASK
from evo.evaluation.targets import Target, resolve
from evo.recipe.rules import too_shallow
from evo.recipe.schema import MAX_DEPTH
from harness.sandbox import DEFAULT_LIMITS, Limits
from harness.task import INITS, SEED_BYTES, TASKS, Instance, seed_bytes

DTYPES = ("float32", "float64")  # the challenge's, and one to check the harness against other implementations
MAX_INSTANCES = 100_000
STREAMS = 2900  # generators that a data set draws from: 1450 numbers are set aside for features, 1450 are rows
_NUMBERS = re.compile(r"(\d{1,18})(?::(\d{1,18})(?::(\d{1,18}))?)?")  # a, a:b or a:b:step
_HEX = re.compile(r"hex:([0-9a-fA-F]{%d})" % (2 * SEED_BYTES))  # noqa: UP031  braces are the pattern's


@dataclass(frozen=True)
class Question:
    """What to train: every target on every instance. ``seeds``: each seed's bytes and how the user wrote it."""

    task: str
    targets: tuple[Target, ...]
    depths: tuple[int, ...]
    seeds: dict[bytes, int | str]
    epochs: int = EPOCHS
    patience: int = PATIENCE
    init: str = INIT
    accuracy_factor: int = ACCURACY_FACTOR
    dtype: str = DTYPE

    @property
    def instances(self) -> list[Instance]:
        """All instances, depth by depth, in the order asked."""
        return [
            Instance(self.task, depth, seed, self.init, self.accuracy_factor)
            for depth in self.depths
            for seed in self.seeds
        ]


def parse_question(
    names: Sequence[str | Path],
    *,
    task: str = TASK,
    depths: str | int | Sequence[int] = DEPTHS,
    seeds: str | int | Sequence[int | str] = SEEDS,
    epochs: int = EPOCHS,
    patience: int = PATIENCE,
    init: str = INIT,
    accuracy_factor: int = ACCURACY_FACTOR,
    dtype: str = DTYPE,
    limits: Limits = DEFAULT_LIMITS,
) -> Question:
    """Read what the user asks for; ``depths``, ``seeds``: see `parse_depths`, `parse_seeds`.

    Raises UsageError that names every mistake.
    """
    errors: list[str] = []

    def read(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except UsageError as error:
            errors.append(str(error))
            return ()

    found = read(resolve, [str(name) for name in names], limits)
    if not names:
        errors.append("TARGET: name at least one, for example adam")
    if task not in TASKS:
        errors.append(f"--task {task}: not one of {', '.join(TASKS)}")
    elif accuracy_factor and not TASKS[task].threshold:
        errors.append(f"--accuracy-factor {accuracy_factor}: the task {task} has none")
    if init not in INITS:
        errors.append(f"--init {init}: not one of {', '.join(INITS)}")
    if dtype not in DTYPES:
        errors.append(f"--dtype {dtype}: not one of {', '.join(DTYPES)}")
    for option, value in (("--epochs", epochs), ("--patience", patience)):
        if type(value) is not int or value < 1:
            errors.append(f"{option} {value}: must be a whole number, 1 or more")
    chosen_depths, chosen_seeds = read(parse_depths, depths), read(parse_seeds, seeds)
    if task in TASKS and (problem := too_shallow(task, chosen_depths)):
        errors.append(f"--depths {_text(depths)}: {problem}")
    if len(chosen_depths) * len(chosen_seeds) > MAX_INSTANCES:
        errors.append(f"--seeds {_text(seeds)}: more than {MAX_INSTANCES} instances")
    if errors:
        raise UsageError("\n".join(errors))
    return Question(task, tuple(found), chosen_depths, chosen_seeds, epochs, patience, init, accuracy_factor, dtype)


def parse_depths(value: str | int | Sequence[int]) -> tuple[int, ...]:
    """``4,7``, or the numbers themselves, -> (4, 7). Raises UsageError."""
    text = _text(value)
    depths = []
    for part in text.split(","):
        if not re.fullmatch(r" *\d{1,4} *", part) or not 1 <= int(part) <= MAX_DEPTH:
            raise UsageError(f"--depths {text}: {part!r} is not a number of hidden layers from 1 to {MAX_DEPTH}")
        if int(part) not in depths:
            depths.append(int(part))
    return tuple(depths)


def parse_seeds(value: str | int | Sequence[int | str]) -> dict[bytes, int | str]:
    """``0:8,42,hex:00ff...``, or a sequence of such parts, -> each seed's 32 bytes, and what stands for it.

    ``a:b`` are the numbers from a to b - 1, ``a:b:step`` every step-th of them. Repeats count once. Raises UsageError.
    """
    text = _text(value)
    seeds: dict[bytes, int | str] = {}
    for part in (part.strip() for part in text.split(",")):
        if match := _HEX.fullmatch(part):
            seeds.setdefault(bytes.fromhex(match[1]), part.lower())
            continue
        numbers = _numbers(part)
        if not numbers:
            raise UsageError(
                f"--seeds {text}: {part!r} is neither a number, nor a range a:b or a:b:step with a < b, nor hex: and "
                f"{2 * SEED_BYTES} digits"
            )
        if len(numbers) > MAX_INSTANCES:
            raise UsageError(f"--seeds {text}: more than {MAX_INSTANCES} instances")
        for number in numbers:
            seeds.setdefault(seed_bytes(number), number)
    return seeds


def _text(value: str | int | Sequence[int | str]) -> str:
    """What the user would write on the command line."""
    return ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _numbers(part: str) -> range:
    """The numbers that ``a``, ``a:b`` or ``a:b:step`` stands for; none where it is something else."""
    match = _NUMBERS.fullmatch(part)
    if not match:
        return range(0)
    start, stop, step = int(match[1]), int(match[2] or int(match[1]) + 1), int(match[3] or 1)
    return range(start, stop, step) if step else range(0)


def shared_streams(seeds: dict[bytes, int | str]) -> str:
    """A warning where instances are not independent, else the empty text.

    Row i of a data set draws from the generator number (first eight bytes of the seed) + i. So the data of seed n + 1
    are those of seed n, moved by one row: the same function up to one feature, the same samples up to one.
    """
    order = sorted(seeds, key=lambda seed: int.from_bytes(seed[:8], "little"))
    for one, other in pairwise(order):
        apart = int.from_bytes(other[:8], "little") - int.from_bytes(one[:8], "little")
        if apart < STREAMS:
            return (
                f"seeds {seeds[one]} and {seeds[other]} share data, because the challenge seeds row i "
                "with seed + i: their instances are not independent, and spreads and intervals come out too small; "
                f"take seeds at least {STREAMS} apart, for example --seeds 0:160000:10000, or hex: seeds"
            )
    return ""
