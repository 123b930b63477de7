"""The plain records that travel between search, workers, ledger and reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Self

from genomes.language.genome import Genome, dump
from harness.result import Training
from harness.task import Instance


class Purpose(StrEnum):
    """What an instance is for. Seeds of different purposes never meet.

    ``search`` ranks a generation; ``retest``: fresh instances for the best of it; ``selection``: the fixed instances
    of the hall of fame; ``final``: those that no campaign trains on, for the comparison at the end.
    """

    SEARCH = "search"
    RETEST = "retest"
    SELECTION = "selection"
    FINAL = "final"


Key = tuple[str, str, int, str, str, int, int]  # see Lane.key


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
    def key(self) -> Key:
        """Everything that the result depends on, within one numerics version."""
        i = self.instance
        return self.hash, i.task, i.num_hidden_layers, i.seed.hex(), i.init, i.accuracy_factor, self.epochs


Results = dict[Key, Training]


@dataclass(frozen=True)
class Individual:
    """One member of a generation: a genome, where it came from, and the operator that made it.

    ``hash``: its identity (`genomes.compiler.identity`), equal for equal programs. ``parents``: ids of the individuals
    that it was made from (empty for the first generation). ``operator``: ``catalogue``, ``genome``, ``random``,
    ``elite``, or one of `evo.search.variation.registry`.
    """

    generation: int
    index: int
    genome: Genome
    hash: str
    parents: tuple[str, ...] = ()
    operator: str = ""

    @property
    def id(self) -> str:
        """``g<generation>i<index>``, unique within a campaign."""
        return f"g{self.generation}i{self.index}"

    @property
    def name(self) -> str:
        """The genome's name."""
        return self.genome.name

    @cached_property
    def text(self) -> str:
        """The genome's YAML, for workers and the ledger."""
        return dump(self.genome)

    def lane(self, instance: Instance, epochs: int) -> Lane:
        """Its training on ``instance``."""
        return Lane(self.hash, self.text, instance, epochs)


@dataclass(frozen=True)
class Request:
    """The trainings that a search asks for at once: each of ``lanes``, for one purpose.

    The answer is the training of every lane, by `Lane.key`.
    """

    purpose: Purpose
    lanes: tuple[Lane, ...]

    @classmethod
    def crossed(
        cls, purpose: Purpose, individuals: Iterable[Individual], instances: Sequence[Instance], epochs: int
    ) -> Self:
        """Every individual on every instance; those with equal programs are trained once."""
        distinct = {individual.hash: individual for individual in individuals}
        lanes = (member.lane(instance, epochs) for instance in instances for member in distinct.values())
        return cls(purpose, tuple(lanes))

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The instances, each once, in order."""
        return tuple(dict.fromkeys(lane.instance for lane in self.lanes))


def trainings(results: Results, individual: Individual, instances: Iterable[Instance], epochs: int) -> list[Training]:
    """What ``results`` hold of an individual, by instance. Raises KeyError where one is missing."""
    return [results[individual.lane(instance, epochs).key] for instance in instances]


@dataclass(frozen=True)
class Fame:
    """An entry of the hall of fame: an individual with its mean quality on the fixed selection instances.

    ``since``: the generation that brought it in.
    """

    individual: Individual
    quality: float
    since: int


@dataclass(frozen=True)
class Champion:
    """The best of the hall of fame, in words. ``expr``: its direction u."""

    id: str
    name: str
    quality: float
    expr: str


@dataclass(frozen=True)
class Statistics:
    """A complete generation in numbers: what live table, report and ledger show.

    ``best``, ``median``, ``mean``, ``worst``: of the individuals' mean qualities on the generation's search
    instances, None where all diverged. ``baselines``: the same of the recipe's baselines, by name. ``diverged``,
    ``distinct``: individuals without a quality; programs. ``trained``: lanes asked for; ``saved``: lanes more, had
    equal programs been trained apart. ``selection_best``: the champion's quality on the selection instances.
    """

    best: float | None = None
    median: float | None = None
    mean: float | None = None
    worst: float | None = None
    diverged: int = 0
    distinct: int = 0
    trained: int = 0
    saved: int = 0
    baselines: Mapping[str, float | None] | None = None
    selection_best: float | None = None
    champion: Champion | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self) | {"baselines": dict(self.baselines or {})}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of ``to_dict``."""
        champion = values.get("champion")
        return cls(**{**values, "champion": Champion(**champion) if champion else None})


@dataclass(frozen=True)
class Generation:
    """A complete generation. ``number``: from 1. ``seconds``: wall time of its tells."""

    number: int
    statistics: Statistics
    seconds: float


@dataclass(frozen=True)
class Told:
    """What a search made of the results that it was told: the ledger saves one in one transaction.

    ``generation``: the one that asked, from 0. ``individuals``: those that came into being, with their ``fitness``
    (mean quality, None for a diverged one). ``statistics``: of the generation, where this completed it.
    """

    generation: int
    purpose: Purpose
    individuals: tuple[Individual, ...] = ()
    fitness: tuple[float | None, ...] = ()
    statistics: Statistics | None = None


@dataclass(frozen=True)
class Checkpoint:
    """From where a search goes on. ``generation``: how many are complete. ``state``: the search's own, plain JSON."""

    generation: int = 0
    hall_of_fame: tuple[Fame, ...] = ()
    state: Any = None
