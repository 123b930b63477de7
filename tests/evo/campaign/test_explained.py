"""What `evo explain RUN` leaves: report and exports of the champion say what each part earns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evo import api
from evo.campaign import explained
from evo.campaign.folder import RunFolder
from evo.campaign.run import Machine, launch
from evo.errors import UsageError
from evo.evaluation.ablation import Explanation, Part, Removal
from evo.evaluation.question import Question
from evo.evaluation.statistics import paired
from evo.report import page
from genomes.language.genome import Genome
from tests.evo.campaign.test_run import Interrupting

pytestmark = pytest.mark.usefixtures("without_pictures")
RECIPE = """\
name: parts
population: 4
generations: 1
epochs: 7
patience: 6
difficulty: {depths: [3, 4]}
instances: {search: 2}
gate: {instances: 0}
start: {catalogue: [cautious_adamw, adan], random: 0}
baselines: [adam]
"""


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "parts"
    path.mkdir()
    (path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.setenv("FAKE_SECONDS", "0")
    launch(path, machine=Machine(1, function="tests.evo.fake_worker:climb"))
    return path


def explanation(genome: Genome, question: Question, _: object) -> Explanation:
    assert (question.task, question.depths, question.epochs, question.patience) == ("tig", (3, 4), 7, 6), "as trained"
    parts = (
        Part("gates.0: cautious(u, 0.25)", paired([0.6, 0.7, 0.65], [0.5, 0.55, 0.6]), 0.01),
        Part("weight decay", paired([0.6, 0.7, 0.65], [0.6, 0.69, 0.66]), 0.8),
    )
    return Explanation(genome, question.labeled, 0.65, parts, genome, (Removal("weight decay", 0.0, 0.003, "parts:6"),))


def test_report_and_exports_show_what_each_part_earns(campaign, monkeypatch):
    monkeypatch.setattr(api.ablation, "explain", explanation)
    assert "What each part" not in page.write(campaign).read_text()
    found = api.explain(campaign, instances="parts:6")
    kept = explained.kept(RunFolder(campaign))
    assert kept is not None
    assert [each.what for each in kept.earnings] == [part.what for part in found.parts]
    text = page.write(campaign).read_text()
    assert "What each part of it earns" in text
    assert "instances parts:6" in text
    for format in ("yaml", "python"):
        exported = api.export(campaign, format).text
        assert "What each part earns (task tig, depths 3, 4, at most 7 epochs, instances parts:6)" in exported
        assert f"{kept.earnings[0].what}: {kept.earnings[0].in_words}" in exported.replace("\n#     ", " ")
        assert "What each part" not in api.export(campaign, format, rank=2).text, "it is of the champion alone"
    compile(api.export(campaign, "python").text, "champion.py", "exec")


def test_a_file_that_somebody_changed_does_no_harm(campaign):
    place = RunFolder(campaign)
    for text in ("", "[]", "{}", '{"hash": 1, "where": 2, "parts": [{"what": 1}], "removals": []}', "\0"):
        place.explanation.write_text(text)
        assert explained.kept(place) is None
    champion = api.find(str(campaign))
    values = {
        "hash": explained.genome_identity(champion.genome),
        "where": '"""\nimport os',
        "parts": [{"what": '"""\n</table>\\', "mean": 1, "low": None, "high": None, "p_holm": 1}],
        "removals": [],
    }
    place.explanation.write_text(json.dumps(values))
    source = api.export(campaign, "python").text
    compile(source, "champion.py", "exec")
    assert "import os" not in source.splitlines()
    assert "&lt;/table&gt;" in page.write(campaign).read_text()


def test_without_a_champion_there_is_nothing_to_explain(tmp_path):
    path = tmp_path / "parts"
    path.mkdir()
    (path / "recipe.yaml").write_text(RECIPE)
    with pytest.raises(UsageError, match="nothing to explain; begin with: evo launch"):
        api.explain(path)
    launch(path, machine=Machine(1, function="tests.evo.fake_worker:climb"), progress=Interrupting(lane=1))
    with pytest.raises(UsageError, match="the hall of fame is still empty; go on with: evo resume"):
        api.explain(path)
