"""Genes <-> YAML: inverse to each other, closed, all mistakes reported at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings

from genomes.compiler.lowering import lower, read
from genomes.language import genome
from genomes.language.expressions import Expression, number
from genomes.language.genome import MAX_GATES, MAX_TERMS, Decay, Genome, GenomeError, Term
from tests.genomes import strategies

PLAIN = """\
genome: 1
name: example
source: "a book"
lr: 1e-3
terms:
  - {weight: 1.0, expr: "adam(g)"}
"""


def problems(text: str, source: str = "my.yaml") -> list[str]:
    with pytest.raises(GenomeError) as caught:
        genome.parse(text, source)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(drawn=strategies.genomes())
def test_parse_and_dump_are_inverse(drawn: Genome):
    assert genome.parse(genome.dump(drawn)) == drawn


def test_reads_all_genes():
    read = genome.parse(
        PLAIN
        + """\
oracle: "somebody"
gates: ["clip(u, 1)", cautious(u)]
decay: {kind: decoupled, rate: 1e-2}
schedule: linear_warmup(8) * cosine(300, floor=0.01)
roles: {bias: 2, weight: 1, first: 0.5}
query: {offset: "0.5 * delta", when: "t % 2 == 0"}
post: ["lookahead(delta)"]
"""
    )
    assert read.name == "example"
    assert read.terms == (Term(1.0, genome.parse_expression("adam(g)")),)
    assert len(read.gates) == 2
    assert read.decay == Decay("decoupled", 0.01, ("weight",))
    assert read.roles == (("bias", 2.0), ("first", 0.5)), "a multiplier of 1 says nothing"
    assert read.query is not None
    assert genome.parse(genome.dump(read)) == read


def test_least_genome():
    least = genome.parse("genome: 1\nname: n\nlr: 1\nterms: [{expr: g}]")
    assert least == Genome("n", 1.0, (Term(1.0, Expression("g")),))
    assert least.schedule == number(1)


def test_numbers_and_bare_words_are_expressions_too():
    assert genome.parse(PLAIN + "schedule: 0.5").schedule == number(0.5)
    assert genome.parse(PLAIN + "gates: [u]").gates == (Expression("u"),)


def test_all_mistakes_at_once_with_their_lines():
    found = problems(
        """\
genome: 1
name: example
lr: fast
terms:
  - {weight: 1.0, expr: "adm(g)"}
  - {wait: 1.0, expr: "g"}
  - {weight: 1e9, expr: "g > 0"}
gates: ["u.clip"]
decay: {kind: decupled, rate: -1}
schedul: 1
roles: {wieght: 2}
query: {when: "t"}
"""
    )
    for wanted in [
        "my.yaml:3: lr: expected a number, got 'fast'",
        "my.yaml:5: terms.0.expr: unknown name 'adm'",
        "my.yaml:6: terms.1.wait: unknown key; did you mean weight?",
        "my.yaml:7: terms.2.weight: 1e+09 is out of range",
        "my.yaml:7: terms.2.expr: expected a number",
        "my.yaml:8: gates.0: attributes",
        "my.yaml:9: decay.kind: 'decupled' is unknown",
        "my.yaml:9: decay.rate: -1 is out of range",
        "my.yaml:10: schedul: unknown key; did you mean schedule?",
        "my.yaml:11: roles.wieght: unknown key; did you mean weight?",
        "my.yaml:12: query: missing key 'offset'",
        "my.yaml:12: query.when: expected a comparison",
    ]:
        assert any(line.startswith(wanted) for line in found), f"{wanted!r} is not in\n" + "\n".join(found)
    assert len(found) == 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this file is empty"),
        ("# a comment alone\n", "this file is empty"),
        ("- 1", "expected a genome (keys"),
        ("text", "expected a genome (keys"),
        (PLAIN.replace("genome: 1", "genome: 2"), "my.yaml:1: genome:"),
        (PLAIN.replace("genome: 1", "genome: true"), "my.yaml:1: genome: version True is not read"),
        (PLAIN.replace("genome: 1", "genome: 1.0"), "my.yaml:1: genome: version 1.0 is not read"),
        (PLAIN.replace("genome: 1\n", ""), "missing key 'genome'"),
        (PLAIN.replace("name: example\n", ""), "missing key 'name'"),
        (PLAIN.replace("lr: 1e-3\n", ""), "missing key 'lr'"),
        (PLAIN.replace("name: example", "name: ../etc"), "my.yaml:2: name: expected"),
        (PLAIN.replace("name: example", "name: [a]"), "my.yaml:2: name: expected"),
        (PLAIN.replace("1e-3", "1e999"), "my.yaml:4: lr: expected a number"),
        (PLAIN.replace("1e-3", "-1"), "my.yaml:4: lr: -1 is out of range"),
        (PLAIN.replace("1e-3", "true"), "my.yaml:4: lr: expected a number"),
        (PLAIN.replace("1e-3", "'1e-3'"), "my.yaml:4: lr: expected a number"),
        ("genome: 1\nname: n\nlr: 1\nterms: []", "my.yaml:4: terms: expected a list of 1 to"),
        ("genome: 1\nname: n\nlr: 1\nterms: g", "my.yaml:4: terms: expected a list"),
        ("genome: 1\nname: n\nlr: 1\nterms: [g]", "my.yaml:4: terms.0: expected {weight"),
        ("genome: 1\nname: n\nlr: 1\nterms: [{weight: 1}]", "missing key 'expr'"),
        (PLAIN + "gates: u", "my.yaml:7: gates: expected a list"),
        (PLAIN + "gates: [1, [2]]", "my.yaml:7: gates.1: expected an expression"),
        (PLAIN + "decay: 0.1", "my.yaml:7: decay: expected"),
        (PLAIN + "decay: {kind: coupled, rate: 0.1, roles: [weights]}", "my.yaml:7: decay.roles: expected a list of"),
        (PLAIN + "decay: {kind: coupled, rate: 0.1, roles: []}", "decay.roles"),
        (PLAIN + "decay: {rate: 0.1, roles: [bias, weigth]}", "not 'weigth'; did you mean weight?"),
        (PLAIN + "decay: {rate: 0.1, roles: [[1]]}", "decay.roles: expected a list of"),
        (PLAIN + "roles: [weight]", "my.yaml:7: roles: expected"),
        (PLAIN + "roles: {weight: heavy}", "my.yaml:7: roles.weight: expected a number"),
        (PLAIN + "query: delta", "my.yaml:7: query: expected"),
        (PLAIN + "source: [a]", "my.yaml:7: source: this key stands here a second time"),
        (PLAIN + "name: other", "my.yaml:7: name: this key stands here a second time"),
        (
            PLAIN + "gates: ['delta']",
            "my.yaml:7: gates.0: delta may stand under 'post' and in the offsets of query and evaluation alone",
        ),
        (PLAIN + "post: ['u']", "my.yaml:7: post.0: u may stand under 'gates' alone"),
        (PLAIN + f"gates: [{', '.join(['u'] * (MAX_GATES + 1))}]", f"expected a list of 0 to {MAX_GATES}"),
        (PLAIN + "\n".join(["  - {expr: g}"] * MAX_TERMS), f"expected a list of 1 to {MAX_TERMS}"),
        (PLAIN + 'schedule: "' + "(" * 10_000 + '"', "schedule: "),
        (PLAIN + "schedule: !!python/name:os.system", "my.yaml:7: tags"),
        (PLAIN.replace("a book", "x" * 2000), "my.yaml:3: source: expected a text of at most"),
        (PLAIN + "1: 2", "my.yaml:7: 1: unknown key"),
    ],
)
def test_mistakes(text: str, message: str):
    found = problems(text)
    assert any(message in line for line in found), found
    assert all(line.startswith("my.yaml:") for line in found)
    assert all("\n" not in line and len(line) < 400 for line in found)


def test_load_names_the_file(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(PLAIN.replace("1e-3", "fast"))
    with pytest.raises(GenomeError, match=rf"{path}:4: lr: expected a number"):
        genome.load(path)
    path.write_text(PLAIN)
    assert genome.load(path) == genome.parse(PLAIN)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("schedule: norm(g)", "schedule"),
        ("schedule: uniform(1)", "schedule: a schedule is made of t, epoch, losses, roles and numbers"),
        ('gates: ["clip(u, norm(g))"]', "gates.0: clip: limit must be a number"),
        ('query: {offset: delta, when: "norm(g) > 1"}', "query.when"),
        ('query: {offset: delta, when: "running_sum(1) > 3"}', "query.when"),
        ('query: {offset: delta, when: "is_weight"}', "query.when"),
    ],
)
def test_genes_without_meaning_are_named(extra: str, message: str):
    """Classes are checked when a genome is lowered; the message names the gene."""
    with pytest.raises(GenomeError) as caught:
        lower(genome.parse(PLAIN + extra))
    assert message in str(caught.value)


def test_numbers_of_any_size_lower():
    for text in (
        "9 ** 9 ** 9",
        "exp(1e6)",
        "1e300 * 1e300",
        "log(0)",
        "1 / 0",
        "(0 - 1) ** 0.5",
        "sin(1e308 * 10)",
        "0 % 0",
    ):
        lower(genome.parse(PLAIN.replace("adam(g)", f"g * ({text})")))


def test_program_size_is_limited():
    nested = "g"
    for _ in range(30):
        nested = f"clip_deviation({nested}, 3, 0.9)"
    text = " + ".join(f"cautious_rescaled({nested.replace('0.9', f'0.{k}')})" for k in range(11, 99))
    with pytest.raises(GenomeError):
        lower(genome.parse(PLAIN.replace("adam(g)", text)))


def test_a_genome_is_lowered_once():
    text = "genome: 1\nname: x\nlr: 1\nterms: [{expr: g}]\n"
    assert lower(genome.parse(text)) is lower(genome.parse(text))
    assert lower(genome.parse(text)) is not lower(genome.parse(text.replace("lr: 1", "lr: 2")))


@pytest.mark.parametrize("kind", ["[a]", "{a: 1}", "3", "null"])
def test_a_decay_kind_that_is_no_word_is_refused(kind: str):
    with pytest.raises(GenomeError, match="is unknown; known are none"):
        genome.parse(f"genome: 1\nname: x\nlr: 1\nterms: [{{expr: g}}]\ndecay: {{kind: {kind}, rate: 1}}\n")


def test_a_program_that_is_too_large_is_named_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("genomes.compiler.lowering.MAX_PROGRAM_NODES", 3)
    path = tmp_path / "large.yaml"
    path.write_text("genome: 1\nname: large\nlr: 1\nterms: [{expr: sin(g) + cos(theta)}]\n")
    with pytest.raises(GenomeError, match=r"large\.yaml:1: \d+ operations; at most 3 are allowed$"):
        read(path)
