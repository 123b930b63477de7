"""Discovered optimizers are what their campaigns' records say."""

import json
import runpy
from pathlib import Path

import pytest

from genomes import catalogue
from genomes.language import genome
from harness.task import TRACKS

ROOT = Path(__file__).parents[2]
KEYS = {"campaign", "origin", "depth", "pairs", "instances", "mean", "rival", "difference", "low", "high"}


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
    assert evidence["depth"] in TRACKS
    assert 0 < evidence["low"] < evidence["difference"] < evidence["high"]


def test_evidence_is_computed_from_the_records():
    table = runpy.run_path(str(ROOT / "runs/tuned-adam/table.py"))
    records = [json.loads(line) for line in table["RECORDS"].read_text(encoding="utf-8").splitlines()]
    for depth in (4, 10, 18):
        found = table["evidence"](depth, [r for r in records if r["depth"] == depth])
        assert catalogue.evidence()[f"tuned_adam_depth{depth}"] == found
