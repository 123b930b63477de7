"""Every word of the language: it lowers, runs, is finite on ordinary input, and its edge cases are as documented."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genomes.analysis.reference import example
from genomes.backends import torch_reference
from genomes.backends.torch_reference import optimizer
from genomes.compiler.shapes import LoweringError, ShapeClass, join
from genomes.language.operations import ON_FLOATS, OPERATIONS
from genomes.language.parser import ExpressionError, parse_expression
from genomes.language.primitives import TABLE, Primitive, State, constant, value
from genomes.language.printer import show
from tests.genomes.drive import Generated, drive, from_expression, one_step, value_of


def in_place(primitive: Primitive) -> dict:
    """The genes of a probe that uses the primitive on ordinary values, in a place where it may stand."""
    text = show(example(primitive))
    if primitive.result == "mask":
        text = f"where({text}, g, 0.5 * g)"
    if primitive.result == "square":
        text = f"matmul(g, {text})" if primitive.name == "inner" else f"matmul({text}, g)"
    if primitive.scope == "gates":
        return {"text": "g", "gates": [text]}
    if primitive.scope == "post":
        return {"text": "g", "post": [text]}
    return {"text": text}


@pytest.mark.parametrize("name", TABLE)
def test_runs_and_is_finite_on_ordinary_input(name: str):
    lowered = from_expression(**in_place(TABLE[name]))
    assert all(
        torch.isfinite(value).all() for value in drive(optimizer(lowered), 10)
    )  # losses are known from step 9 on


@pytest.mark.parametrize("name", TABLE)
def test_record_is_documented(name: str):
    primitive = TABLE[name]
    assert primitive.doc
    assert primitive.group
    for parameter in primitive.parameters:
        if parameter.domain:
            low, high = parameter.domain.prior
            assert parameter.domain.low <= low < high <= parameter.domain.high
            if parameter.default is not None:
                assert parameter.domain.low <= parameter.default <= parameter.domain.high


# text, gradients (and 0.5 for every parameter), expected values
EDGES = [
    ("g / (theta - 0.5)", [1.0, 0.0, -2.0], [0.0, 0.0, 0.0]),
    ("1 / g", [0.0, -0.0, 4.0], [0.0, 0.0, 0.25]),
    ("g / 0", [1.0, -1.0, 0.0], [0.0, 0.0, 0.0]),
    ("g / g", [0.0, 1e-300, -3.0], [0.0, 1.0, 1.0]),
    ("sqrt(g)", [-4.0, 0.0, 9.0], [0.0, 0.0, 3.0]),
    ("log(g)", [-1.0, 0.0, 1.0], [math.log(1e-37), math.log(1e-37), 0.0]),
    ("exp(g)", [1000.0, -1000.0, 0.0], [math.exp(80), 0.0, 1.0]),
    ("sign(g)", [0.0, -0.0, -3.0], [0.0, 0.0, -1.0]),
    ("g ** 0", [0.0, -1.0, 2.0], [1.0, 1.0, 1.0]),
    ("g ** 2", [0.0, -3.0, 2.0], [0.0, 9.0, 4.0]),
    ("g ** 3", [0.0, -3.0, 2.0], [0.0, -27.0, 8.0]),
    ("g ** (-1)", [0.0, -4.0, 2.0], [0.0, -0.25, 0.5]),
    ("g ** (-2)", [0.0, -4.0, 2.0], [0.0, 0.0625, 0.25]),
    ("g ** 0.5", [0.0, -4.0, 4.0], [0.0, 0.0, 2.0]),
    ("g ** 0.25", [0.0, -4.0, 16.0], [0.0, 0.0, 2.0]),
    ("g ** (-0.5)", [0.0, -4.0, 4.0], [0.0, 0.0, 0.5]),
    ("g ** g", [0.0, -1.0, 2.0], [1.0, -1.0, 4.0]),
    ("0 ** g", [0.0, 1.0, -1.0], [1.0, 0.0, 0.0]),
    ("2 ** g", [0.0, 3.0, -1.0], [1.0, 8.0, 0.5]),
    ("g % 3", [4.0, -1.0, 3.0], [1.0, 2.0, 0.0]),
    ("g % 0", [4.0, -1.0, 0.0], [0.0, 0.0, 0.0]),
    ("4 % g", [3.0, -3.0, 0.0], [1.0, -2.0, 0.0]),
    ("floor(g)", [1.5, -1.5, 2.0], [1.0, -2.0, 2.0]),
    ("atan2(g, theta - 0.5)", [0.0, 1.0, -1.0], [0.0, math.pi / 2, -math.pi / 2]),
    ("clip(g, 2)", [3.0, -3.0, 1.0], [2.0, -2.0, 1.0]),
    ("clip(g, 0)", [3.0, -3.0, 1.0], [0.0, 0.0, 0.0]),
    ("where(g > theta, 1, 2)", [1.0, 0.5, -1.0], [1.0, 2.0, 2.0]),
    ("where(not g > theta or g == 1, 1, 2)", [1.0, 0.5, 3.0], [1.0, 1.0, 2.0]),
    ("clip_norm(g, 1)", [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    ("clip_global_norm(g, 1)", [3.0, 0.0, 4.0], [0.6, 0.0, 0.8]),
    ("trust_ratio(g)", [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    ("max(g, 1) + min(g, 0)", [2.0, 0.5, -2.0], [2.0, 1.0, -1.0]),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("text", "g", "expected"), EDGES, ids=[text for text, _, _ in EDGES])
def test_edge_cases_in_both_back_ends(
    text: str, g: list[float], expected: list[float], dtype: torch.dtype, tmp_path: Path
):
    if dtype is torch.float32 and any(0 < abs(x) < 1e-38 for x in g):
        pytest.skip("this number is 0 in float32")
    wanted = torch.tensor(expected, dtype=dtype)
    tolerance = 1e-6 if dtype is torch.float32 else 1e-14
    for functions in (optimizer(from_expression(text)), Generated(from_expression(text), tmp_path)):
        found = -one_step(functions, g, None, dtype)
        assert torch.allclose(found, wanted, rtol=tolerance, atol=0), f"{text}: {found.tolist()}"


NAN = math.nan


@pytest.mark.parametrize("text", ["g > 1", "g >= 1", "1 > g", "1 >= g", "g == g", "g < 1", "g <= 1", "g == 1"])
def test_comparisons_with_nan_are_false(text: str, tmp_path: Path):
    program = from_expression(f"where({text}, 1, 2)")
    for functions in (optimizer(program), Generated(program, tmp_path)):
        assert (-one_step(functions, [NAN], None, torch.float64)).item() == 2.0


@pytest.mark.parametrize("text", ["max(g, 1)", "max(1, g)", "min(g, 1)", "max(g, theta)", "min(theta, g)", "g * 0.5"])
def test_nan_is_not_swallowed(text: str, tmp_path: Path):
    program = from_expression(text)
    for functions in (optimizer(program), Generated(program, tmp_path)):
        assert one_step(functions, [NAN], None, torch.float64).isnan().all()


# --- host and device versions of an operation agree ------------------------------------------------------------------

_VALUES = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 100.0, -0.25]), st.floats(-50, 50))
_OPERATIONS = sorted(set(ON_FLOATS) & set(torch_reference.OPERATIONS) - {"and", "or", "not"})


@pytest.mark.parametrize("name", _OPERATIONS)
def test_host_and_device_agree(name: str):
    @settings(max_examples=20, deadline=None, derandomize=True, database=None)
    @given(values=st.lists(_VALUES, min_size=3, max_size=3))
    def check(values: list[float]) -> None:
        arity = OPERATIONS[name].arity
        given_values: list = values[:arity]
        if name == "where":
            given_values[0] = values[0] > 0
        if name == "div" and values[1] == 0:
            return  # lowering uses it for divisors that are not 0
        if name == "sqrt" or name == "log":
            given_values[0] = abs(values[0]) + 1e-3  # lowering keeps their arguments in range
        host = float(ON_FLOATS[name](*given_values))
        kinds = [torch.bool if isinstance(v, bool) else torch.float64 for v in given_values]
        tensors = [torch.tensor([[v]], dtype=kind) for v, kind in zip(given_values, kinds, strict=True)]
        device = float(torch_reference.OPERATIONS[name](*tensors).to(torch.float64).item())
        assert device == pytest.approx(host, rel=1e-14, abs=1e-300, nan_ok=True), f"{name}{tuple(given_values)}"

    check()


# a clock value, and the same number as an element value
@pytest.mark.parametrize(
    "text",
    [
        "{} / 0", "0 / {}", "{} % 3", "-{} % 3", "{} ** 0.3", "(-{}) ** 3", "(-{}) ** 0.5", "sqrt(-{})", "log({})",
        "exp(100 * {})", "floor({} / 4)", "sign(-{})", "tanh({})", "sin({})", "cos({})", "atan2(-{}, {})",
        "max({}, 4)", "min({}, 4)", "where({} > 4, 1, 2)", "where(not {} >= 4 and {} == 3, 1, 2)", "{} ** {}",
        "2 ** -{}", "abs(-{}) - {} * {}", "clip({}, 2)",
    ],
)  # fmt: skip
def test_clock_and_element_values_agree(text: str):
    clock = value_of(text.replace("{}", "(t + 2)") + " + 0 * g", [1.0])
    element = value_of(text.replace("{}", "(t + 2 + 0 * sin(g))"), [1.0])
    assert clock.item() == pytest.approx(element.item(), rel=1e-14)


# --- the classes -----------------------------------------------------------------------------------------------------


def test_join_is_broadcasting():
    plain = [shape for shape in ShapeClass if not shape.is_square]
    assert join(ShapeClass.ROW, ShapeClass.COLUMN) is ShapeClass.ELEMENT
    assert join(ShapeClass.ROLE, ShapeClass.MODEL) is ShapeClass.TENSOR
    assert join(ShapeClass.CLOCK, ShapeClass.ROLE) is ShapeClass.ROLE
    for a in plain:
        assert join(a, a) is a
        assert join(a, ShapeClass.ELEMENT) is ShapeClass.ELEMENT
        for b in plain:
            assert join(a, b) is join(b, a)


def test_square_classes_join_themselves_and_numbers():
    for square in (ShapeClass.LEFT, ShapeClass.RIGHT):
        for other in ShapeClass:
            if other is square or other.is_scalar:
                assert join(square, other) is join(other, square) is square
            else:
                with pytest.raises(LoweringError, match="no entries in common"):
                    join(square, other)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sum_all(g)", [[21.0] * 3] * 2),
        ("sum_row(g)", [[6.0] * 3, [15.0] * 3]),
        ("sum_column(g)", [[5.0, 7.0, 9.0]] * 2),
        ("max_all(g)", [[6.0] * 3] * 2),
        ("max_row(g)", [[3.0] * 3, [6.0] * 3]),
        ("max_column(g)", [[4.0, 5.0, 6.0]] * 2),
        ("mean_all(g)", [[3.5] * 3] * 2),
        ("mean_row(g)", [[2.0] * 3, [5.0] * 3]),
        ("mean_column(g)", [[2.5, 3.5, 4.5]] * 2),
        ("sum_model(g)", [[28.0] * 3] * 2),
        ("max_model(g)", [[7.0] * 3] * 2),
        ("mean_model(g)", [[4.0] * 3] * 2),
        ("norm(g)", [[math.sqrt(91)] * 3] * 2),
        ("norm_row(g)", [[math.sqrt(14)] * 3, [math.sqrt(77)] * 3]),
        ("rms(g)", [[math.sqrt(91 / 6)] * 3] * 2),
        ("global_norm(g)", [[math.sqrt(140)] * 3] * 2),
        ("rows", [[2.0] * 3] * 2),
        ("columns", [[3.0] * 3] * 2),
        ("model_size", [[7.0] * 3] * 2),
    ],
)
def test_reductions(text: str, expected: list[list[float]]):
    functions = optimizer(from_expression(text))
    state = functions.init_state(
        bytes(32), [6, 1], shapes=[(2, 3), (1,)], roles=["weight", "bias"], trainable=[True, True], layers=[0, 0],
        device=torch.device("cpu"), dtype=torch.float64,
    )  # fmt: skip
    g = [torch.arange(1.0, 7.0, dtype=torch.float64).reshape(2, 3), torch.tensor([7.0], dtype=torch.float64)]
    found = -functions.step(state, [torch.zeros_like(x) for x in g], g, 0, None, None)[0]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-14)


# --- the records themselves ------------------------------------------------------------------------------------------


def test_a_bad_record_is_refused_when_it_is_made():
    with pytest.raises(ValueError, match="give one of op, body and lowering"):
        Primitive("nothing", "test", "neither")
    with pytest.raises(ValueError, match="is like y"):
        Primitive("lost", "test", "state of no argument", body="x", state=(State("s", "y"),))
    with pytest.raises(ValueError, match="root is no operation"):
        Primitive("root", "test", "unknown", (value("x"),), op="root")
    with pytest.raises(ValueError, match="add has other arguments"):
        Primitive("plus", "test", "one argument of two", (value("x"),), op="add")
    with pytest.raises(ValueError, match="gt has other arguments or another result"):
        Primitive("above", "test", "a mask called a number", (value("x"), value("y")), op="gt")
    domain = next(p.domain for p in TABLE["ema"].parameters if p.domain)
    with pytest.raises(ValueError, match="default stands before"):
        Primitive("late", "test", "order", (constant("a", domain, 0.5), constant("b", domain)), body="a + b")


def test_constants_outside_their_domain_are_refused():
    for text in ("ema(g, 1.5)", "ema(g, -0.1)", "clip(g, -1)", "cosine(0)"):
        with pytest.raises(ExpressionError, match="allowed is"):
            parse_expression(text)


@pytest.mark.parametrize("name", ON_FLOATS)
def test_numbers_on_the_host_never_raise(name: str):
    values = (0.0, -0.0, 1.0, -3.5, 1e-320, 1e308, -1e308, math.inf, -math.inf, math.nan)
    for given_values in itertools.product(values, repeat=OPERATIONS[name].arity):
        ON_FLOATS[name](*given_values)


@pytest.mark.parametrize("text", ["sqrt(1 - 0.9 ** (t - 4))", "sqrt(1 - 0.9 ** -t)", "sqrt(-t)", "sqrt(g - g - 1)"])
def test_a_square_root_of_less_than_0_is_0(text: str):
    """Also where the number looks like the weights that an average has gathered."""
    assert value_of(text, [0.5, -2.0]).flatten().tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("text", "value"),
    [("(-2) ** 2", 4.0), ("(-2) ** 3", -8.0), ("(-2) ** (-1)", -0.5), ("(-2) ** 0.5", 0.0), ("0 ** (-1)", 0.0)],
)
def test_powers_of_numbers_are_those_of_tensors(text: str, value: float):
    """Whole powers are of any base; others take 0 for bases below it."""
    assert value_of(f"{text} + 0 * g", [1.0]).item() == value
    base, power = text.split(" ** ")
    assert value_of(f"(g * 0 + {base}) ** {power}", [1.0]).item() == value
