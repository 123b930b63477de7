"""The values of a genome's named values and states, lowered line by line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from genomes.compiler.builder import Builder, Kept, Value
from genomes.compiler.shapes import LoweringError, ShapeClass
from genomes.language.expressions import Expression
from genomes.language.let import Line, names_in, needed
from genomes.language.primitives import TABLE


@dataclass(frozen=True)
class Named:
    """The values of names after all lines, and what states among them held before this step."""

    values: Mapping[str, Value] = field(default_factory=dict)
    held: Mapping[str, Value] = field(default_factory=dict)


def lower_lines(
    builder: Builder,
    lines: Sequence[Line],
    names: Mapping[str, Value],
    place: Callable[[str], AbstractContextManager],
    known: Named,
    wanted: Collection[str] | None = None,
) -> Named:
    """Lower those of ``lines`` that are ``wanted`` (all of them, if None) and not ``known`` yet.

    ``names``: the values of words that are given. ``place("let.0")`` says where an error stands. Raises LoweringError.
    """
    new = [line for line in lines if line.name not in known.values and (wanted is None or line.name in wanted)]

    def lowered(held: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, int]]:
        scope = {**names, **known.held, **held}
        values: dict[str, Value] = {}
        for i, line in enumerate(lines):
            if line.name in known.values:
                values[line.name] = known.values[line.name]
            elif line in new:
                with place(f"let.{i}"):
                    values[line.name] = builder.lower(line.expr, scope)
                    if line.is_state and builder.nodes[values[line.name].node].is_mask:
                        raise LoweringError("a state keeps a number: where(mask, 1, 0) makes one")
            else:
                continue
            scope[line.name] = values[line.name]
        return values, {name: values[name].node for name in held}

    states = [Kept(line.name, line.name, ShapeClass.CLOCK, line.start) for line in new if line.start is not None]
    values, held = builder.keeping(states, lowered)
    for line in new:
        if not line.is_state and builder.nodes[values[line.name].node].arguments:
            builder.labels.setdefault(values[line.name].node, line.name)
    return Named(values, {**known.held, **held})


def clock_lines(lines: Sequence[Line], expressions: Iterable[Expression]) -> tuple[Line, ...]:
    """The lines that ``expressions`` need, none of which may see gradients or parameters. Raises LoweringError."""
    found = needed(lines, names_in(expressions))
    for line in found:
        for node in line.expr.walk():
            if node.name in TABLE and TABLE[node.name].lowering in ("given", "kept"):
                raise LoweringError(f"{line.name} is made of {node.name}; this is made of t, epoch, losses and numbers")
    return found
