"""The recipe of a campaign: every key with its default, bounds and meaning (``search``: `search_settings`)."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, SerializeAsAny, create_model

from evo.recipe.search_settings import ALGORITHMS, Few, RacedEvolution, Settings, Share, Some
from evo.recipe.validation import Closed, shown
from evo.records import Purpose
from genomes.language.genome import MAX_TERMS
from harness.task import TRACKS

MAX_DEPTH = 64  # hidden layers
FIRST_LOOK = 8  # least instances of a trial before the gate looks at it
# after launch; all else fixes the results
MAY_CHANGE = frozenset({"generations", "lane_steps", "limits.seconds_per_lane"})


def _slug(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        raise ValueError(f"must be lower-case letters, digits, - and _ (at most 64), got {shown(name)}")
    return name


def _distinct(items: tuple) -> tuple:
    seen = set()
    for item in items:
        if item in seen:
            raise ValueError(f"{item} stands here a second time")
        seen.add(item)
    return items


Names = Annotated[tuple[str, ...], AfterValidator(_distinct)]
Depths = Annotated[tuple[Annotated[int, Field(ge=1, le=MAX_DEPTH)], ...], AfterValidator(_distinct)]
Factor = Annotated[int, Field(ge=-1_000_000, le=4_000)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Epochs = Annotated[int, Field(ge=1, le=10_000)]


class Difficulty(Closed):
    """Which instances are drawn."""

    depths: Depths = Field(default=TRACKS, min_length=1, description="hidden layers of the networks trained")
    sampler: Literal["stratified", "uniform", "curriculum"] = Field(
        default="stratified", description="how difficulties are drawn; curriculum goes from easy to hard"
    )
    accuracy_factors: tuple[Factor, Factor] = Field(
        default=(0, 0), description="task seed only: least and greatest; the target is (4 - factor / 1000) x noise"
    )


class Instances(Closed):
    """How many instances there are, by purpose."""

    search: Some = Field(
        default=20, description="fresh instances of a generation; a race goes through them a block at a time"
    )
    retest: Few = Field(
        default=5, description="genetic, regularized_evolution alone: further fresh instances for the best of them"
    )
    selection: Few = Field(
        default=10, description="for a champion without its calibration; genetic trains its elites on fixed ones too"
    )
    final: Some = Field(default=64, description="fixed instances that only `evo demo` touches, at its end")


class Gate(Closed):
    """What a genome must show on fresh instances before it becomes champion."""

    error_rate: float = Field(
        default=0.05, gt=0, le=0.5, description="chance that a challenger passes that is no better; any number of looks"
    )
    instances: Few = Field(
        default=96, description="most fresh instances of a trial; 0: no gate, the best estimate is champion"
    )
    look: Few = Field(
        default=0,
        description="instances of a trial between two looks; 0: a block, 8 at least; many suit a GPU",
    )
    confidence: Share = Field(
        default=0.9, description="probability of being better, by the evidence, from which on a challenger is tried"
    )


class Variation(Closed):
    """How children are made, whatever the algorithm."""

    crossover: Share = Field(default=0.5, description="probability that a child has two parents")
    weights: dict[str, Weight] = Field(default={}, description="frequencies of operators; others keep their own")


class Start(Closed):
    """The first generation."""

    catalogue: Names = Field(
        default=("adam", "adamw", "lion", "nadam", "rmsprop", "nesterov", "adan", "cautious_adamw"),
        description="known optimizers in the first generation; `evo catalogue` lists them",
    )
    genomes: Names = Field(default=(), description="genome files in it, relative to the recipe")
    random: Few = Field(default=8, description="random genomes in it; mutants of the others fill the rest")


class Limits(Closed):
    """Bounds on a genome and on a training."""

    nodes: int = Field(default=128, ge=4, le=2000, description="most nodes of a genome's expressions together")
    states: int = Field(default=6, ge=0, le=64, description="most state buffers, each as large as the model")
    terms: int = Field(default=4, ge=1, le=MAX_TERMS, description="most terms of a direction")
    seconds_per_lane: float = Field(
        default=3600.0,
        ge=1,
        le=1e6,
        description="running time after which a training, if alone, gets the status timeout",
    )


class Recipe(Closed):
    """Everything that a campaign's results depend on, but for the versions of harness and torch."""

    renamed: ClassVar = {"selection": "search"}

    recipe: Literal[1] = Field(default=1, description="version of this format")
    name: Annotated[str, AfterValidator(_slug)] = Field(description="name of the campaign")
    task: Literal["tig", "seed"] = Field(default="tig", description="tig: as deployed; seed: as written")
    seed: int = Field(default=0, ge=0, lt=2**62, description="all randomness of the campaign follows from it")
    population: int = Field(default=24, ge=2, le=100_000, description="individuals in a generation")
    generations: int = Field(default=20, ge=1, le=1_000_000, description="may be raised later, to go on")
    lane_steps: int = Field(
        default=0, ge=0, description="training steps of all lanes after which no generation begins; 0: no such end"
    )
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
    search: SerializeAsAny[Settings] = Field(default=RacedEvolution(), description="who survives")
    gate: Gate = Field(default=Gate(), description="who becomes champion")
    variation: Variation = Field(default=Variation(), description="how children are made")
    start: Start = Field(default=Start(), description="the first generation")
    baselines: Names = Field(default=("adam", "cautious_adanw"), description="known optimizers to measure by")
    limits: Limits = Field(default=Limits(), description="bounds on a genome and on a training")

    def ended(self, generations: int, lane_steps: int) -> bool:
        """Whether a campaign is over after so many complete generations and training steps."""
        return generations >= self.generations or 0 < self.lane_steps <= lane_steps

    def count(self, purpose: Purpose) -> int:
        """How many instances there are for a purpose; at most, for a trial of the gate."""
        return self.gate.instances if purpose is Purpose.GATE else getattr(self.instances, purpose.value)


@cache
def recipe_with(algorithm: str) -> type[Recipe]:
    """The recipe's form where ``search`` has the settings of ``algorithm``, a name of ALGORITHMS."""
    settings = ALGORITHMS[algorithm]
    field: Any = (settings, Field(default=settings(algorithm=algorithm), description="who survives"))
    return create_model("Recipe", __base__=Recipe, search=field)


def plain(recipe: Recipe) -> Recipe:
    """The same recipe as an instance of `Recipe` itself, so that equal recipes are equal."""
    return Recipe.model_construct(**{key: getattr(recipe, key) for key in Recipe.model_fields})
