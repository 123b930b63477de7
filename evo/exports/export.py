"""What is exported: a genome, where it comes from, and what was measured of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from evo.exports.submission import Submission
from genomes.language.genome import Genome


@dataclass(frozen=True)
class Measured:
    """Results that a header quotes. ``where``: task, depths, epochs. ``rows``: who, and its quality in words."""

    where: str
    rows: tuple[tuple[str, str], ...]
    caution: str = ""

    def mapped(self, change: Callable[[str], str]) -> Measured:
        """The same with every text changed."""
        rows = tuple((change(label), change(value)) for label, value in self.rows)
        return Measured(change(self.where), rows, change(self.caution))


@dataclass(frozen=True)
class Export:
    """A genome to be exported. ``origin``: where it comes from, in one sentence. ``earned``: what each part earns.

    ``submission``: what its submitter says, for the formats that want it. ``tracks``: genomes for other depths of the
    network, (numbers of hidden layers, genome).
    """

    genome: Genome
    origin: str = ""
    measured: Measured | None = None
    earned: Measured | None = None
    submission: Submission | None = None
    tracks: tuple[tuple[tuple[int, ...], Genome], ...] = ()

    def quoted(self, change: Callable[[str], str]) -> Export:
        """The same with what it quotes changed: origin and results."""
        measured, earned = (found and found.mapped(change) for found in (self.measured, self.earned))
        return replace(self, origin=change(self.origin), measured=measured, earned=earned)
