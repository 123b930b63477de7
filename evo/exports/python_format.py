"""The format ``python``: one file with the three functions of a submission."""

from __future__ import annotations

import textwrap

from evo.exports.export import Export
from evo.exports.formats import one_file
from genomes.compiler.lowering import lower
from genomes.language.genome import dump
from genomes.strict_yaml import escaped


def render(export: Export) -> str:
    """One Python file; formula, origin and results stand in its header. Raises GenomeError for a genome of no sense."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from genomes.backends import python_source

    environment = Environment(
        loader=PackageLoader("evo.exports"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    header = environment.get_template("submission.py.j2")
    # the header is a docstring: no text of a genome may end it, or escape
    text = dump(export.genome).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    origin = "\n".join(map(escaped, textwrap.wrap(export.origin, 110))).replace("\\", "\\\\").replace('"', "'")
    code = python_source.render(lower(export.genome))
    return header.render(
        name=export.genome.name, genome=text, origin=origin, measured=export.measured, code=code.rstrip("\n")
    )


FORMAT = one_file("python", "one file with the three functions of a submission; needs torch alone", ".py", render)
