"""What formats share: their templates, and foreign text in Python and in Markdown."""

from __future__ import annotations

import re
import textwrap
from functools import cache
from typing import TYPE_CHECKING

from genomes.strict_yaml import escaped

if TYPE_CHECKING:
    from jinja2 import Template

WIDTH = 108  # of a line of a header


def template(name: str) -> Template:
    """A template of this package."""
    return _environment().get_template(name)


@cache
def _environment():
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("evo.exports"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip


def docstring(text: str) -> list[str]:
    """Lines of foreign text that may stand in a docstring: none ends it, or escapes anything."""
    return [docstring_line(line) for line in textwrap.wrap(text, WIDTH)]


def docstring_line(text: str) -> str:
    """Foreign text on one line of a docstring."""
    return escaped(" ".join(text.split())).replace("\\", "\\\\").replace('"', "'")


def markdown(text: str) -> str:
    """Foreign text on one line in which nothing is markup: what Markdown obeys is escaped. ``_`` in a word is none."""
    found = re.sub(r"([\\`*\[\]<>#|~&])", r"\\\1", escaped(" ".join(text.split())))
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\_", found)
