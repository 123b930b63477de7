"""The source text of this project's functions and of all that they call, for a file that stands alone.

A text is the function's own, without annotations, under another name, and with the names of what it uses resolved.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from types import FunctionType, ModuleType
from typing import Any

from genomes.language import host_math

_LIBRARIES = {"math", "torch"}  # what a text may import


class SourceError(RuntimeError):
    """A function's source text cannot be taken: it is not installed, or it needs more than Python and torch."""


@dataclass(frozen=True)
class Excerpt:
    """A function's text under its `name_in_file`. ``imports``: lines; ``calls``: our functions that it calls."""

    text: str
    imports: frozenset[str]
    calls: tuple[FunctionType, ...]


def is_ours(value: Any) -> bool:
    """Whether ``value`` is a named function of this project."""
    return isinstance(value, FunctionType) and value.__module__.startswith("genomes.") and value.__name__.isidentifier()


def name_in_file(function: FunctionType) -> str:
    """What a function is called in the file: private, and apart from its form for tensors if it takes floats."""
    prefix = "_scalar_" if function.__module__ == host_math.__name__ else "_"
    return prefix + function.__name__.lstrip("_")


def collect(functions: Iterable[FunctionType]) -> tuple[list[str], list[str]]:
    """The import lines and the texts of ``functions`` and of all that they call, each text after those it calls.

    Raises SourceError.
    """
    ordered: dict[FunctionType, Excerpt] = {}

    def visit(function: FunctionType) -> None:
        if function not in ordered:
            excerpt = _excerpt(function)
            for called in excerpt.calls:
                visit(called)
            ordered[function] = excerpt

    for function in functions:
        visit(function)
    imports = sorted(frozenset[str]().union(*(excerpt.imports for excerpt in ordered.values())))
    return imports, [excerpt.text for excerpt in ordered.values()]


def class_text(kind: type, methods: Iterable[str]) -> tuple[str, list[FunctionType]]:
    """The text of a class with some of its methods, and our functions that they call. Raises SourceError."""
    excerpts = [_excerpt(vars(kind)[name]) for name in methods]
    texts = [textwrap.indent(excerpt.text, "    ") for excerpt in excerpts]
    head = f'class _{kind.__name__}:\n    """{kind.__doc__}"""'
    return "\n\n".join([head, *texts]), [called for excerpt in excerpts for called in excerpt.calls]


@lru_cache
def _excerpt(function: FunctionType) -> Excerpt:
    where = f"{function.__module__}.{function.__name__}"
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        raise SourceError(f"cannot find the source text of {where}: install the project with its .py files") from None
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.FunctionDef)
    edits = _without_annotations(source, definition)
    imports, called = set(), []
    for node in ast.walk(definition):
        if not isinstance(node, ast.Name) or node.id not in function.__globals__:
            continue
        value = function.__globals__[node.id]
        if is_ours(value):
            name = name_in_file(value)
            called += [value] if value is not function else []
        elif isinstance(value, type) and value.__module__.startswith("genomes."):
            name = f"_{value.__name__}"  # whose text is another matter: see `class_text`
        else:
            name, module = _library_name(where, node.id, value)
            imports.add(f"import {module}")
        edits.append((_offset(source, node.lineno, node.col_offset), len(node.id), name))
    if function.__qualname__ == function.__name__:  # no method
        start = _offset(source, definition.lineno, definition.col_offset) + len("def ")
        edits.append((start, len(function.__name__), name_in_file(function)))
    text = source.rstrip("\n").encode()
    for start, length, replacement in sorted(edits, reverse=True):
        text = text[:start] + replacement.encode() + text[start + length :]
    return Excerpt(text.decode(), frozenset(imports), tuple(called))


def _library_name(where: str, name: str, value: Any) -> tuple[str, str]:
    """What a value of a library is called in the file, and the module to import."""
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    if module not in _LIBRARIES:
        raise SourceError(f"{where} cannot stand alone: it uses {name}")
    return (module if isinstance(value, ModuleType) else f"{module}.{name}"), module


def _without_annotations(source: str, definition: ast.FunctionDef) -> list[tuple[int, int, str]]:
    """The edits that remove the annotations of a function's head, which are taken off ``definition`` as well."""
    edits = []
    for argument in (*definition.args.args, *filter(None, [definition.args.vararg])):
        if argument.annotation is not None:
            start = _offset(source, argument.lineno, argument.col_offset) + len(argument.arg)
            edits.append((start, _end(source, argument.annotation) - start, ""))
            argument.annotation = None
    if definition.returns is not None:
        start = _offset(source, definition.returns.lineno, definition.returns.col_offset) - len(" -> ")
        edits.append((start, _end(source, definition.returns) - start, ""))
        definition.returns = None
    return edits


def _end(source: str, node: ast.expr) -> int:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return _offset(source, node.end_lineno, node.end_col_offset)


def _offset(source: str, line: int, column: int) -> int:
    """Bytes of ``source`` before a column of a line, both as `ast` counts them."""
    return sum(len(text.encode()) for text in source.splitlines(keepends=True)[: line - 1]) + column
