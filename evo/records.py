"""The plain records that travel between search, workers, ledger and reports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple, Self

from genomes.language.genome import Genome, dump
from harness.result import Training
from harness.task import Instance

STANDARD_DEVIATIONS = 1.959963984540054  # on either side: 95 % of a normal distribution

FOUNDERS = ("catalogue", "genome", "random")  # operators of the individuals that a campaign begins with
ADDED = "added"  # operator of individuals that came from outside, while the campaign was under way


class Purpose(StrEnum):
    """What an instance is for. Seeds of different purposes never meet.

    ``search``: fresh instances for a generation; ``gate``: fresh ones for a challenger and those it must beat;
    ``share``: instances of the champion, for itself without its calibration of the outputs' mean; ``final``: those that
    no campaign trains on, for the comparison at the end. Of some algorithms: ``retest``, further fresh instances for
    the best of a generation, and ``selection``, fixed ones.
    """

    SEARCH = "search"
    RETEST = "retest"
    SELECTION = "selection"
    GATE = "gate"
    SHARE = "share"
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
    ``added``, ``elite``, or one of `evo.search.variation.registry`.
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

    @property
    def is_founder(self) -> bool:
        """Whether a campaign began with it: mutants of the first generation are none."""
        return self.generation == 0 and self.operator in FOUNDERS

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
class Estimate:
    """What is known of an expected quality, or of a difference of two. ``count``: instances behind it."""

    mean: float
    sd: float
    count: int

    @property
    def low(self) -> float:
        """The lower end of the 95 % interval."""
        return self.mean - STANDARD_DEVIATIONS * self.sd

    @property
    def high(self) -> float:
        """The upper end of the 95 % interval."""
        return self.mean + STANDARD_DEVIATIONS * self.sd

    @property
    def above_zero(self) -> float:
        """The probability that the value is above 0, for a normal distribution."""
        return 0.5 * math.erfc(-self.mean / (self.sd * math.sqrt(2))) if self.sd else float(self.mean > 0)

    def minus(self, other: Estimate) -> Estimate:
        """The difference to an independent estimate."""
        return Estimate(self.mean - other.mean, math.hypot(self.sd, other.sd), min(self.count, other.count))


class Observation(NamedTuple):
    """What a search keeps of one training. ``instance``: `Lane.key` without the hash.

    ``quality``: None where it did not finish, or has none.
    """

    hash: str
    instance: tuple
    quality: float | None


@dataclass(frozen=True)
class Fame:
    """An entry of the hall of fame: an individual with its estimated quality.

    ``since``: the generation that brought it in.
    """

    individual: Individual
    estimate: Estimate
    since: int


@dataclass(frozen=True)
class Champion:
    """The first of the hall of fame, in words.

    ``gain``: over the reference, the first baseline. ``expr``: its direction. ``founder``: the campaign began with it.
    """

    id: str
    name: str
    estimate: Estimate
    gain: Estimate | None
    expr: str
    founder: bool = False


@dataclass(frozen=True)
class Trial:
    """A challenger's test on fresh instances. ``rivals``: the individuals that it had to beat.

    ``gains``: its mean difference to each of them over the trial's instances. ``promoted``: it beat all of them.
    ``count``: instances of the trial; ``reason``: why it ended, for people.
    """

    challenger: str
    rivals: tuple[str, ...]
    gains: tuple[float, ...]
    count: int
    promoted: bool
    reason: str

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The trial of its fields by name, from JSON."""
        return cls(**{**values, "rivals": tuple(values["rivals"]), "gains": tuple(values["gains"])})


@dataclass(frozen=True)
class Statistics:
    """A complete generation in numbers: what live table, report and ledger show.

    ``best``: the estimate of the best of its individuals; ``gain``: what that is above the reference; None where all
    have failed. ``median``: of their estimates' means. ``baselines``: estimates of the recipe's baselines, by name.
    ``diverged``, ``distinct``: individuals with a failed training; programs. ``dismissed``: individuals that were not
    trained to the end of their race. ``trained``: lanes; ``lane_steps``: training steps of all lanes. ``trials``: that
    ended in it.
    """

    best: Estimate | None = None
    gain: Estimate | None = None
    median: float | None = None
    diverged: int = 0
    distinct: int = 0
    dismissed: int = 0
    trained: int = 0
    lane_steps: int = 0
    baselines: Mapping[str, Estimate | None] = field(default_factory=dict)
    champion: Champion | None = None
    trials: tuple[Trial, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of ``to_dict``."""
        champion = values["champion"]
        return cls(
            **{
                **values,
                "best": _estimate(values["best"]),
                "gain": _estimate(values["gain"]),
                "baselines": {name: _estimate(value) for name, value in values["baselines"].items()},
                "champion": champion
                and Champion(
                    **{**champion, "estimate": Estimate(**champion["estimate"]), "gain": _estimate(champion["gain"])}
                ),
                "trials": tuple(map(Trial.from_dict, values["trials"])),
            }
        )


def plain(value: Any) -> Any:
    """A record as plain data for people's programs: every estimate also has the ends of its 95 % interval."""
    if is_dataclass(value) and not isinstance(value, type):
        found = {each.name: plain(getattr(value, each.name)) for each in fields(value)}
        return found | {"low": value.low, "high": value.high} if isinstance(value, Estimate) else found
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def _estimate(values: Mapping[str, Any] | None) -> Estimate | None:
    return None if values is None else Estimate(**values)


@dataclass(frozen=True)
class Addition:
    """A genome that came from outside, while the campaign was under way.

    ``key``: its own, of its file in the inbox. ``text``: YAML. ``source``: a file, a known optimizer, or what a program
    said; ``by``: who added it; ``time``: when, ISO 8601. ``generation``: the one that it joined, from 0; None while it
    waits. ``id``: of the individual that it became; empty before.
    """

    key: str
    name: str
    text: str
    source: str
    by: str
    time: str
    generation: int | None = None
    id: str = ""

    @property
    def origin(self) -> str:
        """Where it comes from, in a few words."""
        return f"{self.source}, by {self.by}, {self.time}"


@dataclass(frozen=True)
class Generation:
    """A complete generation. ``number``: from 1. ``seconds``: wall time of its tells."""

    number: int
    statistics: Statistics
    seconds: float


def lane_steps(past: Iterable[Generation]) -> int:
    """Training steps of all lanes of the generations."""
    return sum(generation.statistics.lane_steps for generation in past)


@dataclass(frozen=True)
class Told:
    """What a search made of the results that it was told: the ledger saves one in one transaction.

    ``generation``: the one that asked, from 0. ``individuals``: those that came into being, with their ``fitness``
    (what the algorithm ranks them by at first, None for a failed one). ``statistics``: of the generation, where this
    completed it.
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

    @property
    def front(self) -> tuple[str, ...]:
        """Ids of those between which an algorithm with several objectives does not choose; empty for others."""
        return tuple(self.state.get("own", {}).get("front", ())) if self.state else ()
