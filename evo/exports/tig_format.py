"""The format ``tig``: the Rust and CUDA files that the challenge takes, and their README."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from evo.errors import UsageError
from evo.exports.export import Export
from evo.exports.formats import Format
from evo.exports.submission import LICENSE
from evo.exports.texts import markdown
from genomes.language.genome import Genome, dump


def files(export: Export) -> Mapping[str, str]:
    """``README.md``, ``mod.rs`` and the CUDA file of a bundle. Raises UsageError, GenomeError."""
    from evo.exports.tig import bundle
    from evo.exports.tig.costs import costs

    details = export.submission
    if details is None:
        raise UsageError("--format tig: a submission has details: see --field and --config")
    parts = _parts(export)
    compiled = bundle.compiled(details.algorithm, [bundle.Part(genome, depths) for genome, depths in parts])
    quoted = export.quoted(markdown)
    readme = bundle.environment().get_template("README.md.j2").render(
        details={key: markdown(value) for key, value in vars(details).items()},
        name=details.algorithm,
        genomes=[{"title": _depths(depths), "text": dump(genome), "source": markdown(genome.source)}
                 for genome, depths in parts],
        origin=quoted.origin, measured=quoted.measured, earned=quoted.earned, license=LICENSE,
        costs=costs(compiled), hyperparameters=bundle.hyperparameters(compiled), wrap=textwrap.fill,
    )  # fmt: skip
    return {
        "README.md": readme,
        "mod.rs": bundle.rust_text(details.algorithm, compiled),
        f"{details.algorithm}.cu": bundle.cuda_text(details.algorithm, compiled),
    }


def _parts(export: Export) -> list[tuple[Genome, tuple[int, ...]]]:
    """The genomes and their depths; the exported one is for all others. Equal genomes are one."""
    found: dict[Genome, tuple[int, ...]] = {}
    for depths, genome in export.tracks:
        if genome != export.genome:
            found[genome] = (*found.get(genome, ()), *depths)
    return [*((genome, tuple(sorted(depths))) for genome, depths in found.items()), (export.genome, ())]


def _depths(depths: tuple[int, ...]) -> str:
    return f"{', '.join(map(str, depths))} hidden layers" if depths else ""


FORMAT = Format(
    "tig", "a submission to The Innovation Game's challenge: Rust, CUDA and README", files, is_folder=True,
    submits=True, note=f"note: {LICENSE}",
)  # fmt: skip
