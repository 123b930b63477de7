"""Reading and printing expressions: inverse to each other, strict, safe with hostile text."""

from __future__ import annotations

import ast
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genomes.language.expressions import Expression, call, is_mask, number
from genomes.language.parser import MAX_CHARACTERS, MAX_DEPTH, MAX_NODES, ExpressionError, parse_expression
from genomes.language.printer import show
from tests.genomes import strategies

_quick = settings(max_examples=120, deadline=None, derandomize=True, database=None)


@_quick
@given(expression=strategies.expressions(scope="gates", depth=6))
def test_parse_and_show_are_inverse(expression: Expression):
    assert parse_expression(show(expression), "gates") == expression


@_quick
@given(expression=strategies.expressions(kind="mask", depth=5))
def test_parse_and_show_are_inverse_for_masks(expression: Expression):
    assert parse_expression(show(expression)) == expression
    assert is_mask(expression)


@_quick
@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive(value: float):
    assert parse_expression(show(number(value))) == number(value)


@pytest.mark.parametrize(
    "text",
    [
        "g", "-g", "-(-g)", "- -g", "(-1) ** 2", "-1 ** 2", "2 ** -1", "-(2)", "--2", "g - -1",
        "g - (g - g)", "g - g - g", "g / (g / g)", "g / g / g", "g ** g ** g", "(g ** g) ** g", "-(g ** 2)",
        "(-g) ** 2",
        "where(not (g > 0 and theta > 0) or t == 1, g, 0)", "where((not g > 0) and g < 1, g, 0)", "g * -1", "g % 3 % 2",
        "g % (3 % 2)", "ema(g, beta=0.9)", "ema(beta=0.9, x=g)", "clip(g)", "1e-8", ".5 * g", "1_000 * g", "g\n+ g",
    ],
)  # fmt: skip
def test_show_keeps_the_tree(text: str):
    tree = parse_expression(text)
    assert parse_expression(show(tree)) == tree


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("((g))", "g"),
        ("g*(g+1)", "g * (g + 1)"),
        ("(g*g)+1", "g * g + 1"),
        ("g-(g-1)", "g - (g - 1)"),
        ("(g-g)-1", "g - g - 1"),
        ("g**2**2", "g ** 2 ** 2"),
        ("ema(g)", "ema(g, 0.9)"),
        ("where(1<g, g, 0.50)", "where(1 < g, g, 0.5)"),
        ("1e-08", "1e-08"),
        ("1.0", "1"),
    ],
)
def test_show_uses_few_brackets(text: str, shown: str):
    assert show(parse_expression(text)) == shown


def test_arguments_are_in_the_order_of_the_record_with_defaults():
    assert parse_expression("adam(g)") == call("adam", Expression("g"))
    assert parse_expression("adam(g, epsilon=1e-3, beta1=0.5)") == call("adam", Expression("g"), 0.5, 0.999, 1e-3)


HOSTILE = {
    "deep brackets": "(" * 10_000 + "g" + ")" * 10_000,
    "deep calls": "abs(" * 10_000 + "g" + ")" * 10_000,
    "deep minus": "-" * 3_900 + "g",
    "deep power": "**".join(["g"] * 1_900),
    "deep not": "not " * 900 + "g > 0",
    "long sum": "+".join(["g"] * 1_900),
    "long text": "g + " * 100_000 + "g",
    "unknown name": "gradient",
    "unknown function": "evaluate(g)",
    "attribute": "g.__class__",
    "attribute of a number": "(1).__class__",
    "method": "g.sum()",
    "dunder": "__import__('os')",
    "import": "import os",
    "statement": "g; g",
    "assignment": "g = 1",
    "walrus": "(x := g)",
    "lambda": "lambda: g",
    "f-string": "f'{g}'",
    "text": "'g'",
    "bytes": "b'g'",
    "list": "[g]",
    "set": "{g}",
    "dict": "{1: g}",
    "tuple": "(g, g)",
    "subscript": "g[0]",
    "slice": "g[0:1]",
    "comprehension": "[g for g in g]",
    "generator": "abs(x for x in g)",
    "conditional": "g if t > 1 else theta",
    "await": "await g",
    "yield": "(yield g)",
    "star": "*g",
    "starred argument": "abs(*g)",
    "double star": "abs(**g)",
    "call of a call": "abs(g)(g)",
    "call of an attribute": "abs.__call__(g)",
    "huge integer": "9" * 3_000,
    "huge float": "1e999",
    "complex": "1j * g",
    "true": "True",
    "none": "None",
    "ellipsis": "...",
    "matrix product": "g @ g",
    "floor division": "g // 2",
    "bit and": "(g > 0) & (g < 1)",
    "shift": "1 << 10",
    "not equal": "where(g != 0, g, 0)",
    "is": "where(g is g, g, 0)",
    "in": "where(g in g, g, 0)",
    "chained comparison": "where(0 < g < 1, g, 0)",
    "mask as number": "g + (g > 0)",
    "number as mask": "where(g, g, g)",
    "two few arguments": "where(g > 0, g)",
    "too many arguments": "abs(g, g)",
    "unknown argument": "ema(g, gamma=0.9)",
    "argument twice": "ema(g, 0.9, beta=0.9)",
    "missing arguments": "ema()",
    "function without call": "g + ema",
    "call of a source": "g(1)",
    "u outside gates": "u",
    "delta outside post": "delta",
    "debias of no average": "debias(g)",
    "empty": "",
    "blank": "   ",
    "comment": "# g",
    "null byte": "g\0",
    "null byte inside": "g + \0 theta",
    "unicode letter": "ｇ́́",
    "greek": "θ + g",
    "right-to-left": "g\u202e + theta",
    "unicode minus": "g \u2212 theta",
    "surrogate": "g \udcff",
    "half bracket": "(g",
    "other half": "g)",
    "operator alone": "+",
    "unary plus": "+g",
    "invert": "~g",
    "line continuation": "g + \\",
    "several lines": "g\ntheta",
    "decorator": "@g",
    "star import": "from os import *",
    "print": "print(g)",
    "backquote": "`g`",
    "dollar": "$g",
    "escape": "\\x41",
    "octal": "0777 * g",
    "underscore name": "_",
    "keyword": "class",
    "type hint": "g: int",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_refused_with_a_position(text: str):
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text)
    message = str(caught.value)
    assert caught.value.column >= 1
    assert f"(at character {caught.value.column})" in message
    assert len(message) < 300
    assert "\n" not in message


@_quick
@given(text=st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str):
    try:
        expression = parse_expression(text, "gates")
    except ExpressionError:
        return
    assert parse_expression(show(expression), "gates") == expression


@_quick
@given(
    text=st.lists(
        st.sampled_from(
            ["g", "ema", "(", ")", ",", "+", "**", "-", "0.9", "where", ">", "not", "u", " ", "1e3", "beta="]
        ),
        max_size=25,
    ).map("".join)
)
def test_any_tokens_are_read_or_refused(text: str):
    try:
        expression = parse_expression(text, "gates")
    except ExpressionError:
        return
    assert parse_expression(show(expression), "gates") == expression


def test_limits():
    assert parse_expression("(" * (MAX_DEPTH - 1) + "g" + ")" * (MAX_DEPTH - 1)) == Expression("g")
    with pytest.raises(ExpressionError, match="nested deeper"):
        parse_expression("abs(" * MAX_DEPTH + "g" + ")" * MAX_DEPTH)
    with pytest.raises(ExpressionError, match=f"at most {MAX_CHARACTERS}"):
        parse_expression("g" + " " * MAX_CHARACTERS)
    wide = " + ".join(f"sum_all({' + '.join(['g'] * 15)})" for _ in range(15))
    with pytest.raises(ExpressionError, match=f"at most {MAX_NODES}"):
        parse_expression(wide)


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("g + gradien", 5, "unknown name 'gradien'"),
        ("ema(g, 1.5)", 8, "allowed is 0 to 0.999999"),
        ("abs(g) + ema(g, 0.9, 3)", 10, "takes 2 arguments, not 3"),
        ("where(g > 0, g > 1, g)", 14, "wants a number for 'x'"),
        ("g.real", 1, "attributes"),
        ("1 + g.norm()", 5, "write norm(g)"),
        ("torch.sqrt(g)", 1, "write sqrt(...)"),
        ("(g + 1).norm()", 1, "write norm(...)"),
        ("g // 2", 1, "// is not part of the language: write floor(x / y)"),
        ("g ^ 2", 1, "write x ** y"),
        ("where((g > 0) & (g < 1), g, 0)", 7, "& is not part of the language: write a and b"),
        ("where(g != 0, g, 0)", 7, "!= is not part of the language: write not (x == y)"),
        ("where(0 < g < 1, g, 0)", 7, "a < b and b < c"),
        ("g @ g", 1, "@ is not part of the language"),
        ("2 * +g", 5, "+ before a value"),
        ("g if t > 1 else theta", 1, "write where(m, a, b)"),
        ("f'{g}'", 1, "text in quotes"),
        ("(g, g)", 1, "a comma"),
        ("1j * g", 1, "1j is not part of the language"),
        ("ema(**g)", 7, "** before an argument"),
        ("norm(g)(g)", 1, "only a word can be called"),
        (" + ".join(["g"] * 42), 1, f"nested deeper than {MAX_DEPTH} levels; each + of a sum is one"),
        ("delta", 1, "delta may stand under 'post' and in the offsets of query and evaluation alone"),
        ("emma(g)", 1, "did you mean ema?"),
        ("g +", 4, "not an expression"),
    ],
)
def test_messages_point_at_the_mistake(text: str, column: int, message: str):
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text)
    assert caught.value.column == column
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ema(g, 1 - 0.000000001)", "beta is 0.999999999; allowed is 0 to 0.999999"),
        ("ema(g, -(0.5))", "beta is -0.5; allowed"),
        ("ema(g, sqrt(4))", "beta is 2; allowed"),
        ("ema(g, square(2))", "beta is 4; allowed"),
        ("ema(g, where(1 < 0, 0.5, 2))", "beta is 2; allowed"),
        ("cosine(1e308 * 10)", "epochs is inf; allowed"),
        ("noise(1.5)", "stream is 1.5; allowed is 0 to 1e+06, whole numbers alone"),
        ("cosine(5 / 2)", "epochs is 2.5; allowed"),
        ("quantise8(g, 3)", "intervals is 3; allowed"),
    ],
)
def test_constants_made_of_numbers_are_held_to_their_domain(text: str, message: str):
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "ema(g, 1 - 1e-3)",
        "ema(g, sqrt(0.25))",
        "cosine(10 / 2)",
        "ema(g, clip(5, 0.5))",
        "ema(g, 1 - 1 / t)",
        "noise(3)",
    ],
)
def test_constants_inside_their_domain_or_of_the_clock_are_read(text: str):
    assert parse_expression(show(parse_expression(text))) == parse_expression(text)


@pytest.mark.parametrize("text", [text for text in HOSTILE.values() if len(text) < 40])
def test_messages_do_not_show_pythons_names_of_things(text: str):
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text)
    assert not [name for name in dir(ast) if name[0].isupper() and re.search(rf"\b{name}\b", str(caught.value))
                if name not in ("True", "None")]  # fmt: skip


def test_leading_blanks_count():
    with pytest.raises(ExpressionError) as caught:
        parse_expression("   gradien")
    assert caught.value.column == 4
