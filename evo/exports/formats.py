"""The formats of ``evo export``: each is the FORMAT of one module of this package, called ``..._format``.

To add a format, add such a module; nothing else names it.
"""

from __future__ import annotations

import importlib
import keyword
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import evo.exports
from evo.errors import UsageError
from evo.exports.export import Export


@dataclass(frozen=True)
class Format:
    """One format. ``name``: as in ``--format``. ``description``: one line for ``--help``.

    ``files``: the texts of an export by their paths, relative to its folder, with ``/`` between parts; heavy imports
    are the function's own, so that ``--help`` is quick. ``is_folder``: whether there may be several. ``submits``:
    whether it wants `Export.submission`. ``note``: what a person is told who exports it.
    """

    name: str
    description: str
    files: Callable[[Export], Mapping[str, str]]
    is_folder: bool = False
    submits: bool = False
    note: str = ""


def one_file(name: str, description: str, ending: str, render: Callable[[Export], str]) -> Format:
    """A format of one file, whose text ``render`` gives. ``ending``: what its name has after the genome's."""
    return Format(name, description, lambda export: {stem(export.genome.name) + ending: render(export)})


def stem(name: str) -> str:
    """What the files of the genome called ``name`` begin with: a name that Python can import."""
    found = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "optimizer"
    return f"optimizer_{found}" if found[0].isdigit() else f"{found}_" if keyword.iskeyword(found) else found


@cache
def formats() -> dict[str, Format]:
    """All formats by name, in the order of their names."""
    modules = [module.name for module in pkgutil.iter_modules(evo.exports.__path__, "evo.exports.")]
    found = [importlib.import_module(name).FORMAT for name in modules if name.endswith("_format")]
    return {format.name: format for format in sorted(found, key=lambda format: format.name)}


def find_format(name: str) -> Format:
    """The format called ``name``. Raises UsageError."""
    if name not in formats():
        raise UsageError(f"--format {name}: not one of {', '.join(formats())}")
    return formats()[name]
