"""Start genomes belong to the campaign: what becomes of their files after launch changes nothing."""

import json
from pathlib import Path

import pytest

from evo.campaign.folder import RunFolder
from evo.campaign.run import Machine, launch, resume
from evo.errors import UsageError
from evo.ledger.ledger import Ledger
from evo.ledger.schema import START_GENOMES
from tests.evo.campaign.test_run import Interrupting, result

CASES = Path(__file__).parents[2] / "cases"
RECIPE = """\
name: start
population: 5
generations: 2
epochs: 2
difficulty: {depths: [2]}
instances: {search: 2}
gate: {instances: 8}
start: {catalogue: [adam], genomes: [mine.yaml, in/other.yaml], random: 1}
baselines: [adam]
limits: {nodes: 300}
"""
MACHINE = Machine(1, function="tests.evo.fake_worker:train")


def folder(path: Path, recipe: str = RECIPE) -> Path:
    (path / "in").mkdir(parents=True)
    (path / "recipe.yaml").write_text(recipe)
    (path / "mine.yaml").write_text("# a note\n" + (CASES / "la20.yaml").read_text())
    (path / "in" / "other.yaml").write_bytes((CASES / "name_1_10.yaml").read_bytes())
    return path


def delete(path: Path) -> None:
    path.unlink()


def edit(path: Path) -> None:
    path.write_bytes((CASES / "same_hash_plain.yaml").read_bytes())


def spoil(path: Path) -> None:
    path.write_text("no genome")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[str, str]:
    path = folder(tmp_path_factory.mktemp("start") / "run")
    assert launch(path, machine=MACHINE).finished
    return result(path)


@pytest.mark.parametrize("change", [delete, edit, spoil])
@pytest.mark.parametrize("lane", [1, 3, 12], ids="stopped at lane {}".format)
def test_files_that_change_after_launch_change_nothing(tmp_path, undisturbed, change, lane):
    path = folder(tmp_path / "run")
    assert not launch(path, machine=MACHINE, progress=Interrupting(lane=lane)).finished
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        assert bool(ledger.tells()) == (lane == 12)
    change(path / "mine.yaml")
    change(path / "in" / "other.yaml")
    assert resume(path, machine=MACHINE).finished
    assert result(path) == undisturbed


def test_the_texts_are_kept_as_they_were_read(tmp_path, undisturbed):
    path = folder(tmp_path / "run")
    launch(path, machine=MACHINE, progress=Interrupting(lane=1))
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        texts = json.loads(ledger.meta()[START_GENOMES])
    assert texts == {name: (path / name).read_text() for name in ("mine.yaml", "in/other.yaml")}
    assert texts["mine.yaml"].startswith("# a note\n")


def forget(path: Path) -> None:
    """What the ledger of an earlier evo does not hold."""
    with Ledger.open_to_write(RunFolder(path).ledger) as ledger:
        ledger.rows("DELETE FROM meta WHERE key = ?", (START_GENOMES,))


def test_a_ledger_without_the_texts_goes_on_where_they_are_no_longer_needed(tmp_path, undisturbed):
    path = folder(tmp_path / "run")
    launch(path, machine=MACHINE, progress=Interrupting(lane=12))
    forget(path)
    assert resume(path, machine=MACHINE).finished
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        assert ledger.digest() == undisturbed[0], "the texts are outside the digest: their genomes are in it"


def test_a_ledger_without_the_texts_is_refused_where_they_are_needed(tmp_path):
    path = folder(tmp_path / "run")
    launch(path, machine=MACHINE, progress=Interrupting(lane=1))
    forget(path)
    with pytest.raises(UsageError, match=r"did not keep the genomes in the ledger.*launch anew"):
        resume(path, machine=MACHINE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (delete, "recipe.yaml:8: start.genomes[0]: there is no file {}/mine.yaml"),
        (spoil, "recipe.yaml:8: start.genomes[0]: {}/mine.yaml:1: "),
    ],
)
def test_files_that_cannot_be_read_are_refused_at_launch(tmp_path, change, message):
    path = folder(tmp_path / "run")
    change(path / "mine.yaml")
    with pytest.raises(UsageError) as refused:
        launch(path, machine=MACHINE)
    assert str(refused.value).startswith(f"{path}/{message.format(path)}")
    assert not (path / "out").exists()


def test_start_genomes_beyond_the_limits_are_refused_at_launch(tmp_path):
    path = folder(tmp_path / "run", RECIPE.replace("nodes: 300", "nodes: 12"))
    with pytest.raises(UsageError) as refused:
        launch(path, machine=MACHINE)
    where = f"{path}/recipe.yaml:8: start."
    limit = "more than the 12 of limits.nodes: raise that"
    assert str(refused.value).splitlines() == [
        f"{where}genomes[1]: {path}/in/other.yaml: has 15 nodes, {limit}, or try evo genome simplify",
        f"{where}catalogue[0]: adam has 15 nodes, {limit}, or leave it out",
    ]
