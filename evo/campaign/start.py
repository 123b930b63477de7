"""The genomes that a campaign starts from: read at launch, kept in its ledger, and never looked for again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from evo.errors import UsageError
from evo.ledger.schema import START_GENOMES
from evo.recipe.schema import Recipe
from genomes.compiler.lowering import read_text
from genomes.language.genome import Genome, GenomeError
from genomes.strict_yaml import YamlError, text_of


def read(recipe: Recipe, folder: Path) -> dict[str, str]:
    """The facts to be kept of the files of ``start.genomes``, whose paths are relative to ``folder``.

    Raises UsageError where a file cannot be read or is no genome.
    """
    texts: dict[str, str] = {}
    for path in recipe.start.genomes:
        try:
            texts[path] = text_of(folder / path)
            read_text(texts[path], str(folder / path))
        except (GenomeError, YamlError) as error:
            raise UsageError(str(error)) from None
        except OSError as error:
            raise UsageError(f"{folder / path}: cannot be read: {error.strerror or error}") from None
    return {START_GENOMES: json.dumps(texts, ensure_ascii=False)}


def kept(meta: Mapping[str, str], recipe: Recipe, *, needed: bool) -> tuple[Genome, ...]:
    """The genomes of ``start.genomes`` as they were at launch, from the ledger's facts.

    ``needed``: no request is answered yet. An earlier evo kept no texts: then there are none, and where they are needed
    and files are named, UsageError is raised, for these may have changed since.
    """
    if START_GENOMES not in meta:
        if not needed or not recipe.start.genomes:
            return ()
        raise UsageError(
            "start.genomes: launched by an evo that did not keep the genomes in the ledger, and stopped before its"
            " first request was answered; the files may have changed since: move the folder out aside, and launch anew"
        )
    texts = json.loads(meta[START_GENOMES])
    return tuple(read_text(texts[path], f"{path} as launched") for path in recipe.start.genomes)
