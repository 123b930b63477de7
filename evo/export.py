"""What leaves a campaign: a genome as YAML, or as one Python file that needs torch alone."""

from __future__ import annotations

import os
import re
import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from evo.errors import EvoError
from genomes.backends import python_source
from genomes.genome import Genome, dump
from genomes.lowering import lower


@dataclass(frozen=True)
class Measured:
    """Results that a header quotes. ``where``: task, depths, epochs, instances. ``rows``: (who, mean quality)."""

    where: str
    rows: tuple[tuple[str, float], ...]
    caution: str = ""


@dataclass(frozen=True)
class Export:
    """What is exported: the genome, where it comes from in one sentence, what was measured of it."""

    genome: Genome
    origin: str = ""
    measured: Measured | None = None


def as_yaml(export: Export) -> str:
    """The genome's YAML, with origin and results as comments above it."""
    notes = [export.origin] if export.origin else []
    if export.measured:
        notes.append(f"Measured (mean quality; {export.measured.where}):")
        notes += [f"  {name:24} {quality:.4f}" for name, quality in export.measured.rows]
        notes += [export.measured.caution] if export.measured.caution else []
    comments = [f"# {line}" for note in notes for line in textwrap.wrap(note, 110, subsequent_indent="  ") or [""]]
    return "\n".join([*comments, dump(export.genome)])


def as_python(export: Export) -> str:
    """One Python file with the three functions; formula, origin and results in its header."""
    environment = Environment(
        loader=PackageLoader("evo"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    header = environment.get_template("submission.py.j2")
    # the header is a docstring: no text of a genome may end it, or escape
    genome = dump(export.genome).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    origin = textwrap.fill(export.origin, 110).replace("\\", "\\\\").replace('"', "'")
    code = python_source.render(lower(export.genome))
    return header.render(
        name=export.genome.name, genome=genome, origin=origin, measured=export.measured, code=code.rstrip("\n")
    )


FORMATS: dict[str, Callable[[Export], str]] = {"yaml": as_yaml, "python": as_python}


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


def file_name(name: str) -> str:
    """A file name that a genome's name can do no harm with: letters, digits, - and _ alone."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:64] or "genome"
