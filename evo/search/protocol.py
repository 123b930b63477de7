"""What a search is: it asks for trainings and is told their results; it neither trains, stores nor prints.

An algorithm is a class of settings in `evo.recipe.search_settings` and a module of the same name in this package, whose
``SEARCH`` is a subclass of `Search`. Ask and tell take turns::

    search = algorithm(recipe)(recipe, checkpoint, individual, start)
    while search.generation < recipe.generations:
        request = search.ask()
        told = search.tell(results_of(request.lanes))
        keep(told, search.checkpoint())

Given the recipe, the checkpoint and the results, every draw is fixed: a search that goes on from a checkpoint asks
for what it would have asked for without the interruption.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from evo.recipe.schema import Recipe
from evo.records import Checkpoint, Fame, Individual, Request, Results, Told
from genomes.language.genome import Genome

Bred = Callable[[int, int], None]  # told how many individuals of a generation are bred, and how many there are to be


def _ignore(done: int, total: int) -> None:
    pass


class OrderError(RuntimeError):
    """``ask``, ``tell`` and ``checkpoint`` were called out of turn: a mistake in the calling program."""


class Search(ABC):
    """A search under way. A subclass says what to ask, what to make of the answer, and what to remember.

    ``generation``: how many generations are complete. ``hall_of_fame``: best first.
    """

    def __init__(
        self,
        recipe: Recipe,
        checkpoint: Checkpoint | None = None,
        individual: Callable[[str], Individual] | None = None,
        start: Sequence[Genome] = (),
    ) -> None:
        """Begin, or go on from ``checkpoint``. ``individual``: finds one by its id, for those that it names.

        ``start``: the genomes of ``recipe.start.genomes``, which the first generation needs; a search opens no files.
        """
        checkpoint = checkpoint or Checkpoint()
        self.recipe = recipe
        self.start = tuple(start)
        self.generation: int = checkpoint.generation
        self.hall_of_fame: tuple[Fame, ...] = checkpoint.hall_of_fame
        self._asked: Request | None = None
        if checkpoint.state is not None:
            assert individual is not None, "a checkpoint names individuals by id"
            self._restore(checkpoint.state, individual)

    def ask(self, bred: Bred = _ignore) -> Request:
        """The trainings that the search wants next. Raises OrderError where the last ones were not told.

        ``bred``: called again and again while individuals are bred. What it raises ends the call; nothing has happened
        then, and the next ``ask`` wants the same. Raises ValueError where an algorithm breaks its promises, as does
        `tell`: a mistake of its author.
        """
        if self._asked is not None:
            raise OrderError("ask() was called twice: call tell(results) with the results of the last request first")
        request = self._ask(bred)
        if not request.lanes or len({lane.key for lane in request.lanes}) < len(request.lanes):
            raise ValueError("a request needs lanes, each of them once: see Request.crossed")
        self._asked = request
        return request

    def tell(self, results: Results) -> Told:
        """Take the results of the last request. Raises OrderError without one, KeyError where a result is missing."""
        if self._asked is None:
            raise OrderError("tell() was called without a request: call ask() first")
        answer = {lane.key: results[lane.key] for lane in self._asked.lanes}
        before = self.generation
        told = self._tell(self._asked, answer)
        if (told.statistics is not None) != (self.generation == before + 1) or told.generation != before:
            raise ValueError("a tell has statistics where it completes a generation, and only there")
        self._asked = None
        return told

    def checkpoint(self) -> Checkpoint:
        """From where to go on. Raises OrderError between ask and tell."""
        if self._asked is not None:
            raise OrderError("checkpoint() was called between ask() and tell(): call tell(results) first")
        return Checkpoint(self.generation, self.hall_of_fame, self._state())

    @abstractmethod
    def _ask(self, bred: Bred) -> Request:
        """The next request; at least one lane. Changes nothing before the last call of ``bred``, see `ask`."""

    @abstractmethod
    def _tell(self, request: Request, results: Results) -> Told:
        """Take the results of ``request``; sets ``generation`` and ``hall_of_fame`` where they change."""

    @abstractmethod
    def _state(self) -> Any:
        """All that the next request depends on but generation and hall of fame: plain JSON, individuals by id."""

    @abstractmethod
    def _restore(self, state: Any, individual: Callable[[str], Individual]) -> None:
        """The inverse of ``_state``."""


def algorithm(recipe: Recipe) -> type[Search]:
    """The search that ``search.algorithm`` of a recipe names."""
    return importlib.import_module(f"evo.search.{recipe.search.algorithm}").SEARCH
