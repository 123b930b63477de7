"""Branches by role do nothing that comes to nothing, and mean what they meant."""

from __future__ import annotations

import pytest

from genomes import catalogue
from genomes.backends.torch_reference import optimizer
from genomes.compiler.lowering import lower
from genomes.compiler.merging import merged_branches
from genomes.compiler.program import Program
from tests.genomes.drive import drive, from_expression


def operations(program: Program) -> list[str]:
    return sorted(node.op for node in program.nodes)


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("where(is_weight, tanh(g), 0) + 3 * where(is_weight, 0, exp(g))", "where(is_weight, tanh(g), 3 * exp(g))"),
        ("where(is_weight, tanh(g), 0) + where(not is_weight, exp(g), 0)", "where(is_weight, tanh(g), exp(g))"),
        ("exp(g) - where(is_weight, 0, tanh(g))", "where(is_weight, exp(g), exp(g) - tanh(g))"),
        ("theta * where(rows > 4, abs(g), 1)", "where(rows > 4, theta * abs(g), theta)"),
        ("tanh(g) / where(is_first, 1 + norm(g), 1)", "where(is_first, tanh(g) / (1 + norm(g)), tanh(g))"),
        ("where(is_weight, exp(where(is_weight, g, theta)), g)", "where(is_weight, exp(g), g)"),
        ("where(is_weight, where(not is_weight, g, theta), g)", "where(is_weight, theta, g)"),
        ("where(is_bias, 0, tanh(g)) + where(is_weight, 0, exp(g))",
         "where(is_bias, where(is_weight, 0, exp(g)), where(is_weight, tanh(g), tanh(g) + exp(g)))"),
    ],
)  # fmt: skip
def test_branches_are_merged(text: str, same_as: str):
    program = from_expression(text)
    merged = merged_branches(program)
    assert operations(merged.program) == operations(from_expression(same_as))
    for mine, own in zip(drive(optimizer(merged.program), 3), drive(optimizer(program), 3), strict=True):
        assert all(x.equal(y) for x, y in zip(mine, own, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "where(t > 3, tanh(g), 0) + where(t > 3, 0, exp(g))",  # the mask changes
        "where(g > 0, tanh(g), 0) + where(g > 0, 0, exp(g))",  # the mask is each entry's
        "exp(g) * where(is_weight, 0, tanh(g))",  # 0 times infinity
        "atan2(where(is_weight, tanh(g), 0) + where(is_weight, 0, exp(g)), g)",  # -0 is no 0
        "where(is_weight, tanh(g), 1) + where(is_bias, exp(g), 2)",
    ],
)
def test_what_does_something_stays(text: str):
    program = from_expression(text)
    assert operations(merged_branches(program).program) == operations(program)


@pytest.mark.parametrize("name", catalogue.all_names())
def test_no_genome_keeps_work_for_nothing(name: str):
    program = lower(catalogue.load(name))
    merged = merged_branches(program)
    assert merged_branches(merged.program).program == merged.program
    assert [program.nodes[i].shape for i in merged.origin] == [node.shape for node in merged.program.nodes]
