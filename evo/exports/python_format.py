"""The format ``python``: one file with the three functions of a submission."""

from __future__ import annotations

from evo.exports.export import Export
from evo.exports.formats import one_file
from evo.exports.texts import docstring, docstring_line, template
from genomes.compiler.lowering import lower
from genomes.language.genome import dump


def render(export: Export) -> str:
    """One Python file; formula, origin and results stand in its header. Raises GenomeError for a genome of no sense."""
    from genomes.backends import python_source

    # the header is a docstring: no text of a genome may end it, or escape
    text = dump(export.genome).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    code = python_source.render(lower(export.genome))
    quoted = export.quoted(docstring_line)
    return template("submission.py.j2").render(
        name=export.genome.name, genome=text, origin="\n".join(docstring(export.origin)), measured=quoted.measured,
        earned=quoted.earned, code=code.rstrip("\n"),
    )  # fmt: skip


FORMAT = one_file("python", "one file with the three functions of a submission; needs torch alone", ".py", render)
