"""The settings of each search algorithm: what stands under ``search`` in a recipe.

An algorithm is a class here, whose default of ``algorithm`` is its name, and the module ``evo.search.<name>`` (see
`evo.search.protocol`); both are found by that name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from evo.recipe.validation import Closed

Contradiction = tuple[str, tuple[str, ...]]  # what is wrong, and the keys in question: of the section, or `population`

Share = Annotated[float, Field(ge=0, le=1)]
Few = Annotated[int, Field(ge=0, le=1000)]
Some = Annotated[int, Field(ge=1, le=4096)]


class Settings(Closed):
    """What every algorithm has."""

    algorithm: str

    def contradictions(self, population: int) -> Iterator[Contradiction]:
        """What keys that are sound one by one get wrong together."""
        return iter(())


class RacedEvolution(Settings):
    """Evolution of structure and constants by races: `evo.search.raced_evolution`."""

    algorithm: Literal["raced_evolution"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]  it is frozen
        default="raced_evolution", description="how the next genomes are chosen"
    )
    islands: Annotated[int, Field(ge=1, le=64)] = Field(default=2, description="populations that evolve apart")
    migration: Some = Field(default=4, description="generations between two migrations of an island's best")
    tournament: Some = Field(default=3, description="individuals per tournament; more is greedier")
    keep: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.5, description="share of a race that trains on the next block of instances"
    )
    tuning: Share = Field(default=0.5, description="most children that tune the constants of the best structures")
    credit: bool = Field(default=True, description="operators whose children beat their parents are chosen more often")
    parsimony: Share = Field(default=0.0, description="quality subtracted per node of a genome")

    def contradictions(self, population: int) -> Iterator[Contradiction]:
        """See `Settings.contradictions`."""
        if 2 * self.islands > population:
            yield f"{self.islands} is more than half of the population of {population}", ("islands", "population")


class Genetic(Settings):
    """A genetic algorithm on paired instances: `evo.search.genetic`."""

    algorithm: Literal["genetic"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]  it is frozen
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


ALGORITHMS: dict[str, type[Settings]] = {
    settings.model_fields["algorithm"].default: settings for settings in Settings.__subclasses__()
}
