"""Genomes from outside wait in the inbox, and join as a generation begins; from then on the ledger alone decides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import evo
from evo.campaign.folder import RunFolder
from evo.campaign.run import Machine, launch, resume
from evo.campaign.status import status, summary
from evo.errors import UsageError
from evo.ledger.ledger import Ledger
from evo.records import ADDED, Addition
from evo.report import page
from genomes import catalogue
from genomes.language.genome import dump
from tests.evo.campaign.test_run import Interrupting, result
from tests.evo.fake_campaign import RECIPE, folder, run

pytestmark = pytest.mark.usefixtures("without_pictures")
MINE = catalogue.load("nesterov").renamed("mine")


@pytest.fixture
def stopped(tmp_path) -> Path:
    """A campaign that was stopped after two of its six generations."""
    path = folder(tmp_path / "run")
    run("launch", path, progress=Interrupting(generation=2))
    return path


def joined(path: Path) -> list[Addition]:
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        return ledger.additions()


def added(path: Path) -> list[Addition]:
    return list(status(path).added)


def waits(path: Path) -> list[str]:
    return [each.name for each in added(path) if each.generation is None]


def test_an_added_genome_joins_the_next_generation_and_says_where_it_comes_from(stopped, tmp_path):
    file = tmp_path / "found.yaml"
    file.write_text(dump(MINE))
    evo.add(stopped, ["lion", file], by="ann")
    assert waits(stopped) == ["lion", "mine"]
    assert "added: mine: mine from found.yaml, by ann, " in summary(status(stopped))
    file.unlink()
    progress = Interrupting()
    assert run("resume", stopped, progress=progress).finished
    assert any(text.startswith("generation 3 takes in mine, added from found.yaml, by ann, ") for text in progress.said)
    lion, mine = added(stopped)
    assert (lion.source, mine.source, mine.by) == ("lion", "found.yaml", "ann")
    assert (lion.id, mine.id, mine.generation) == ("g2i8", "g2i9", 2)
    with Ledger.open_to_read(RunFolder(stopped).ledger) as ledger:
        ledger.verify()
        individual = ledger.individual(mine.id)
        assert (individual.genome, individual.operator, individual.parents) == (MINE, ADDED, ())
        assert not individual.is_founder
        assert ledger.rows("SELECT count(*) FROM evaluations WHERE hash = ?", (individual.hash,))[0][0] >= 2
    text = page.write(stopped).read_text()
    assert "Genomes that were added" in text
    assert "found.yaml" in text
    plain = json.loads(json.dumps(status(stopped).to_dict()))["added"][1]
    assert (plain["id"], plain["source"], plain["generation"]) == ("g2i9", "found.yaml", 2)


@pytest.mark.slow
def test_stopped_anywhere_and_with_any_workers_it_ends_the_same(tmp_path):
    lanes, workers = 13, 2
    results = []
    for name in ("straight", "stopped"):
        path = folder(tmp_path / name)
        run("launch", path, progress=Interrupting(generation=2), workers=workers)
        evo.add(path, ["lion", MINE], by=name)
        if name == "stopped":
            while not run("resume", path, progress=Interrupting(lane=lanes), workers=workers).finished:
                pass
        elif not run("resume", path).finished:
            raise AssertionError
        assert [each.id for each in added(path)] == ["g2i8", "g2i9"]
        results.append(result(path))
    assert results[0] == results[1], "neither who added them nor when is a result"
    assert results[0] != result(through(tmp_path))


def through(tmp_path: Path) -> Path:
    path = folder(tmp_path / "through")
    assert run("launch", path).finished
    return path


class Failing(Interrupting):
    """Fails as a generation has taken in what waits, before anything is trained."""

    def request(self, request, known):
        raise RuntimeError("the power is gone")


def test_nothing_is_taken_twice_and_a_generation_that_trains_takes_no_more(stopped):
    evo.add(stopped, "lion")
    with pytest.raises(RuntimeError, match="power"):
        run("resume", stopped, progress=Failing())
    assert [each.generation for each in joined(stopped)] == [2]
    evo.add(stopped, "adan")  # nothing is trained yet
    run("resume", stopped, progress=Interrupting(lane=3))
    evo.add(stopped, MINE)  # the generation has begun
    run("resume", stopped, progress=Interrupting(lane=3))
    assert waits(stopped) == ["mine"]
    assert run("resume", stopped).finished
    assert [(each.name, each.id) for each in joined(stopped)] == [("lion", "g2i8"), ("adan", "g2i9"), ("mine", "g3i8")]


class Adding(Interrupting):
    """Adds a genome while the campaign runs."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def lane(self, training):
        super().lane(training)
        if (self.done, self.done_generations, self.purpose) == (3, 1, "search"):
            evo.add(self.path, "lion")


def test_a_running_campaign_takes_in_what_was_added_meanwhile(tmp_path):
    path = folder(tmp_path / "run")
    assert run("launch", path, progress=Adding(path)).finished
    assert [each.generation for each in joined(path)] == [2]


def test_a_finished_campaign_keeps_it_until_it_goes_on(tmp_path):
    path = folder(tmp_path / "run", RECIPE.replace("generations: 6", "generations: 1"))
    run("launch", path)
    evo.add(path, "lion")
    assert run("resume", path).finished
    assert waits(path) == ["lion"]
    assert f"let it join: evo resume {path} --set generations=2" in summary(status(path))
    run("resume", path, ["generations=2"])
    assert [each.id for each in joined(path)] == ["g1i8"]


def test_what_is_wrong_is_told_at_once_and_nothing_is_queued(stopped, tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("genome: 1\nname: wrong\nlr: fast\nterms: [{expr: g}]\n")
    large = tmp_path / "large.yaml"
    terms = ", ".join(f"{{expr: {text}}}" for text in ("g", "sign(g)", "abs(g)", "g * g", "sqrt(abs(g))"))
    large.write_text(f"genome: 1\nname: large\nlr: 0.1\nterms: [{terms}]\n")
    with pytest.raises(UsageError) as refused:
        evo.add(stopped, [wrong, "lion", tmp_path / "none.yaml", "lyon", large])
    problems = str(refused.value).splitlines()
    assert [text for text in problems if text.startswith(f"{wrong}:3: lr: ")]
    assert [text for text in problems if text == f"{tmp_path / 'none.yaml'}: cannot be read: No such file or directory"]
    assert [text for text in problems if "lyon" in text]
    assert [
        text for text in problems if "has 5 terms, more than the 4 of limits.terms in the campaign's recipe" in text
    ]
    assert not waits(stopped)
    with pytest.raises(UsageError, match="name at least one"):
        evo.add(stopped, [])
    with pytest.raises(UsageError, match="has not begun: name the genome in its recipe"):
        evo.add(folder(tmp_path / "new"), "lion")


def test_what_does_not_belong_into_the_inbox_is_left_aside(stopped, tmp_path):
    inbox = RunFolder(stopped).inbox
    evo.add(stopped, "lion")
    (inbox / "a.json").write_text("no addition")
    (inbox / "b.json").write_text('{"text": "genome: 1", "source": "", "by": "", "time": ""}')
    (inbox / "c.json").write_text('["text"]')
    (inbox / "d.json").symlink_to(next(inbox.glob("0*.json")))
    (inbox / "notes.txt").write_text("more to come")
    progress = Interrupting(generation=1)
    run("resume", stopped, progress=progress)
    left = [text for text in progress.said if "left aside" in text]
    assert [Path(text.partition(":")[0]).name for text in left] == ["a.json", "b.json", "c.json", "d.json"]
    assert [each.name for each in joined(stopped)] == ["lion"]


def test_the_command_says_what_comes_next(stopped, evo_command):
    code, out, err = evo_command("add", stopped, "lion", "adan")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "lion from lion waits for the next generation",
        "adan from adan waits for the next generation",
        f"the campaign is stopped; go on with: evo resume {stopped}",
    ]
    code, _, err = evo_command("add", stopped, "lyon")
    assert code == 2
    assert "lyon" in err
    assert len(err.splitlines()) == 1


# --- a program that trains ------------------------------------------------------------------------------------------

QUICK = """\
name: driven
population: 6
generations: 3
epochs: 2
difficulty: {depths: [3, 4]}
instances: {search: 2, selection: 2}
search: {algorithm: plus_selection}
gate: {instances: 8, error_rate: 0.4, confidence: 0.5}
start: {catalogue: [adam, lion], random: 0}
baselines: [adam]
"""


def quality(lane) -> float | None:
    """That of `tests.evo.fake_worker.climb`."""
    from evo.training.jobs import fields
    from tests.evo.fake_worker import climb

    return next(climb([fields(lane)]))[1]["quality"]


def told(path: Path) -> list[tuple]:
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        names = "number, generation, purpose, individuals, hall_of_fame, statistics"
        return ledger.rows(f"SELECT {names} FROM tells") + ledger.rows("SELECT * FROM individuals")


def test_a_program_trains_what_it_is_asked_and_the_search_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_SECONDS", "0")
    path = folder(tmp_path / "whole", QUICK)
    launch(path, machine=Machine(1, function="tests.evo.fake_worker:climb"))
    driven = folder(tmp_path / "driven", QUICK)
    rounds = 0
    while True:  # from the last lane to the first, and it is stopped after every fourth
        rounds += 1
        with evo.drive(driven) as campaign:
            for _ in range(4):
                if not (lanes := campaign.ask()):
                    break
                campaign.tell(lanes[-1], quality(lanes[-1]))
            outcome = campaign.outcome
        if outcome.finished:
            break
    assert rounds > 5
    assert outcome.generation == 3
    assert told(driven) == told(path)
    assert status(driven).state == "finished"
    assert "another program" in page.write(driven).read_text()


def test_a_program_may_fail_add_and_make_mistakes(tmp_path):
    path = folder(tmp_path / "driven", QUICK)
    with evo.drive(path, "generations=2") as campaign:
        first = campaign.ask()[0]
        campaign.tell(first, None)
        with pytest.raises(UsageError, match="this lane is not open"):
            campaign.tell(first, 0.5)
        evo.add(path, "adan", by="my program")
        while lanes := campaign.ask():
            for lane in lanes:
                campaign.tell(lane, quality(lane))
        assert campaign.outcome.finished
    assert [(each.id, each.by) for each in joined(path)] == [("g1i6", "my program")]
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        assert ledger.statuses()["diverged"] == 1
    with pytest.raises(UsageError, match="another program trains this campaign"):
        resume(path, ["generations=3"])
    other = folder(tmp_path / "other", QUICK)
    launch(other, ["generations=1"], machine=Machine(1, function="tests.evo.fake_worker:climb"))
    with pytest.raises(UsageError, match="evo trains this campaign itself"), evo.drive(other):
        pass
