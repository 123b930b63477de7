"""The recipe of a campaign: every key with its default, bounds and meaning, read from YAML with exact errors.

All mistakes of a recipe are reported at once, each as ``file:line: key: what is wrong``; one that came in
through ``--set KEY=VALUE`` names that instead of a line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from evo.errors import UsageError
from evo.recipe.rules import Known, contradictions
from evo.recipe.validation import Closed, flat, shown, validate
from genomes import strict_yaml
from genomes.strict_yaml import YamlError
from harness.task import TRACKS

MAY_CHANGE = frozenset({"generations", "limits.seconds_per_lane"})  # after launch; all else fixes the results


class RecipeError(UsageError):
    """A recipe that we refuse: ``errors`` holds one line for each mistake, ``str()`` all of them."""

    def __init__(self, errors: Sequence[str]):
        super().__init__("\n".join(errors))
        self.errors = tuple(errors)


def _slug(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        raise ValueError(f"must be lower-case letters, digits, - and _ (at most 64), got {name!r}")
    return name


def _distinct(items: tuple) -> tuple:
    repeated = next((item for i, item in enumerate(items) if item in items[:i]), None)
    if repeated is not None:
        raise ValueError(f"{repeated} stands here a second time")
    return items


Names = Annotated[tuple[str, ...], AfterValidator(_distinct)]
Depths = Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], AfterValidator(_distinct)]
Factor = Annotated[int, Field(ge=-1_000_000, le=4_000)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Share = Annotated[float, Field(ge=0, le=1)]
Few = Annotated[int, Field(ge=0, le=1000)]
Some = Annotated[int, Field(ge=1, le=4096)]
Epochs = Annotated[int, Field(ge=1, le=10_000)]


class Difficulty(Closed):
    depths: Depths = Field(default=TRACKS, min_length=1, description="hidden layers of the networks trained")
    sampler: Literal["stratified", "uniform", "curriculum"] = Field(
        default="stratified", description="how difficulties are drawn; curriculum goes from easy to hard"
    )
    accuracy_factors: tuple[Factor, Factor] = Field(
        default=(0, 0), description="task seed only: least and greatest; the target is (4 - factor / 1000) x noise"
    )


class Instances(Closed):
    search: Some = Field(default=5, description="instances that rank a generation, fresh in each")
    retest: Few = Field(default=5, description="fresh instances on which contenders prove themselves")
    selection: Some = Field(default=10, description="fixed instances that rank the hall of fame")
    final: Some = Field(default=64, description="fixed instances that only `evo compare` touches")


class Selection(Closed):
    tournament: Some = Field(default=3, description="individuals in a tournament; more is greedier")
    elites: Few = Field(default=2, description="best individuals that stay, if the retest confirms them")
    contenders: Few = Field(default=4, description="best individuals that are retested")
    parsimony: Share = Field(default=0.0, description="quality subtracted for each node of a genome")


class Variation(Closed):
    crossover: Share = Field(default=0.5, description="probability that a child has two parents")
    weights: dict[str, Weight] = Field(default={}, description="operators' frequencies; 1 if not named")


class Start(Closed):
    catalogue: Names = Field(
        default=("adam", "adamw", "lion", "nadam", "rmsprop", "nesterov", "adan", "cautious_adamw"),
        description="known optimizers in the first generation; `evo catalogue` lists them",
    )
    genomes: Names = Field(default=(), description="genome files in it, relative to the recipe")
    random: Few = Field(default=8, description="random genomes in it; mutants of the others fill the rest")


class Limits(Closed):
    nodes: int = Field(default=128, ge=4, le=2000, description="most nodes of a genome's expressions together")
    states: int = Field(default=6, ge=0, le=64, description="most state buffers, each as large as the model")
    terms: int = Field(default=4, ge=1, le=32, description="most terms of a direction")
    seconds_per_lane: float = Field(
        default=3600.0, ge=1, le=1e6, description="wall time after which a training, if alone, gets the status timeout"
    )


class Recipe(Closed):
    """Everything that a campaign's results depend on, but for the versions of harness and torch."""

    recipe: Literal[1] = Field(default=1, description="version of this format")
    name: Annotated[str, AfterValidator(_slug)] = Field(description="name of the campaign")
    task: Literal["tig", "seed"] = Field(default="tig", description="tig: as deployed; seed: as written")
    seed: int = Field(default=0, ge=0, lt=2**62, description="all randomness of the campaign follows from it")
    population: int = Field(default=24, ge=2, le=100_000, description="individuals in a generation")
    generations: int = Field(default=20, ge=1, le=1_000_000, description="may be raised later, to go on")
    epochs: Epochs = Field(default=100, description="most epochs of a training")
    patience: Epochs = Field(default=50, description="epochs without improvement that end a training")
    precision: Literal["float32", "tf32"] = Field(
        default="float32", description="of matrix products; tf32 (GPUs alone) rounds their factors to 10 bits"
    )
    init: Literal["per_layer", "shared"] = Field(
        default="per_layer", description="initial weights: a seed for each layer, or one for all"
    )
    difficulty: Difficulty = Field(default=Difficulty(), description="which instances are drawn")
    instances: Instances = Field(default=Instances(), description="how many of them, by purpose")
    selection: Selection = Field(default=Selection(), description="who survives")
    variation: Variation = Field(default=Variation(), description="how children are made")
    start: Start = Field(default=Start(), description="the first generation")
    baselines: Names = Field(default=("adam", "cautious_adanw"), description="known optimizers to measure by")
    limits: Limits = Field(default=Limits(), description="bounds on a genome and on a training")

    def located(self, folder: Path) -> Recipe:
        """The same recipe with the paths of start.genomes made absolute, as seen from ``folder``."""
        paths = tuple(str((folder / path).resolve()) for path in self.start.genomes)
        return self.model_copy(update={"start": self.start.model_copy(update={"genomes": paths})})


def load(
    path: Path, overrides: Sequence[str] = (), *, launched: Recipe | None = None, known: Known | None = None
) -> Recipe:
    """Read the recipe at ``path``, with ``overrides`` (``KEY=VALUE``) applied. Raises RecipeError; OSError.

    ``launched``: the recipe of a campaign under way; it fills in what the file leaves out, so that a default
    that changes between versions changes no campaign.
    """
    try:
        document = strict_yaml.load(path)
    except YamlError as error:
        raise RecipeError([str(error)]) from None
    if not isinstance(document.value, dict):
        found = "is empty" if document.value is None else "is not a mapping"
        raise RecipeError([f"{document.source}:1: recipe: the file {found}; it needs at least name: ..."])
    value: Any = document.value if launched is None else _merged(launched.model_dump(mode="json"), document.value)
    applied: list[_Override] = []
    errors = []
    for text in overrides:
        try:
            override = _Override.parse(text)
            value = _replaced(value, override.path, override.value)
            applied.append(override)
        except ValueError as error:
            errors.append(f"--set {text}: {error}")
    recipe, faults = validate(Recipe, value, fallback={"name": "unnamed"})
    if recipe is not None:
        wrong = [fault.path for fault in faults]
        folder = path.parent if launched is None else None  # later, its genomes have been read
        for keys, fault in contradictions(recipe, folder, known or Known(_operators, _catalogue)):
            if not any(_related(key, path) for key in keys for path in wrong):
                faults.append(fault)
    places = [(_place(document, applied, fault.path), fault) for fault in faults]
    errors += [f"{where}: {fault}" for (_, where), fault in sorted(places, key=lambda item: item[0][0])]
    if errors or recipe is None:
        raise RecipeError(errors)
    return recipe


def named(name: str) -> Recipe:
    """The recipe with all defaults. Raises RecipeError where the name is not one."""
    recipe, faults = validate(Recipe, {"name": name}, fallback={"name": "unnamed"})
    if recipe is None or faults:
        raise RecipeError([str(fault) for fault in faults])
    return recipe


def from_text(text: str) -> Recipe:
    """The recipe that ``dump`` wrote. Raises RecipeError."""
    try:
        value = strict_yaml.parse(text, "stored recipe").value
    except YamlError as error:
        raise RecipeError([str(error)]) from None
    recipe, faults = validate(Recipe, value if isinstance(value, dict) else {}, fallback={"name": "unnamed"})
    if recipe is None or faults:
        raise RecipeError([f"stored recipe: {fault}" for fault in faults])
    return recipe


def dump(recipe: Recipe, comments: bool = False) -> str:
    """YAML text with every key; ``from_text(dump(r)) == r``. ``comments`` adds each key's meaning."""
    return "\n".join(_lines(recipe, "", comments)) + "\n"


@dataclass(frozen=True)
class Change:
    """A key whose value differs between two recipes. ``allowed``: a campaign under way may take it."""

    key: str
    before: Any
    after: Any
    allowed: bool

    def __str__(self) -> str:
        return f"{self.key}: {shown(self.before)} -> {shown(self.after)}"


def changes(before: Recipe, after: Recipe) -> list[Change]:
    """What differs between two recipes, in the order of the recipe's keys."""
    old, new = flat(before), flat(after)
    allowed = MAY_CHANGE
    if before.difficulty.sampler == "curriculum":
        allowed = allowed - {"generations"}  # difficulty follows generation / generations
    return [Change(key, old[key], new[key], key in allowed) for key in old if old[key] != new[key]]


def _operators() -> Collection[str]:
    from evo.search.variation.registry import OPERATORS  # brings in deap, which most recipes need not wait for

    return tuple(OPERATORS)


def _catalogue() -> Collection[str]:
    from genomes import catalogue

    return catalogue.names()


_Key = tuple[str, ...]


@dataclass(frozen=True)
class _Override:
    text: str
    path: _Key
    value: Any

    @classmethod
    def parse(cls, text: str) -> _Override:
        key, equals, value = text.partition("=")
        path = tuple(key.strip().split("."))
        if not equals or not all(path):
            raise ValueError("write KEY=VALUE, for example population=12 or difficulty.depths=[4,7]")
        try:
            return cls(text, path, strict_yaml.parse(value, key).value)
        except YamlError as error:
            raise ValueError(f"{key}: {error.message}") from None


def _replaced(value: Any, path: _Key, new: Any) -> Any:
    if not path:
        return new
    if not isinstance(value, dict | None):
        raise ValueError(f"{path[0]}: there are no keys here, only the value {shown(value)}")
    value = dict(value or {})
    value[path[0]] = _replaced(value.get(path[0]), path[1:], new)
    return value


def _merged(base: Any, value: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(value, dict):
        return value
    return {key: _merged(base.get(key), value[key]) if key in value else base[key] for key in {**base, **value}}


def _place(document: strict_yaml.Document, overrides: Sequence[_Override], path: tuple) -> tuple[tuple, str]:
    """Where ``path`` was given, last override first: a key to sort by, and the words for it."""
    for number, override in reversed(list(enumerate(overrides))):
        if _related(override.path, path):
            return (1, number), f"--set {override.text}"
    lines = {tuple(map(str, place)): line for place, line in document.lines.items()}  # pydantic names a key 5 "5"
    place = tuple(map(str, path))
    while place not in lines:
        place = place[:-1]
    return (0, lines[place]), f"{document.source}:{lines[place]}"


def _related(path: tuple, other: tuple) -> bool:
    return all(a == b for a, b in zip(path, other, strict=False))


def _yaml(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./-]*", value) and strict_yaml.scalar(value) == value:
        return value
    if isinstance(value, list | tuple):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_yaml(key)}: {_yaml(item)}' for key, item in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)


def _lines(section: Closed, indent: str, comments: bool) -> Iterator[str]:
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        text = f"{indent}{key}:" if isinstance(value, Closed) else f"{indent}{key}: {_yaml(value)}"
        yield f"{text:<34}  # {field.description}" if comments else text
        if isinstance(value, Closed):
            yield from _lines(value, indent + "  ", comments)
