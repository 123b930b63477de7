"""What a recipe's keys, each sound by itself, get wrong together, and names that do not exist."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evo.recipe.limits import exceeded
from evo.recipe.schema import FIRST_LOOK, MAX_DEPTH, Limits, Recipe
from evo.recipe.search_settings import Genetic, RacedEvolution
from evo.recipe.validation import Fault, shown, suggestion
from genomes import catalogue
from genomes.compiler.lowering import read
from genomes.language.genome import Genome, GenomeError
from harness.task import TASKS


@dataclass(frozen=True)
class Known:
    """The names that a recipe may use, called for when it uses some: operators of variation, known optimizers."""

    operators: Callable[[], Collection[str]]
    catalogue: Callable[[], Collection[str]] = catalogue.all_names


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

    def fault(message: str | Callable[[], str], *keys: str, item: int | None = None) -> tuple[list[tuple], Fault]:
        paths: list[tuple] = [tuple(key.split(".")) for key in keys]
        place = paths[0] if item is None else (*paths[0], item)
        return paths, Fault(place, message if callable(message) else lambda: message)

    task, difficulty = TASKS[recipe.task], recipe.difficulty
    if problem := too_shallow(recipe.task, difficulty.depths):
        yield fault(problem, "difficulty.depths", "task")
    least, greatest = difficulty.accuracy_factors
    if (least or greatest) and not task.threshold:
        yield fault(f"the task {task.name} has none; remove this key", "difficulty.accuracy_factors", "task")
    if least > greatest:
        yield fault(f"the first must not exceed the second, got {least}, {greatest}", "difficulty.accuracy_factors")

    depths, searched, tried = len(difficulty.depths), recipe.instances.search, recipe.gate.instances
    if isinstance(recipe.search, RacedEvolution) and searched < depths:
        message = f"{searched} are fewer than the {depths} depths, of which a race's first block has one each"
        yield fault(message, "instances.search", "difficulty.depths")
    if isinstance(recipe.search, Genetic) and not recipe.instances.selection:
        yield fault("genetic ranks its elites by these; write at least 1", "instances.selection", "search.algorithm")
    least = max(FIRST_LOOK, depths)
    if 0 < tried < least:
        message = f"{tried} are too few for a trial to tell anything; write at least {least}, or 0 for no gate"
        yield fault(message, "gate.instances", "difficulty.depths")
    if 0 < (look := recipe.gate.look) < least:
        message = f"{look} are too few to look at; write at least {least}, or 0 for what is usual"
        yield fault(message, "gate.look", "difficulty.depths")

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
        for key, names, problems in (
            ("start.genomes", start.genomes, lambda path: _file_problems(folder / path, recipe.limits)),
            ("start.catalogue", start.catalogue, partial(_known_problems, catalogue.all_names(), recipe.limits)),
        ):
            for i, name in enumerate(names):
                for message, *others in problems(name):
                    yield fault(message, key, *others, item=i)

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
                yield fault(partial(_no_optimizer, name, optimizers), key, item=i)


def _no_operator(name: str, operators: Collection[str]) -> str:
    return "there is no such operator" + (suggestion(name, operators) or f"; there are {', '.join(operators)}")


def _no_optimizer(name: str, optimizers: Collection[str]) -> str:
    return f"the catalogue has no {shown(name)}" + (suggestion(name, optimizers) or "; `evo catalogue` lists the names")


def _file_problems(file: Path, limits: Limits) -> list[tuple[str, ...]]:
    """What is wrong with a genome file, and after each message the other keys in question."""
    if not os.path.isfile(file):  # of a path that no file can have, pathlib's own would raise
        return [(f"there is no file {file}",)]
    try:
        genome = read(file)
    except GenomeError as error:
        return [(problem,) for problem in error.problems]
    except OSError as error:
        return [(f"{file}: cannot be read: {error.strerror or error}",)]
    return [(f"{file}: {message}, or try evo genome simplify", key) for key, message in _excess(genome, limits)]


def _known_problems(known: Collection[str], limits: Limits, name: str) -> list[tuple[str, ...]]:
    """As `_file_problems`, of an optimizer of the catalogue; of a name that is not ``known``, nothing."""
    excess = _excess(catalogue.load(name), limits) if name in known else ()
    return [(f"{name} {message}, or leave it out", key) for key, message in excess]


def _excess(genome: Genome, limits: Limits) -> Iterator[tuple[str, str]]:
    """The key of the first limit that the genome exceeds, and what to say of it."""
    if found := exceeded(genome, limits):
        name, count = found
        key, most = f"limits.{name}", getattr(limits, name)
        yield key, f"has {count} {name}, more than the {most} of {key}: raise that"
