"""`evo report`: one self-contained HTML page on a campaign, with pictures."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from evo import files
from evo.campaign import controls, explained, wording
from evo.campaign.folder import RunFolder
from evo.campaign.status import open_to_read
from evo.formatting import duration, half_interval, interval, quality, steps
from evo.ledger.errors import LedgerError
from evo.recipe import reader
from evo.recipe.schema import Recipe
from evo.report import panels
from evo.report.data import Control, Report, collect, control


def write(run: Path | str, out: Path | None = None, *, force: bool = False) -> Path:
    """Write the page on the campaign in the folder ``run``; returns where. Raises UsageError, LedgerError, EvoError.

    ``out``: by default the campaign's own ``out/report.html``, which is replaced; else see `evo.files.write_out`.
    """
    if out is not None:
        files.check_out(out, force=force)
    folder = RunFolder.find(run)
    with open_to_read(folder, "report") as ledger:
        recipe = reader.from_text(ledger.meta()["recipe"])
        page = render(collect(ledger, _controls(folder, recipe), explained.kept(folder)))
    if out is None:
        files.write(folder.report, page)
    else:
        files.write_out(out, page, force=force)
    return out or folder.report


def _controls(folder: RunFolder, recipe: Recipe) -> list[Control]:
    """The controls beside a campaign that can be read; other campaigns with such names are none."""
    found = []
    for algorithm, beside in controls.beside(folder):
        with suppress(LedgerError), open_to_read(beside, "report") as ledger:
            own = reader.from_text(ledger.meta()["recipe"])
            if own.lane_steps and (own.search.algorithm, own.baselines) == (algorithm, recipe.baselines):
                found.append(control(algorithm, ledger.past()))
    return found


def render(report: Report) -> str:
    """The page's HTML; it refers to nothing outside itself."""
    return (
        templates()
        .get_template("report.html")
        .render(
            report=report,
            panels=panels.shown(report),
            extent=wording.extent(
                len(report.generations),
                report.recipe.generations,
                report.lane_steps,
                report.recipe.lane_steps,
                report.recipe.population,
            ),
            seconds=sum(generation.seconds for generation in report.generations),
            hardware=wording.hardware(report.hardware),
            trainings=sum(count for _, count in report.statuses),
            written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        )
    )


def templates(*packages: str) -> Environment:
    """The templates of a report, and those of other packages before them; all text is escaped."""
    loader = ChoiceLoader([PackageLoader(package) for package in (*packages, "evo.report")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    filters = (quality, half_interval, interval, duration, steps)
    environment.filters.update({function.__name__: function for function in filters})
    return environment
