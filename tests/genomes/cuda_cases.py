"""Programs that between them hold every primitive of the table, on tensors and on numbers; known optimizers."""

from __future__ import annotations

from dataclasses import replace

from genomes import catalogue
from genomes.lowering import lower
from genomes.primitives import TABLE, Primitive
from genomes.program import Node, Program
from tests.genomes.drive import from_expression

# arguments in order, for each variant of a primitive's call: values on the device, on the host, and both
DEVICE = {
    "number": ("g", "theta", "abs(g) + theta"),
    "mask": ("g > theta", "theta >= 0.1"),
    "average": ("ema(g, 0.9)",),
}
HOST = {"number": ("t", "epoch / 3 + 0.5", "val_loss"), "mask": ("t > 4", "has_loss"), "average": ("ema(t, 0.9)",)}
ROLE = {"number": ("depth_fraction", "rows", "t"), "mask": ("is_bias", "is_last"), "average": ("ema(rows, 0.9)",)}
MIXED = {"number": ("g", "t / 3", "rows"), "mask": ("has_loss", "g > 0"), "average": ("ema(norm(g), 0.9)",)}
SWAPPED = {"number": ("rows", "theta", "g"), "mask": ("g > 0", "is_bias"), "average": ("ema(norm_row(g), 0.9)",)}


def call(primitive: Primitive, values: dict[str, tuple[str, ...]], first: str | None = None) -> str:
    """A call of a primitive. ``first``: what to use as its first argument."""
    left = {kind: list(texts) for kind, texts in values.items()}
    if first:
        left["number"].insert(0, first)
    arguments = []
    for parameter in primitive.parameters:
        if parameter.domain:
            low, high = parameter.domain.prior
            arguments.append(
                repr(max(low, 3)) if parameter.domain.scale == "integer" else repr(low + 0.4 * (min(high, 2.0) - low))
            )
        else:
            arguments.append(left[parameter.kind].pop(0))
    if primitive.infix:
        text = f" {primitive.infix[0]} ".join(f"({a})" for a in ["", *arguments][-2:]).replace("()", "")
        text = f"({text})"
    else:
        text = f"{primitive.name}({', '.join(arguments)})" if arguments else primitive.name
    return f"where({text}, 1.5, 0.5)" if primitive.result == "mask" else text


def primitive_cases() -> dict[str, Program]:
    """For each primitive of the table a program on tensors and, if it is elementwise or keeps state, others."""
    cases: dict[str, Program] = {}
    for primitive in TABLE.values():
        if primitive.scope == "gates" or (primitive.group == "gate" and not primitive.scope):
            name = "u" if primitive.name == "u" else call(primitive, DEVICE, "u")
            cases[primitive.name] = from_expression("ema(g, 0.5)", gates=[f"{name} + 0.1 * u"])
        elif primitive.scope == "post":
            name = "delta" if primitive.name == "delta" else call(primitive, DEVICE, "delta")
            cases[primitive.name] = from_expression("ema(g, 0.5)", post=[f"{name} + 0.1 * delta"])
        else:
            cases[primitive.name] = from_expression(f"{call(primitive, DEVICE)} + 0.01 * g")
            if primitive.parameters and primitive.group in ("elementwise", "stateful"):
                for variant in (HOST, ROLE, MIXED, SWAPPED):
                    cases[primitive.name + f" {_name(variant)}"] = from_expression(f"g * {call(primitive, variant)}")
    return cases


def _name(variant: dict) -> str:
    return next(name for name, value in globals().items() if value is variant).lower()


def catalogue_cases() -> dict[str, Program]:
    return {name: lower(catalogue.load(name)) for name in catalogue.names()}


def varied(program: Program, factor: float) -> Program:
    """The program with other numbers: the same skeleton, but for those that are 0."""

    def scaled(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        return tuple(
            replace(node, attribute=float(node.attribute or 0.0) * factor) if node.op == "const" else node
            for node in nodes
        )

    query = replace(program.query, when=scaled(program.query.when)) if program.query else None
    return replace(program, nodes=scaled(program.nodes), query=query)
