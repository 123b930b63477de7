"""What an operator of variation is: an edit of genomes, with how often it is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from genomes.language.genome import Genome


@dataclass(frozen=True)
class SameStepSize:
    """A child whose learning rate is yet to be set, so that its updates are as large as its first parent's.

    Unnormalized directions need learning rates a hundred times smaller than normalized ones; without this, most
    mixtures would diverge or stand still.
    """

    genome: Genome


Edited = Genome | SameStepSize


@dataclass(frozen=True)
class Operator:
    """A way to make a child, which may be of no use: `vary.apply` tries again.

    ``parents``: 1 or 2. ``weight``: how often it is chosen, relative to the others with as many parents, where the
    recipe does not say. ``function``: takes the parents and a random generator; an edit alone, which trains nothing.
    """

    name: str
    parents: int
    weight: float
    function: Callable[..., Edited]

    def __call__(self, *arguments: object) -> Edited:
        """Make a child of ``(parent, ..., rng)``."""
        return self.function(*arguments)


def operator(parents: int, weight: float) -> Callable[[Callable[..., Edited]], Operator]:
    """Make an `Operator` of a function ``(parent, ..., rng) -> Edited``, under the function's name."""
    return lambda function: Operator(function.__name__, parents, weight, function)
