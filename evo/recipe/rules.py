"""What a recipe's keys, each sound by itself, get wrong together, and names that do not exist."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evo.recipe.validation import Fault, suggestion
from harness.task import TASKS

if TYPE_CHECKING:
    from evo.recipe.reader import Recipe


@dataclass(frozen=True)
class Known:
    """The names that a recipe may use, called for when it uses some: operators of variation, known optimizers."""

    operators: Callable[[], Collection[str]]
    catalogue: Callable[[], Collection[str]]


def contradictions(recipe: Recipe, folder: Path | None, known: Known) -> Iterator[tuple[list[tuple], Fault]]:
    """Yields the keys in question and the fault, which stands at the first of them.

    ``folder``: where the recipe's genome files are looked for; None: they are not.
    """

    def fault(message: str, *keys: str, item: int | None = None) -> tuple[list[tuple], Fault]:
        paths: list[tuple] = [tuple(key.split(".")) for key in keys]
        return paths, Fault(paths[0] if item is None else (*paths[0], item), message)

    task, difficulty = TASKS[recipe.task], recipe.difficulty
    if (shallowest := min(difficulty.depths)) < (least := max(1, task.frozen_linears)):
        message = f"with depth {shallowest} the task {task.name} trains no layer; the least is {least}"
        yield fault(message, "difficulty.depths", "task")
    least, greatest = difficulty.accuracy_factors
    if (least or greatest) and not task.threshold:
        yield fault(f"the task {task.name} has none; remove this key", "difficulty.accuracy_factors", "task")
    if least > greatest:
        yield fault(f"the first must not exceed the second, got {least}, {greatest}", "difficulty.accuracy_factors")

    selection, start, population = recipe.selection, recipe.start, recipe.population
    if selection.tournament > population:
        message = f"{selection.tournament} is more than the population of {population}"
        yield fault(message, "selection.tournament", "population")
    if selection.elites >= population:
        message = f"{selection.elites} leaves no room for children in a population of {population}"
        yield fault(message, "selection.elites", "population")
    elif not selection.elites <= selection.contenders <= population:
        message = f"must lie between elites ({selection.elites}) and population ({population})"
        yield fault(message, "selection.contenders", "selection.elites", "population")
    members = len(start.catalogue) + len(start.genomes) + start.random
    if members > population:
        message = f"{members} genomes are named or random, more than the population of {population}"
        yield fault(message, "start", "population")
    if members == 0:
        yield fault("needs at least one genome: catalogue, genomes or random", "start")
    for i, path in enumerate(start.genomes):
        if folder and not (folder / path).is_file():
            yield fault(f"there is no file {folder / path}", "start.genomes", item=i)

    if weights := recipe.variation.weights:
        operators = known.operators()
        for name in (name for name in weights if name not in operators):
            hint = suggestion(name, operators) or f"; there are {', '.join(operators)}"
            yield fault(f"there is no such operator{hint}", f"variation.weights.{name}")
        if weights.keys() >= set(operators) and not any(weights.values()):
            yield fault("all operators have weight 0, so nothing could vary", "variation.weights")
    catalogue = known.catalogue()
    for key, names in (("start.catalogue", start.catalogue), ("baselines", recipe.baselines)):
        for i, name in enumerate(names):
            if name not in catalogue:
                hint = suggestion(name, catalogue) or "; `evo catalogue` lists the names"
                yield fault(f"the catalogue has no {name!r}{hint}", key, item=i)
