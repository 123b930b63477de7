"""A run folder writes nowhere else, notices when it goes, and works or refuses on a network file system."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from evo.campaign.folder import RunFolder
from evo.campaign.progress import Progress
from evo.errors import EvoError
from tests.evo.campaign.test_run import ROOT, Interrupting
from tests.evo.fake_campaign import folder, run


@pytest.mark.parametrize("name", ["lock", "log.txt"])
def test_a_link_in_a_foreign_folder_is_not_followed(tmp_path, name):
    path, victim = folder(tmp_path / "run"), tmp_path / "victim"
    victim.write_text("precious")
    (path / "out").mkdir()
    (path / "out" / name).symlink_to(victim)
    with pytest.raises(EvoError, match=f"out/{name}: not a regular file.*remove it"):
        run("launch", path)
    assert victim.read_text() == "precious"
    (path / "out" / name).unlink()
    os.mkfifo(path / "out" / name)
    with pytest.raises(EvoError, match="not a regular file"):
        run("launch", path)
    assert not RunFolder(path).in_use()


def test_a_ledger_that_is_a_link_is_not_written(tmp_path):
    theirs, ours = (folder(tmp_path / name) for name in ("theirs", "ours"))
    run("launch", theirs, progress=Interrupting(generation=1))
    before = RunFolder(theirs).ledger.read_bytes()
    (ours / "out").mkdir()
    RunFolder(ours).ledger.symlink_to(RunFolder(theirs).ledger)
    with pytest.raises(EvoError, match="a symbolic link, which is not followed"):
        run("resume", ours)
    assert RunFolder(theirs).ledger.read_bytes() == before


class Moving(Progress):
    """Does something to the folder once, at a lane or after the last generation."""

    def __init__(self, act, at_end: bool):
        super().__init__()
        self.act, self.at_end, self.seen = act, at_end, 0

    def lane(self, training):
        super().lane(training)
        self.seen += 1
        if self.seen == 20 and not self.at_end:
            self.act()

    def generation(self, generation):
        super().generation(generation)
        if self.at_end and generation.number == self.generations:
            self.act()


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("how", ["move", "delete", "replace"])
def test_a_folder_that_goes_while_it_runs_ends_with_an_error(tmp_path, how, at_end):
    path = folder(tmp_path / "run")

    def act():
        if how == "delete":
            shutil.rmtree(path)
        else:
            path.rename(tmp_path / "elsewhere")
        if how == "replace":
            folder(path)

    with pytest.raises(EvoError, match="moved, deleted or replaced while the campaign ran"):
        run("launch", path, progress=Moving(act, at_end))
    if how == "move":
        assert not path.exists()
        assert run("resume", tmp_path / "elsewhere").finished


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler or sys.platform != "linux":
        pytest.skip("needs a C compiler")
    path = tmp_path_factory.mktemp("shim") / "shim.so"
    source = ROOT / "tests" / "cases" / "nfs_shim.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, source, "-ldl"], check=True)
    return path


def on_network(shim: Path, module: str, *arguments: object, **how: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = {**os.environ, **how, "LD_PRELOAD": str(shim)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.slow
def test_locks_of_a_network_file_system(tmp_path, shim):
    path = folder(tmp_path / "run")
    done = on_network(shim, "tests.evo.fake_campaign", "launch", path, NFS_FLOCK="nolck")
    assert done.returncode == 1
    assert f"is {path} on a network file system without locks? Move the folder to a local disk" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    run("launch", path, progress=Interrupting(generation=1))
    done = on_network(shim, "evo", "status", path, "--json", NFS_FLOCK="emulated")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["state"] == "stopped"
    with RunFolder(path).locked():
        assert RunFolder(path).in_use()


@pytest.mark.slow  # SQLite tries for ten seconds
def test_a_ledger_that_cannot_be_locked_is_refused_and_not_restored(tmp_path, shim):
    path = folder(tmp_path / "run")
    run("launch", path, progress=Interrupting(generation=2))
    out = RunFolder(path).out
    before = sqlite_files(out)
    done = on_network(shim, "tests.evo.fake_campaign", "resume", path, NFS_SHM="1")
    assert done.returncode == 1
    assert "locking protocol" in done.stderr
    assert f"is {out} on a network file system? Nothing was changed: move" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sqlite_files(out) == before


REFUSALS = {
    "SQLITE_PROTOCOL": ("locking protocol", "on a network file system. Nothing was changed: move .* local disk"),
    "SQLITE_IOERR_SHMMAP": ("disk I/O error", "on a network file system. Nothing was changed"),
    "SQLITE_IOERR_SHMSIZE": ("disk I/O error", "the disk is full; free space, then go on with evo resume"),
    "SQLITE_BUSY": ("database is locked", "once that is over, evo resume goes on"),
    "SQLITE_ERROR": ("whatever", "once that is over, evo resume goes on"),
    "SQLITE_READONLY": ("attempt to write a readonly database", "no permission to write here"),
}


def test_only_damage_brings_an_older_copy_back(tmp_path, monkeypatch):
    path = folder(tmp_path / "run")
    run("launch", path, progress=Interrupting(generation=2))
    before = sqlite_files(RunFolder(path).out)
    for name, (text, message) in REFUSALS.items():
        error = sqlite3.OperationalError(text)
        error.sqlite_errorname = name
        monkeypatch.setattr("evo.ledger.ledger.audit", Mock(side_effect=error))
        with pytest.raises(EvoError, match=message):
            run("resume", path)
        assert sqlite_files(RunFolder(path).out) == before


def sqlite_files(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in out.glob("*.sqlite")}
