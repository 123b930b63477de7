"""Damaged ledgers: every command tells the truth or says that they are damaged, and nothing ends in a traceback."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from evo.campaign.folder import RunFolder
from evo.campaign.status import status
from evo.cli.verify import print_verification
from evo.exports.source import from_run
from evo.ledger import backup
from evo.ledger.errors import DamagedError, VersionError
from evo.ledger.ledger import Ledger
from evo.report.data import collect
from tests.evo.campaign.test_run import Interrupting
from tests.evo.fake_campaign import folder, run

RECIPE = """\
name: fake
population: 6
generations: 4
epochs: 3
difficulty: {depths: [4, 7]}
search: {tournament: 2, elites: 1, contenders: 2}
start: {catalogue: [adam], random: 2}
baselines: [adam]
"""


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> RunFolder:
    """A campaign after three of four generations, with a copy of the first."""
    place = RunFolder(folder(tmp_path_factory.mktemp("damage") / "run", RECIPE))
    run("launch", place.path, progress=Interrupting(generation=3))
    return place


class Facts:
    """What the reading commands find, without times."""

    def __init__(self, place: RunFolder):
        self.status = {k: v for k, v in status(place.path).to_dict().items() if k != "seconds"}
        self.export = from_run(place.path)
        with Ledger.open_to_read(place.ledger) as ledger:
            report = collect(ledger)
        self.report = repr((report.hall_of_fame, report.curves, report.lineage, report.operators, report.statuses,
                            [generation.statistics for generation in report.generations], report.meta))  # fmt: skip


def damaged(content: bytes, flips: int, cuts: int) -> Iterator[bytes]:
    rng = random.Random(1)
    for _ in range(flips):
        at = rng.randrange(len(content))
        yield content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
    for _ in range(cuts):
        yield content[: rng.randrange(len(content))]


def told_or_damaged(call, truth) -> bool:
    """Whether the call said that the file is damaged; else it told the truth."""
    try:
        assert call() == truth
    except (DamagedError, VersionError) as error:
        assert len(str(error).splitlines()) == 1
        return True
    return False


def check(stopped: RunFolder, tmp_path: Path, flips: int, cuts: int, capsys) -> None:
    place = RunFolder(tmp_path / "run")
    place.out.mkdir(parents=True)
    place.recipe.write_text(RECIPE)
    copy = backup.copies(stopped.ledger)[0].read_bytes()
    truth = Facts(stopped)
    truth.status["run"] = str(place.path)
    noticed = refused = 0
    with Ledger.open_to_read(stopped.ledger) as ledger:
        record = individuals(ledger)
    for number, content in enumerate(damaged(stopped.ledger.read_bytes(), flips, cuts)):
        for file in place.out.iterdir():
            file.unlink()
        place.ledger.write_bytes(content)
        backup.copies(place.ledger)[0].write_bytes(copy)
        said = [
            told_or_damaged(lambda: {k: v for k, v in status(place.path).to_dict().items() if k != "seconds"},
                            truth.status),
            told_or_damaged(lambda: from_run(place.path), truth.export),
            told_or_damaged(lambda: Facts(place).report, truth.report),
        ]  # fmt: skip
        assert place.ledger.read_bytes() == content
        try:
            sound = print_verification(place.path, as_json=bool(number % 2))
        except VersionError:
            continue
        text = capsys.readouterr().out
        assert sound or "damaged" in text
        assert not (sound and any(said)), f"verify says nothing of what {said} found"
        assert place.ledger.read_bytes() == content
        noticed, refused = noticed + (not sound), refused + any(said)
        with backup.open_or_restore(place.ledger, lambda message: None) as ledger:
            ledger.verify()
            found = individuals(ledger)
            assert found == record[: len(found)]
            assert ledger.checkpoint().generation >= 1
    assert noticed >= refused > (flips + cuts) / 4


def individuals(ledger: Ledger) -> list[tuple]:
    return ledger.rows("SELECT tell, generation, number, genome, fitness FROM individuals ORDER BY 1, 2, 3")


def test_two_hundred_flips_and_sixty_truncations(stopped, tmp_path, capsys):
    check(stopped, tmp_path, 200, 60, capsys)


@pytest.mark.slow
def test_a_thousand_flips_and_four_hundred_truncations(stopped, tmp_path, capsys):
    check(stopped, tmp_path, 1000, 400, capsys)
