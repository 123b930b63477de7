"""Champions against founders: what is run and judged, what goes on after a stop, and what the tables say."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import against_founders
from searching.contestants import QUICKSTART

from evo.recipe.validation import flat
from evo.records import FOUNDERS
from genomes import catalogue
from genomes.compiler.identity import genome_identity
from genomes.language.genome import dump

TINY = """
recipe: 1
name: tiny
population: 6
epochs: 1
difficulty: {depths: [3, 4]}
instances: {search: 2}
gate: {instances: 0}
start: {catalogue: [sgd, adam], random: 1}
baselines: [adam]
"""
IDENTITIES = {name: genome_identity(catalogue.load(name)) for name in ("sgd", "adam")}


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of a call that runs one tiny campaign; judging gives 0.5 for adam, else 0.25, and a little by instance."""
    (tmp_path / "recipe.yaml").write_text(TINY)

    def judged(text: str, identity: str, recipe: object, count: int) -> list[float]:
        return [(0.5 if identity == IDENTITIES["adam"] else 0.25) + i / 100 for i in range(count)]

    monkeypatch.setattr(against_founders, "judged", judged)
    results, recipe = str(tmp_path / "results.jsonl"), str(tmp_path / "recipe.yaml")
    return ["against_founders", "--recipe", recipe, "--results", results, "--lane-steps", "1", "--instances", "4"]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", list(arguments))
    against_founders.main()


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_a_campaign_is_run_and_judged_once(arguments, monkeypatch, capsys):
    results = arguments[4]
    call(monkeypatch, *arguments, "--seeds", "0:1")
    written = lines(results)
    assert [line["kind"] for line in written] == ["settings", "founder", "founder", "campaign"]
    found = written[-1]
    assert (found["search"], found["founders"], found["seed"], found["generations"]) == (
        "raced_evolution", "uncalibrated", 0, 1
    )  # fmt: skip
    assert found["given"] == IDENTITIES
    assert found["own_best_founder"] in IDENTITIES
    assert found["lane_steps"] == found["trainings"] * 8
    assert found["champion"]["origin"] == ("founder" if found["champion"]["operator"] in FOUNDERS else "evolved")
    with Path(results).open("a") as file:
        file.write('{"kind": "camp')  # killed within a line
    call(monkeypatch, *arguments, "--seeds", "0:1")
    assert Path(results).read_text().count("\n") == 5
    with pytest.raises(SystemExit, match="other settings"):
        call(monkeypatch, *arguments[:-1], "5")
    capsys.readouterr()
    call(monkeypatch, *arguments, "--summarize")
    assert "| raced_evolution | uncalibrated | 1 |" in capsys.readouterr().out


def test_a_genome_is_judged_on_depths_in_turn_as_the_campaign_trains(tmp_path):
    (tmp_path / "recipe.yaml").write_text(TINY)
    asked = Namespace(recipe=tmp_path / "recipe.yaml", search="raced_evolution", founders="uncalibrated", lane_steps=1)
    recipe = against_founders.recipe_of(asked, 0)
    instances = against_founders.unseen(recipe, 4)
    assert [instance.num_hidden_layers for instance in instances] == [3, 4, 3, 4]
    assert len({instance.seed for instance in instances}) == 4
    found = against_founders.judged(dump(catalogue.load("adam")), IDENTITIES["adam"], recipe, 2)
    assert len(set(found)) == 2


def test_both_searches_have_the_same_budget_and_founders():
    recipes = {
        (search, founders): against_founders.recipe_of(
            Namespace(recipe=against_founders.RECIPE, search=search, founders=founders, lane_steps=80_000), 3
        )
        for search in against_founders.SEARCHES
        for founders in against_founders.MORE_FOUNDERS
    }
    for founders in against_founders.MORE_FOUNDERS:
        raced, genetic = recipes["raced_evolution", founders], recipes["genetic", founders]
        for key in ("start", "seed", "lane_steps", "generations", "epochs", "difficulty", "baselines"):
            assert getattr(raced, key) == getattr(genetic, key)
    settings = flat(recipes["genetic", "uncalibrated"])
    assert settings["search.algorithm"] == "genetic"
    assert {key: settings[key] for key in QUICKSTART} == QUICKSTART
    more = set(recipes["genetic", "calibrated"].start.catalogue) - set(
        recipes["genetic", "uncalibrated"].start.catalogue
    )
    assert more == {"calibrated_adam", "calibrated_cautious_adanw"}


def campaign(seed: int, qualities: list[float], own: str = "adam") -> dict[str, Any]:
    champion = {"name": f"g1i{seed}", "origin": "evolved", "operator": "scale"}
    return {
        "kind": "campaign", "search": "genetic", "founders": "uncalibrated", "seed": seed, "champion": champion,
        "qualities": qualities, "given": {"sgd": "a", "adam": "b"}, "own_best_founder": own, "generations": 2,
        "lane_steps": 1000, "seconds": 3.0,
    }  # fmt: skip


def test_the_tables_hold_champions_against_the_founder_that_is_best_on_the_unseen_instances():
    found = against_founders.Results({"instances": 6, "lane_steps": 900})
    found.founders = {"a": [0.1, 0.3, 0.2, 0.1, 0.2, 0.3], "b": [0.4, 0.5, 0.4, 0.6, 0.5, 0.6]}
    better, worse = ([x + by for x in found.founders["b"]] for by in (0.1, -0.1))
    for seed, qualities in enumerate((found.founders["b"], better, worse)):
        found.take(campaign(seed, qualities, "sgd" if seed == 1 else "adam"))
    first, second, third = (against_founders.verdict(each, found.founders) for each in found.campaigns.values())
    assert {each.best for each in (first, second, third)} == {"adam"}
    assert [each.word for each in (first, second, third)] == ["tied", "better", "worse"]
    assert second.own == pytest.approx(0.4)
    text = against_founders.summary(found)
    assert "| genetic | uncalibrated | 3 | 1 | 1 | 1 | 1 | 1 | +0.000 (" in text
    assert "| +0.000 | -0.100 | +0.100 |" in text
    assert text.count("evolved: scale") == 3


@pytest.mark.parametrize("text", ["3", "5:5", "a:b", "-1:2", "0:1:0"])
def test_wrong_seeds_are_refused(text: str):
    with pytest.raises(ArgumentTypeError):
        against_founders.seeds(text)
