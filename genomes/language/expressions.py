"""Expressions of the genome language as trees. `parser` reads them from text, `printer` writes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from genomes.language.primitives import TABLE


@dataclass(frozen=True)
class Expression:
    """A node of a tree: a number (``value`` set), else the primitive or local name ``name`` over ``arguments``.

    Arguments stand in the order of the primitive's parameters, defaults filled in.
    """

    name: str = ""
    arguments: tuple[Expression, ...] = ()
    value: float | None = None
    column: int = field(default=1, compare=False, repr=False)

    def walk(self) -> Iterator[Expression]:
        """This node and all below it, parents first."""
        stack: list[Expression] = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.arguments))

    @property
    def size(self) -> int:
        """Number of nodes."""
        return sum(1 for _ in self.walk())

    @property
    def depth(self) -> int:
        """Levels of the tree; 1 for a single node."""
        deepest, level = 0, [self]
        while level:
            deepest += 1
            level = [child for node in level for child in node.arguments]
        return deepest


def number(value: float) -> Expression:
    """The node of a number."""
    return Expression(value=float(value))


def call(name: str, *arguments: Expression | float) -> Expression:
    """Build a node by primitive name; plain numbers become number nodes, missing defaults are filled in."""
    given = [a if isinstance(a, Expression) else number(a) for a in arguments]
    missing = TABLE[name].parameters[len(given) :]
    return Expression(name, (*given, *(number(p.default) for p in missing if p.default is not None)))


def is_mask(expression: Expression) -> bool:
    """Whether the expression is a comparison rather than a number."""
    return expression.value is None and expression.name in TABLE and TABLE[expression.name].result == "mask"
