"""The pages of `evo serve`: what is asked for at which address. Everything is read, nothing is changed.

Pages are HTML with one script and no data of its own: a stream of events says what is new, as HTML or as the version
of a part, which the script then asks for. Names and messages of others are text everywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from importlib import resources
from typing import Any

from jinja2 import Environment
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from evo.campaign import wording
from evo.campaign.status import facts
from evo.errors import EvoError
from evo.exports.formats import Format, formats
from evo.ledger.ledger import Ledger
from evo.report.page import templates
from evo.serve import genome
from evo.serve.campaign import DRAWING, Campaign
from evo.serve.genome import Shelf
from evo.serve.genomes import LONGEST_SEARCH, STATES, Query
from evo.serve.security import Access, Guard
from evo.serve.watcher import Watcher
from genomes import catalogue
from genomes.language.genome import GenomeError

PATIENCE_SECONDS = 0.4  # that a page waits for what is being read; the rest comes with the stream
KEEPALIVE_SECONDS = 10.0
LATEST = 5  # generations
TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class NotFoundError(Exception):
    """There is nothing at an address; ``str()``: why, for people."""


class Pages:
    """Answers requests from what a watcher knows."""

    def __init__(self, watcher: Watcher):
        self._watcher = watcher
        self._templates: Environment = templates("evo.serve")
        self._static = _static()

    def routes(self) -> list[Route]:
        """Addresses and what answers them."""
        return [
            Route("/", self.overview),
            Route("/events", self.overview_events),
            Route("/static/{name}", self.static),
            Route("/c/{key}", self.campaign),
            Route("/c/{key}/events", self.campaign_events),
            Route("/c/{key}/panels/{panel}", self.panel),
            Route("/c/{key}/genomes", self.genomes),
            Route("/c/{key}/rows", self.rows),
            Route("/c/{key}/g/{id}", self.genome),
            Route("/c/{key}/g/{id}/{format}", self.download),
            Route("/c/{key}/compare", self.comparison),
        ]

    # --- all campaigns -----------------------------------------------------------------------------------

    async def overview(self, request: Request) -> Response:
        """All campaigns."""
        await self._until(lambda: all(campaign.is_known for campaign in self._watcher.campaigns))
        return self._page("overview.html", runs=self._runs())

    async def overview_events(self, request: Request) -> Response:
        """News of all campaigns."""
        return self._stream(lambda: {"runs": {"html": self._runs()}})

    def _runs(self) -> str:
        return self._render("runs.html", campaigns=self._watcher.campaigns)

    # --- one campaign ------------------------------------------------------------------------------------

    async def campaign(self, request: Request) -> Response:
        """One campaign."""
        campaign = self._campaign(request)
        await self._until(lambda: campaign.is_known and (bool(campaign.panels) or not campaign.is_due))
        return self._page("campaign.html", campaign=campaign, facts=self._facts(campaign))

    async def campaign_events(self, request: Request) -> Response:
        """News of one campaign: facts as HTML, panels and table by their versions."""
        campaign = self._campaign(request)

        def news() -> dict[str, Any]:
            campaign.touch()
            found: dict[str, Any] = {"facts": {"html": self._facts(campaign)}}
            if campaign.panels:
                found["panels"] = [[drawn.shown.key, drawn.version] for drawn in campaign.panels]
            if campaign.table:
                found["table"] = {"version": campaign.table.version}
            return found

        return self._stream(news)

    async def panel(self, request: Request) -> Response:
        """One panel of a campaign."""
        campaign, key = self._campaign(request), request.path_params["panel"]
        for drawn in campaign.panels:
            if drawn.shown.key == key:
                return HTMLResponse(self._render("section.html", drawn=drawn))
        raise NotFoundError("there is no such panel")

    def _facts(self, campaign: Campaign) -> str:
        """What `evo status` and the live table show of a campaign, as HTML."""
        listed, past = campaign.listed, campaign.past[-LATEST:]
        return self._render(
            "facts.html",
            listed=listed,
            facts=facts(listed.status) if listed.status.name else [],
            columns=wording.GENERATION_COLUMNS,
            what=wording.what_is_shown(past[-1].statistics) if past else "",
            past=[wording.generation_row(generation) for generation in reversed(past)],
        )

    # --- genomes -----------------------------------------------------------------------------------------

    async def genomes(self, request: Request) -> Response:
        """The table of all genomes, with its filters."""
        campaign, query = self._campaign(request), Query.parse(request.query_params)
        await self._until(lambda: campaign.table is not None or (campaign.is_known and not campaign.is_due))
        operators = campaign.table.operators if campaign.table else []
        rows = await self._rows(campaign, query)
        return self._page("genomes.html", campaign=campaign, query=query, rows=rows, operators=operators, states=STATES)

    async def rows(self, request: Request) -> Response:
        """A page of the table of genomes, without what is around it."""
        return HTMLResponse(await self._rows(self._campaign(request), Query.parse(request.query_params)))

    async def _rows(self, campaign: Campaign, query: Query) -> str:
        table = campaign.table
        page = await run_in_threadpool(table.page, query) if table else None
        return self._render("rows.html", campaign=campaign, query=query, page=page, table=table)

    async def genome(self, request: Request) -> Response:
        """One genome."""
        campaign, id = self._campaign(request), request.path_params["id"]
        await self._until(lambda: campaign.table is not None or (campaign.is_known and not campaign.is_due))

        def show(ledger: Ledger) -> Response:
            individual = genome.find(ledger, id)
            shelf = _shelf(campaign)
            with DRAWING:
                panels = genome.genome_panels(ledger, individual, shelf)
            return self._page(
                "genome.html", campaign=campaign, individual=individual, panels=panels, formats=_downloads().values(),
                estimate=shelf.estimates.get(individual.hash), known=catalogue.names(),
            )  # fmt: skip

        return await self._read(campaign, show)

    async def comparison(self, request: Request) -> Response:
        """Two genomes beside each other."""
        campaign = self._campaign(request)
        names = [request.query_params.get(key, "")[:LONGEST_SEARCH].strip() for key in ("first", "second")]

        def show(ledger: Ledger) -> Response:
            first, second = (genome.compared(ledger, name) for name in names)
            with DRAWING:
                panels = genome.comparison_panels(ledger, first, second, _shelf(campaign))
            return self._page(
                "comparison.html", campaign=campaign, pair=(first, second), panels=panels, is_id=genome.is_id
            )

        return await self._read(campaign, show)

    async def download(self, request: Request) -> Response:
        """A genome in a format of `evo export`."""
        campaign, id, format = self._campaign(request), request.path_params["id"], request.path_params["format"]

        def show(ledger: Ledger) -> Response:
            individual = genome.find(ledger, id)
            if format not in _downloads():
                raise KeyError(format)
            name, content = genome.download(ledger, individual, format, _shelf(campaign).estimates)
            headers = {"content-disposition": f'attachment; filename="{name}"'}
            return Response(content, media_type="application/octet-stream", headers=headers)

        return await self._read(campaign, show)

    async def _read(self, campaign: Campaign, show: Callable[[Ledger], Response]) -> Response:
        """What ``show`` makes of the ledger, in a thread."""

        def work() -> Response:
            with Ledger.open_to_watch(campaign.folder.ledger) as ledger:
                return show(ledger)

        try:
            return await run_in_threadpool(work)
        except KeyError as error:
            raise NotFoundError(f"there is no {error.args[0]!r} in this campaign") from None
        except (EvoError, GenomeError) as error:
            return self._page("message.html", status=409, title="This cannot be shown", text=str(error))

    # --- what all have in common -------------------------------------------------------------------------

    async def static(self, request: Request) -> Response:
        """A file of the package: style, script, icon."""
        name = request.path_params["name"]
        if name not in self._static:
            raise NotFoundError("there is no such file")
        return Response(self._static[name], media_type=TYPES[name.rpartition(".")[2]])

    async def not_found(self, request: Request, error: Exception) -> Response:
        """Whatever is nowhere."""
        text = str(error) if isinstance(error, NotFoundError) else "there is nothing at this address"
        return self._page("message.html", status=404, title="Not found", text=text)

    async def failed(self, request: Request, error: Exception) -> Response:
        """What cannot be shown; the server goes on."""
        return self._page("message.html", status=500, title="This cannot be shown", text=str(error))

    def _campaign(self, request: Request) -> Campaign:
        campaign = self._watcher.get(request.path_params["key"])
        if campaign is None:
            raise NotFoundError("there is no such campaign")
        return campaign

    def _page(self, template: str, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(self._render(template, **values), status)

    def _render(self, template: str, **values: Any) -> str:
        return self._templates.get_template(template).render(values)

    async def _until(self, ready: Callable[[], bool]) -> None:
        """Wait a moment for what is being read."""
        with contextlib.suppress(TimeoutError), self._watcher.news() as news:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not ready() and not self._watcher.ended:
                    await news.wait()
                    news.clear()

    def _stream(self, news: Callable[[], dict[str, Any]]) -> Response:
        return StreamingResponse(self._events(news), media_type="text/event-stream")

    async def _events(self, news: Callable[[], dict[str, Any]]) -> AsyncIterator[str]:
        """What ``news`` gives by the name of the event, at first all, then what differs."""
        last: dict[str, str] = {}
        yield "retry: 1000\n\n"
        with self._watcher.news() as changed:
            told = time.monotonic()
            while not self._watcher.ended:
                changed.clear()
                for name, value in news().items():
                    text = json.dumps(value)
                    if last.get(name) != text:
                        last[name], told = text, time.monotonic()
                        yield f"event: {name}\ndata: {text}\n\n"
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), KEEPALIVE_SECONDS)
                if time.monotonic() - told > KEEPALIVE_SECONDS:
                    told = time.monotonic()
                    yield ": still here\n\n"


def _shelf(campaign: Campaign) -> Shelf:
    table = campaign.table
    if table is None:
        return Shelf({}, lambda _: (), campaign.link)
    return Shelf(table.estimates, table.children, campaign.link)


def make_app(watcher: Watcher, access: Access) -> Guard:
    """The application that answers requests by what ``watcher`` knows, which the caller enters."""
    pages = Pages(watcher)
    handlers: Any = {404: pages.not_found, NotFoundError: pages.not_found, Exception: pages.failed}
    return Guard(Starlette(routes=pages.routes(), exception_handlers=handlers), access)


def _static() -> dict[str, bytes]:
    """The files of the package by name; the style of reports is among them."""
    report = resources.files("evo.report") / "templates" / "style.css"
    files = {"report.css": report.read_bytes()}
    for file in (resources.files("evo.serve") / "static").iterdir():
        if file.name.rpartition(".")[2] in TYPES:
            files[file.name] = file.read_bytes()
    return files


def _downloads() -> dict[str, Format]:
    """The formats that a page can offer: those that need no more than the genome, which a submission does."""
    return {name: format for name, format in formats().items() if not format.submits}
