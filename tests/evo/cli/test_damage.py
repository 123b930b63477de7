"""Damaged ledgers: every command tells the truth or says that they are damaged, and nothing ends in a traceback."""

import json
import os
import random
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import pytest
from typer.main import get_command

from evo.campaign import loop
from evo.campaign.folder import RunFolder
from evo.campaign.run import Machine, launch
from evo.campaign.stop import Stopped
from evo.cli import app
from evo.errors import EvoError
from evo.ledger import backup
from evo.ledger.ledger import Ledger
from evo.recipe import reader
from evo.report import page
from evo.report.data import Report
from tests.evo.campaign.test_run import Interrupting
from tests.evo.cli.test_cli import REAL as SHORTER
from tests.evo.fake_campaign import folder, run

RECIPE = """\
name: fake
population: 6
generations: 4
epochs: 3
difficulty: {depths: [4, 7]}
gate: {instances: 8}
start: {catalogue: [adam], random: 2}
baselines: [adam]
"""

REAL = SHORTER.replace("generations: 2", "generations: 3")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> RunFolder:
    """A campaign after three of four generations, with a copy of the first."""
    place = RunFolder(folder(tmp_path_factory.mktemp("damage") / "run", RECIPE))
    run("launch", place.path, progress=Interrupting(generation=3))
    return place


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> RunFolder:
    """A campaign of real trainings after two of three generations, with a copy of the first."""
    place = RunFolder(folder(tmp_path_factory.mktemp("real") / "run", REAL))
    assert launch(place.path, machine=Machine(workers=1), progress=Interrupting(generation=2)).generation == 2
    return place


def damaged(content: bytes, flips: int, cuts: int) -> Iterator[bytes]:
    rng = random.Random(1)
    for _ in range(flips):
        at = rng.randrange(len(content))
        yield content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
    for _ in range(cuts):
        yield content[: rng.randrange(len(content))]


@pytest.fixture
def fast_path(tmp_path) -> Iterator[Path]:
    """A folder in memory, where there is one: what the disk takes to be sure is most of the time otherwise."""
    with TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path) as path:
        yield Path(path)


@pytest.fixture(autouse=True)
def parsed_once(monkeypatch):
    """A recipe is read when its checksum is right: the same text need not be parsed a thousand times."""
    monkeypatch.setattr(reader, "from_text", lru_cache(reader.from_text))


@pytest.fixture
def unhurried(monkeypatch) -> None:
    """``resume`` stops before it trains, ``report`` is without times and pictures, and options are read once."""

    def found(report: Report) -> str:
        generations = [generation.statistics for generation in report.generations]
        return repr(replace(report, generations=generations))

    def stop(*_: object) -> NoReturn:
        raise Stopped

    monkeypatch.setattr(app, "app", get_command(app.app))
    monkeypatch.setattr(loop, "_answer", stop)
    monkeypatch.setattr(page, "render", found)


READERS = {"status": ("--json",), "report": ("--out", "-"), "export": ("--format", "yaml")}


def check(real: RunFolder, tmp_path: Path, flips: int, cuts: int, monkeypatch, capsys) -> None:
    """Every command, on every damaged ledger: it tells the truth, or says in one line that the ledger is damaged."""
    place = RunFolder(tmp_path / "run")
    place.out.mkdir(parents=True)
    place.recipe.write_text(REAL)
    sound, copy = real.ledger.read_bytes(), backup.copies(real.ledger)[0].read_bytes()

    def told(command: str) -> tuple[int, str, str]:
        code, out, err = evo(monkeypatch, capsys, command, place.path, *READERS.get(command, ()))
        if command == "status" and code == 0:
            found = json.loads(out)
            out = json.dumps({key: found[key] for key in found if key != "seconds"})  # times have no checksum
        return code, out, err

    place.ledger.write_bytes(sound)
    truths = {command: told(command) for command in READERS}
    assert {(code, err) for code, _, err in truths.values()} == {(0, "")}
    with Ledger.open_to_read(place.ledger) as ledger:
        record = individuals(ledger)
    noticed = refused = versions = 0
    for content in damaged(sound, flips, cuts):
        for file in place.out.iterdir():
            file.unlink()
        place.ledger.write_bytes(content)
        backup.copies(place.ledger)[0].write_bytes(copy)
        answers = {command: told(command) for command in (*READERS, "verify")}
        code, out, err = answers.pop("verify")
        wrong = {command: answer for command, answer in answers.items() if answer != truths[command]}
        assert place.ledger.read_bytes() == content, "only resume may write"
        for answer in wrong.values():
            assert answer[:2] in ((1, ""), (2, "")), answer
            assert len(answer[2].splitlines()) == 1
            assert f"{place.ledger}: damaged: " in answer[2] or answer[0] == 2
        if code == 2:  # the bit was one of the version's: everything refuses, and nothing is touched
            assert "evo (ledger version" in err
            assert {command: answer[::2] for command, answer in answers.items()} == dict.fromkeys(answers, (2, err))
            assert told("resume") == (2, "", err)
            assert place.ledger.read_bytes() == content
            versions += 1
            continue
        assert err == ""
        assert (code, f"{place.ledger}: damaged" in out) in ((0, False), (1, True))
        assert code == 1 or not wrong, f"verify finds nothing, but {wrong}"
        noticed, refused = noticed + code, refused + bool(wrong)
        resumed, out, err = told("resume")
        assert (resumed, out) == (75, "")
        assert (f"{place.ledger}: damaged" in err) is bool(code), err
        with Ledger.open_to_read(place.ledger) as ledger:
            ledger.verify()
            found = individuals(ledger)
            assert found == record[: len(found)]
            assert ledger.checkpoint().generation >= 1
        if not code:
            assert {command: told(command) for command in READERS} == truths
    assert noticed >= refused > (flips + cuts) / 4
    print(f"{flips} flips, {cuts} truncations: verify {noticed}, readers {refused}, other version {versions}")


def individuals(ledger: Ledger) -> list[tuple]:
    return ledger.rows("SELECT tell, generation, number, genome, fitness FROM individuals ORDER BY 1, 2, 3")


@pytest.mark.slow
def test_fifty_flips_and_twenty_truncations(real, fast_path, unhurried, monkeypatch, capsys):
    check(real, fast_path, 50, 20, monkeypatch, capsys)


@pytest.mark.slow
def test_a_thousand_flips_and_four_hundred_truncations(real, fast_path, unhurried, monkeypatch, capsys):
    check(real, fast_path, 1000, 400, monkeypatch, capsys)


def evo(monkeypatch, capsys, *arguments: object) -> tuple[int, str, str]:
    """Run ``evo`` in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["evo", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        app.main()
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
