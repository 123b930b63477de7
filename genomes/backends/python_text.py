"""Python's operators as templates for the text of programs, and how tightly each binds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from types import FunctionType
from typing import Any

from genomes.backends.source_text import is_ours, name_in_file
from genomes.compiler.branches import ALL, Condition, opposite
from genomes.language.operations import ON_FLOATS

PLACE = r"\{(\d)(?::(\d))?\}"  # of an argument in a template
LINE = 100  # a longer expression gets a name of its own
ATOM, POWER, UNARY, PRODUCT, SUM, COMPARE, NOT, AND, OR, CHOICE = range(10)  # tighter binding first

# Templates: {0} stands for an argument that may be anything, {0:3} for one that must bind at least as tight as level 3.
INFIX = {
    "add": (f"{{0:{SUM}}} + {{1:{PRODUCT}}}", SUM),
    "sub": (f"{{0:{SUM}}} - {{1:{PRODUCT}}}", SUM),
    "mul": (f"{{0:{PRODUCT}}} * {{1:{UNARY}}}", PRODUCT),
    "div": (f"{{0:{PRODUCT}}} / {{1:{UNARY}}}", PRODUCT),
    "neg": (f"-{{0:{POWER}}}", UNARY),
    "gt": (f"{{0:{SUM}}} > {{1:{SUM}}}", COMPARE),
    "ge": (f"{{0:{SUM}}} >= {{1:{SUM}}}", COMPARE),
    "eq": (f"{{0:{SUM}}} == {{1:{SUM}}}", COMPARE),
}


def calls(operations: Mapping[str, Callable[..., Any]]) -> dict[str, tuple[str, int]]:
    """Templates for the operations that a function of ours defines: calls of it."""
    templates = {}
    for op, function in operations.items():
        if isinstance(function, FunctionType) and is_ours(function):
            arguments = ", ".join(f"{{{i}}}" for i in range(function.__code__.co_argcount))
            templates[op] = f"{name_in_file(function)}({arguments})", ATOM
    return templates


HOST = {
    **INFIX,
    **calls(ON_FLOATS),
    "abs": ("abs({0})", ATOM),
    "tanh": ("math.tanh({0})", ATOM),
    "atan2": ("math.atan2({0}, {1})", ATOM),
    "and": (f"{{0:{AND}}} and {{1:{NOT}}}", AND),
    "or": (f"{{0:{OR}}} or {{1:{AND}}}", OR),
    "not": (f"not {{0:{NOT}}}", NOT),
    "where": (f"{{1:{OR}}} if {{0:{OR}}} else {{2:{OR}}}", CHOICE),
    "number": ("float({0})", ATOM),
    "expand": (f"{{0:{CHOICE}}}", CHOICE),
}


def guarded(lines: Iterable[tuple[Condition, str]], mask_text: Callable[[int], tuple[str, int]]) -> list[str]:
    """Lines of a loop, each under the condition that it has; ``mask_text``: a mask's text, and how tightly it binds."""

    def written(condition: Condition) -> str:
        masks = []
        for mask, wanted in sorted(condition):
            text, binding = mask_text(mask)
            text = text if binding <= NOT else f"({text})"
            masks.append(text if wanted else f"not {text}")
        return " and ".join(masks)

    text: list[str] = []
    opened = ALL  # by an ``if`` that has no ``else`` yet
    for condition, group in groupby(lines, key=lambda line: line[0]):
        is_else = opposite(opened, condition)
        if condition:
            text.append("else:" if is_else else f"if {written(condition)}:")
        text += ["    " * bool(condition) + line for _, line in group]
        opened = ALL if is_else else condition
    return text


def number(value: float) -> str:
    """A number as Python writes it."""
    if value != value or value in (float("inf"), float("-inf")):
        return f'float("{value}")'
    return repr(value)
