"""The front of an algorithm with several objectives: in the report, and along the ranks of exports."""

from __future__ import annotations

from pathlib import Path

import pytest

import evo
from evo.campaign.folder import RunFolder
from evo.campaign.ranking import ranked
from evo.campaign.run import Machine, launch
from evo.errors import UsageError
from evo.ledger.ledger import Ledger
from evo.recipe.limits import buffers, operations
from evo.report import page
from evo.report.data import collect
from evo.search.evidence import fit

RECIPE = """\
name: front
population: 8
generations: 2
epochs: 2
difficulty: {depths: [3]}
instances: {search: 2, selection: 2}
search: {algorithm: nsga2}
gate: {instances: 8}
start: {catalogue: [sgd, lion, adam, adan], random: 0}
baselines: [adam, lion]
"""


@pytest.fixture(scope="module")
def campaign(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("front") / "run"
    path.mkdir()
    (path / "recipe.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_SECONDS", "0")
        assert launch(path, machine=Machine(1, function="tests.evo.fake_worker:climb")).finished
    return path


def test_ranks_are_the_champion_and_then_the_front(campaign):
    with Ledger.open_to_read(RunFolder(campaign).ledger) as ledger:
        reached, estimates = ledger.checkpoint(), fit(ledger.observations()).estimates
        found, report = ranked(ledger, reached, estimates), collect(ledger)
    champion, *front = found
    assert champion == reached.hall_of_fame[0]
    assert {fame.individual.id for fame in found} - {champion.individual.id} <= set(reached.front)
    assert len(front) > 1
    means = [fame.estimate.mean for fame in front]
    assert means == sorted(means, reverse=True)
    for rank, fame in enumerate(found, 1):
        exported = evo.export(campaign, "yaml", rank=rank).text
        assert f"individual {fame.individual.id}, place {rank} in its front" in exported.replace("\n#   ", " ")
    with pytest.raises(UsageError, match=f"the front of .* has ranks 1 to {len(found)}$"):
        evo.export(campaign, rank=len(found) + 1)
    rows = [each for each in report.front if each.rank]
    assert [(each.name, each.operations, each.states) for each in rows] == [
        (f.individual.name, operations(f.individual.genome), buffers(f.individual.genome)) for f in found
    ]
    assert [each.name for each in report.front if not each.rank] == ["adam", "lion"]
    assert "The front" in page.write(campaign).read_text()
