"""What a recipe's keys, each sound by itself, get wrong together, and names that do not exist."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evo.errors import UsageError
from evo.recipe.limits import exceeded
from evo.recipe.schema import Recipe
from evo.recipe.validation import Fault, shown, suggestion
from genomes import catalogue
from genomes.compiler.lowering import read
from genomes.language.genome import GenomeError
from harness.task import TASKS


@dataclass(frozen=True)
class Known:
    """The names that a recipe may use, called for when it uses some: operators of variation, known optimizers."""

    operators: Callable[[], Collection[str]]
    catalogue: Callable[[], Collection[str]] = catalogue.names


def contradictions(recipe: Recipe, folder: Path | None, known: Known) -> Iterator[tuple[list[tuple], Fault]]:
    """Yields the keys in question and the fault, which stands at the first of them.

    ``folder``: where the recipe's genome files are looked for; None: they are not.
    """

    def fault(message: str, *keys: str) -> tuple[list[tuple], Fault]:
        paths: list[tuple] = [tuple(key.split(".")) for key in keys]
        return paths, Fault(paths[0], lambda: message)

    def of_item(message: Callable[[], str], key: str, item: int) -> tuple[list[tuple], Fault]:
        path = tuple(key.split("."))
        return [path], Fault((*path, item), message)

    task, difficulty = TASKS[recipe.task], recipe.difficulty
    if (shallowest := min(difficulty.depths)) < (least := max(1, task.frozen_linears)):
        message = f"with depth {shallowest} the task {task.name} trains no layer; the least is {least}"
        yield fault(message, "difficulty.depths", "task")
    least, greatest = difficulty.accuracy_factors
    if (least or greatest) and not task.threshold:
        yield fault(f"the task {task.name} has none; remove this key", "difficulty.accuracy_factors", "task")
    if least > greatest:
        yield fault(f"the first must not exceed the second, got {least}, {greatest}", "difficulty.accuracy_factors")

    start, population = recipe.start, recipe.population
    for message, keys in recipe.search.contradictions(population):
        yield fault(message, *(key if key in type(recipe).model_fields else f"search.{key}" for key in keys))
    members = len(start.catalogue) + len(start.genomes) + start.random
    if members > population:
        message = f"{members} genomes are named or random, more than the population of {population}"
        yield fault(message, "start", "population")
    if members == 0:
        yield fault("needs at least one genome: catalogue, genomes or random", "start")
    for i, path in enumerate(start.genomes):
        if folder and not os.path.isfile(folder / path):  # of a path that no file can have, pathlib's own would raise
            yield of_item(partial("there is no file {}".format, folder / path), "start.genomes", i)

    if weights := recipe.variation.weights:
        operators = known.operators()
        for name in (name for name in weights if name not in operators):
            path = ("variation", "weights", name)
            yield [path], Fault(path, partial(_no_operator, name, operators))
        if weights.keys() >= set(operators) and not any(weights.values()):
            yield fault("all operators have weight 0, so nothing could vary", "variation.weights")
    optimizers = known.catalogue()
    for key, names in (("start.catalogue", start.catalogue), ("baselines", recipe.baselines)):
        for i, name in enumerate(names):
            if name not in optimizers:
                yield of_item(partial(_no_optimizer, name, optimizers), key, i)


def _no_operator(name: str, operators: Collection[str]) -> str:
    return "there is no such operator" + (suggestion(name, operators) or f"; there are {', '.join(operators)}")


def _no_optimizer(name: str, optimizers: Collection[str]) -> str:
    return f"the catalogue has no {shown(name)}" + (suggestion(name, optimizers) or "; `evo catalogue` lists the names")


def check_start(recipe: Recipe) -> None:
    """Raises UsageError where a start genome cannot be read, has no meaning, or is beyond the recipe's limits."""
    for path in recipe.start.genomes:
        try:
            found = exceeded(read(Path(path)), recipe.limits)
        except GenomeError as error:
            raise UsageError(str(error)) from None
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
        if found:
            name, count = found
            most = getattr(recipe.limits, name)
            raise UsageError(
                f"{path}: has {count} {name}, and limits.{name} of the recipe is {most}: raise the limit, or try"
                " evo genome simplify"
            )
