"""A champion that calibrates the outputs' mean trains without that too, on instances that it was trained on itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evo.campaign.folder import RunFolder
from evo.ledger.ledger import Ledger
from evo.recipe import reader
from evo.records import Individual, Purpose
from evo.report import page
from evo.report.data import BesideBound, collect
from evo.report.panels import shown
from evo.search.mean_share import switched_off
from genomes import catalogue
from genomes.compiler.identity import genome_identity
from genomes.language.genome import parse
from tests.evo import fakes
from tests.evo.campaign.test_run import Interrupting, result
from tests.evo.fake_campaign import RECIPE, folder, run

pytestmark = pytest.mark.usefixtures("without_pictures")
CALIBRATING = """
genome: 1
name: fake
lr: 1
terms: [{expr: "g"}]
query: {outputs: ["output_probe(0)", "output_probe(1)"]}
evaluation: {offset: "calibration()"}
"""
SHARED = RECIPE + "instances: {selection: 5}\n"


@pytest.fixture
def calibrating(monkeypatch):
    """The fake search breeds genomes that calibrate."""
    monkeypatch.setattr(fakes, "GENOME", parse(CALIBRATING))


def check_trained(path) -> None:
    """The champion has trainings without its calibration, as many as the recipe says, on instances of its own."""
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        recipe = reader.from_text(ledger.meta()["recipe"])
        champion = ledger.checkpoint().hall_of_fame[0].individual
        blind = switched_off(champion)
        assert blind
        own, without = (ledger.shared([hash])[hash] for hash in (champion.hash, blind.hash))
        assert {instance for instance, _ in without} <= {instance for instance, _ in own}
        assert len(without) >= min(len(own), recipe.instances.selection)
        assert ledger.tells() == ledger.rows("SELECT max(tell) + 1 FROM evaluations")[0][0], "all of them are told"


def test_the_champion_trains_without_its_calibration(calibrating, tmp_path):
    path = folder(tmp_path / "run", SHARED)
    assert run("launch", path, workers=2).finished
    check_trained(path)
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        asked = dict(ledger.rows("SELECT purpose, count(*) FROM tells GROUP BY 1"))
        trained = dict(ledger.rows("SELECT purpose, count(*) FROM evaluations GROUP BY 1"))
        champions = {
            generation.statistics.champion.id for generation in ledger.past() if generation.statistics.champion
        }
    assert 1 <= asked[Purpose.SHARE] <= 6
    assert trained[Purpose.SHARE] <= 5 * len(champions), "no more of a champion that stays"


@pytest.mark.slow
def test_stopped_anywhere_it_ends_the_same(calibrating, tmp_path):
    through = folder(tmp_path / "through", SHARED)
    assert run("launch", through).finished
    stopped = folder(tmp_path / "stopped", SHARED)
    outcome = run("launch", stopped, progress=Interrupting(lane=11))
    for _ in range(60):
        if outcome.finished:
            break
        outcome = run("resume", stopped, progress=Interrupting(lane=11))
    assert result(stopped) == result(through)


def test_a_generation_is_complete_when_its_champion_has_trained_so(calibrating, tmp_path):
    one = SHARED.replace("generations: 6", "generations: 1")
    whole = Interrupting()
    assert run("launch", folder(tmp_path / "count", one), progress=whole).finished
    path = folder(tmp_path / "run", one)
    outcome = run("launch", path, progress=Interrupting(lane=whole.seen[1] - 1))
    assert (outcome.finished, outcome.generation) == (False, 0)
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        assert ledger.past() == []
        assert ledger.rows("SELECT purpose FROM evaluations ORDER BY tell DESC LIMIT 1") == [(Purpose.SHARE,)]
    assert run("resume", path).finished
    check_trained(path)
    assert result(path) == result(tmp_path / "count")


@pytest.mark.parametrize(("name", "task", "expected"), [("adam", "tig", 0), ("calibrated_adam", "seed", 0)])
def test_one_that_does_not_calibrate_trains_as_ever(monkeypatch, tmp_path, name, task, expected):
    monkeypatch.setattr(fakes, "GENOME", catalogue.load(name))
    path = folder(tmp_path / "run", f"{SHARED}task: {task}\n".replace("generations: 6", "generations: 2"))
    assert run("launch", path).finished
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        assert ledger.rows("SELECT count(*) FROM tells WHERE purpose = 'share'") == [(expected,)]


def test_what_is_switched_off_is_the_same_genome_otherwise():
    def individual(name: str) -> Individual:
        genome = catalogue.load(name)
        return Individual(0, 0, genome, genome_identity(genome))

    assert switched_off(individual("adam")) is None
    blind = switched_off(individual("calibrated_adam"))
    assert blind
    assert blind.id == "g0i0"
    assert blind.hash == genome_identity(blind.genome) != individual("calibrated_adam").hash


def test_the_report_says_what_comes_from_the_mean(calibrating, tmp_path):
    path = folder(tmp_path / "run", SHARED.replace("generations: 6", "generations: 1"))
    run("launch", path)
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        report = collect(ledger)

    def note(bound: BesideBound) -> tuple[str, str]:
        panel = next(p for p in shown(replace(report, beside_bound=bound)) if p.title == "Quality beside the bound")
        return panel.note, str(panel.html)

    assert report.beside_bound
    assert len(report.beside_bound.with_and_without) > 1
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
