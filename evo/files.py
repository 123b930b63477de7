"""Files that are written whole or not at all, and the one place that decides what ``--out`` may do."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from evo.errors import EvoError, UsageError

STANDARD_OUTPUT = Path("-")
_DESCRIPTORS = ("/dev/fd/", "/proc/")  # what is open already, under a name


def no_follow(path: str, flags: int) -> int:
    """An opener for ``open`` that refuses a symbolic link. Raises OSError (ELOOP)."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o644)


def write(path: Path, content: str | bytes) -> None:
    """Write a file of our own, complete or not at all; a link at ``path`` is replaced, not followed.

    Raises EvoError where that cannot be done.
    """
    try:
        _replace(path, _encoded(content))
    except OSError as error:
        raise _unwritable(path, error) from None


def write_out(path: Path, content: str | bytes, *, force: bool = False) -> None:
    """Write to where a person points, by these rules.

    ``-``, or standard output by another name: to standard output. A device, pipe or descriptor: through it. Else a
    file, complete or not at all: a link's target is written and the link stays, a file that exists is overwritten with
    ``force`` alone and keeps its mode and owner, a new one has the mode that the umask leaves. Raises UsageError
    without ``force``, EvoError where the file cannot be written.
    """
    check_out(path, force=force)
    data = _encoded(content)
    try:
        if is_standard_output(path):
            _print(data)
        elif is_stream(path):
            with open(path, "wb", buffering=0) as stream:
                view = memoryview(data)
                while view:
                    view = view[stream.write(view) :]
        else:
            _replace(Path(os.path.realpath(path)), data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(path, error) from None


def write_folder(path: Path, contents: Mapping[str, str], *, force: bool = False) -> None:
    """Write files to the folder to which a person points; each by the rules of `write_out`, and none if one is refused.

    ``contents``: by paths within the folder. Raises UsageError, EvoError.
    """
    check_folder(path, contents, force=force)
    for name, content in contents.items():
        write_out(path / name, content, force=force)


def check_folder(path: Path, names: Iterable[str] = (), *, force: bool) -> None:
    """Raise UsageError where `write_folder` would refuse ``path``, with files of these names in it."""
    if is_standard_output(path) or is_stream(path) or os.path.isfile(path):
        raise UsageError(f"--out {path}: several files are written; name a folder for them")
    for name in names:
        check_out(path / name, force=force)


def check_out(path: Path, *, force: bool) -> None:
    """Raise UsageError where `write_out` would refuse ``path``: better before long work than after it."""
    if is_standard_output(path) or is_stream(path):
        return
    if os.path.isdir(path):
        raise UsageError(f"--out {path}: this is a folder; name a file in it")
    if _status(path) is not None and not force:
        raise UsageError(f"--out {path}: there is such a file; overwrite it with --force, or name another")


def is_standard_output(path: Path) -> bool:
    """Whether ``path`` is ``-``, or the file or device that standard output goes to, by its name."""
    if path == STANDARD_OUTPUT:
        return True
    found = _status(path)
    with suppress(OSError, ValueError, AttributeError):  # closed, or not a file
        return found is not None and os.path.samestat(found, os.fstat(sys.stdout.fileno()))
    return False


def is_stream(path: Path) -> bool:
    """Whether ``path`` is a device, a pipe or an open descriptor: what is written through, and never replaced."""
    found = _status(path)
    named = os.path.abspath(path).startswith(_DESCRIPTORS)
    return found is not None and not stat.S_ISDIR(found.st_mode) and (named or not stat.S_ISREG(found.st_mode))


def _status(path: Path) -> os.stat_result | None:
    """What stands at ``path``, links followed; None where nothing does. Raises EvoError."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unwritable(path, error) from None


def _replace(path: Path, data: bytes) -> None:
    """Put a file with ``data`` in the place of ``path``; a file that was there hands its mode and owner on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".evo-{os.urandom(8).hex()}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        with suppress(FileNotFoundError):
            before = os.lstat(path)
            if stat.S_ISREG(before.st_mode):
                with suppress(PermissionError):
                    os.chown(temporary, before.st_uid, before.st_gid)
                os.chmod(temporary, stat.S_IMODE(before.st_mode))
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _print(data: bytes) -> None:
    sys.stdout.flush()
    if hasattr(sys.stdout, "buffer"):
        sys.stdout.buffer.write(data)
    else:  # a notebook's
        sys.stdout.write(data.decode("utf-8", "backslashreplace"))
    sys.stdout.flush()


def _encoded(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")


def _unwritable(path: Path, error: OSError) -> EvoError:
    return EvoError(f"{path}: cannot be written: {error.strerror or error}")
