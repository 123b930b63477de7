"""Averages of any beta, delays, sums over windows, quantiles: what they mean, against a few lines of torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from evo.recipe.limits import buffers
from genomes.backends.torch_reference import optimizer
from genomes.compiler.identity import program_identity
from genomes.language.genome import GenomeError, parse
from genomes.language.parser import ExpressionError
from tests.genomes.backends.test_backends import AWKWARD
from tests.genomes.drive import Flat, Generated, drive, from_expression, value_of

INF, NAN = math.inf, math.nan
GRADIENTS = torch.tensor([[1.0, -2, 3], [INF, 4, 0.5], [-1, NAN, 2], [-3, 1, -INF], [2, -1, 1], [0.5, 2, -1]]).double()


def directions(functions: Any, gradients: Tensor = GRADIENTS) -> Iterator[Tensor]:
    """What an optimizer of lr 1 makes of each gradient ``[n]``; the parameters stay 0.5."""
    count = gradients.shape[1]
    state = functions.init_state(
        bytes(32), [count], shapes=[(count, 1)], roles=["weight"], trainable=[True], layers=[0],
        device=torch.device("cpu"), dtype=torch.float64, steps_per_epoch=8,
    )  # fmt: skip
    theta = torch.full((count, 1), 0.5, dtype=torch.float64)
    for g in gradients:
        yield -functions.step(state, [theta], [g.reshape(-1, 1)], 0, None, None)[0].flatten()


def each(text: str, folder: Path) -> list[list[Tensor]]:
    program = from_expression(text)
    runs = (optimizer(program), Flat(program), Generated(program, folder))
    return [list(directions(functions)) for functions in runs]


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("held", [1.0, 0.0])
def test_an_average_holds_at_beta_1_and_begins_anew_at_0(held: float, corrected: bool, tmp_path: Path):
    average = f"ema(where(is_finite(g), g, {0 if held == 0 else 1e300} * g), where(is_finite(g), 0.75, {held:g}))"
    mean, weight, wanted = torch.zeros(3).double(), torch.zeros(3).double(), []
    for g in GRADIENTS:
        spoiled = ~g.isfinite()
        moved = 0.75 * mean + 0.25 * torch.where(spoiled, 0, g)
        mean = torch.where(spoiled, mean if held else torch.zeros_like(mean), moved)
        weight = torch.where(spoiled, weight if held else torch.ones_like(weight), 0.75 * weight + 0.25)
        wanted.append(torch.where(weight > 0, mean / weight, 0) if corrected else mean)
    for found in each(f"debias({average})" if corrected else average, tmp_path):
        torch.testing.assert_close(torch.stack(found), torch.stack(wanted), rtol=1e-12, atol=1e-15)


def test_what_is_not_finite_is_forgotten_by_a_reset(tmp_path: Path):
    for found in each("ema(g, where(t == 5 and g == g, 0, 0.5))", tmp_path):
        assert not found[3].isfinite().all()
        torch.testing.assert_close(found[4], GRADIENTS[4])
        assert found[5].isfinite().all()


def test_a_trace_forgets_at_beta_0(tmp_path: Path):
    for found in each("trace(g, where(t == 5 and g == g, 0, 0.5))", tmp_path):
        torch.testing.assert_close(found[4], GRADIENTS[4])
        torch.testing.assert_close(found[5], GRADIENTS[5] + 0.5 * GRADIENTS[4])


def test_steps_that_are_not_finite_leave_no_trace():
    updates = drive(optimizer(from_expression(**AWKWARD["steps that are not finite"])), 20)
    assert all(update.isfinite().all() for update in updates)
    assert sum(bool(update.any()) for update in updates) > 100


@pytest.mark.parametrize(
    ("text", "chooses"),
    [
        ("ema(g, 0.9)", False),
        ("ema(g, 1 - t ** (-0.8))", False),
        ("ema(g, min(1, t / 100))", False),
        ("ema(g, where(t > 4, 0.9, 0.99))", False),
        ("ema(g, where(t > 4, 0.9, 1))", True),
        ("adam(g, where(t > 4, 0.9, 1), 0.9)", True),
    ],
)
def test_betas_that_are_never_1_mean_what_they_did(text: str, chooses: bool):
    operations = [node.op for node in from_expression(text).nodes if not node.shape.on_host]
    assert ("where" in operations) == chooses


def test_debias_of_any_beta_is_that_of_a_literal():
    for other in ("where(g < 1e9, 0.9, 1)", "0.9 + 0 * epoch + 0.0 * val_loss", "where(has_loss, 0.9, 0.9 * t / t)"):
        wanted = drive(optimizer(from_expression("debias(ema(g, 0.9))")), 20)
        for found, expected in zip(
            drive(optimizer(from_expression(f"debias(ema(g, {other}))")), 20), wanted, strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 7, 100, 128])
def test_delays_and_sums_over_windows(k: int):
    gradients = torch.randn(140, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    padded = torch.cat([torch.zeros(k, 3).double(), gradients])
    delayed = torch.stack(list(directions(optimizer(from_expression(f"delay(g, {k})")), gradients)))
    assert torch.equal(delayed, padded[: len(gradients)])
    for functions in (optimizer, Flat):
        summed = torch.stack(list(directions(functions(from_expression(f"window_sum(g, {k})")), gradients)))
        windows = [padded[i + 1 : i + 1 + k].sum(0) for i in range(len(gradients))]
        torch.testing.assert_close(summed, torch.stack(windows), rtol=1e-12, atol=1e-12)


def test_what_leaves_a_window_is_forgotten(tmp_path: Path):
    for found in each("window_sum(g, 2)", tmp_path):
        torch.testing.assert_close(found[5], GRADIENTS[5] + GRADIENTS[4])


@pytest.mark.parametrize(("text", "states"), [("delay(g, 9)", 9), ("window_sum(g, 100)", 99), ("window_sum(g, 1)", 0)])
def test_delays_count_as_the_states_that_they_keep(text: str, states: int):
    genome = parse(f'genome: 1\nname: probe\nlr: 1\nterms: [{{expr: "{text}"}}]\n')
    assert buffers(genome) == states


def test_delays_share_their_states():
    assert len(from_expression("delay(g, 5) + delay(g, 3) + window_sum(g, 2)").slots) == 5
    assert program_identity(from_expression("delay(g, 2)")) == program_identity(from_expression("prev(prev(g))"))


@pytest.mark.parametrize("text", ["delay(g, 0)", "delay(g, 129)", "delay(g, 1.5)", "window_sum(g, 200)"])
def test_delays_of_other_lengths_are_refused(text: str):
    with pytest.raises((ExpressionError, GenomeError), match="k is"):
        from_expression(text)


@pytest.mark.parametrize("text", ["delay(g, t)", "window_sum(g, rows)"])
def test_a_delay_is_a_literal(text: str):
    with pytest.raises(GenomeError, match="k must be a literal number"):
        from_expression(text)


@pytest.mark.parametrize("q", [0.0, 0.25, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_quantiles_are_torchs(q: float, size: int):
    g = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    found = value_of(f"g * 0 + quantile(g, {q})", g.tolist())
    torch.testing.assert_close(found, torch.quantile(g, q).expand(size), rtol=1e-14, atol=1e-15)


SPECIAL = [
    ("quantile(g, 0.5)", [1.0, NAN, 2.0], NAN), ("quantile(g, 0.5)", [-INF, 1.0, INF], 1.0),
    ("quantile(g, 0.25)", [INF, INF, 1.0], INF), ("quantile(g, 0.75)", [INF, INF, INF], INF),
    ("quantile(g, 0.5)", [-INF, 3.0], -INF), ("quantile(g, 0.5)", [-INF, INF], NAN),
    ("order_statistic(g, 0)", [2.0, 1.0, 3.0], 1.0), ("order_statistic(g, 99)", [2.0, 1.0, 3.0], 3.0),
    ("order_statistic(g, 1)", [2.0, NAN, 3.0], NAN), ("order_statistic(g, 2)", [INF, -INF, 3.0], INF),
    ("order_statistic(g, 1.9 * t)", [2.0, 1.0, 3.0], 2.0), ("order_statistic(g, -t)", [2.0, 1.0, 3.0], 1.0),
]  # fmt: skip


@pytest.mark.parametrize(("text", "g", "wanted"), SPECIAL)
def test_special_values_in_order(text: str, g: list[float], wanted: float, tmp_path: Path):
    program = from_expression(f"where(g == g, {text}, {text})")
    gradients = torch.tensor([g], dtype=torch.float64)
    for functions in (optimizer(program), Flat(program), Generated(program, tmp_path)):
        (found,) = directions(functions, gradients)
        torch.testing.assert_close(found, torch.full_like(found, wanted), equal_nan=True)


def test_a_schedule_by_role_is_a_learning_rate_by_role():
    wanted = drive(optimizer(from_expression("adam(g)", roles="{bias: 0.5, first: 2}")), 10)
    schedule = "where(is_bias, 0.5, 1) * where(is_first, 2, 1)"
    assert all(map(torch.equal, drive(optimizer(from_expression("adam(g)", schedule=schedule)), 10), wanted))
    rate = "g - g + lr_t"
    by_layer = drive(optimizer(from_expression(rate, schedule="1 + depth_fraction")), 1)
    assert len({float(update.flatten()[0]) for update in by_layer}) > 3


def test_a_schedule_of_gradients_is_refused():
    with pytest.raises(GenomeError, match="a schedule is made of t, epoch, losses, roles and numbers"):
        from_expression("g", schedule="uniform(1)")


@pytest.mark.parametrize("x", [0.0, -1.5, 1e300, INF, -INF, NAN])
def test_finite_is_neither_infinite_nor_nan(x: float, tmp_path: Path):
    for dtype, spread in itertools.product((torch.float32, torch.float64), (1.0, 1e-300)):
        value = torch.tensor(x * spread, dtype=dtype)
        found = value_of("where(is_finite(g), 1, 2)", [float(value)], dtype=dtype)
        assert found.item() == (1.0 if value.isfinite() else 2.0)
