"""What ``evo genome`` and ``evo catalogue`` print."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from evo.cli.messages import say
from evo.cli.terminal import console, print_written
from evo.exports.source import load_genome
from evo.files import STANDARD_OUTPUT, check_out, write_out
from evo.recipe.limits import buffers
from evo.search import screening
from genomes import catalogue
from genomes.analysis.calibration import calibrates, without_calibration
from genomes.analysis.describe import describe
from genomes.analysis.simplify import simplify
from genomes.compiler.lowering import lower
from genomes.language.genome import dump
from genomes.strict_yaml import has_comments, text_of


def print_check(file: str) -> None:
    """Print that the genome is sound. Raises UsageError, which names all that is not."""
    found = load_genome(file)
    program = lower(found)
    print(
        f"{file}: {found.name} is sound: {found.size} nodes, {buffers(found)} buffers; as a program "
        f"{len(program.nodes)} operations, {len(program.slots)} state values"
    )
    if problem := screening.problem(found):
        say(f"{file}: warning: {problem}")


def print_genome(file: str, as_json: bool) -> None:
    """Print the genome's formula and cost."""
    found = load_genome(file)
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
        f"identity                      {description.identity}",
    ]
    print("\n".join(lines))


def write_simplified(file: str, out: Path, force: bool) -> None:
    """Write the genome without what does not change how it acts; say on stderr what that was."""
    check_out(out, force=force)
    result = simplify(load_genome(file))
    if Path(file).is_file() and has_comments(text_of(file)):
        say(f"{file}: its comments are left out: a simplified genome is written anew")
    for line in result.removed or ("nothing could be removed",):
        say(f"removed: {line}" if result.removed else line)
    write_out(out, dump(result.genome), force=force)
    print_written(out)


def write_without_calibration(file: str, out: Path, force: bool) -> None:
    """Write the genome with its calibration of the outputs' mean switched off; say on stderr where it has none."""
    check_out(out, force=force)
    found = load_genome(file)
    if not calibrates(found):
        say(f"{file}: does not calibrate the outputs' mean; written as it is")
    write_out(out, dump(without_calibration(found)), force=force)
    print_written(out)


def print_catalogue(as_json: bool) -> None:
    """Print all known optimizers, with the largest error seen against their oracles, and the discovered ones."""
    entries, found = ([catalogue_entry(n) for n in names] for names in (catalogue.names(), catalogue.discovered()))
    if as_json:
        print(json.dumps([*entries, *found]))
        return
    table = Table("name", "source", "checked against", "largest error")
    for entry in entries:
        error = f"{entry['largest_error']:.1e}" if "largest_error" in entry else "–"
        table.add_row(entry["name"], entry["source"], entry["oracle"], error)
    console().print(table)
    table = Table("discovered", "found by", "depth", "instances", "mean quality", "beside", "difference, 95 % interval")
    for entry in found:
        for i, here in enumerate(entry["by_depth"]):
            named = (entry["name"], f"{entry['origin']} ({entry['campaign']})") if i == 0 else ("", "")
            difference = f"{here['difference']:.4f}, {here['low']:.4f} to {here['high']:.4f}"
            figures = str(here["depth"]), str(here["instances"]), f"{here['mean']:.4f}"
            table.add_row(*named, *figures, entry["rival"], difference)
    console().print(table)


def catalogue_entry(name: str) -> dict[str, Any]:
    """What is known of a shipped genome: its source, and its oracle and the error against it, or its evidence."""
    genome = catalogue.load(name)
    if name in catalogue.discovered():
        return {"name": name, "source": genome.source, **catalogue.evidence()[name]}
    return {"name": name, "source": genome.source, "oracle": genome.oracle, **catalogue.verified().get(name, {})}


def print_catalogue_entry(name: str, as_json: bool) -> None:
    """Print one shipped genome. Raises GenomeError where there is none of this name."""
    file = catalogue.file(name)
    if as_json:
        print(json.dumps({**catalogue_entry(name), "genome": dump(catalogue.load(name))}))
    else:
        write_out(STANDARD_OUTPUT, file.read_bytes())
