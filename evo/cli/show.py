"""What ``evo genome`` and ``evo catalogue`` print."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from evo.errors import UsageError
from evo.evaluation.evaluate import terminal
from evo.files import write
from evo.recipe.limits import buffers
from evo.search import screening
from genomes import catalogue
from genomes.analysis.describe import describe
from genomes.analysis.identity import probe_genome
from genomes.analysis.simplify import simplify
from genomes.compiler.lowering import lower, read
from genomes.language.genome import Genome, dump


def load(file: str) -> Genome:
    """The genome of a file, or the known optimizer of that name. Raises GenomeError, UsageError."""
    path = Path(file)
    if path.suffix not in (".yaml", ".yml"):
        return catalogue.load(file)
    if not path.is_file():
        raise UsageError(f"{file}: no such file")
    return read(path)


def check(file: str) -> None:
    """Print that the genome is sound. Raises GenomeError, which names all that is not."""
    found = load(file)
    program = lower(found)
    print(
        f"{file}: {found.name} is sound: {found.size} nodes, {buffers(found)} buffers; as a program "
        f"{len(program.nodes)} operations, {len(program.slots)} state values"
    )
    if not probe_genome(found).finite:
        print(f"{file}: warning: on the probe its updates do not stay finite", file=sys.stderr)
    elif not screening.acts(found):
        print(
            f"{file}: warning: on the probe its updates do not depend on the gradient, or it never moves",
            file=sys.stderr,
        )


def genome(file: str, as_json: bool) -> None:
    """Print the genome's formula and cost."""
    found = load(file)
    description = describe(found)
    if as_json:
        print(json.dumps({"name": found.name, "source": found.source, **asdict(description)}))
        return
    lines = [found.name + (f"  ({found.source})" if found.source else ""), ""]
    lines += [f"  {line}" for line in description.formula]
    lines += ["", "LaTeX:", *(f"  {line}" for line in description.latex), ""]
    buffers = f"{len(description.buffers)} ({', '.join(description.buffers)})" if description.buffers else "none"
    lines += [
        f"state buffers per parameter   {buffers}",
        f"other state values            {description.scalars}",
        f"operations per parameter      {description.operations}",
        f"passes over the parameters    {description.passes}",
        f"semantic hash                 {description.hash}",
    ]
    print("\n".join(lines))


def simplified(file: str, out: Path | None) -> None:
    """Print (or write) the genome without what does not change how it acts; say on stderr what that was."""
    result = simplify(load(file))
    for line in result.removed or ("nothing could be removed",):
        print(f"removed: {line}" if result.removed else line, file=sys.stderr)
    if out is None:
        print(dump(result.genome), end="")
    else:
        write(out, dump(result.genome))
        print(out)


def catalogue_list(as_json: bool) -> None:
    """Print all known optimizers, with the largest error seen against their oracles."""
    verified = catalogue.verified()
    entries = [
        {"name": g.name, "source": g.source, "oracle": g.oracle, **verified.get(g.name, {})}
        for g in map(catalogue.load, catalogue.names())
    ]
    if as_json:
        print(json.dumps(entries))
        return
    table = Table("name", "source", "checked against", "largest error")
    for entry in entries:
        error = f"{entry['largest_error']:.1e}" if "largest_error" in entry else "–"
        table.add_row(entry["name"], entry["source"], entry["oracle"], error)
    terminal().print(table)


def catalogue_entry(name: str, as_json: bool) -> None:
    """Print one known optimizer. Raises GenomeError where there is none of this name."""
    found = catalogue.load(name)
    if as_json:
        entry = {"name": name, "source": found.source, "oracle": found.oracle, "genome": dump(found)}
        print(json.dumps({**entry, **catalogue.verified().get(name, {})}))
    else:
        print((catalogue.FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), end="")
