"""What is to be trained: targets, instances and how, read from what the user wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evo.errors import UsageError
from evo.evaluation.defaults import ACCURACY_FACTOR, DEPTHS, DTYPE, EPOCHS, INIT, INSTANCES, PATIENCE, TASK
from evo.evaluation.seeds import (
    MAX_INSTANCES,
    Seeds,
    as_written,
    guessable,
    parse_instances,
    parse_seeds,
    shared_streams,
)
from evo.evaluation.targets import Target, resolve, with_switched_off
from evo.recipe.rules import too_shallow
from evo.recipe.schema import MAX_DEPTH
from harness.sandbox import DEFAULT_LIMITS, Limits
from harness.task import INITS, TASKS, Instance

DTYPES = ("float32", "float64")  # the challenge's, and one to check the harness against other implementations


@dataclass(frozen=True)
class Question:
    """What to train: every target on every instance, one per depth and seed.

    ``seeds``: each seed's bytes and how a person writes it. ``label``: from which they follow; empty for named seeds.
    """

    task: str
    targets: tuple[Target, ...]
    depths: tuple[int, ...]
    seeds: Seeds
    epochs: int = EPOCHS
    patience: int = PATIENCE
    init: str = INIT
    accuracy_factor: int = ACCURACY_FACTOR
    dtype: str = DTYPE
    label: str = ""

    @property
    def instances(self) -> list[Instance]:
        """All instances, depth by depth, in the order asked."""
        return [
            Instance(self.task, depth, seed, self.init, self.accuracy_factor)
            for depth in self.depths
            for seed in self.seeds
        ]

    @property
    def labeled(self) -> str:
        """What ``--instances`` takes to repeat this: ``label:count``; empty for named seeds."""
        return f"{self.label}:{len(self.seeds)}" if self.label else ""

    @property
    def warnings(self) -> list[str]:
        """Why results on these instances may say less than they seem to."""
        return [text for text in (shared_streams(self.seeds), self.guessed) if text]

    @property
    def guessed(self) -> str:
        """A warning where a submission could find the test data, else the empty text."""
        if not guessable(self.seeds) or not any(target.foreign for target in self.targets):
            return ""
        return (
            "integer seeds can be guessed: a submission (.py) that tries them can rebuild the test data, and then its "
            "quality says nothing; use --instances"
        )


def parse_question(
    names: Sequence[str | Path],
    *,
    task: str = TASK,
    depths: str | int | Sequence[int] = DEPTHS,
    instances: str | int | None = None,
    seeds: str | int | Sequence[int | str] | None = None,
    epochs: int = EPOCHS,
    patience: int = PATIENCE,
    init: str = INIT,
    accuracy_factor: int = ACCURACY_FACTOR,
    dtype: str = DTYPE,
    limits: Limits = DEFAULT_LIMITS,
    default: str | int = INSTANCES,
    without_calibration: bool = False,
) -> Question:
    """Read what the user asks for.

    ``depths``, ``instances``, ``seeds``: see `parse_depths`, `parse_instances`, `parse_seeds`. ``default``: the
    instances where neither is given. ``without_calibration``: see `with_switched_off`. Raises UsageError that names
    every mistake.
    """
    errors: list[str] = []

    def read(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except UsageError as error:
            errors.append(str(error))
            return ()

    found = read(resolve, [str(name) for name in names], limits)
    if found and without_calibration:
        found = read(with_switched_off, found)
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
    chosen_depths = read(parse_depths, depths)
    if task in TASKS and (problem := too_shallow(task, chosen_depths)):
        errors.append(f"--depths {as_written(depths)}: {problem}")
    if seeds is None:
        asked = f"--instances {default if instances is None else instances}"
        label, chosen = read(parse_instances, default if instances is None else instances) or ("", {})
    else:
        asked, label, chosen = f"--seeds {as_written(seeds)}", "", read(parse_seeds, seeds)
        if instances is not None:
            errors.append(f"--instances {instances}: --seeds names the instances already; give one of the two")
    if len(chosen_depths) * len(chosen) > MAX_INSTANCES:
        errors.append(f"{asked}: more than {MAX_INSTANCES} instances")
    if errors:
        raise UsageError("\n".join(errors))
    return Question(task, tuple(found), chosen_depths, chosen, epochs, patience, init, accuracy_factor, dtype, label)


def parse_depths(value: str | int | Sequence[int]) -> tuple[int, ...]:
    """``4,7``, or the numbers themselves, -> (4, 7). Raises UsageError."""
    text = as_written(value)
    depths = []
    for part in text.split(","):
        if not re.fullmatch(r" *\d{1,4} *", part) or not 1 <= int(part) <= MAX_DEPTH:
            raise UsageError(f"--depths {text}: {part!r} is not a number of hidden layers from 1 to {MAX_DEPTH}")
        if int(part) not in depths:
            depths.append(int(part))
    return tuple(depths)
