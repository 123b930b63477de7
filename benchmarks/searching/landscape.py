"""What a landscape is: it knows the true quality of every genome, and answers a training at once, noise included."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from hashlib import blake2b
from typing import Any

from evo.recipe.reader import from_text
from evo.recipe.schema import Recipe
from evo.search.breeding import Breeder
from harness.task import Instance

LOST = -1.0  # what a training without a quality counts as, in the truth and for those that take no missing values


def drawn(*parts: str | bytes | int) -> int:
    """64 random bits that follow from ``parts``."""
    text = b"/".join(part if isinstance(part, bytes) else str(part).encode() for part in parts)
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


def uniform(*parts: str | bytes | int) -> float:
    """A random number from 0 to 1, 1 excluded, that follows from ``parts``."""
    return drawn(*parts) / 2**64


class Landscape(ABC):
    """Genomes and their qualities. Genomes are named by the hash that ``breeder`` gives them.

    ``founders``: known optimizers that a search begins with, and how many ``random`` genomes beside them.
    ``constants``: whether genomes have numbers to tune.
    """

    name: str
    depths: tuple[int, ...]
    founders: tuple[str, ...]
    random: int
    constants: bool

    @abstractmethod
    def breeder(self, recipe: Recipe) -> Breeder:
        """Makes this landscape's genomes."""

    @abstractmethod
    def truth(self, hash: str) -> float:
        """The expected quality of a genome that a breeder of this landscape has made."""

    @abstractmethod
    def quality(self, hash: str, instance: Instance) -> float | None:
        """The outcome of one training; None for one without a quality. The same for the same arguments, always."""

    @property
    @abstractmethod
    def best(self) -> float:
        """The highest truth that there is, or that a long search without noise has found."""

    def recipe(self, seed: int, settings: Mapping[str, Any] = {}) -> Recipe:
        """A recipe of a campaign on this landscape; ``settings``: values of keys, as ``section.key``."""
        document: dict[str, Any] = {"recipe": 1, "name": "bench", "seed": seed, "epochs": 20}
        usual = {
            "difficulty.depths": self.depths,
            "start.catalogue": self.founders,
            "start.random": self.random,
            "baselines": [name for name in ("adam", "cautious_adanw") if name in self.founders],
        }
        for key, value in {**usual, **settings}.items():
            section, _, name = key.rpartition(".")
            (document.setdefault(section, {}) if section else document)[name] = value
        return from_text(json.dumps(document))

    @cached_property
    def best_founder(self) -> float:
        """The truth of the best known optimizer among the founders."""
        breeder = self.breeder(self.recipe(0))
        return max(self.truth(breeder.identity(breeder.known(name))) for name in self.founders)
