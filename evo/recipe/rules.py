"""What a recipe's keys, each sound by itself, get wrong together, and names that do not exist."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from evo.recipe.limits import exceeded
from evo.recipe.schema import MAX_DEPTH, Limits, Recipe
from evo.recipe.validation import Fault, suggestion
from genomes import catalogue
from genomes.compiler.lowering import read
from genomes.language.genome import Genome, GenomeError
from harness.task import TASKS


@dataclass(frozen=True)
class Known:
    """The names that a recipe may use, called for when it uses some: operators of variation, known optimizers."""

    operators: Callable[[], Collection[str]]
    catalogue: Callable[[], Collection[str]] = catalogue.names


def _excess(genome: Genome, limits: Limits) -> Iterator[tuple[str, str]]:
    """The key of the first limit that the genome exceeds, and what to say of it."""
    if found := exceeded(genome, limits):
        name, count = found
        key, most = f"limits.{name}", getattr(limits, name)
        yield key, f"has {count} {name}, more than the {most} of {key}: raise that"


def too_shallow(task: str, depths: Iterable[int]) -> str:
    """What is wrong with the least of ``depths`` in a task; empty where all have a layer that is trained."""
    shallowest, least = min(depths, default=MAX_DEPTH), TASKS[task].least_depth
    return (
        "" if shallowest >= least else f"with depth {shallowest} the task {task} trains no layer; the least is {least}"
    )


def contradictions(recipe: Recipe, folder: Path | None, known: Known) -> Iterator[tuple[list[tuple], Fault]]:
    """Yields the keys in question and the fault, which stands at the first of them.

    ``folder``: where the recipe's genome files are looked for; None: of a campaign under way, whose start is past.
    """

    def fault(message: str, *keys: str, item: int | None = None) -> tuple[list[tuple], Fault]:
        paths: list[tuple] = [tuple(key.split(".")) for key in keys]
        return paths, Fault(paths[0] if item is None else (*paths[0], item), message)

    task, difficulty = TASKS[recipe.task], recipe.difficulty
    if problem := too_shallow(recipe.task, difficulty.depths):
        yield fault(problem, "difficulty.depths", "task")
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
    if folder:
        for i, file in enumerate(folder / path for path in start.genomes):
            if not file.is_file():
                yield fault(f"there is no file {file}", "start.genomes", item=i)
                continue
            try:
                genome = read(file)
            except GenomeError as error:
                for problem in error.problems:
                    yield fault(problem, "start.genomes", item=i)
            except OSError as error:
                yield fault(f"{file}: cannot be read: {error.strerror or error}", "start.genomes", item=i)
            else:
                for limit, message in _excess(genome, recipe.limits):
                    yield fault(f"{file}: {message}, or try evo genome simplify", "start.genomes", limit, item=i)
        for i, name in enumerate(start.catalogue):
            for limit, message in _excess(catalogue.load(name), recipe.limits) if name in catalogue.names() else ():
                yield fault(f"{name} {message}, or leave it out", "start.catalogue", limit, item=i)

    if weights := recipe.variation.weights:
        operators = known.operators()
        for name in (name for name in weights if name not in operators):
            hint = suggestion(name, operators) or f"; there are {', '.join(operators)}"
            yield fault(f"there is no such operator{hint}", f"variation.weights.{name}")
        if weights.keys() >= set(operators) and not any(weights.values()):
            yield fault("all operators have weight 0, so nothing could vary", "variation.weights")
    optimizers = known.catalogue()
    for key, names in (("start.catalogue", start.catalogue), ("baselines", recipe.baselines)):
        for i, name in enumerate(names):
            if name not in optimizers:
                hint = suggestion(name, optimizers) or "; `evo catalogue` lists the names"
                yield fault(f"the catalogue has no {name!r}{hint}", key, item=i)
