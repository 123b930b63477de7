"""The format ``latex``: the update as formulas."""

from __future__ import annotations

from evo.exports.export import Export
from evo.exports.formats import Format


def render(export: Export) -> str:
    """One display formula per line of the update, below comments with origin and results."""
    from genomes.backends import latex

    notes = [export.genome.name, export.origin]
    if export.measured:
        notes += [f"{name} {quality:.4f}" for name, quality in export.measured.rows]
        notes += [export.measured.where, export.measured.caution]
    lines = [*(f"% {note}" for note in notes if note), *(rf"\[ {line} \]" for line in latex.render(export.genome))]
    return "\n".join(lines) + "\n"


FORMAT = Format("latex", "the update as formulas", ".tex", render)
