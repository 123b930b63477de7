"""Damaged ledgers: every command tells the truth or says that they are damaged, and nothing ends in a traceback."""

import json
import os
import random
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from evo.campaign.folder import RunFolder
from evo.campaign.status import status
from evo.cli.app import main
from evo.cli.verify import print_verification
from evo.errors import EvoError
from evo.exports.export import Export
from evo.exports.source import from_run
from evo.ledger import backup
from evo.ledger.errors import DamagedError, VersionError
from evo.ledger.ledger import Ledger
from evo.recipe import reader
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


def status_of(place: RunFolder) -> dict:
    """All that ``evo status`` finds, without place and times."""
    return {key: value for key, value in status(place.path).to_dict().items() if key not in ("run", "seconds")}


def report_of(place: RunFolder) -> str:
    """All that ``evo report`` finds, without times."""
    with Ledger.open_to_read(place.ledger) as ledger:
        report = collect(ledger)
    generations = [generation.statistics for generation in report.generations]
    return repr((report.hall_of_fame, report.curves, report.lineage, report.operators, report.statuses, generations,
                 report.meta))  # fmt: skip


def export_of(place: RunFolder) -> Export:
    """All that ``evo export`` finds."""
    return from_run(place.path)


READERS = (status_of, report_of, export_of)


def damaged(content: bytes, flips: int, cuts: int) -> Iterator[bytes]:
    rng = random.Random(1)
    for _ in range(flips):
        at = rng.randrange(len(content))
        yield content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
    for _ in range(cuts):
        yield content[: rng.randrange(len(content))]


def told_or_damaged(read, place: RunFolder, truth) -> bool:
    """Whether ``read`` said that the file is damaged; else it told the truth."""
    try:
        found, message = read(place), ""
    except (DamagedError, VersionError) as error:
        found, message = truth, str(error)
    assert found == truth
    assert len(message.splitlines()) <= 1
    return bool(message)


@pytest.fixture
def fast_path(tmp_path) -> Iterator[Path]:
    """A folder in memory, where there is one: what the disk takes to be sure is most of the time otherwise."""
    with TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path) as path:
        yield Path(path)


@pytest.fixture(autouse=True)
def parsed_once(monkeypatch):
    """A recipe is read when its checksum is right: the same text need not be parsed a thousand times."""
    monkeypatch.setattr(reader, "from_text", lru_cache(reader.from_text))


def check(stopped: RunFolder, tmp_path: Path, flips: int, cuts: int, capsys) -> None:
    place = RunFolder(tmp_path / "run")
    place.out.mkdir(parents=True)
    place.recipe.write_text(RECIPE)
    copy = backup.copies(stopped.ledger)[0].read_bytes()
    truths = [read(stopped) for read in READERS]
    noticed = refused = 0
    with Ledger.open_to_read(stopped.ledger) as ledger:
        record = individuals(ledger)
    for number, content in enumerate(damaged(stopped.ledger.read_bytes(), flips, cuts)):
        for file in place.out.iterdir():
            file.unlink()
        place.ledger.write_bytes(content)
        backup.copies(place.ledger)[0].write_bytes(copy)
        said = [told_or_damaged(read, place, truth) for read, truth in zip(READERS, truths, strict=True)]
        assert place.ledger.read_bytes() == content
        try:
            sound = print_verification(place.path, as_json=bool(number % 2))
        except VersionError:
            continue
        text = capsys.readouterr().out
        assert sound or "damaged" in text or '"sound": false' in text
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


def test_two_hundred_flips_and_sixty_truncations(stopped, fast_path, capsys):
    check(stopped, fast_path, 200, 60, capsys)


@pytest.mark.slow
def test_a_thousand_flips_and_four_hundred_truncations(stopped, fast_path, capsys):
    check(stopped, fast_path, 1000, 400, capsys)


def evo(monkeypatch, capsys, *arguments: object) -> tuple[int, str, str]:
    """Run ``evo`` in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["evo", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main()
    return (int(end.value.code or 0), *capsys.readouterr())


def copied(stopped: RunFolder, path: Path, *statements: str, copy: bool = True) -> RunFolder:
    """The campaign in another folder, its ledger changed behind its back."""
    place = RunFolder(shutil.copytree(stopped.path, path))
    connection = sqlite3.connect(place.ledger)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    if not copy:
        for each in backup.copies(place.ledger):
            each.unlink(missing_ok=True)
    return place


def test_another_genome_in_the_ledger_is_not_exported(stopped, tmp_path, monkeypatch, capsys):
    place = copied(stopped, tmp_path / "run", "UPDATE genomes SET text = replace(text, 'lr: 0', 'lr: 1')")
    for command in ("export", "report"):
        code, out, err = evo(monkeypatch, capsys, command, place.path)
        assert (code, out, len(err.splitlines())) == (1, "", 1)
        assert "damaged: a row of genomes (id " in err
    code, out, _ = evo(monkeypatch, capsys, "verify", place.path)
    assert code == 1
    assert re.search(f"{place.ledger}: damaged; sound rows: [0-9]+ meta, ", out)
    assert out.count("  damaged: a row of genomes (id ") == len(re.findall("its checksum does not match", out))
    assert "backup-1.sqlite: sound" in out
    code, out, _ = evo(monkeypatch, capsys, "verify", place.path, "--json")
    found = json.loads(out)
    assert (code, found["sound"]) == (1, False)
    assert {damage["table"] for damage in found["files"][0]["damage"]} == {"genomes"}
    assert found["files"][1]["sound"]


def test_verify_of_a_sound_campaign_changes_nothing(stopped, tmp_path, monkeypatch, capsys):
    place = copied(stopped, tmp_path / "run")
    before = {file.name: file.read_bytes() for file in place.out.glob("*.sqlite")}
    code, out, err = evo(monkeypatch, capsys, "verify", place.path)
    assert (code, err) == (0, "")
    assert [line.split(";")[0].split(": ")[1] for line in out.splitlines()] == ["sound"] * len(before)
    assert {file.name: file.read_bytes() for file in place.out.glob("*.sqlite")} == before
    place.ledger.unlink()
    code, out, err = evo(monkeypatch, capsys, "verify", place.path)
    assert (code, err) == (1, "")
    assert "it is gone" in out
    code, out, err = evo(monkeypatch, capsys, "verify", folder(tmp_path / "new", RECIPE))
    assert (code, out) == (2, "")
    assert "nothing to verify; begin with: evo launch" in err


@pytest.mark.parametrize("copy", [True, False])
def test_a_damaged_evaluation_costs_one_evaluation(stopped, tmp_path, copy):
    key = "hash, seed, num_hidden_layers"
    one = f"({key}) = (SELECT {key} FROM evaluations WHERE tell = 4 LIMIT 1)"
    damage = f"UPDATE evaluations SET quality = 9.0 WHERE {one}"
    place = copied(stopped, tmp_path / "run", damage, copy=copy)
    said = Interrupting()
    usual = Interrupting()
    assert run("resume", copied(stopped, tmp_path / "sound").path, progress=usual).finished
    assert run("resume", place.path, progress=said).finished
    assert "gives 3 complete generations" in said.said[1]
    assert "damaged rows are left out (1 of evaluations)" in said.said[1]
    assert said.seen[1] == usual.seen[1]
    with Ledger.open_to_read(place.ledger) as ledger:
        ledger.verify()
    assert (place.out / "damaged-1.sqlite").is_file()


def test_a_damaged_evaluation_that_is_still_wanted_is_asked_for_again(tmp_path):
    path, sound = folder(tmp_path / "run", RECIPE), folder(tmp_path / "sound", RECIPE)
    run("launch", sound)
    run("launch", path, progress=Interrupting(lane=20))
    place = copied(RunFolder(path), tmp_path / "damaged", "UPDATE evaluations SET quality = 9.0 WHERE tell = 2")
    assert run("resume", place.path).finished
    with Ledger.open_to_read(place.ledger) as ours, Ledger.open_to_read(RunFolder(sound).ledger) as theirs:
        assert ours.digest() == theirs.digest()


def test_a_damaged_tell_is_told_again_and_nothing_is_trained_again(stopped, tmp_path):
    sound = copied(stopped, tmp_path / "sound", copy=False)
    place = copied(stopped, tmp_path / "run", "UPDATE tells SET state = '{}' WHERE number = 3", copy=False)
    progress, usual = Interrupting(), Interrupting()
    assert run("resume", sound.path, progress=usual).finished
    assert run("resume", place.path, progress=progress).finished
    assert "gives 1 complete generations" in progress.said[1]
    assert progress.seen[1] == usual.seen[1]  # lanes trained
    with Ledger.open_to_read(place.ledger) as ours, Ledger.open_to_read(sound.ledger) as theirs:
        assert ours.digest() == theirs.digest()


def test_a_lost_recipe_is_a_clear_error(stopped, tmp_path):
    place = copied(stopped, tmp_path / "run", "UPDATE meta SET value = 'x' WHERE key = 'recipe'", copy=False)
    before = place.ledger.read_bytes()
    with pytest.raises(EvoError, match=r"damaged: a row of meta .key recipe.*no copy of it is good either"):
        run("resume", place.path)
    assert place.ledger.read_bytes() == before
