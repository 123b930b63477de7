"""The settings of each search algorithm, and its preset recipe: what stands under ``search`` in a recipe.

An algorithm is a class here, whose default of ``algorithm`` is its name, and the module ``evo.search.<name>`` (see
`evo.search.protocol`); both are found by that name. They stand apart because recipes are read by programs that search
nothing, and before packages that a search alone needs are known to be there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from evo.recipe.validation import Closed

Contradiction = tuple[str, tuple[str, ...]]  # what is wrong, and the keys in question: of the section, or `population`

Share = Annotated[float, Field(ge=0, le=1)]
Few = Annotated[int, Field(ge=0, le=1000)]
Some = Annotated[int, Field(ge=1, le=4096)]


class Settings(Closed):
    """What every algorithm has.

    ``preset``: the keys of a recipe that are not at their defaults where `evo new --algorithm` writes one.
    """

    preset: ClassVar[Mapping[str, Any]] = {}

    algorithm: str  # frozen, so that subclasses may narrow it

    @classmethod
    def hint(cls, key: str) -> str:
        """Which other algorithms have a key."""
        having = [name for name, settings in ALGORITHMS.items() if key in settings.model_fields]
        return f"write algorithm: {' or '.join(having)} beside it" if having else ""

    def contradictions(self, population: int) -> Iterator[Contradiction]:
        """What keys that are sound one by one get wrong together."""
        return iter(())


class RacedEvolution(Settings):
    """Evolution of structure and constants by races: `evo.search.raced_evolution`."""

    algorithm: Literal["raced_evolution"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="raced_evolution", description="how the next genomes are chosen"
    )
    islands: Annotated[int, Field(ge=1, le=64)] = Field(default=1, description="populations that evolve apart")
    migration: Some = Field(default=4, description="generations between two migrations of an island's best")
    tournament: Some = Field(default=3, description="individuals per tournament; more is greedier")
    keep: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.25, description="share of a race that trains on the next block of instances"
    )
    tuning: Share = Field(
        default=0.5, description="most children that tune the constants of the best structures; fewer at first"
    )
    members: Annotated[float, Field(gt=0, le=16)] = Field(
        default=1.5, description="most individuals that live on, as a multiple of the population"
    )
    age: Some = Field(default=8, description="generations that an individual lives at most")
    proposals: Annotated[int, Field(ge=1, le=64)] = Field(
        default=4, description="children bred for each one that trains; a model of the trainings so far chooses"
    )
    credit: bool = Field(default=True, description="operators whose children beat their parents are chosen more often")
    parsimony: Share = Field(default=0.0, description="quality subtracted per node of a genome")

    def contradictions(self, population: int) -> Iterator[Contradiction]:
        """See `Settings.contradictions`."""
        if 2 * self.islands > population:
            yield f"{self.islands} is more than half of the population of {population}", ("islands", "population")


class Genetic(Settings):
    """A genetic algorithm on paired instances: `evo.search.genetic`."""

    preset: ClassVar = {"instances": {"search": 5}}

    algorithm: Literal["genetic"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="genetic", description="how the next genomes are chosen"
    )
    tournament: Some = Field(default=3, description="individuals per tournament; more is greedier")
    elites: Few = Field(default=2, description="best individuals that stay, if the retest confirms them")
    contenders: Few = Field(default=4, description="best individuals that are retested")
    parsimony: Share = Field(default=0.0, description="quality subtracted per node of a genome")

    def contradictions(self, population: int) -> Iterator[Contradiction]:
        """See `Settings.contradictions`."""
        if self.tournament > population:
            yield f"{self.tournament} is more than the population of {population}", ("tournament", "population")
        if self.elites >= population:
            message = f"{self.elites} leaves no room for children in a population of {population}"
            yield message, ("elites", "population")
        elif not self.elites <= self.contenders <= population:
            message = f"must lie between elites ({self.elites}) and population ({population})"
            yield message, ("contenders", "elites", "population")
        elif not self.contenders:
            yield "0 lets nobody into the hall of fame, so that there is no champion; write at least 1", ("contenders",)


class EvolvingOptimizers(Settings):
    """The genetic algorithm of "Evolving Deep Learning Optimizers", in its own genome form."""

    preset: ClassVar = {
        "population": 50,
        "generations": 50,
        "instances": {"search": 5},
        "start": {"catalogue": [], "random": 46},
    }

    algorithm: Literal["evolving_optimizers"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="evolving_optimizers", description="how the next genomes are chosen"
    )
    tournament: Some = Field(default=4, description="individuals per tournament; more is greedier")
    elites: Few = Field(default=3, description="best individuals that stay as they are, and train again")
    numbers: Share = Field(default=0.35, description="probability that a number mutates, at first")
    structure: Share = Field(default=0.15, description="probability that a term comes, goes or changes, at first")
    flags: Share = Field(default=0.1, description="probability that a flag flips, at first")
    step: Annotated[float, Field(gt=0, le=10)] = Field(
        default=0.3, description="deviation of a number's step, at first"
    )
    annealing: Some = Field(default=50, description="generations in which these four fall to half")

    def contradictions(self, population: int) -> Iterator[Contradiction]:
        """See `Settings.contradictions`."""
        if self.tournament > population:
            yield f"{self.tournament} is more than the population of {population}", ("tournament", "population")
        if self.elites >= population:
            message = f"{self.elites} leaves no room for children in a population of {population}"
            yield message, ("elites", "population")


class RegularizedEvolution(Settings):
    """Aging evolution: the oldest die, and not the worst."""

    preset: ClassVar = {"population": 100, "generations": 60, "instances": {"search": 5}}

    algorithm: Literal["regularized_evolution"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="regularized_evolution", description="how the next genomes are chosen"
    )
    sample: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.25, description="share of the living in a tournament, drawn with replacement"
    )
    children: Some = Field(default=25, description="children of a generation; as many of the oldest die")
    funnel: Share = Field(default=0.25, description="share of the children that trains on the retest instances too")
    restart: Few = Field(
        default=0, description="generations between restarts, in turn from the founders and from the best; 0: none"
    )

    def contradictions(self, population: int) -> Iterator[Contradiction]:
        """See `Settings.contradictions`."""
        if self.children > population:
            yield f"{self.children} is more than the population of {population}", ("children", "population")


class Nsga2(Settings):
    """NSGA-II with a dynamic population: quality against operations per step and states."""

    preset: ClassVar = {"population": 48, "generations": 40, "instances": {"search": 5}}

    algorithm: Literal["nsga2"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="nsga2", description="how the next genomes are chosen"
    )
    least: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.5, description="least individuals that live on, as a share of the population"
    )
    most: Annotated[float, Field(ge=1, le=10)] = Field(
        default=2.0, description="most of them, as a multiple of the population; between, twice the front"
    )


class PlusSelection(Settings):
    """A (mu + lambda) evolution strategy: parents compete with their children; lambda is the population."""

    preset: ClassVar = {"population": 35, "generations": 40, "instances": {"search": 5}}

    algorithm: Literal["plus_selection"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="plus_selection", description="how the next genomes are chosen"
    )
    parents: Some = Field(default=5, description="mu: best individuals that live on, and train again")


class CommaSelection(Settings):
    """A (mu, lambda) evolution strategy: parents die; lambda is the population."""

    preset: ClassVar = {"population": 35, "generations": 40, "instances": {"search": 5}}

    algorithm: Literal["comma_selection"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="comma_selection", description="how the next genomes are chosen"
    )
    parents: Some = Field(default=5, description="mu: best children that are the next parents")

    def contradictions(self, population: int) -> Iterator[Contradiction]:
        """See `Settings.contradictions`."""
        if self.parents >= population:
            yield f"{self.parents} of {population} children leave nothing to choose", ("parents", "population")


class MapElites(Settings):
    """MAP-Elites: the best of each cell of a grid, cost against memory. Needs the package ribs."""

    preset: ClassVar = {"population": 32, "generations": 60, "instances": {"search": 5}}

    algorithm: Literal["map_elites"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="map_elites", description="how the next genomes are chosen"
    )
    cost_cells: Some = Field(default=8, description="cells of the grid by operations per step, on a log scale")
    memory_cells: Some = Field(default=8, description="cells by how far updates look back, from 0 to 1")

    def contradictions(self, population: int) -> Iterator[Contradiction]:
        """See `Settings.contradictions`."""
        if find_spec("ribs") is None:
            yield RIBS_IS_MISSING, ("algorithm",)


RIBS_IS_MISSING = "map_elites needs the package ribs; install it with: pip install 'evo-optimizers[ribs]'"


class ConstantsOnly(Settings):
    """An evolution strategy on the numbers of the founders: structures stay as they are."""

    preset: ClassVar = {"population": 32, "generations": 40, "instances": {"search": 5}, "start": {"random": 0}}
    least_population: ClassVar = 5  # two pairs of samples, and the mean that they are drawn about

    algorithm: Literal["constants_only"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="constants_only", description="how the next genomes are chosen"
    )
    step: Annotated[float, Field(gt=0, le=10)] = Field(
        default=1.0, description="standard deviation of the samples: 1 is a factor of 2 for a learning rate"
    )

    def contradictions(self, population: int) -> Iterator[Contradiction]:
        """See `Settings.contradictions`."""
        if population < self.least_population:
            yield f"must be at least {self.least_population} for a round of samples, got {population}", ("population",)


class RandomSearch(Settings):
    """Random genomes, and mutants of founders: what any search must beat."""

    preset: ClassVar = {"population": 32, "generations": 40, "instances": {"search": 5}}

    algorithm: Literal["random_search"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="random_search", description="how the next genomes are chosen"
    )
    mutants: Share = Field(default=0.0, description="share of the genomes that are mutants of founders, not random")


ALGORITHMS: dict[str, type[Settings]] = {
    settings.model_fields["algorithm"].default: settings for settings in Settings.__subclasses__()
}
