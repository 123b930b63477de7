"""One run of a contestant on a landscape: it counts lanes, and notes what the contestant declares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from evo.randomness import key_bytes
from harness.sampling import sample_instances
from harness.task import Instance
from searching.landscape import LOST, Landscape

IDLE = 300  # requests in a row without a new training, after which a run is over


class OutOfBudget(Exception):
    """The next trainings do not fit the budget, or there are none any more: the run is over."""


@dataclass(frozen=True)
class Change:
    """A genome that is no founder took the champion's place, or tried to (``promoted``: whether it did).

    ``before``, ``after``: true quality of the champion and of the genome. ``founder``: of the best known founder.
    """

    before: float
    after: float
    founder: float
    promoted: bool = True

    @property
    def unworthy(self) -> bool:
        """Whether the genome is truly no better than the champion, or than the best founder."""
        return self.after <= max(self.before, self.founder)

    @property
    def false(self) -> bool:
        """Whether this is a false promotion."""
        return self.promoted and self.unworthy


@dataclass
class Play:
    """A run under way. ``declared``: (lanes, hash) of every champion; ``changes``: see `Change`. ``idle``: requests
    since the last new training.
    """

    landscape: Landscape
    seed: int
    budget: int
    lanes: int = 0
    declared: list[tuple[int, str]] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    _trained: set[tuple[str, bytes]] = field(default_factory=set)
    _blocks: int = 0
    idle: int = 0

    def train(self, wanted: Iterable[tuple[str, Instance]]) -> list[float | None]:
        """Train genomes, by hash. Raises OutOfBudget; a training that was done before costs nothing."""
        wanted = list(wanted)
        new = {(hash, instance.seed) for hash, instance in wanted} - self._trained
        self.idle = 0 if new else self.idle + 1
        if self.lanes + len(new) > self.budget or self.idle > IDLE:
            raise OutOfBudget
        self.lanes += len(new)
        self._trained |= new
        return [self.landscape.quality(hash, instance) for hash, instance in wanted]

    def qualities(self, hash: str, instances: Sequence[Instance]) -> list[float]:
        """As `train`, of one genome; what has no quality counts as LOST."""
        return [LOST if q is None else q for q in self.train((hash, instance) for instance in instances)]

    def fresh(self, count: int) -> list[Instance]:
        """Instances that were not seen yet, the same number of each depth or nearly."""
        self._blocks += 1
        key = key_bytes(self.seed, self._blocks, "peer")
        return sample_instances("tig", count=count, key=key, purpose="search", depths=self.landscape.depths)

    def declare(self, hash: str, founder: bool, change: bool = True) -> None:
        """Name the champion; ``founder``: whether it is one. ``change``: note it as a promotion where it is not."""
        if self.declared and self.declared[-1][1] == hash:
            return
        if change and self.declared and not founder:
            self.noted(self.declared[-1][1], hash, True)
        self.declared.append((self.lanes, hash))

    def noted(self, champion: str, challenger: str, promoted: bool) -> None:
        """Note that a genome was held against the champion."""
        truth = self.landscape.truth
        self.changes.append(Change(truth(champion), truth(challenger), self.landscape.best_founder, promoted))
