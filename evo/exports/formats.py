"""What leaves a campaign: a genome as YAML, or as one Python file that needs torch alone."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from evo.campaign.folder import RunFolder
from evo.errors import UsageError
from evo.ledger.ledger import Ledger
from evo.recipe import reader as config
from evo.records import Individual
from genomes import catalogue
from genomes.analysis.identity import semantic_hash
from genomes.backends import python_source
from genomes.compiler.lowering import lower
from genomes.language import genome
from genomes.language.genome import Genome, dump
from harness.result import mean_quality


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
        loader=PackageLoader("evo.exports"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    header = environment.get_template("submission.py.j2")
    # the header is a docstring: no text of a genome may end it, or escape
    text = dump(export.genome).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    origin = textwrap.fill(export.origin, 110).replace("\\", "\\\\").replace('"', "'")
    code = python_source.render(lower(export.genome))
    return header.render(
        name=export.genome.name, genome=text, origin=origin, measured=export.measured, code=code.rstrip("\n")
    )


FORMATS: dict[str, Callable[[Export], str]] = {"yaml": as_yaml, "python": as_python}


def file_name(name: str) -> str:
    """A file name that a genome's name can do no harm with: letters, digits, - and _ alone."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:64] or "genome"


def find(target: str, rank: int = 1) -> Export:
    """What ``target`` names: a campaign's folder (``rank`` in its hall of fame), a genome file, a known optimizer.

    Raises UsageError, LedgerError, GenomeError.
    """
    path = Path(target)
    if path.is_dir() or path.name == "recipe.yaml":
        return from_run(path, rank)
    if rank != 1:
        raise UsageError(f"--rank {rank}: {target} is one genome; only a campaign's folder has ranks")
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UsageError(f"{target}: no such file")
        return Export(genome.load(path))
    return Export(catalogue.load(target))


def from_run(path: Path, rank: int = 1) -> Export:
    """The genome at ``rank`` (from 1) in a campaign's hall of fame, with its ancestors and results."""
    folder = RunFolder.find(path)
    if not folder.ledger.is_file():
        raise UsageError(f"{path}: this campaign has not begun; launch it with: evo launch {path}")
    with Ledger.open_to_read(folder.ledger) as ledger:
        recipe = config.from_text(ledger.meta()["recipe"])
        fame = ledger.checkpoint().hall_of_fame
        if not fame:
            raise UsageError(f"{path}: nobody is in the hall of fame yet; go on with: evo resume {path}")
        if not 1 <= rank <= len(fame):
            raise UsageError(f"--rank {rank}: the hall of fame of {path} has ranks 1 to {len(fame)}")
        chosen = fame[rank - 1]
        ancestors = main_line(ledger, chosen.individual)
        baselines = [
            (name, mean_quality(ledger.on_selection(semantic_hash(catalogue.load(name))))) for name in recipe.baselines
        ]
    founder = ancestors[-1]
    steps = [i.operator for i in reversed(ancestors[:-1]) if i.operator != "elite"]
    by = ", ".join(steps) if len(steps) <= 12 else f"{len(steps)} steps, the last of them {', '.join(steps[-8:])}"
    origin = (
        f"campaign {recipe.name} (seed {recipe.seed}), individual {chosen.individual.id}, place {rank} in its hall of "
        f"fame; descends from {founder.name} ({founder.operator})" + (f" by {by}." if steps else ".")
    )
    depths = ", ".join(str(depth) for depth in recipe.difficulty.depths)
    measured = Measured(
        where=f"task {recipe.task}, depths {depths}, at most {recipe.epochs} epochs, "
        f"{recipe.instances.selection} selection instances",
        rows=(("this", chosen.quality), *((name, quality) for name, quality in baselines if quality is not None)),
        caution="The search chose it by these instances: expect less on others.",
    )
    # the name it carries in files of its own; genomes in the ledger are called by generation and index
    found = chosen.individual.genome.renamed(f"{recipe.name}-{chosen.individual.name}", origin)
    return Export(found, origin, measured)


def main_line(ledger: Ledger, individual: Individual) -> list[Individual]:
    """The individual, its first parent, that one's first parent, and so on to the start."""
    line = [individual]
    while line[-1].parents:
        line.append(ledger.individual(line[-1].parents[0]))
    return line
