"""What formats share: their templates, and foreign text in Python."""

from __future__ import annotations

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
    lines = map(escaped, textwrap.wrap(text, WIDTH))
    return [line.replace("\\", "\\\\").replace('"', "'") for line in lines]
