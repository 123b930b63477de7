"""Discovered optimizers are what their campaigns' records say."""

import runpy
from pathlib import Path

import pytest

from genomes import catalogue
from genomes.language import genome
from harness.task import TRACKS

ROOT = Path(__file__).parents[2]
KEYS = {"campaign", "origin", "rival", "by_depth"}
FIGURES = {"depth", "pairs", "instances", "mean", "difference", "low", "high"}
CAMPAIGNS = sorted({entry["campaign"] for entry in catalogue.evidence().values()})


def test_each_has_evidence_and_no_other_has():
    assert sorted(catalogue.evidence()) == catalogue.discovered()


@pytest.mark.parametrize("name", catalogue.discovered())
def test_it_is_sound_and_says_where_it_comes_from(name: str):
    found, evidence = catalogue.load(name), catalogue.evidence()[name]
    assert found.name == name
    assert name not in catalogue.names(), "a name means one thing"
    assert genome.parse(genome.dump(found)) == found
    assert evidence.keys() == KEYS
    assert (ROOT / str(evidence["campaign"]) / "RESULT.md").is_file()
    assert str(evidence["campaign"]) in found.source
    assert evidence["rival"] in catalogue.all_names()
    assert evidence["origin"]
    assert evidence["by_depth"]
    for found in evidence["by_depth"]:
        assert found.keys() == FIGURES
        assert found["depth"] in TRACKS
        assert found["low"] < found["difference"] < found["high"]


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_evidence_is_computed_from_the_records(campaign: str):
    table = runpy.run_path(str(ROOT / "runs" / "table.py"))
    for name, by_depth in table["read"](ROOT / campaign).items():
        found = [table["evidence"](records, depth) for depth, records in by_depth.items()]
        assert catalogue.evidence()[name]["by_depth"] == found
        assert catalogue.evidence()[name]["rival"] == table["RIVAL"]


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_the_result_has_the_table_of_the_records(campaign: str):
    table = runpy.run_path(str(ROOT / "runs" / "table.py"))
    text = (ROOT / campaign / "RESULT.md").read_text(encoding="utf-8")
    for cells in table["rows"](table["read"](ROOT / campaign)):
        assert f"| {' | '.join(cells)} |" in text
