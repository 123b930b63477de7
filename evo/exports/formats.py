"""The formats of ``evo export``: each is the FORMAT of one module of this package, called ``..._format``.

To add a format, add such a module; nothing else names it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import evo.exports
from evo.errors import UsageError
from evo.exports.export import Export


@dataclass(frozen=True)
class Format:
    """One format. ``name``: as in ``--format``. ``description``: a few words for ``--help``. ``suffix``: of its files.

    ``render``: the file's text; its heavy imports are its own, so that ``--help`` is quick.
    """

    name: str
    description: str
    suffix: str
    render: Callable[[Export], str]


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
