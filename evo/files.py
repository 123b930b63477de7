"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from evo.errors import EvoError


def no_follow(path: str, flags: int) -> int:
    """An opener for ``open`` that refuses a symbolic link. Raises OSError (ELOOP)."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o644)


def write(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, complete or not at all. Raises EvoError where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise EvoError(f"{path}: cannot be written: {error.strerror or error}") from None
