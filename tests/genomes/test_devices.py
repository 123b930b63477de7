"""What lasts from step to step: states, signals, schedules, gates on the update, noise, matrices."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from genomes.backends.torch_reference import optimizer
from tests.genomes.drive import Generated, from_expression, value_of
from tests.genomes.oracles.papers import _code_book

VAL = [None, None, 1.0, 1.0, 0.8, 0.8, 0.9, 0.9, 0.8, 0.8, 0.7, 0.7, 0.9, 0.9, 0.9, 0.9]  # two steps an epoch


def series(text: str, gradients: list[float] | None = None, **genes: object) -> list[float]:
    """Values of an expression for one weight of 0 over the steps: epochs have two steps, losses are VAL."""
    functions = optimizer(from_expression(text, **genes))
    state = functions.init_state(
        bytes(32), [1], shapes=[(1, 1)], roles=["weight"], trainable=[True], layers=[0], device=torch.device("cpu"),
        dtype=torch.float64,
    )  # fmt: skip
    theta = torch.zeros(1, 1, dtype=torch.float64)
    values = []
    for step, val_loss in enumerate(VAL):
        g = gradients[step % len(gradients)] if gradients else 1.0
        known = (step // 2, None if val_loss is None else 0.5, val_loss)
        functions.query_at_params(state, [theta], *known)
        update = functions.step(state, [theta], [torch.full_like(theta, g)], *known)[0]
        values.append(-update.item())
        if genes.get("post"):
            theta = theta + update
            values[-1] = theta.item()
    return values


def per_epoch(text: str) -> list[float]:
    """Values in the first step of each of the eight epochs."""
    return series(f"g * ({text})")[::2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epoch", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("val_loss", [1, 1, 0.8, 0.9, 0.8, 0.7, 0.9, 0.9]),
        ("train_loss", [1] + [0.5] * 7),
        ("where(has_loss, 1, 0)", [0] + [1] * 7),
        ("best_loss", [1, 1, 0.8, 0.8, 0.8, 0.7, 0.7, 0.7]),
        ("where(improved, 1, 0)", [0, 1, 1, 0, 0, 1, 0, 0]),
        ("stale_epochs", [0, 0, 0, 1, 2, 0, 1, 2]),
        ("linear_warmup(4)", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ("cosine(4)", [1, 0.5 + 0.5 * math.cos(math.pi / 4), 0.5, 0.5 - 0.5 * math.cos(math.pi / 4), 0, 0, 0, 0]),
        ("cosine(2, 0.1)", [1, 0.55, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]),
        ("cosine_restarts(2)", [1, 0.5, 1, 0.5, 1, 0.5, 1, 0.5]),
        ("linear_decay(4, 0.2)", [1, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2, 0.2]),
        ("exponential_decay(0.5)", [0.5**k for k in range(8)]),
        ("step_decay(3, 0.1)", [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01]),
        ("inverse_sqrt(2)", [1, 1, *(math.sqrt(2 / k) for k in range(3, 9))]),
        ("warmup_stable_decay(2, 2, 2, 0.1)", [0.5, 1, 1, 1, 1, 0.55, 0.1, 0.1]),
        ("pulse(3, 5)", [1, 1, 1, 5, 1, 1, 5, 1]),
        ("plateau(2, 0.5)", [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25]),
        ("plateau(1, 0.5, floor=0.4, grow=1.5)", [1, 1, 1, 0.5, 0.4, 0.6, 0.4, 0.4]),
        ("freeze_after(g, 3)", [1, 1, 1, 0, 0, 0, 0, 0]),
    ],
)
def test_signals_and_schedules(text: str, expected: list[float]):
    assert per_epoch(text) == pytest.approx(expected, abs=1e-15)


def test_schedules_hold_within_an_epoch():
    for text in ("improved", "stale_epochs > 0", "new_epoch"):
        values = series(f"where({text}, 1, 0) * g")
        second_steps = values[1::2]
        assert second_steps == [0] * 8 if text != "stale_epochs > 0" else values[::2]


def test_loss_noise_is_the_debiased_root_mean_square_change():
    changes = [-0.2, 0.1, -0.1, -0.1, 0.2, 0.0]
    v, expected = 0.0, [0.0, 0.0]
    for k, change in enumerate(changes, 1):
        v = 0.9 * v + 0.1 * change**2
        expected.append(math.sqrt(v / (1 - 0.9**k)))
    assert per_epoch("loss_noise(0.9)") == pytest.approx(expected, abs=1e-12)


G = [1.0, -2.0, 3.0, 0.0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ema(g, 0.5)", [0.5, -0.75, 1.125, 0.5625]),
        ("debias(ema(g, 0.5))", [1, -1, 1.125 / 0.875, 0.6]),
        ("ema_from_first(g, 0.5)", [1, -0.5, 1.25, 0.625]),
        ("trace(g, 0.5)", [1, -1.5, 2.25, 1.125]),
        ("nesterov(g, 0.5)", [1.5, -2.75, 4.125, 0.5625]),
        ("prev(g)", [0, 1, -2, 3]),
        ("change(g)", [0, -3, 5, -3]),
        ("running_sum(g)", [1, -1, 2, 2]),
        ("running_product(g)", [1, -2, -6, 0]),
        ("running_max(g)", [1, 1, 3, 3]),
        ("running_max(-g)", [0, 2, 2, 2]),
        ("decaying_max(g, 0.5)", [1, 0.5, 3, 1.5]),
        ("yogi_average(abs(g), 0.5)", [0.5, 1.5, 3, 3]),
        ("step_sizes(g, grow=2, shrink=0.5, low=0.3, high=1)", [1, 0.5, 0.3, 0.3]),
        ("rprop(g, grow=2, shrink=0.5, low=0.1, high=8)", [1, 0, 0.5, 0]),
        ("rprop(abs(g), grow=2, shrink=0.5, low=0.1, high=3)", [1, 2, 3, 0]),
        ("sign_with_feedback(g)", [1, -2, 3, 0]),
        ("flip_gate(g, 0.5)", [1, -1, 1.5, 0]),
        ("last_update", [0, 0, 0, 0]),
        ("g + last_update", [1, -3, 6, -6]),
        ("lr_t * g", G),
        ("theta_start + queried + g", G),
        ("ema_bfloat16(g, 0.5)", [0.5, -0.75, 1.125, 0.5625]),
        ("sm3_square(g)", [1, 5, 14, 14]),
        ("limit_growth(g, 1.5)", [1, -1.5, 2.25, 0]),
        ("amplify_slow(g, 0.5, 2)", [3, -3, 5.5, 1.25]),
    ],
)
def test_states(text: str, expected: list[float]):
    assert series(text, G)[:4] == pytest.approx(expected, rel=1e-7, abs=1e-15)


def test_states_may_start_as_the_parameters():
    assert value_of("theta_start", [1.0, 2.0], [3.0, -4.0]).tolist() == [3.0, -4.0]


# --- gates on the update: values are the parameter after each step, moved by -1 each ----------------------------------


@pytest.mark.parametrize(
    ("post", "expected"),
    [
        ("delta", [-1, -2, -3, -4, -5, -6, -7, -8]),
        ("lookahead(delta, 4, 0.5)", [-1, -2, -3, -2, -3, -4, -5, -4]),
        ("average_iterates(delta, 0)", [-1, -1.5, -2, -2.5, -3, -3.5, -4, -4.5]),
        ("average_iterates(delta, 4)", [-1, -2, -3, -4, -5, -5.5, -6, -6.5]),
        ("relative_cap(delta, 0.5)", [-0.0005, -0.00125]),
    ],
)
def test_gates_on_the_update(post: str, expected: list[float]):
    assert series("g", post=[post])[: len(expected)] == pytest.approx(expected, rel=1e-12)


def test_rollback_returns_to_the_best_parameters():
    """Loss is lowest after epoch 1 (steps 1 to 4), then two epochs stale: back at step 9; again best, stale, back."""
    values = series("g", post=["rollback(delta, 2)"])
    assert values[:10] == [-1, -2, -3, -4, -5, -6, -7, -8, -4, -5]
    # epoch 4 (steps 9, 10) brought the lowest loss: its parameters, -5, are those of the rollback in step 15
    assert values[10:16] == [-6, -7, -8, -9, -5, -6]


def test_queried_is_where_the_gradient_was_taken():
    values = series("g + 0 * theta", post=["delta"], query=("10 * delta", "t % 2 == 0"))
    assert values[:3] == [-1, -2, -3]
    # theta moves by -1; the gradient of step 2 is taken at theta + 10 * (-1)
    assert series("queried - theta + 0 * g", query=("g", "t % 2 == 0"))[:4] == [0, 1, 0, 1]


def test_lr_t_is_lr_times_schedule_times_roles():
    values = series("lr_t * g", schedule="linear_warmup(4)", roles="{weight: 3}")
    # the update itself is -lr_t * lr_t
    assert values[::2][:4] == pytest.approx([0.75**2, 1.5**2, 2.25**2, 9])


# --- precision -------------------------------------------------------------------------------------------------------


def test_bfloat16_keeps_eight_bits():
    values = [1.0, 1 + 2**-8, 1 + 2**-7, 1 + 3 * 2**-8, -3.14159, 1e-30, 0.0]
    found = value_of("bfloat16(g)", values).tolist()
    assert found == [1.0, 1.0, 1 + 2**-7, 1 + 2**-6, -3.140625, pytest.approx(1e-30, rel=2**-8), 0.0]
    assert value_of("bfloat16(t / 3) + 0 * g", [1.0]).item() == 1 / 3, "host values stay exact"


@pytest.mark.parametrize("intervals", [64, 128])
def test_quantise8_is_the_nearest_code(intervals: int):
    codes = _code_book(intervals, signed=True)
    generator = np.random.Generator(np.random.PCG64(3))
    x = np.concatenate([
        10 ** generator.uniform(-8, 0, 4000) * generator.choice([-1, 1], 4000), codes, [0.0, 1.0, -1.0, 0.1, -1e-3],
    ])  # fmt: skip
    nearest = codes[np.abs(x[:, None] - codes).argmin(axis=1)]
    found = value_of(f"quantise8(g, {intervals})", x.tolist()).numpy()
    ties = np.sort(np.abs(x[:, None] - codes), axis=1)
    decided = ties[:, 1] - ties[:, 0] > 1e-12 * np.abs(x)
    assert decided.sum() > 4000
    np.testing.assert_allclose(found[decided], nearest[decided], rtol=1e-12, atol=0)


# --- matrices --------------------------------------------------------------------------------------------------------


def matrix_value(text: str, g: np.ndarray) -> np.ndarray:
    functions = optimizer(from_expression(text))
    state = functions.init_state(
        bytes(32), [g.size], shapes=[g.shape], roles=["weight"], trainable=[True], layers=[0],
        device=torch.device("cpu"), dtype=torch.float64,
    )  # fmt: skip
    theta = torch.zeros(g.shape, dtype=torch.float64)
    return -functions.step(state, [theta], [torch.from_numpy(g)], 0, None, None)[0].numpy()


SHAPES = [(1, 1), (1, 7), (7, 1), (5, 5), (6, 17), (33, 17)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_odd_polynomial_acts_on_singular_values(shape: tuple[int, int]):
    g = np.random.Generator(np.random.PCG64(5)).standard_normal(shape)
    u, s, v = np.linalg.svd(g, full_matrices=False)
    found = matrix_value("odd_polynomial(g, 2, -0.3, 0.01)", g)
    np.testing.assert_allclose(found, (u * (2 * s - 0.3 * s**3 + 0.01 * s**5)) @ v, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_orthogonalise_and_whiten(shape: tuple[int, int]):
    g = np.random.Generator(np.random.PCG64(6)).standard_normal(shape)
    singular = np.linalg.svd(matrix_value("orthogonalise(g)", g), compute_uv=False)
    assert singular.min() > 0.5
    assert singular.max() < 1.3
    u, s, v = np.linalg.svd(g, full_matrices=False)
    if s.min() > 0.05 * s.max():
        np.testing.assert_allclose(matrix_value("whiten(g)", g), u @ v, atol=1e-3)


def test_matrices_of_zeros_stay_zero():
    for text in ("orthogonalise(g)", "whiten(g)", "standardise_rows(g)"):
        assert not matrix_value(text, np.zeros((3, 2))).any()


# --- noise -----------------------------------------------------------------------------------------------------------


def draws(text: str, seed: bytes, steps: int = 1, folder: Path | None = None, tensors: int = 1) -> list[np.ndarray]:
    program = from_expression(text)
    functions = Generated(program, folder) if folder else optimizer(program)
    shapes = [(100, 100)] * tensors
    state = functions.init_state(
        seed, [10_000] * tensors, shapes=shapes, roles=["weight"] * tensors, trainable=[True] * tensors,
        layers=list(range(tensors)), device=torch.device("cpu"), dtype=torch.float64,
    )  # fmt: skip
    theta = [torch.zeros(s, dtype=torch.float64) for s in shapes]
    found = []
    for _ in range(steps):
        found += [-u.numpy() for u in functions.step(state, theta, theta, 0, None, None)]
    return found


def test_uniform_and_noise_have_their_distributions():
    (u,) = draws("uniform(0)", b"seed" * 8)
    assert 0 < u.min() < 1e-3
    assert 1 - 1e-3 < u.max() <= 1
    assert abs(np.histogram(u, 10, (0, 1))[0] - 1000).max() < 150
    (n,) = draws("noise(0)", b"seed" * 8)
    assert abs(n.mean()) < 0.03
    assert abs(n.std() - 1) < 0.03
    assert abs((n**4).mean() - 3) < 0.4
    for axis in (0, 1):
        correlation = np.corrcoef(n.ravel(), np.roll(n, 1, axis).ravel())[0, 1]
        assert abs(correlation) < 0.04


def test_noise_depends_on_seed_step_tensor_and_stream_alone(tmp_path: Path):
    base = draws("noise(0)", b"a" * 32, steps=2, tensors=2)
    again = draws("noise(0)", b"a" * 32, steps=2, tensors=2, folder=tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(base, again, strict=True))
    others = [*base, *draws("noise(1)", b"a" * 32), *draws("noise(0)", b"b" * 32)]
    for i, a in enumerate(others):
        for b in others[:i]:
            assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.04
    assert not (draws("noise(3) - noise(3)", b"a" * 32)[0]).any(), "equal streams are equal"


def test_uniform_is_the_same_in_both_precisions():
    (double,) = draws("uniform(2)", bytes(range(32)))
    program = optimizer(from_expression("uniform(2)"))
    context = {"roles": ["weight"], "trainable": [True], "layers": [0], "device": torch.device("cpu")}
    state = program.init_state(bytes(range(32)), [10_000], shapes=[(100, 100)], dtype=torch.float32, **context)
    zeros = [torch.zeros(100, 100)]
    assert np.array_equal(-program.step(state, zeros, zeros, 0, None, None)[0].double().numpy(), double)
