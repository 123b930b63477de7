"""Reads expressions from text, and checks them against the primitive table.

Text is read with Python's ``ast`` as a parser alone, with a whitelist of node types; nothing is ever evaluated.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache

from genomes.language.expressions import Expression, is_mask, number
from genomes.language.operations import folded
from genomes.language.primitives import TABLE, Parameter, Primitive
from genomes.language.printer import show, signature

MAX_CHARACTERS = 4000
MAX_DEPTH = 40
MAX_NODES = 400

_BLANK = re.compile(r"[ \t\r\n\f]")
_OPERATORS: dict[type, str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.Mod: "mod", ast.Pow: "pow", ast.USub: "neg",
    ast.Not: "not", ast.And: "and", ast.Or: "or", ast.Gt: "gt", ast.GtE: "ge", ast.Lt: "lt", ast.LtE: "le",
    ast.Eq: "eq",
}  # fmt: skip
_FOREIGN: dict[type, str] = {  # what people write by habit, and what to write instead
    ast.FloorDiv: "//: write floor(x / y)", ast.BitXor: "^: write x ** y for a power",
    ast.BitAnd: "&: write a and b", ast.BitOr: "|: write a or b", ast.Invert: "~: write not a",
    ast.MatMult: "@", ast.LShift: "<<", ast.RShift: ">>", ast.UAdd: "+ before a value: leave it out",
    ast.NotEq: "!=: write not (x == y)", ast.Is: "is: write x == y", ast.IsNot: "is not: write not (x == y)",
    ast.In: "in", ast.NotIn: "not in",
    ast.IfExp: "a if m else b: write where(m, a, b)", ast.JoinedStr: "text in quotes", ast.Tuple: "a comma here",
    ast.List: "[ ]", ast.Subscript: "x[ ]", ast.ListComp: "[ for ]", ast.Set: "{ }", ast.Dict: "{ }",
    ast.SetComp: "{ for }", ast.DictComp: "{ for }", ast.GeneratorExp: "for", ast.Lambda: "lambda",
    ast.NamedExpr: ":=", ast.Await: "await", ast.Yield: "yield", ast.YieldFrom: "yield",
    ast.Starred: "* before a value",
}  # fmt: skip


class ExpressionError(ValueError):
    """A text that is no expression of the language. ``column`` counts characters from 1."""

    def __init__(self, message: str, column: int = 1):
        super().__init__(f"{message} (at character {column})")
        self.message, self.column = message, column


def parse_expression(
    text: str, scope: str = "", names: Mapping[str, str] | None = None, numbers: Mapping[str, float] | None = None
) -> Expression:
    """Read and check one expression.

    ``scope``: ``""``, ``gates`` (``u`` is known) or ``post`` (``delta`` is known). ``names``: further names and their
    kinds (``later``: not yet known here), in a primitive's body or by `let` lines; ``numbers``: the values of those
    that are made of numbers alone. Raises ExpressionError.
    """
    if not isinstance(text, str):
        raise ExpressionError(f"expected an expression, got {text!r}")
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(f"{len(text)} characters long; at most {MAX_CHARACTERS} are read", MAX_CHARACTERS)
    text = _BLANK.sub(" ", text)
    depth = 0
    for column, character in enumerate(text, 1):  # brackets first: Python's own parser can fail on deep nesting
        depth += (character in "([{") - (character in ")]}")
        if depth > MAX_DEPTH:
            raise ExpressionError(f"brackets nested deeper than {MAX_DEPTH}", column)
        if character == "#" or not " " <= character <= "~":
            raise ExpressionError(f"{character!a} is not part of the language", column)
    lead = len(text) - len(text.lstrip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a SyntaxWarning about foreign text is not ours to show
            tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        column = lead + error.offset if error.offset else len(text) + 1  # no offset: something is missing at the end
        raise ExpressionError(f"not an expression: {error.msg}", column) from None
    except (ValueError, RecursionError, MemoryError):
        raise ExpressionError("not an expression: it cannot be read") from None
    expression = _Reader(scope, names or {}, numbers or {}, lead).read(tree.body, 1)
    if expression.size > MAX_NODES:
        raise ExpressionError(f"{expression.size} nodes; at most {MAX_NODES} are allowed")
    return expression


class _Reader:
    def __init__(self, scope: str, names: Mapping[str, str], numbers: Mapping[str, float], lead: int):
        self.scope, self.names, self.numbers, self.lead = scope, names, numbers, lead

    def read(self, node: ast.expr, depth: int) -> Expression:
        column = self._column(node)
        if depth > MAX_DEPTH:
            raise ExpressionError(f"nested deeper than {MAX_DEPTH} levels; each + of a sum is one", column)
        match node:
            case ast.Constant(value=bool() | None):
                raise ExpressionError(f"{node.value} is no number", column)
            case ast.Constant(value=int() | float() as value):
                return self._number(value, column)
            case ast.Name(id=name):
                return self._name(name, column)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value) as literal) if (
                type(value) is not bool and literal.col_offset == node.col_offset + 1
            ):  # -2 is a number, -(2) the negation of one
                return self._number(-value, column)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
                return self._call(_OPERATORS[type(op)], [operand], column, depth)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return self._call(_OPERATORS[type(op)], [left, right], column, depth)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATORS:
                return self._call(_OPERATORS[type(op)], [left, right], column, depth)
            case ast.UnaryOp(op=op) | ast.BinOp(op=op) | ast.Compare(ops=[op]):
                raise ExpressionError(_foreign(op), column)
            case ast.Compare():
                raise ExpressionError("compare two values at a time: a < b and b < c", column)
            case ast.BoolOp(op=op, values=values):
                result = self.read(values[0], depth + 1)
                for other in values[1:]:
                    result = self._checked(_OPERATORS[type(op)], [result, self.read(other, depth + 1)], column)
                return result
            case ast.Call(func=ast.Name(id=name)):
                return self._call(name, node.args, column, depth, node.keywords)
            case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in TABLE:
                library = isinstance(value, ast.Name) and value.id not in TABLE and value.id not in self.names
                instead = f"{name}(...)" if library or not isinstance(value, ast.Name) else f"{name}({value.id})"
                raise ExpressionError(f"attributes (a.b) are not part of the language: write {instead}", column)
            case ast.Attribute() | ast.Call(func=ast.Attribute()):
                raise ExpressionError("attributes (a.b) are not part of the language", column)
            case ast.Constant(value=str() | bytes()):
                raise ExpressionError("text in quotes is not part of the language", column)
            case ast.Constant():
                shown = "..." if node.value is ... else f"{node.value}"[:40]
                raise ExpressionError(f"{shown} is not part of the language", column)
            case ast.Call():
                raise ExpressionError("only a word can be called, as in norm(x)", column)
        raise ExpressionError(_foreign(node), column)

    def _column(self, node: ast.expr) -> int:
        return self.lead + node.col_offset + 1

    def _number(self, value: float, column: int) -> Expression:
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise ExpressionError("this number is too large", column)
        return Expression(value=value, column=column)

    def _name(self, name: str, column: int) -> Expression:
        if self.names.get(name) == "later":
            raise ExpressionError(
                f"{name} is defined further down: move its line up, or make it a state ({name} from 0 = ...)", column
            )
        if name in self.names:
            return Expression(name, column=column)
        primitive = self._primitive(name, column)
        if primitive.parameters:
            raise ExpressionError(f"{signature(primitive)} wants arguments", column)
        return Expression(name, column=column)

    def _primitive(self, name: str, column: int) -> Primitive:
        primitive = TABLE.get(name)
        if primitive is None:
            near = get_close_matches(name, [*TABLE, *self.names], 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ExpressionError(f"unknown name {name[:40]!r}{hint}", column)
        if primitive.scope and primitive.scope != self.scope:
            offsets = " and in the offsets of query and evaluation" if primitive.scope == "post" else ""
            raise ExpressionError(f"{name} may stand under {primitive.scope!r}{offsets} alone", column)
        return primitive

    def _call(
        self,
        name: str,
        arguments: list[ast.expr],
        column: int,
        depth: int,
        keywords: list[ast.keyword] | None = None,
    ) -> Expression:
        if name in self.names and name not in TABLE:
            raise ExpressionError(f"{name} is a name and takes no arguments", column)
        parameters = self._primitive(name, column).parameters
        if len(arguments) > len(parameters):
            raise ExpressionError(
                f"{signature(TABLE[name])} takes {len(parameters)} arguments, not {len(arguments)}", column
            )
        given: dict[str, Expression] = {}
        for parameter, argument in zip(parameters, arguments, strict=False):
            if isinstance(argument, ast.Starred):
                raise ExpressionError("* before an argument is not part of the language", self._column(argument))
            given[parameter.name] = self.read(argument, depth + 1)
        for keyword in keywords or []:
            place = self._column(keyword.value)
            if keyword.arg is None:
                raise ExpressionError("** before an argument is not part of the language", place)
            if keyword.arg not in {p.name for p in parameters}:
                raise ExpressionError(f"{signature(TABLE[name])} has no argument {keyword.arg!r}", place)
            if keyword.arg in given:
                raise ExpressionError(f"argument {keyword.arg!r} is given twice", place)
            given[keyword.arg] = self.read(keyword.value, depth + 1)
        for parameter in parameters:
            if parameter.name not in given:
                if parameter.default is None:
                    raise ExpressionError(f"{signature(TABLE[name])} wants {parameter.name!r}", column)
                given[parameter.name] = number(parameter.default)
        return self._checked(name, [given[p.name] for p in parameters], column)

    def _checked(self, name: str, arguments: list[Expression], column: int) -> Expression:
        for parameter, argument in zip(TABLE[name].parameters, arguments, strict=True):
            self._check(name, parameter, argument)
        return Expression(name, tuple(arguments), column=column)

    def _check(self, name: str, parameter: Parameter, argument: Expression) -> None:
        kind = kind_of(argument, self.names)
        wanted = parameter.kind
        if wanted == "mask" and kind != "mask":
            raise ExpressionError(f"{name} wants a comparison for {parameter.name!r}, not a number", argument.column)
        if wanted != "mask" and kind == "mask":
            raise ExpressionError(
                f"{name} wants a number for {parameter.name!r}: where(mask, 1, 0) makes one", argument.column
            )
        if wanted == "average" and kind != "average":
            raise ExpressionError(f"{name} wants an average such as ema(x, beta)", argument.column)
        domain = parameter.domain
        value = constant(argument, self.numbers) if domain else None
        if domain is None or value is None:
            return
        whole = domain.whole
        if not domain.low <= value <= domain.high or (whole and value != int(value)):
            shown = show(number(value)) if math.isfinite(value) else f"{value}"
            allowed = f"{domain.low:g} to {domain.high:g}" + (", whole numbers alone" if whole else "")
            raise ExpressionError(f"{name}: {parameter.name} is {shown}; allowed is {allowed}", argument.column)


def _foreign(node: ast.AST) -> str:
    """What to say of a piece of Python that the language does not have."""
    what, _, instead = _FOREIGN.get(type(node), "this").partition(": ")
    return f"{what} is not part of the language" + (f": {instead}" if instead else "")


def kind_of(expression: Expression, names: Mapping[str, str]) -> str:
    """What an expression gives: ``number``, ``mask`` or ``average``. ``names``: kinds of names that are no words."""
    if expression.value is not None:
        return "number"
    if expression.name in names:
        return names[expression.name]
    primitive = TABLE[expression.name]
    if primitive.result != "average" or primitive.varying_debias:
        return primitive.result
    literal = all(
        # what a name stands for comes later, and may be a literal
        not p.domain or a.value is not None or any(node.name in names for node in a.walk())
        for p, a in zip(primitive.parameters, expression.arguments, strict=True)
    )
    return "average" if literal else "number"


@cache
def body(name: str, varying: bool = False) -> tuple[tuple[str, Expression], ...]:
    """The statements of a primitive's body: (name assigned, expression); the last name is ``""``, the result.

    ``varying``: those for arguments of any value.
    """
    primitive = TABLE[name]
    text = primitive.varying_body if varying else primitive.body
    assert text is not None
    kinds: dict[str, str] = {p.name: p.kind for p in primitive.parameters} | {s.name: "number" for s in primitive.state}
    statements = []
    for line in text.strip().splitlines():
        target, assign, text = line.strip().partition(" = ")
        if not assign:
            target, text = "", target
        expression = parse_expression(text, names=kinds)
        statements.append((target, expression))
        kinds[target] = "mask" if is_mask(expression) else "number"
    if [n for n, _ in statements].index("") != len(statements) - 1:
        raise ValueError(f"primitive {name}: the result is the last line of its body")
    return tuple(statements)


@cache
def unbiased_result(name: str, literal: bool = True) -> Expression | None:
    """The bias-corrected value of a primitive that is an average, over the names of its body; None for others.

    ``literal``: whether its constants are literals.
    """
    primitive = TABLE[name]
    text = primitive.debias if literal else primitive.varying_debias
    if text is None:
        return None
    names = [p.name for p in primitive.parameters] + [s.name for s in primitive.state] + [n for n, _ in body(name)]
    return parse_expression(text, names=dict.fromkeys(names, "number"))


def constant(expression: Expression, names: Mapping[str, float] | None = None) -> float | None:
    """What an expression comes to that is made of numbers alone, by operators and elementwise words; else None.

    ``names``: the values of the names in a primitive's body. Masks are 1 and 0.
    """
    if expression.value is not None:
        return expression.value
    if names and expression.name in names:
        return names[expression.name]
    primitive = TABLE.get(expression.name)
    if primitive is None or primitive.group != "elementwise" or not expression.arguments:
        return None  # without arguments it is a name of a body, such as floor
    values: list[float] = []
    for argument in expression.arguments:
        value = constant(argument, names)
        if value is None:
            return None
        values.append(value)
    if primitive.op is not None:
        return folded(primitive.op, values)
    known = dict(zip((p.name for p in primitive.parameters), values, strict=True))
    result = None
    for target, statement in body(primitive.name):
        result = constant(statement, known)
        if result is None:
            return None
        known[target] = result
    return result
