"""What the writers of genomes write, the reader reads back as it was, over all legal texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genomes.language import genome
from genomes.language.genome import MAX_NAME, MAX_NOTE, Genome, GenomeError
from genomes.strict_yaml import parse, quoted, word
from tests.genomes.strategies import genomes

CASES = Path(__file__).parents[2] / "cases"
LOOKALIKES = (
    "true",
    "False",
    "null",
    "NULL",
    "1e3",
    "695e0514",
    "1.10",
    "007",
    "1.",
    "0x10",
    "12_0",
    "1e999",
    "9" * 64,
)
SPECIAL = "\x00\t\n\r\x1b\x7f\x80\x85\x9f\xa0\xad\u2028\u2029\u202e\ufeff\ufffe\uffff\U0001f600\"'\\#:{}[]&*!|>%@`é"
texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(SPECIAL), max_size=40)
names = st.sampled_from(LOOKALIKES) | st.from_regex(rf"[A-Za-z0-9][A-Za-z0-9_.+-]{{0,{MAX_NAME - 1}}}", fullmatch=True)


@settings(max_examples=30, deadline=None)
@given(genomes() | genomes(named=True), names, texts, texts)
def test_a_genome_is_read_as_it_was_written(drawn: Genome, name: str, source: str, oracle: str):
    drawn = replace(drawn, name=name, source=source, oracle=oracle)
    text = genome.dump(drawn)
    assert genome.parse(text) == drawn
    assert genome.parse(text.encode().decode()) == drawn
    assert genome.parse(text.encode("ascii", "backslashreplace").decode()) == drawn  # as a stream of ASCII takes it


@settings(max_examples=150, deadline=None)
@given(texts | names, texts | names)
def test_a_scalar_is_read_as_it_was_written(key: str, value: str):
    assert parse(f"{word(key)}: {word(value)}").value == {key: value}
    assert parse(f"{{{quoted(key)}: [{quoted(value)}, {word(value)}]}}").value == {key: [value, value]}


@settings(max_examples=60, deadline=None)
@given(names)
def test_a_name_is_its_text_quoted_or_not(name: str):
    for written in (name, f"'{name}'", f'"{name}"'):
        read = genome.parse(f"genome: 1\nname: {written}\nlr: 1\nterms: [{{expr: g}}]\n")
        assert read.name == name
        assert genome.parse(genome.dump(read)) == read


@pytest.mark.parametrize(
    ("file", "name", "source"),
    [
        ("name_1_10", "1.10", ""),
        ("name_quoted_1e3", "1e3", ""),
        ("name_quoted_null", "null", ""),
        ("name_quoted_true", "true", ""),
        ("source_del", "s", "a\x7fb"),
        ("source_c1", "s", "a\x80b"),
    ],
)
def test_cases_are_read_and_written(file: str, name: str, source: str):
    read = genome.load(CASES / f"{file}.yaml")
    assert (read.name, read.source) == (name, source)
    assert genome.parse(genome.dump(read)) == read


def test_a_lone_surrogate_is_refused_with_its_line():
    path = CASES / "source_surr.yaml"
    with pytest.raises(GenomeError) as caught:
        genome.load(path)
    assert str(caught.value).startswith(f"{path}:3: a\\ud800b: half of a surrogate pair")


@pytest.mark.parametrize("text", ["source:", "source: ~", 'source: ""'])
def test_an_empty_source_is_none_given(text: str):
    assert genome.parse(f"genome: 1\nname: n\n{text}\nlr: 1\nterms: [{{expr: g}}]\n").source == ""


def test_a_source_may_be_written_as_a_number():
    read = genome.parse("genome: 1\nname: n\nsource: 1412.6980\nlr: 1\nterms: [{expr: g}]\n")
    assert read.source == "1412.6980"


def test_the_longest_note_is_read():
    longest = replace(genome.load(CASES / "source_del.yaml"), source="\x7f" * MAX_NOTE)
    assert genome.parse(genome.dump(longest)) == longest
