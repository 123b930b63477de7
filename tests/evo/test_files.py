"""What ``--out`` may do: devices and links stay, files are whole, nothing is overwritten unasked."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from evo import files
from evo.errors import EvoError, UsageError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path, umask):
    for write in (files.write, files.write_out):
        path = tmp_path / "new" / write.__name__
        write(path, "é\n")
        assert path.read_bytes() == "é\n".encode()
        assert mode(path) == 0o666 & ~umask


def test_a_file_that_exists_is_kept_or_with_force_keeps_its_mode(tmp_path):
    path = tmp_path / "file"
    path.write_text("theirs")
    path.chmod(0o640)
    with pytest.raises(UsageError, match="--force"):
        files.write_out(path, "ours")
    assert path.read_text() == "theirs"
    files.write_out(path, b"ours", force=True)
    assert (path.read_text(), mode(path)) == ("ours", 0o640)
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "target", tmp_path / "link"
    link.symlink_to(Path("there") / "target")
    files.write_out(link, "first")  # the target is not there yet
    with pytest.raises(UsageError):
        files.write_out(link, "second")
    files.write_out(link, "third", force=True)
    assert link.is_symlink()
    assert target.read_text() == "third"


def test_a_file_of_our_own_is_never_written_through_a_link(tmp_path):
    foreign, link = tmp_path / "foreign", tmp_path / "report.html"
    foreign.write_text("theirs")
    link.symlink_to(foreign)
    files.write(link, "ours")
    assert (foreign.read_text(), link.read_text(), link.is_symlink()) == ("theirs", "ours", False)


def test_a_device_stays_a_device(tmp_path):
    files.write_out(Path("/dev/null"), "text")
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    files.write_out(link, "text")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert link.is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could replace a device")
def test_a_device_of_our_own_stays_a_device(tmp_path):
    path = tmp_path / "null"
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        path.write_bytes(b"")
    except OSError:
        pytest.skip("no devices here")
    files.write_out(path, "text", force=True)
    assert stat.S_ISCHR(path.stat().st_mode)


def test_a_pipe_is_written_through(tmp_path):
    pipe, text, read = tmp_path / "pipe", "text\n" * 50_000, []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    files.write_out(pipe, text)
    reader.join()
    assert read == [text]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_descriptor_by_its_name_is_written_through(tmp_path):
    with open(tmp_path / "open", "w") as file:
        files.write_out(Path(f"/dev/fd/{file.fileno()}"), "text")
    assert (tmp_path / "open").read_text() == "text"


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_standard_output_by_any_name(name, capfd):
    print("before ", end="")
    files.write_out(Path(name), "é ")
    print("after")
    assert capfd.readouterr().out == "before é after\n"


def test_what_cannot_be_written_is_said(tmp_path):
    with pytest.raises(UsageError, match="folder"):
        files.write_out(tmp_path, "text", force=True)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "loop", tmp_path / "file" / "below"):
        with pytest.raises(EvoError, match="cannot be written"):
            files.write_out(path, "text", force=True)
