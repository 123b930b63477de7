"""The Python source computes bit for bit what the reference computes, but for the sign of zero.

Neither touches what is the caller's.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from torch import Tensor

from genomes import catalogue
from genomes.backends.torch_reference import optimizer
from genomes.compiler.lowering import lower
from genomes.compiler.program import Program
from genomes.compiler.shapes import ShapeClass
from genomes.language.genome import Genome, GenomeError
from tests.genomes import strategies, trajectory
from tests.genomes.drive import Generated, drive, from_expression
from tests.sampling import some_and_slow

# programs that between them hold slots of every class, model-wide sums at several levels, queries and views
HUGE = "g * where(t % 3 == 0, 1e200, 1) * where(t % 3 == 0, 1e200, 1)"  # infinite in every third step
AWKWARD = {
    "clock state": {"text": "g * running_sum(epoch)"},
    "role state": {"text": "g * running_sum(rows + t)"},
    "model state": {"text": "g / (1 + ema(global_norm(g), 0.9))"},
    "tensor state": {"text": "g / (1 + ema(norm(g), 0.9))"},
    "row state": {"text": "g / (1 + ema(norm_row(g), 0.9))"},
    "column state": {"text": "g / (1 + ema(sum_column(g * g), 0.9))"},
    "theta state": {"text": "theta - theta_start + prev(theta) + prev(g) + last_update"},
    "levels": {"text": "clip_global_norm(g / (1 + global_norm(g)), 0.1) * max_model(abs(g))"},
    "levels and states": {"text": "ema(clip_global_norm(ema(g, 0.5), 0.1), 0.9)"},
    "query": {"text": "g", "query": ("0.5 * delta + 0.1 * prev(delta)", "t % 3 == 0")},
    "query on loss": {"text": "g", "query": ("delta", "has_loss and val_loss < 1.2")},
    "post": {"text": "g", "post": ["lookahead(delta, 5)", "delta / (1 + norm(delta))"]},
    "evaluation": {"text": "ema(g, 0.9)", "evaluation": '{offset: "average(theta + delta, 0.9) - theta - delta"}'},
    "evaluation now and then": {
        "text": "g + 0.1 * theta",
        "evaluation": '{offset: "0.5 * delta + 0.1 * g", from: 2, when: "improved"}',
    },
    "evaluation and query": {
        "text": "g + queried",
        "evaluation": '{offset: "theta * output_shift(1)"}',
        "query": ("evaluation_offset - 0.5 * delta", "t % 3 == 0"),
    },
    "output words": {
        "text": "g * output_error(0) + output_shift(1) * theta + output_shift(epoch % 4) * output_correction(1)",
    },
    "measured outputs": {
        "text": "g",
        "evaluation": '{offset: "output_shift(0) * output_error(0) + output_shift(1) * output_error(1)"}',
        "query": ("0", "t < 0", "where(epoch == 1, 3, 0)", "where(epoch == 2, t, 0)", "7 * epoch"),
    },
    "queries that see features as evaluation does": {
        "text": "ema(g, 0.9)",
        "evaluation": '{offset: "output_shift(0) * 0.3"}',
        "query": '{offset: "hold(output_shift(0), last_step_of_epoch) * 0.3", when: "t % 2 == 0", as_evaluated: true}',
    },
    "average held and reset": {
        "text": "ema(g, where(g > theta, 1, where(g < 0, 0, 0.9))) + debias(ema(theta, where(norm(g) > 9, 1, 0.5)))",
        "gates": ["u + trace(u, where(u > 0, 0, 0.5)) + nesterov(u, where(u > 0, 0.5, 1))"],
    },
    "averages of host values that hold": {
        "text": "debias(ema(g, where(t % 2 == 0, 1, 0.9))) + debias(ema(t, where(is_weight, 1, 0.5))) * theta",
    },
    "average from the clock": {"text": "debias(ema(g, 1 - t ** (-0.8))) + adam(g, 1 - 1 / t, 0.9)"},
    "skipped steps": {
        "text": "adam(g, where(all_finite(g / (theta - 0.5)) and norm(g) < 9, 0.9, 1), where(norm(g) < 9, 0.99, 1))",
        "gates": ["where(norm(g) < 9, u, 0)"],
    },
    "steps that are not finite": {
        "text": f"adam({HUGE}, where(all_finite({HUGE}), 0.9, 1), where(all_finite({HUGE}), 0.99, 1))",
        "gates": [f"where(all_finite({HUGE}), u, 0) + ema(u, where(is_finite(u), 0.9, 0))"],
    },
    "delays": {"text": "delay(g, 1) + delay(theta, 4) * delay(t, 3) + delay(rows + epoch, 2) + delay(norm(g), 2)"},
    "delay of a delayed value": {"text": "delay(ema(delay(g, 3), 0.5), 2) + prev(delay(g, 3)) + delay(g, 5)"},
    "window sums": {"text": "window_sum(g, 1) + window_sum(g, 7) * window_sum(t, 2) + window_sum(g * g, 12)"},
    "quantiles": {
        "text": "g * quantile(abs(g), 0.9) + quantile(theta, depth_fraction) + quantile(norm_row(g), 1 / t)",
        "gates": ["where(abs(u) >= order_statistic(abs(u), 0.8 * rows * columns), u, quantile(u))"],
    },
    "square values": {
        "text": "matmul(r, matmul(p * matrix_trace(hold(a, t % 3 == 1)), b)) + 0.01 * rotate_back(g, r, b) - p",
        "let": [
            "a from 0 = 0.9 * a + outer(g + theta, g + theta)",
            "b from 0.1 = 0.5 * b + inner(g, where(is_weight, g, theta)) * norm(g)",
            "r = where(t % 4 < 2, inverse_root(a, 3, 0.01), transpose(gram_schmidt(a + identity(a))))",
            "p = matmul(prev(r), theta)",
        ],
    },
    "square values in a branch": {
        "text": "where(rows > 4, soap(g, 0.9, 0.9, 2), where(is_bias, g, shampoo(g, 0.9, 3)))",
    },
    "schedule by role": {"text": "g + lr_t * theta", "schedule": "where(is_weight, cosine(9, 0.1), 1 / t)"},
    "schedule by role with state": {
        "text": "adam(g)",
        "schedule": "running_sum(1 / (t + rows)) * where(is_bias, plateau(3), 1)",
    },
    "branches by role": {
        "text": "where(is_weight, orthogonalise(ema(g, 0.9)), where(is_bias or is_first, adam(g), change(theta)))",
        "gates": ["where(not is_last and rows > 4, ema(u, 0.5) + prev(prev(theta)), u)"],
    },
    "branches that share states": {
        "text": "where(is_weight, prev(g) + ema(theta, 0.5), delay(g, 3)) + where(is_weight, 1, 2) * delay(g, 2)",
        "gates": ["where(depth_fraction > 0.5, clip_global_norm(u * norm(prev(u)), 1), u) + delay(g, 1)"],
    },
    "branches by role and step": {"text": "where(is_weight and t > 5, ema(g, 0.9), prev(g)) + where(rows > t, g, 0)"},
    "branches in turn": {"text": "project_tangent(project_tangent(debias(ema(0, 0.5)), 10), 10)"},
    "a branch that nobody takes": {"text": "where(is_weight, where(is_weight, g, ema(g, 0.5)), theta - theta_start)"},
    "states of one branch": {
        "text": "g",
        "post": ["where(is_bias, delta, lookahead(delta, 3)) + where(is_bias, quantile(prev(g), 0.3), 0)"],
    },
    "names that mean something in code": {
        "text": "i + state * tensor + float * lane - where(double, a, new_a) + shape * v1 + abs_ / (1 + ema_1)",
        "let": [
            "i from 0 = i + g", "state from theta = 0.9 * state + 0.1 * theta", "tensor from 1 = min(tensor * 1.1, 3)",
            "float from 0 = float + norm(g)", "lane = ema(i, 0.9)", "a from 0 = a + rows", "new_a = a * g",
            "double = new_a > lane", "shape from 0 = shape + norm_row(g)", "v1 = shape * 0.1", "abs_ = abs(v1)",
            "ema_1 = abs(lane)",
        ],
        "evaluation": '{offset: "lane - 0.1 * i"}',
        "schedule": "tensor",
    },
    "names of averages, delays and branches": {
        "text": "debias(m) + late * where(is_weight, kept, prev(kept)) + shared + quantile(abs(kept), q)",
        "let": [
            "held = norm(g) > 9", "beta = where(held, 1, 0.9)", "m = ema(g, beta)", "k = 3",
            "late = delay(m, k) - prev(m)", "kept from 0 = where(is_weight, where(held, kept, m), kept + late)",
            "q = depth_fraction", "by_role = where(is_bias, 1 / t, cosine(9))",
            "shared = where(is_bias, window_sum(kept, k), ema(kept, by_role))",
        ],
        "schedule": "by_role",
    },
    "host constants alone": {"text": "t + rows"},
    "zero": {"text": "g - g"},
    "nothing but theta": {"text": "theta"},
}  # fmt: skip


def bits(tensors: list[Tensor]) -> list[Tensor]:
    """Bits of numbers; NaN and -0 as 0."""
    integer = {torch.float32: torch.int32, torch.float64: torch.int64}
    return [(torch.where(t.isnan(), 0.0, t) + 0.0).contiguous().view(integer[t.dtype]) for t in tensors]


def assert_bit_equal(program: Program, folder: Path, steps: int, dtype: torch.dtype) -> None:
    expected = drive(optimizer(program), steps, dtype)
    found = drive(Generated(program, folder), steps, dtype)
    assert len(found) == len(expected)
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert torch.equal(a.isnan(), b.isnan()), f"value {i}: NaN in one alone"
    assert all(torch.equal(a, b) for a, b in zip(bits(found), bits(expected), strict=True))


@pytest.mark.parametrize(
    ("steps", "dtype"),
    [
        (12, torch.float32),
        pytest.param(30, torch.float32, marks=pytest.mark.slow),
        pytest.param(12, torch.float64, marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", catalogue.names())
def test_source_is_bit_equal_for_known_optimizers(name: str, steps: int, dtype: torch.dtype, tmp_path: Path):
    assert_bit_equal(lower(catalogue.load(name)), tmp_path, steps, dtype)


@pytest.mark.parametrize(
    ("steps", "dtype"),
    [
        (18, torch.float64),
        pytest.param(32, torch.float32, marks=pytest.mark.slow),
        pytest.param(32, torch.float64, marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.parametrize("case", AWKWARD.values(), ids=AWKWARD)
def test_source_is_bit_equal_for_awkward_programs(case: dict, steps: int, dtype: torch.dtype, tmp_path: Path):
    assert_bit_equal(from_expression(**case), tmp_path, steps, dtype)


def test_awkward_programs_hold_slots_of_every_class():
    held = {slot.shape for case in AWKWARD.values() for slot in from_expression(**case).slots}
    assert held == set(ShapeClass)
    assert max(max(from_expression(**case).levels) for case in AWKWARD.values()) >= 2


def _check_drawn(genome: Genome, folder: Path, dtype: torch.dtype) -> None:
    try:
        program = lower(genome)
    except GenomeError:
        assume(False)
        raise
    assert_bit_equal(program, folder, 10, dtype)
    if dtype is torch.float64:
        _assert_untouched(program, folder)


_quick = settings(
    max_examples=20, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip


@_quick
@given(genome=strategies.genomes(named=True))
def test_source_is_bit_equal_for_random_genomes_with_names(genome: Genome, tmp_path: Path):
    _check_drawn(genome, tmp_path, torch.float64)


@_quick
@given(genome=strategies.genomes())
def test_source_is_bit_equal_for_random_genomes(genome: Genome, tmp_path: Path):
    for dtype in (torch.float32, torch.float64):
        _check_drawn(genome, tmp_path, dtype)


@pytest.mark.slow
@settings(_quick, max_examples=1500)
@given(genome=strategies.genomes(depth=5))
def test_source_is_bit_equal_for_many_random_genomes(genome: Genome, tmp_path: Path):
    for dtype in (torch.float32, torch.float64):
        _check_drawn(genome, tmp_path, dtype)


@pytest.mark.parametrize("name", some_and_slow(catalogue.names(), 6))
def test_nothing_of_the_callers_is_changed_or_kept(name: str, tmp_path: Path):
    """The caller reuses its gradient and parameter buffers in place: updates are as with fresh tensors every step."""
    program = lower(catalogue.load(name))
    _assert_untouched(program, tmp_path)


@pytest.mark.parametrize("case", AWKWARD.values(), ids=AWKWARD)
def test_awkward_programs_leave_the_callers_tensors(case: dict, tmp_path: Path):
    _assert_untouched(from_expression(**case), tmp_path)


UNTOUCHED_STEPS = 5


def _assert_untouched(program: Program, folder: Path) -> None:
    for functions in (optimizer(program), Generated(program, folder)):
        expected = drive(functions, UNTOUCHED_STEPS)
        state = functions.init_state(bytes(range(32)), trajectory.sizes(), **trajectory.context())
        theta = trajectory.start()
        buffers = [torch.zeros_like(p) for p in theta]
        returned = []
        for now in trajectory.moments(UNTOUCHED_STEPS):
            known = (now.epoch, now.train_loss, now.val_loss)
            before = [p.clone() for p in theta]
            queried = functions.query_at_params(state, theta, *known)
            returned += [q.clone() for q in queried or []]
            for buffer, g in zip(buffers, now.gradient(theta if queried is None else queried), strict=True):
                buffer.copy_(g)
            kept = [b.clone() for b in buffers]
            updates = functions.step(state, theta, buffers, *known)
            assert all(map(torch.equal, bits(theta), bits(before))), "parameters were changed"
            assert all(map(torch.equal, bits(buffers), bits(kept))), "gradients were changed"
            returned += [u.clone() for u in updates]
            for p, u in zip(theta, updates, strict=True):
                p += torch.tanh(u)  # in place: a state that is a view of the parameters would move along
            for u in updates:
                u.fill_(float("nan"))  # updates are the caller's now: a state that shares their memory would break
        assert all(torch.equal(a, b) for a, b in zip(bits(returned), bits(expected), strict=True))


def test_frozen_tensors_get_zero_updates_and_no_query():
    program = from_expression("g + theta", query=("theta", "t > 0"))
    functions = optimizer(program)
    state = functions.init_state(bytes(32), trajectory.sizes(), **trajectory.context())
    theta = trajectory.start()
    for now in trajectory.moments(3):
        queried = functions.query_at_params(state, theta, now.epoch, now.train_loss, now.val_loss)
        updates = functions.step(state, theta, now.gradient(theta), now.epoch, now.train_loss, now.val_loss)
        for i, trainable in enumerate(trajectory.TRAINABLE):
            if not trainable:
                assert not updates[i].any()
                assert queried is None or torch.equal(queried[i], theta[i])


def test_source_needs_shapes_alone(tmp_path: Path):
    """A caller that knows no roles: they are guessed from the shapes, all tensors train."""
    functions = Generated(from_expression("g * where(is_weight, 2, 1)"), tmp_path)
    state = functions.init_state(b"", [6, 2], shapes=[(2, 3), (2,)])
    updates = functions.step(state, [torch.ones(2, 3), torch.ones(2)], [torch.ones(2, 3), torch.ones(2)], 0, None, None)
    assert torch.equal(updates[0], torch.full((2, 3), -2.0))
    assert torch.equal(updates[1], torch.full((2,), -1.0))
