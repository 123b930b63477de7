"""Programs that between them hold every primitive of the table, on tensors and on numbers; known optimizers.

Tests that take a few of them, or are spread over processes, lower those few alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

from genomes import catalogue
from genomes.compiler.lowering import lower
from genomes.compiler.program import Node, Program
from genomes.compiler.shapes import ShapeClass
from genomes.language.primitives import TABLE, Primitive
from tests.genomes.drive import from_expression

# arguments in order, for each variant of a primitive's call: values on the device, on the host, and both
DEVICE = {
    "number": ("g", "theta", "abs(g) + theta"),
    "mask": ("g > theta", "theta >= 0.1"),
    "average": ("ema(g, 0.9)",),
    "square": ("(outer(g, g) + identity(outer(g, g)))", "inner(g, g)"),
}
HOST = {"number": ("t", "epoch / 3 + 0.5", "val_loss"), "mask": ("t > 4", "has_loss"), "average": ("ema(t, 0.9)",)}
ROLE = {"number": ("depth_fraction", "rows", "t"), "mask": ("is_bias", "is_last"), "average": ("ema(rows, 0.9)",)}
MIXED = {"number": ("g", "t / 3", "rows"), "mask": ("has_loss", "g > 0"), "average": ("ema(norm(g), 0.9)",)}
SWAPPED = {"number": ("rows", "theta", "g"), "mask": ("g > 0", "is_bias"), "average": ("ema(norm_row(g), 0.9)",)}


class Programs(Mapping[str, Program]):
    """Programs by name. ``make``: what makes each of them when it is first asked for."""

    def __init__(self, make: Mapping[str, Callable[[], Program]]) -> None:
        self._make = {name: cache(each) for name, each in make.items()}

    def __getitem__(self, name: str) -> Program:
        return self._make[name]()

    def __contains__(self, name: object) -> bool:  # Mapping's own would make the program
        return name in self._make

    def __iter__(self) -> Iterator[str]:
        return iter(self._make)

    def __len__(self) -> int:
        return len(self._make)

    def __or__(self, other: Programs) -> Programs:
        return Programs(self._make | other._make)

    def renamed(self, prefix: str) -> Programs:
        """The same programs, the prefix before each name."""
        return Programs({prefix + name: make for name, make in self._make.items()})


def of_expressions(cases: Mapping[str, Mapping[str, Any]]) -> Programs:
    """``cases``: the arguments of `from_expression` by name."""
    return Programs({name: partial(from_expression, **case) for name, case in cases.items()})


def call(primitive: Primitive, values: dict[str, tuple[str, ...]], first: str | None = None) -> str:
    """A call of a primitive. ``first``: what to use as its first argument."""
    left = {kind: list(texts) for kind, texts in values.items()}
    if first:
        left["number"].insert(0, first)
    arguments = []
    for parameter in primitive.parameters:
        if parameter.domain:
            low, high = parameter.domain.prior
            whole = min(max(low, 3), high)
            arguments.append(repr(whole) if parameter.domain.whole else repr(low + 0.4 * (min(high, 2.0) - low)))
        else:
            arguments.append(left[parameter.kind].pop(0))
    if primitive.infix:
        text = f" {primitive.infix[0]} ".join(f"({a})" for a in ["", *arguments][-2:]).replace("()", "")
        text = f"({text})"
    else:
        text = f"{primitive.name}({', '.join(arguments)})" if arguments else primitive.name
    if primitive.result == "square":
        return f"matmul(g, {text})" if primitive.name == "inner" else f"matmul({text}, g)"
    return f"where({text}, 1.5, 0.5)" if primitive.result == "mask" else text


def primitive_expressions() -> dict[str, dict[str, Any]]:
    """For each primitive of the table an expression of tensors and, if it is elementwise or keeps state, others.

    As arguments of `from_expression`, by name.
    """
    cases: dict[str, dict[str, Any]] = {}
    for primitive in TABLE.values():
        if primitive.scope == "gates" or (primitive.group == "gate" and not primitive.scope):
            name = "u" if primitive.name == "u" else call(primitive, DEVICE, "u")
            cases[primitive.name] = {"text": "ema(g, 0.5)", "gates": [f"{name} + 0.1 * u"]}
        elif primitive.scope == "post":
            name = "delta" if primitive.name == "delta" else call(primitive, DEVICE, "delta")
            cases[primitive.name] = {"text": "ema(g, 0.5)", "post": [f"{name} + 0.1 * delta"]}
        else:
            cases[primitive.name] = {"text": f"{call(primitive, DEVICE)} + 0.01 * g"}
            if primitive.parameters and primitive.group in ("elementwise", "stateful"):
                for variant in (HOST, ROLE, MIXED, SWAPPED):
                    cases[primitive.name + f" {_name(variant)}"] = {"text": f"g * {call(primitive, variant)}"}
    return cases


def _name(variant: dict) -> str:
    return next(name for name, value in globals().items() if value is variant).lower()


@cache
def primitive_cases() -> Programs:
    """The programs of `primitive_expressions`."""
    return of_expressions(primitive_expressions())


@cache
def catalogue_cases() -> Programs:
    """The known optimizers."""

    def known(name: str) -> Program:
        return lower(catalogue.load(name))

    return Programs({name: partial(known, name) for name in catalogue.names()})


@cache
def matrix_cases() -> Programs:
    """Products of matrices in all relations to one another, to passes, to slots and to reductions."""
    cases = {
        "product used twice": "odd_polynomial(odd_polynomial(g, 1.5, -0.5, 0.1), 0.7, 0.1, 0) + "
        "odd_polynomial(g, 1.5, -0.5, 0.1)",
        "two products of one matrix": "odd_polynomial(g, 1.2, -0.1, 0) + odd_polynomial(g, 0.5, 0.1, 0.01)",
        "product kept": "ema(odd_polynomial(g, 1.5, -0.5, 0), 0.9) + theta",
        "product of a slot": "odd_polynomial(ema(g, 0.9), 1, 0.1, 0)",
        "product of parameters alone": "odd_polynomial(theta, 1, 0.1, 0) * theta",
        "quantile of a product": "quantile(odd_polynomial(g, 1.5, -0.5, 0), 0.3) * theta + odd_polynomial(g, 1, 0, 0)",
        "quantile of quantiles": "quantile(g * quantile(abs(theta), 0.7), 0.2) + quantile(norm_row(g) * g, 0.9) * g",
        "product for weights": "where(is_weight, odd_polynomial(g, 1.5, -0.5, 0.1), prev(g))",
        "product for some weights": "where(is_weight and rows > 5, quantile(whiten(g), 0.4) * g, 0)",
        "products by role": "where(is_first, whiten(g), odd_polynomial(g, 1, 0.1, 0)) + where(is_last, 0, whiten(g))",
        "square values that last": "matmul(hold(inverse_root(ema(outer(g, g), 0.9) + 0.1 * identity(outer(g, g)), 2, "
        "0.01), t % 3 == 1), matmul(g, prev(inner(g, theta))))",
        "square values of one kind": "matmul(matmul(transpose(outer(g, theta)), outer(theta, g)), theta) + "
        "matrix_trace(inner(g, theta)) * rotate(g, outer(g, g), running_max(inner(g, g)))",
        "square values for weights": "where(is_weight, soap(g, 0.9, 0.9, 2), 0)",
        "square values times a mask": "matmul(where(outer(g, theta) > 0, norm(g), global_norm(g)) * outer(g, g), g)",
        "products and reductions in turn": "whiten(clip_global_norm(whiten(g) * norm_row(g), 0.1)) * norm(g)",
    }
    with_host_numbers = {"product with clock and role numbers": True, "product with a step and rows": False}
    return of_expressions({name: {"text": text} for name, text in cases.items()}) | Programs(
        {name: partial(_with_host_numbers, derived) for name, derived in with_host_numbers.items()}
    )


def _with_host_numbers(derived: bool) -> Program:
    """A product with host values as its numbers: computed ones, or sources as they are."""
    program = from_expression("odd_polynomial(g * (depth_fraction + 1 + 1 / t), 0.5, 0.1, 0.01)")
    nodes = list(program.nodes)
    place = next(i for i, node in enumerate(nodes) if node.op == "odd_polynomial")
    matrix, *_, last = nodes[place].arguments
    of_clock, of_role = (
        [
            i
            for i, node in enumerate(nodes[:place])
            if node.shape is shape and node.op != "const" and bool(node.arguments) is derived
        ]
        for shape in (ShapeClass.CLOCK, ShapeClass.ROLE)
    )
    nodes[place] = replace(nodes[place], arguments=(matrix, of_role[-1], of_clock[-1], last))
    return replace(program, nodes=tuple(nodes))


def varied(program: Program, factor: float) -> Program:
    """The program with other numbers: the same skeleton, but for those that are 0."""

    def scaled(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        return tuple(
            replace(node, attribute=float(node.attribute or 0.0) * factor) if node.op == "const" else node
            for node in nodes
        )

    query = replace(program.query, nodes=scaled(program.query.nodes)) if program.query else None
    return replace(program, nodes=scaled(program.nodes), query=query)
