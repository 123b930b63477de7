"""Every known optimizer, step for step in float64, against an implementation nobody here wrote."""

from __future__ import annotations

import pytest

from genomes import catalogue
from genomes.language import genome
from genomes.language.genome import GenomeError
from tests.genomes.compare import TOLERANCE, Comparison, compare
from tests.genomes.oracles import ORACLES


@pytest.mark.parametrize("name", catalogue.names())
def test_equals_its_oracle(name: str):
    assert name in ORACLES, f"{name} has no oracle: add one to tests/genomes/oracles"
    _assert_equals(compare(name, few=True), steps=60)


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue.names())
def test_equals_its_oracle_for_long(name: str):
    _assert_equals(compare(name), steps=100)


def _assert_equals(found: Comparison, steps: int) -> None:
    assert found.steps >= steps
    assert found.error < TOLERANCE, f"{found.name} parts from {found.oracle}: {found.error:.2g}"


def test_every_oracle_has_its_entry():
    assert sorted(ORACLES) == catalogue.names()


@pytest.mark.parametrize("name", catalogue.names())
def test_entry_names_source_and_oracle(name: str):
    entry = catalogue.load(name)
    assert entry.name == name
    assert entry.source
    assert entry.oracle


@pytest.mark.parametrize("name", catalogue.names())
def test_dump_and_parse_are_inverse(name: str):
    entry = catalogue.load(name)
    assert genome.parse(genome.dump(entry)) == entry


def test_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(GenomeError, match="did you mean adamw"):
        catalogue.load("adamww")
