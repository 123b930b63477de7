"""The plain records that travel from the search to the evaluator, the ledger and the reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.result import Training
from harness.task import Instance


@dataclass(frozen=True)
class Individual:
    """One member of a generation: a genome, where it came from, and the operator that made it.

    ``genome``: canonical YAML text. ``hash``: semantic hash, equal for genomes that act alike. ``parents``: ids of
    the individuals that it was made from (empty for the first generation). ``operator``: for example
    ``catalogue``, ``random``, ``elite``, ``crossover_terms``, ``mutate_constant``.
    """

    generation: int
    index: int
    name: str
    genome: str
    hash: str
    parents: tuple[str, ...] = ()
    operator: str = ""

    @property
    def id(self) -> str:
        return f"g{self.generation}i{self.index}"


@dataclass(frozen=True)
class Lane:
    """One training to be done: an optimizer on an instance for at most ``epochs`` epochs.

    ``text``: what a worker is given, a genome's YAML or a foreign submission (see `evo.evaluation.targets`).
    """

    hash: str
    text: str
    instance: Instance
    epochs: int

    @property
    def key(self) -> tuple[str, str, int, str, str, int, int]:
        """Everything that the result depends on, within one numerics version."""
        i = self.instance
        return self.hash, i.task, i.num_hidden_layers, i.seed.hex(), i.init, i.accuracy_factor, self.epochs


@dataclass(frozen=True)
class Request:
    """What the search asks for: all ``lanes``, for one ``purpose``.

    ``purpose``: ``search`` (ranks a generation), ``retest`` (fresh instances for contenders), ``selection`` (the
    fixed instances of the hall of fame). The answer is a dict ``Lane.key -> Training``.
    """

    purpose: str
    lanes: tuple[Lane, ...]


Results = dict[tuple[str, str, int, str, str, int, int], Training]


@dataclass(frozen=True)
class Fame:
    """A place in the hall of fame: an individual with its mean quality on the campaign's fixed selection instances."""

    individual: Individual
    quality: float
    since: int  # the generation that brought it in


@dataclass(frozen=True)
class SearchState:
    """All that the next generation depends on: what a checkpoint must hold.

    ``generation``: how many generations are complete. ``population``: the individuals of the last one, best first.
    ``fitness``: their mean quality on its search instances, None for a diverged one. ``elites``: ids of those that
    passed the retest. ``statistics``: what the live table and the report show of the last generation (plain JSON
    data).
    """

    generation: int = 0
    population: tuple[Individual, ...] = ()
    fitness: tuple[float | None, ...] = ()
    elites: tuple[str, ...] = ()
    hall_of_fame: tuple[Fame, ...] = ()
    statistics: dict[str, Any] = field(default_factory=dict)
