"""Writes expressions as text: ``parse_expression(show(tree)) == tree``."""

from __future__ import annotations

from genomes.language.expressions import Expression, number
from genomes.language.primitives import TABLE, Primitive

_ATOM = 9
_UNARY = TABLE["neg"].infix[1]  # type: ignore[index]


def signature(primitive: Primitive) -> str:
    """How the primitive is written: ``ema(x, beta=0.9)``."""
    if not primitive.parameters:
        return primitive.name
    words = [p.name if p.default is None else f"{p.name}={show(number(p.default))}" for p in primitive.parameters]
    return f"{primitive.name}({', '.join(words)})"


def show(expression: Expression) -> str:
    """The text of an expression, with the fewest brackets."""
    return _show(expression)[0]


def _show(expression: Expression) -> tuple[str, int]:
    """Text and precedence."""
    if expression.value is not None:
        value = expression.value
        text = str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
        return text, _UNARY if text.startswith("-") else _ATOM
    primitive = TABLE.get(expression.name)
    if primitive is None or not expression.arguments:
        return expression.name, _ATOM
    if primitive.infix is None:
        return f"{expression.name}({', '.join(_arguments(primitive, expression))})", _ATOM
    symbol, precedence = primitive.infix
    if len(expression.arguments) == 1:
        operand, inner = _show(expression.arguments[0])
        # a bare number after the minus would be read back as a negative number
        bracket = inner < precedence or expression.arguments[0].value is not None
        operand = f"({operand})" if bracket else operand
        return (f"not {operand}" if symbol == "not" else f"-{operand}"), precedence
    (left, left_level), (right, right_level) = (_show(a) for a in expression.arguments)
    comparison = primitive.result == "mask" and symbol not in ("and", "or")
    right_associative = symbol == "**"
    if left_level < precedence or ((comparison or right_associative) and left_level == precedence):
        left = f"({left})"
    if right_level < precedence or (right_level == precedence and not right_associative):
        right = f"({right})"
    return f"{left} {symbol} {right}", precedence


def _arguments(primitive: Primitive, expression: Expression) -> list[str]:
    """Arguments as text: every constant is written out, by name where there are several."""
    named = sum(p.domain is not None for p in primitive.parameters) > 1
    return [
        f"{parameter.name}={show(argument)}" if named and parameter.domain else show(argument)
        for parameter, argument in zip(primitive.parameters, expression.arguments, strict=True)
    ]
