"""Genome expressions as DEAP trees: typed primitive sets built from the primitive table, and the way back.

Types follow the language: masks, averages (what debias wants), clock values (what schedules are made of), and a type
for each domain of constants, so that a beta is replaced by a beta. They hash by name: DEAP chooses from sets of types,
and the order of a set must not depend on memory addresses.
"""

from __future__ import annotations

import random
import zlib
from functools import cache, partial

from deap import gp

from evo.search.variation.constants import PLAIN, draw
from genomes.language.expressions import Expression, number
from genomes.language.primitives import TABLE, Domain, Parameter, Primitive


class Type(type):
    """A DEAP type with a hash that is the same in every process."""

    def __hash__(cls) -> int:
        return zlib.crc32(cls.__name__.encode())

    def __eq__(cls, other: object) -> bool:
        return cls is other


class Value(metaclass=Type):
    """A number of any shape class."""


class Average(Value):
    """The result of ema: what debias takes."""


class Square(metaclass=Type):
    """A matrix of rows by rows or columns by columns."""


class Role(Value):
    """A number or mask that depends on the tensor alone."""


class Clock(Value):
    """A number that depends on the step alone."""


class Number(Clock):
    """A literal."""


class Mask(metaclass=Type):
    """A comparison."""


class ClockMask(Mask):
    """A comparison of clock values or roles."""


_CLOCK_NAMES = ("t", "epoch", "train_loss", "val_loss", "best_loss", "stale_epochs", "model_size")
_RARE = (
    "or",
    "and",
    "not",
    "eq",
    "mod",
    "floor",
    "sin",
    "cos",
    "model_size",
    "running_product",
    "sum_model",
    "max_model",
)
# How often a primitive of a group is drawn, where its type fits; 0.5 if not named.
_GROUP_WEIGHTS = {
    "elementwise": 1.0,
    "stateful": 1.5,
    "composite": 2.0,
    "reduction": 0.25,
    "gate": 0.4,
    "schedule": 1.0,
    "matrix": 0.05,  # several matrix products per step
    "noise": 0.05,
}


@cache
def domain_type(domain: Domain) -> Type:
    """The DEAP type of constants of this domain."""
    name = f"{domain.scale}_{domain.low:g}_{domain.high:g}_{domain.prior[0]:g}_{domain.prior[1]:g}_{domain.unit}"
    return Type(name, (Number,), {})


@cache
def primitive_set(scope: str) -> gp.PrimitiveSetTyped:
    """The DEAP primitive set for terms (``""``), ``gates``, ``post`` or ``schedule``; built from the table."""
    schedule = scope == "schedule"
    pset = gp.PrimitiveSetTyped(scope or "terms", [], Clock if schedule else Value)
    for primitive in TABLE.values():
        if schedule and primitive.group not in ("signal", "schedule", "elementwise"):
            continue
        if primitive.scope not in ("", scope) or (primitive.group == "schedule" and not schedule):
            continue
        node = _node(primitive, schedule)
        if isinstance(node, gp.Primitive):
            pset.addPrimitive(_never, node.args, node.ret, name=primitive.name)
        else:
            pset.addTerminal(primitive.name, node.ret, name=primitive.name)
    for domain in (PLAIN, *_domains()):
        kind = Number if domain is PLAIN else domain_type(domain)
        pset.addEphemeralConstant(f"{pset.name} {kind.__name__}", partial(_drawn, domain), kind)
    return pset


def _node(primitive: Primitive, schedule: bool) -> gp.Primitive | gp.Terminal:
    """A word as a node of a tree.

    People may use a word where no random tree does (RAdam: a schedule in a term): such a node is in no primitive set,
    so that it can be moved and dropped, but not drawn.
    """
    wants = [_parameter_type(p.kind, p.domain, schedule) for p in primitive.parameters]
    gives = _result_type(primitive, schedule)
    return gp.Primitive(primitive.name, wants, gives) if wants else gp.Terminal(primitive.name, True, gives)


def _drawn(domain: Domain) -> float:
    return draw(domain, random)  # DEAP calls this inside global_random, where the module's state is keyed


@cache
def _domains() -> tuple[Domain, ...]:
    found = [p.domain for primitive in TABLE.values() for p in primitive.parameters if p.domain]
    return tuple({domain_type(domain): domain for domain in found}.values())


def _never(*arguments: object) -> None:
    raise AssertionError("trees are lowered, never called")


def _parameter_type(kind: str, domain: Domain | None, schedule: bool) -> Type:
    if domain is not None:
        return domain_type(domain)
    return {"number": Clock if schedule else Value, "mask": Mask, "average": Average, "square": Square}[kind]


def _result_type(primitive: Primitive, schedule: bool) -> Type:
    constant = primitive.group == "role" or primitive.name in _CLOCK_NAMES or primitive.group == "signal"
    if primitive.result == "mask":
        return ClockMask if constant else Mask
    if primitive.result == "average":
        return Average
    if primitive.result == "square":
        return Square
    if schedule or primitive.name in _CLOCK_NAMES or primitive.group == "schedule":
        return Clock
    return Role if constant else Value


def to_tree(expression: Expression, scope: str) -> gp.PrimitiveTree:
    """The expression as a DEAP tree of ``scope``'s primitive set; names of ``let`` lines are leaves of their place."""
    pset = primitive_set(scope)
    schedule = scope == "schedule"
    nodes = []
    stack: list[tuple[Expression, Parameter | None]] = [(expression, None)]
    while stack:
        node, parameter = stack.pop()
        if node.value is not None:
            kind = domain_type(parameter.domain) if parameter and parameter.domain else Number
            nodes.append(gp.Terminal(node.value, False, kind))
        elif node.name not in TABLE:
            kind = _parameter_type(parameter.kind, parameter.domain, schedule) if parameter else Value
            nodes.append(gp.Terminal(node.name, True, kind))
        else:
            nodes.append(pset.mapping.get(node.name) or _node(TABLE[node.name], schedule))
            stack.extend(reversed(list(zip(node.arguments, TABLE[node.name].parameters, strict=True))))
    return gp.PrimitiveTree(nodes)


def from_tree(tree: gp.PrimitiveTree) -> Expression:
    """The expression of a DEAP tree; the inverse of ``to_tree``."""
    stack: list[Expression] = []
    for node in reversed(tree):
        if isinstance(node, gp.Primitive):
            arguments = tuple(stack.pop() for _ in range(node.arity))
            stack.append(Expression(node.name, arguments))
        elif isinstance(node.value, float):
            stack.append(number(node.value))
        else:
            stack.append(Expression(node.name))
    (expression,) = stack
    return expression


def grow(scope: str, kind: Type, depth: int, rng: random.Random) -> list:
    """Nodes of a random tree of type ``kind``, at most ``depth`` levels deep where the types allow it."""
    pset = primitive_set(scope)
    if issubclass(kind, Number):
        return [gp.Terminal(_draw_number(kind, rng), False, kind)]
    terminals, (names, weights) = _choices(scope, kind)
    if kind is Value and depth <= 2 and rng.random() < 0.1:
        return [gp.Terminal(_draw_number(Number, rng), False, Number)]
    if terminals and (depth <= 1 or rng.random() < 0.25):
        return [rng.choices(*terminals)[0]]
    for shallow in ("ema", "outer"):  # a type without terminals (averages, square values): its shallowest primitive
        if depth <= 1 and shallow in names:
            names, weights = [shallow], [1.0]
    node = pset.mapping[rng.choices(names, weights)[0]]
    nodes = [node]
    for wanted in node.args:
        nodes += grow(scope, wanted, depth - 1, rng)
    return nodes


@cache
def _choices(scope: str, kind: Type) -> tuple:
    """(terminals, weights) or () and (primitive names, weights) that give ``kind``."""
    pset = primitive_set(scope)
    terminals = [t for t in pset.terminals[kind] if isinstance(t, gp.Terminal)]
    favored = {"g": 12.0, "u": 12.0, "delta": 12.0, "theta": 1.0}
    names = [p.name for p in pset.primitives[kind]]
    names = [n for n in names if TABLE[n].group != "signal"]
    weights = [0.1 if n in _RARE else _GROUP_WEIGHTS.get(TABLE[n].group, 0.5) for n in names]
    listed = (terminals, [favored.get(t.name, 0.1) for t in terminals]) if terminals else ()
    return listed, (names, weights)


def _draw_number(kind: Type, rng: random.Random) -> float:
    domain = _domain_of(kind)
    value = draw(domain, rng)
    return -value if domain is PLAIN and rng.random() < 0.2 else value


def _domain_of(kind: Type) -> Domain:
    return next((domain for domain in _domains() if domain_type(domain) is kind), PLAIN)
