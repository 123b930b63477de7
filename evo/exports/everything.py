"""All formats of an optimizer at once, with a page that says what each file is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evo.errors import EvoError
from evo.exports.export import Export
from evo.exports.formats import formats
from evo.exports.texts import markdown, template

README = "README.md"


@dataclass(frozen=True)
class Everything:
    """``files``: texts by their paths within one folder. ``left_out``: reasons, by the format that has no file here."""

    files: Mapping[str, str]
    left_out: Mapping[str, str]


def everything(export: Export, report: str = "") -> Everything:
    """The files of every format, those of a format with several in a folder of its name, and a README.

    ``report``: the path of the campaign's report in the same folder, if there is one. A format that refuses this
    export is left out.
    """
    from genomes.analysis.describe import formula

    found: dict[str, str] = {}
    described: list[tuple[str, str]] = []
    left_out: dict[str, str] = {}
    for format in formats().values():
        try:
            texts = format.files(export)
        except (EvoError, ValueError) as error:  # of the genome, or of what the format wants to be told
            left_out[format.name] = str(error)
            continue
        folder = f"{format.name}/" if format.is_folder else ""
        found |= {folder + name: text for name, text in texts.items()}
        described.append((folder or next(iter(texts)), format.description))
    if report:
        described.append((report, "the campaign, with pictures"))
    quoted = export.quoted(markdown)
    page = template("exports_readme.md.j2").render(
        name=export.genome.name, origin=quoted.origin, measured=quoted.measured, earned=quoted.earned,
        formula=formula(export.genome), described=described, left_out=left_out,
    )  # fmt: skip
    return Everything({README: page, **found}, left_out)
