"""The format ``yaml``: the genome, with its origin and results as comments."""

from __future__ import annotations

import textwrap

from evo.exports.export import Export
from evo.exports.formats import one_file
from genomes.language.genome import dump
from genomes.strict_yaml import escaped


def render(export: Export) -> str:
    """The genome's YAML, with origin and results as comments above it."""
    notes = [export.origin] if export.origin else []
    if export.measured:
        notes.append(f"Measured (quality; {export.measured.where}):")
        notes += [f"  {name:24} {quality}" for name, quality in export.measured.rows]
        notes += [export.measured.caution] if export.measured.caution else []
    comments = [
        f"# {escaped(line)}" for note in notes for line in textwrap.wrap(note, 110, subsequent_indent="  ") or [""]
    ]
    return "\n".join([*comments, dump(export.genome)])


FORMAT = one_file("yaml", "the genome: what evo itself reads", ".yaml", render)
