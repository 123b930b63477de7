"""Branches by role: what one of them alone needs is neither computed nor kept for other tensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import pytest
import torch

from genomes import catalogue
from genomes.backends import torch_reference
from genomes.backends.cuda.layout import ROLE_BITS, Product
from genomes.backends.cuda.source import render
from genomes.backends.flat import kernels
from genomes.backends.python_source import render as render_python
from genomes.backends.torch_reference import optimizer
from genomes.compiler.branches import conditions, role_patterns
from genomes.compiler.lowering import lower
from genomes.compiler.program import Program
from tests.genomes import trajectory
from tests.genomes.drive import Flat, drive, from_expression

WEIGHTS = sum(role == "weight" and flag for role, flag in zip(trajectory.ROLES, trajectory.TRAINABLE, strict=True))


def slot_conditions(program: Program) -> dict[str, set[tuple[str, bool]]]:
    found = conditions(program).slots
    return {
        slot.name: {(program.nodes[mask].op, wanted) for mask, wanted in condition}
        for slot, condition in zip(program.slots, found, strict=True)
    }


W, NOT_W = ("is_weight", True), ("is_weight", False)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("where(is_weight, ema(g, 0.9), g)", {"ema_1": {W}}),
        ("where(is_weight, g, ema(g, 0.9))", {"ema_1": {NOT_W}}),
        ("where(is_weight, ema(g, 0.9), ema(g, 0.9) + 1)", {"ema_1": set()}),
        ("where(is_weight, ema(ema(g, 0.9), 0.8), ema(g, 0.9))", {"ema_1": set(), "ema_2": {W}}),
        ("where(not is_weight, ema(g, 0.9), g)", {"ema_1": {NOT_W}}),
        ("where(is_weight and is_last, ema(g, 0.9), g)", {"ema_1": {W, ("is_last", True)}}),
        ("where(is_weight or is_last, g, ema(g, 0.9))", {"ema_1": {NOT_W, ("is_last", False)}}),
        ("where(is_weight, where(is_first, ema(g, 0.9), g), g)", {"ema_1": {W, ("is_first", True)}}),
        ("where(rows > 4, ema(g, 0.9), g)", {"ema_1": {("gt", True)}}),
        ("where(is_weight and t > 4, ema(g, 0.9), g)", {"ema_1": set()}),
        ("where(is_weight, ema(sum_model(prev(g)), 0.9), 0) * g", {"prev_1": set(), "ema_1": set()}),
        ("where(is_weight, delay(g, 2), delay(g, 1))", {"delay_1": set(), "delay_2": {W}}),
        ("where(is_weight, running_sum(rows), 0) * g", {"running_sum_1": set()}),
    ],
)
def test_states_belong_to_the_branches_that_need_them(text: str, wanted: dict):
    assert slot_conditions(from_expression(text)) == wanted


def test_what_a_query_needs_is_needed_for_all_tensors():
    program = from_expression("where(is_weight, ema(g, 0.9), g)", query=("2 * ema(g, 0.9)", "t % 2 == 0"))
    assert slot_conditions(program) == {"query_offset": set(), "ema_1": set()}


def test_matrix_products_are_computed_for_tensors_that_need_them(monkeypatch: pytest.MonkeyPatch):
    program, done = lower(catalogue.load("muon")), Counter()
    original = torch_reference.OPERATIONS["odd_polynomial"]

    def counted(x: torch.Tensor, *numbers: float) -> torch.Tensor:
        done[tuple(x.shape)] += 1
        return original(x, *numbers)

    assert kernels.OPERATIONS is torch_reference.OPERATIONS
    monkeypatch.setitem(torch_reference.OPERATIONS, "odd_polynomial", counted)
    for functions in (optimizer(program), Flat(program)):
        done.clear()
        drive(functions, 3)
        assert done.total() == 3 * 5 * WEIGHTS


def test_products_of_matrices_wait_for_the_steps_that_need_them(monkeypatch: pytest.MonkeyPatch):
    """SOAP with a period of 3: in 10 steps the bases are made orthonormal after steps 3, 6 and 9 alone."""
    program, done = from_expression("soap(g, 0.9, 0.9, 3) + where(t > 8, matmul(outer(g, theta), g), g)"), Counter()
    for name in ("gram_schmidt", "outer", "inner"):
        original = torch_reference.OPERATIONS[name]

        def counted(*given: torch.Tensor, name: str = name, original: Callable = original) -> torch.Tensor:
            done[name] += 1
            return original(*given)

        monkeypatch.setitem(torch_reference.OPERATIONS, name, counted)
    tensors = sum(trajectory.TRAINABLE)
    for functions in (optimizer(program), Flat(program)):
        done.clear()
        drive(functions, 10)
        assert done == {"gram_schmidt": 2 * 3 * tensors, "outer": (10 + 2) * tensors, "inner": 10 * tensors}
    text = render_python(program)
    assert re.search(r"if \w+:\n +\w+ = _outer\(g, theta\)|_outer\(g, theta\), g\) if ", text)
    assert re.search(r"_gram_schmidt\(.*\) if \w+ else ", text)


def test_values_of_a_branch_by_step_that_are_kept_or_shared_are_always_computed():
    program = from_expression("where(t > 8, ema(orthogonalise(g), 0.9), whiten(g)) + whiten(g)")
    assert not any(conditions(program).moments)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("where(t == 1, uniform(3), g)", 1),
        ("where(t % 2 == 0, g, uniform(3))", 5),
        ("where(t == 1 and is_first and is_bias, 0.04 * (2 * uniform(3) - 1), g)", 1),
        ("where(t > 7 and (is_first or is_bias), where(t < 9, uniform(3), g), g)", 1),
        ("where(t == 1 or is_first, uniform(3), g)", 10),
        ("where(t == 1 and g > 0, uniform(3), g)", 10),
        ("where(t == 1, uniform(3), g) + where(t == 2, uniform(3), g)", 10),
        ("where(t == 1, ema(uniform(3), 0.9), g)", 10),
    ],
)
def test_what_a_step_does_not_need_is_not_computed(text: str, steps: int, monkeypatch: pytest.MonkeyPatch):
    program, done = from_expression(text), 0
    original = torch_reference.uniform

    def counted(word: int, like: torch.Tensor) -> torch.Tensor:
        nonlocal done
        done += 1
        return original(word, like)

    monkeypatch.setattr(torch_reference, "uniform", counted)
    monkeypatch.setattr(kernels, "uniform", counted)
    results = []
    for functions in (optimizer(program), Flat(program)):
        done = 0
        results.append(drive(functions, 10))
        assert done == steps * sum(trajectory.TRAINABLE)
    torch.testing.assert_close(*results, rtol=0, atol=1e-12)


def test_the_reference_keeps_no_states_that_nobody_needs():
    functions = optimizer(from_expression("where(is_weight, ema(g, 0.9), theta - theta_start)"))
    state = functions.init_state(bytes(32), trajectory.sizes(), **trajectory.context())
    theta = trajectory.start()
    functions.step(state, theta, theta, 0, None, None)
    for held, role in zip(zip(*state.slots, strict=True), [trajectory.ROLES[i] for i in state.trainable], strict=True):
        assert sorted(tensor is None for tensor in held) == [False, True], role


def test_exported_source_divides_by_role():
    text = render_python(lower(catalogue.load("muon")))
    step = text[text.index("def optimizer_step") :].splitlines()
    products = [line for line in step if "_odd_polynomial" in line]
    indent = {len(line) - len(line.lstrip()) for line in products}
    assert indent == {12}, "in an if of the loop over the tensors"
    branches = [line.strip() for line in step if 'tensor["is_weight"]:' in line or line.strip() == "else:"]
    assert branches == ['if tensor["is_weight"]:', "else:", 'if not tensor["is_weight"]:', "else:"]
    assert "torch.full" not in "".join(step)


def test_cuda_products_name_the_roles_of_their_tensors():
    source = render(lower(catalogue.load("muon")))
    (product,) = (entry for entry in source.step if isinstance(entry, Product))
    assert product.roles == {pattern for pattern in range(64) if pattern & ROLE_BITS["is_weight"]}


def test_masks_of_more_than_roles_may_be_either():
    program = from_expression("where(is_weight and rows > 5, ema(g, 0.9), g)")
    (condition,) = conditions(program).slots
    assert len(condition) == 2
    assert role_patterns(program, condition, ROLE_BITS) == {p for p in range(64) if p & ROLE_BITS["is_weight"]}
