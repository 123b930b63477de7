"""A campaign turn by turn: its search asks, somebody answers, the ledger keeps what was told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from evo import files
from evo.campaign import inbox, start
from evo.campaign.folder import RunFolder
from evo.campaign.progress import Progress
from evo.campaign.stop import Stop
from evo.ledger import backup
from evo.ledger.ledger import Ledger
from evo.recipe.schema import Recipe
from evo.records import Checkpoint, Generation, Request, Results

if TYPE_CHECKING:
    from evo.search.protocol import Search

Begin = Callable[..., "Search"]  # what makes a search: see `Search.__init__`


class Course:
    """The course of a campaign, from the ledger's checkpoint on. ``reached``: the last checkpoint that is saved."""

    def __init__(
        self,
        folder: RunFolder,
        recipe: Recipe,
        ledger: Ledger,
        stop: Stop,
        progress: Progress,
        begin: Begin | None = None,
    ) -> None:
        """``begin``: makes the search; by default the recipe's algorithm. Raises UsageError: see `start.kept`."""
        self.recipe, self.ledger, self.reached = recipe, ledger, ledger.checkpoint()
        self._folder, self._stop, self._progress, self._begin = folder, stop, progress, begin
        self._genomes = start.kept(ledger.meta(), recipe, needed=not ledger.tells())
        self._search: Search | None = None
        self._spent, self._started = 0.0, 0.0

    @property
    def search(self) -> Search:
        """The search, once the course has begun."""
        assert self._search is not None, "begin() comes first"
        return self._search

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.search.ended

    def begin(self) -> None:
        """Make the search. Raises Stopped."""
        ledger, reached = self.ledger, self.reached
        _write_champion(self._folder, reached)
        begin = self._begin or _algorithm(self.recipe)
        with self._stop.at_once():
            past, begun = ledger.past(), bool(ledger.statuses())
            self._spent = ledger.seconds_of(reached.generation)  # by the tells of the generation under way
        self._progress.begin(self.recipe, past, begun)
        with self._stop.at_once():
            self._search = begin(self.recipe, reached, ledger.individual, self._genomes, ledger.observations())

    def ask(self) -> tuple[Request, Results]:
        """The next request, and those of its results that the ledger has. Raises Stopped."""
        self._started = time.monotonic()
        if self.search.begins_generation:
            self._stop.check()
            joining = inbox.join(self._folder, self.ledger, self.recipe, self.search.generation, self._progress.say)
            self.search.add(joining)

        def bred(done: int, total: int) -> None:
            self._progress.bred(done, total)
            self._stop.check()

        with self._stop.at_once():
            request = self.search.ask(bred)
        with self._stop.at_once():
            results = self.ledger.results(lane.key for lane in request.lanes)
        self._progress.request(request, len(results))
        return request, results

    def tell(self, request: Request, results: Results) -> None:
        """Tell the search the results of all lanes, and save what it makes of them."""
        # in the order of the request and without times, so that the search cannot depend on either
        told = self.search.tell({lane.key: replace(results[lane.key], seconds=0.0) for lane in request.lanes})
        self.reached = self.search.checkpoint()
        seconds = time.monotonic() - self._started
        self.ledger.save(told, self.reached, seconds)
        _write_champion(self._folder, self.reached)
        self._spent += seconds
        if told.statistics:
            self._progress.generation(Generation(self.reached.generation, told.statistics, self._spent))
            self._spent = 0.0
            if backup.due(self.reached.generation):
                backup.rotate(self.ledger)


def _algorithm(recipe: Recipe) -> Begin:
    from evo.search.protocol import algorithm  # here alone: it brings in torch and SciPy

    return algorithm(recipe)


def _write_champion(folder: RunFolder, reached: Checkpoint) -> None:
    if reached.hall_of_fame:
        text = reached.hall_of_fame[0].individual.text
        if not folder.champion.is_file() or folder.champion.read_bytes() != text.encode():
            files.write(folder.champion, text)
