"""A champion that calibrates the outputs' mean trains without that too, once, on the selection instances."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evo.campaign.folder import RunFolder
from evo.evaluation.mean_share import request, switched_off
from evo.ledger.ledger import Ledger
from evo.recipe import reader
from evo.records import Individual, Purpose
from evo.report import page
from evo.report.data import BesideBound, collect
from evo.report.panels import shown
from evo.search.instances import instances
from genomes import catalogue
from genomes.language.genome import parse
from tests.evo import fakes
from tests.evo.campaign.test_run import Interrupting, result
from tests.evo.fake_campaign import RECIPE, folder, run

CALIBRATING = """
genome: 1
name: fake
lr: 1
terms: [{expr: "g"}]
query: {outputs: ["output_probe(0)", "output_probe(1)"]}
evaluation: {offset: "calibration()"}
"""


@pytest.fixture
def calibrating(monkeypatch):
    """The fake search breeds genomes that calibrate."""
    monkeypatch.setattr(fakes, "GENOME", parse(CALIBRATING))


def check_trained(path) -> None:
    """The champion has trainings without its calibration on all selection instances, and on no others."""
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        recipe = reader.from_text(ledger.meta()["recipe"])
        blind = switched_off(ledger.checkpoint().hall_of_fame[0].individual)
        assert blind
        found = ledger.on_selection([blind.hash])[blind.hash]
        assert {instance for instance, _ in found} == set(instances(recipe, Purpose.SELECTION, 0))


def test_the_champion_trains_without_its_calibration(calibrating, tmp_path):
    path = folder(tmp_path / "run")
    assert run("launch", path, workers=2).finished
    check_trained(path)


def test_stopped_anywhere_or_made_longer_it_ends_the_same(calibrating, tmp_path):
    through = folder(tmp_path / "through")
    assert run("launch", through).finished
    stopped = folder(tmp_path / "stopped")
    outcome = run("launch", stopped, progress=Interrupting(lane=11))
    for _ in range(60):
        if outcome.finished:
            break
        outcome = run("resume", stopped, progress=Interrupting(lane=11))
    assert result(stopped) == result(through)
    longer = folder(tmp_path / "longer")
    assert run("launch", longer, ["generations=3"]).finished
    assert run("resume", longer, ["generations=6"]).finished
    assert result(longer) == result(through)


def test_stopped_in_the_last_trainings_it_is_not_finished(calibrating, tmp_path):
    """All generations are complete; what is missing is for the report, and a resume trains it."""
    path = folder(tmp_path / "run", RECIPE.replace("generations: 6", "generations: 1"))
    count = folder(tmp_path / "count", RECIPE.replace("generations: 6", "generations: 1"))
    whole = Interrupting()
    assert run("launch", count, progress=whole).finished
    outcome = run("launch", path, progress=Interrupting(lane=whole.seen[1] - 2))
    assert (outcome.finished, outcome.generation) == (False, 1)
    assert run("resume", path).finished
    check_trained(path)


def test_one_that_does_not_calibrate_trains_as_ever():
    recipe = reader.named("x")

    def individual(name: str) -> Individual:
        return Individual(0, 0, catalogue.load(name), "0")

    assert request(recipe, individual("adam")) is None
    assert request(recipe.model_copy(update={"task": "seed"}), individual("calibrated_adam")) is None
    asked = request(recipe, individual("calibrated_adam"))
    assert asked
    assert asked.purpose is Purpose.SELECTION
    assert len(asked.lanes) == recipe.instances.selection


def test_the_report_says_what_comes_from_the_mean(calibrating, tmp_path):
    path = folder(tmp_path / "run", RECIPE.replace("generations: 6", "generations: 1"))
    run("launch", path)
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        report = collect(ledger)

    def note(bound: BesideBound) -> tuple[str, str]:
        panel = next(p for p in shown(replace(report, beside_bound=bound)) if p.title == "Quality beside the bound")
        return panel.note, str(panel.html)

    known = BesideBound([4, 7], [0.1, 0.6], {"champion": [0.8, 0.9], "adam": [0.1, 0.5]}, [0.2, 0.5])
    assert known.with_and_without == [(0.8, 0.2), (0.9, 0.5)]
    text, html = note(known)
    assert "has 0.350 instead of 0.850 on 2 instances: +0.500, 59% of its quality, come from the mean" in text
    assert html.count("champion without calibration") == 2
    text, html = note(BesideBound([4], [0.1], {"champion": [0.8]}, [None]))
    assert "what of its quality comes from that is not known here" in text
    assert "without calibration" not in html
    text, html = note(BesideBound([4], [0.1], {"champion": [0.8]}))
    assert "The champion does not calibrate the mean: no part of its quality comes from that." in text
    assert "Quality beside the bound" in page.render(report)
