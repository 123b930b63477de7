"""Named values and named states: what they mean, what is refused, and that names are for people alone."""

from __future__ import annotations

import pytest
import torch

from genomes.analysis.describe import describe
from genomes.analysis.simplify import simplify
from genomes.backends import latex
from genomes.backends.python_source import render
from genomes.backends.torch_reference import optimizer
from genomes.compiler.canonical import canonical
from genomes.compiler.identity import genome_identity
from genomes.compiler.lowering import lower, read_text
from genomes.language import genome
from genomes.language.genome import Genome, GenomeError
from genomes.language.let import MAX_LINES
from tests.genomes.drive import Generated, drive


def text(*lines: str, expr: str = "g", extra: str = "") -> str:
    let = "".join(f"  - {line}\n" for line in lines)
    return f"genome: 1\nname: named\nlr: 0.1\nlet:\n{let}terms:\n  - {{expr: '{expr}'}}\n{extra}"


def read(*lines: str, expr: str = "g", extra: str = "") -> Genome:
    return read_text(text(*lines, expr=expr, extra=extra), "my.yaml")


@pytest.mark.parametrize(
    ("named", "plain"),
    [
        (read("m = ema(g, 0.9)", expr="debias(m)"), "debias(ema(g, 0.9))"),
        (read("m from 0 = 0.9 * m + (1 - 0.9) * g", expr="m"), "ema(g, 0.9)"),
        (read("b = 0.9", "m = ema(g, b)", expr="debias(m) + ema(theta, b)"), "debias(ema(g, 0.9)) + ema(theta, 0.9)"),
        (read("big = abs(g) > 1", expr="where(big, 0, g)"), "where(abs(g) > 1, 0, g)"),
        (read("before = p", "p from 0 = g", expr="before"), "prev(g)"),
        (read("p from 0 = g", expr="p"), "g"),
        (read("first from theta = first", expr="first"), "theta_start"),
        (read("n from 1 = n * norm(g)", expr="g * n"), "g * running_product(norm(g))"),
        (read("a = b", "b from 0 = g", "c = b", expr="a + c"), "prev(g) + g"),
        (
            read("b = where(norm(g) > 9, 1, 0.9)", "m = ema(g, b)", expr="debias(m) + m"),
            "debias(ema(g, where(norm(g) > 9, 1, 0.9))) + ema(g, where(norm(g) > 9, 1, 0.9))",
        ),
        (read("b = 1 - 1 / t", "m = ema(g, b)", expr="debias(m)"), "debias(ema(g, 1 - 1 / t))"),
        (read("m = ema(g, norm(g))", "n = m", expr="debias(n)"), "debias(ema(g, norm(g)))"),
        (read("k = 3", "p = delay(g, k)", expr="p + window_sum(p, k)"), "delay(g, 3) + window_sum(delay(g, 3), 3)"),
        (read("p = where(is_weight, ema(g, 0.5), prev(g))", expr="p"), "where(is_weight, ema(g, 0.5), prev(g))"),
    ],
)  # fmt: skip
def test_a_name_means_its_line(named: Genome, plain: str):
    assert genome_identity(named) == genome_identity(read(expr=plain))
    assert genome.parse(genome.dump(named)) == named


def test_all_genes_may_use_names():
    extra = """\
gates: ["u * M"]
schedule: "W"
query: {offset: "M * delta", when: "W > 0.5", outputs: ["W"]}
post: ["where(W > 0.5, delta, M)"]
evaluation: {offset: "M - theta", when: "W > 0.5"}
"""
    named = extra.replace("W > 0.5", "late").replace("W", "warm").replace("M", "m")
    plain = extra.replace("W", "min(1, t / 9)").replace("M", "ema(g, 0.9)")
    lines = ("warm = min(1, t / 9)", "late = warm > 0.5", "m = ema(g, 0.9)")
    assert genome_identity(read(*lines, extra=named)) == genome_identity(read(extra=plain))


def test_schedules_of_names_may_differ_by_role():
    named = read("s = where(is_weight, cosine(9), running_sum(1 / rows))", expr="g * s", extra="schedule: s")
    plain = "where(is_weight, cosine(9), running_sum(1 / rows))"
    assert genome_identity(named) == genome_identity(read(expr=f"g * {plain}", extra=f"schedule: {plain}"))


def test_states_depend_on_one_another():
    named = read("B from 0 = B + d", "d from 1 = g * B", expr="d")
    functions = optimizer(lower(named))
    state = functions.init_state(
        bytes(32), [1], shapes=[(1,)], roles=["bias"], trainable=[True], device="cpu", layers=[0], dtype=torch.float64
    )
    theta, g = [torch.zeros(1, dtype=torch.float64)], [torch.full((1,), 2.0, dtype=torch.float64)]
    found = [float(functions.step(state, theta, g, 0, None, None)[0]) for _ in range(4)]
    b, d, expected = 0.0, 1.0, []
    for _ in range(4):
        b += d
        d = 2 * b
        expected.append(-0.1 * d)
    assert found == expected


def test_names_play_no_part_in_identity_and_their_lines_count_as_size():
    one = read("m = ema(g, 0.9)", "v from 0 = v + m", expr="m / v")
    other = read("mean = ema(g, 0.9)", "w from 0 = w + mean", expr="mean / w")
    assert genome_identity(one) == genome_identity(other)
    assert one.size == other.size == 3 + 3 + 3 + 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["m = k"], "my.yaml:5: let.0: unknown name 'k' (at character 5)"),
        (["m = m"], "my.yaml:5: let.0: m is defined further down: move its line up, or make it a state"),
        (["m = n", "n = m"], "my.yaml:5: let.0: n is defined further down"),
        (["m = g", "m = g"], "my.yaml:6: let.1: m is defined already"),
        (["theta = g"], "my.yaml:5: let.0: theta is a word already"),
        (["lambda = g"], "my.yaml:5: let.0: lambda is a word already"),
        (["_m = g"], "my.yaml:5: let.0: '_m' is no name"),
        (["m"], "my.yaml:5: let.0: expected 'name = expression', or"),
        (["m == g"], "my.yaml:5: let.0: expected 'name = expression', or"),
        (["m: g"], "my.yaml:5: let.0: expected 'name = expression', got"),
        (["m from g = g"], "my.yaml:5: let.0: a state starts from a number or from theta, not from 'g'"),
        (["m from 1e999 = g"], "my.yaml:5: let.0: a state starts from a number"),
        (["m from 0 = g > 0"], "my.yaml:5: let.0: a state keeps a number"),
        (["b = 5", "m = ema(g, b)"], "my.yaml:6: let.1: ema: beta is 5; allowed is 0 to 0.999999"),
        (["m = g", "n = m(g)"], "my.yaml:6: let.1: m is a name and takes no arguments (at character 5)"),
        (["m = u"], "my.yaml:5: let.0: u may stand under 'gates' alone"),
        (["m = delay(g, norm(g))"], "my.yaml:5: let.0: delay: k must be a number"),
        (["k = t", "m = delay(g, k)"], "my.yaml:6: let.1: delay: k must be a literal number"),
        (["k = 2.5", "m = delay(g, k)"], "my.yaml:6: let.1: delay: k is 2.5; allowed is 1 to 128, whole numbers alone"),
        (["m = g"] * (MAX_LINES + 1), "my.yaml:4: let: expected a list of 0 to"),
    ],
)
def test_mistakes(lines: list[str], message: str):
    with pytest.raises(GenomeError) as caught:
        read(*lines)
    assert any(problem.startswith(message) for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("lines", "extra", "message"),
    [
        (["m = norm(g)"], "schedule: m", "my.yaml:8: schedule: m is made of g; this is made of t, epoch"),
        (["r = rows"], 'query: {offset: delta, when: "r > 3"}', "my.yaml:8: query.when: only t, epoch"),
        (["r = is_bias"], "evaluation: {offset: delta, when: r}", "my.yaml:8: evaluation.when: when to evaluate"),
        (["k from 0 = k + 1"], 'query: {offset: delta, when: "k > 3"}', "my.yaml:8: query.when: only t, epoch"),
        (["big = g > 1"], "evaluation: {offset: delta, when: big}", "my.yaml:8: evaluation.when: big is made of g"),
        (["m = g"], "post: [mm]", "my.yaml:8: post.0: unknown name 'mm'; did you mean m?"),
    ],
)
def test_mistakes_where_names_are_used(lines: list[str], extra: str, message: str):
    with pytest.raises(GenomeError) as caught:
        read(*lines, extra=extra)
    assert str(caught.value).startswith(message)


def test_canonical_form_keeps_names_and_drops_what_nothing_uses():
    found = canonical(read("unused = k", "k from 0 = k + g", "m = 1 * (theta + g)", "n = g + theta", expr="m * n"))
    assert [str(line) for line in found.let] == ["m = g + theta"]
    assert canonical(found) == found
    twice = canonical(read("v from 0 = v + g", "w from 0 = w + g", expr="v * w"))
    assert [str(line) for line in twice.let] == ["v from 0 = g + v"]
    apart = read("v from 0 = v + g", "old = w", "w from 0 = w + g", expr="v * w * old")
    assert len(canonical(apart).let) == 3
    assert genome_identity(canonical(apart)) == genome_identity(apart)


def test_simplify_says_which_lines_go():
    found = simplify(
        read("unused = g * 2", "m = ema(g, 0.9) + 0", "big = m > 3", expr="where(big, m, 0) + 0 * norm(g)")
    )
    assert "let: unused (exact)" in found.removed
    assert [line.name for line in found.genome.let] == ["m", "big"]


def test_names_are_shown_typeset_and_kept_in_source():
    named = read("alpha = ema(g, 0.9)", "v_hat from 0 = v_hat + alpha * alpha", expr="alpha / v_hat")
    found = describe(named)
    assert found.formula[:3] == (
        "alpha = ema(g, 0.9)",
        "v_hat <- v_hat + alpha * alpha    (kept, from 0)",
        "u = alpha / v_hat",
    )
    assert r"\alpha = \mathrm{EMA}_{0.9}(g)" in found.latex
    assert "v_hat" in found.buffers
    assert latex.symbol("beta2") == r"\beta_{\mathrm{2}}"
    assert latex.symbol("step_size") == r"\mathrm{step}_{\mathrm{size}}"
    scheduled = read("s = abs(g)", expr="s", extra="schedule: min(1, t / 9)\n")
    assert r"s_{\eta} = \min(1, \frac{t}{9})" in latex.render(scheduled)
    source = render(lower(named))
    assert 'tensor["v_hat"] = v_hat' in source
    assert "alpha = " in source


def test_names_that_mean_something_in_code_are_changed_there(tmp_path):
    names = ("i", "state", "tensor", "float", "shape", "t_", "updates", "double", "a", "lane", "new_a", "v1")
    lines = [f"{name} from {k} = {name} + g * {k + 1}" for k, name in enumerate(names)]
    lines.append("abs_ = abs(g)")
    program = lower(read(*lines, expr=" + ".join([*names[:6], "abs_"])))
    expected, found = drive(optimizer(program), 5, torch.float64), drive(Generated(program, tmp_path), 5, torch.float64)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_state_that_starts_at_the_parameters_may_keep_a_number(tmp_path):
    """It is as large as the parameters, whatever it keeps."""
    program = lower(read("m from 0 = kept", "kept from theta = 1 / t", expr="g + m"))
    found, expected = drive(Generated(program, tmp_path), 5), drive(optimizer(program), 5)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
