"""One genome of a campaign, and two beside each other: what their pages show, as panels."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from evo.evaluation.bounds import mean_blind_quality
from evo.exports.formats import find_format, stem
from evo.exports.source import of_individual
from evo.formatting import duration, gain, interval, quality
from evo.ledger.ledger import Ledger, Member
from evo.records import Estimate, Individual
from evo.report import figures
from evo.report.data import Trainings, beside_bound
from evo.report.differences import differences
from evo.report.lineage import MOST, ancestors, draw
from evo.report.panels import Shown, table
from genomes import catalogue
from genomes.analysis.describe import Description, describe, formula
from genomes.backends import latex
from genomes.compiler.identity import genome_identity
from genomes.compiler.lowering import lower
from genomes.compiler.program import Program
from genomes.language.genome import Genome, dump
from harness.result import finished_quality
from harness.task import Instance

LISTED = 200  # trainings, and children, that are listed
_ID = re.compile(r"g(\d{1,9})i(\d{1,9})")


@dataclass(frozen=True)
class Shelf:
    """What the pages take of a campaign besides its ledger. ``children``: the individuals made from one, by its id.

    ``estimates``: of qualities, by hash; ``link``: the address of an individual's page, by its id.
    """

    estimates: Mapping[str, Estimate]
    children: Callable[[str], Sequence[Member]]
    link: Callable[[str], str]

    def linked(self, id: str, name: str = "") -> Markup:
        """An individual's id, leading to its page."""
        return Markup('<a href="{}">{}</a>').format(self.link(id), name or id)


@dataclass(frozen=True)
class Compared:
    """A genome to be compared. ``name``: an individual's id, or that of a known optimizer."""

    name: str
    genome: Genome
    hash: str

    @property
    def lines(self) -> list[str]:
        """Its YAML but for the first lines, which name it."""
        kept = ("genome:", "name:", "source:", "oracle:")
        return [line for line in dump(self.genome).splitlines() if not line.startswith(kept)]


def is_id(text: str) -> bool:
    """Whether a text has the form of an individual's id."""
    return _ID.fullmatch(text) is not None


def find(ledger: Ledger, id: str) -> Individual:
    """The individual of that id. Raises KeyError where there is none, DamagedError."""
    found = _ID.fullmatch(id)
    if not found or not ledger.rows("SELECT 1 FROM individuals WHERE generation = ? AND number = ?", found.groups()):
        raise KeyError(id)
    return ledger.individual(id)


def compared(ledger: Ledger, name: str) -> Compared:
    """The individual of an id, or a known optimizer. Raises KeyError where there is neither."""
    if is_id(name):
        individual = find(ledger, name)
        return Compared(name, individual.genome, individual.hash)
    if name not in catalogue.names():
        raise KeyError(name)
    genome = catalogue.load(name)
    return Compared(name, genome, genome_identity(genome))


# --- one genome ------------------------------------------------------------------------------------------


def genome_panels(ledger: Ledger, individual: Individual, shelf: Shelf) -> list[Shown]:
    """The panels of a genome's page; matplotlib's settings must be the caller's alone meanwhile."""
    trainings = ledger.shared([individual.hash])[individual.hash]
    return [panel for panel in _panels(ledger, individual, shelf, trainings) if panel.html]


def _panels(ledger: Ledger, individual: Individual, shelf: Shelf, trainings: Trainings) -> Iterator[Shown]:
    described = describe(individual.genome)
    yield Shown("formula", "Formula", _costs(described), _formula(individual.genome, described), "formula", "")
    yield Shown("genome", "Genome", "Its YAML, as it stands in the ledger.", _pre(individual.text), "", "as text")
    program = lower(individual.genome)
    note = f"{len(program.nodes)} operations and {len(program.slots)} state values, as back ends get them."
    yield Shown("program", "Program", note, _pre("\n".join(program_lines(program))), "", "every operation")
    drawing = draw(ancestors(ledger, individual, shelf.estimates, most=MOST))
    lineage = Markup(figures.lineage(drawing, shelf.link))
    yield Shown("ancestors", "Ancestors", "Latest first; each leads to its own page.", lineage, "", "")
    yield _children(individual, shelf)
    about = f"Validation loss on each of its {len(trainings)} instances."
    yield Shown("curves", "Learning curves", about, _curves({individual.name: trainings}), "", "")
    yield _bound({individual.name: trainings})
    yield Shown("trainings", "Trainings", _about_trainings(trainings), _trainings(trainings), "", "every training")


def _costs(described: Description) -> str:
    kept = f": {', '.join(described.buffers)}" if described.buffers else ""
    return (
        f"{described.operations} operations per parameter and step, {_passes(described.passes)} over the parameters, "
        f"{len(described.buffers)} state buffers{kept}. g: gradient, θ: parameter, u: direction."
    )


def _passes(count: int) -> str:
    return f"{count} {'pass' if count == 1 else 'passes'}"


def _formula(genome: Genome, described: Description) -> Markup:
    text = Markup("<p><code>{}</code></p>").format(Markup("<br>").join(described.formula))
    return Markup(figures.formula(latex.render(genome))) + text


def _pre(text: str) -> Markup:
    return Markup("<pre>{}</pre>").format(text)


def program_lines(program: Program) -> list[str]:
    """A program as text: a line for each operation, with the class of its value, then what is stored and applied."""
    labels = dict(program.labels)
    lines = []
    for number, node in enumerate(program.nodes):
        given = [f"%{argument}" for argument in node.arguments]
        if node.op == "load":
            given = [program.slots[int(node.attribute or 0)].name]
        elif node.attribute is not None:
            given.append(f"{node.attribute:g}")
        label = f"  # {labels[number]}" if number in labels else ""
        lines.append(f"%{number} = {node.op}({', '.join(given)})  : {node.shape.name.lower()}{label}")
    lines += [f"{program.slots[slot].name} <- %{node}" for slot, node in program.stores]
    return [*lines, f"theta <- theta + %{program.update}"]


def _children(individual: Individual, shelf: Shelf) -> Shown:
    children = shelf.children(individual.id)
    rows = []
    for child in children[:LISTED]:
        known = shelf.estimates.get(child.hash)
        others = Markup(" ").join(shelf.linked(id) for id in child.parents if id != individual.id)
        rows.append((shelf.linked(child.id), child.operator, others, interval(known)))
    columns = ("child", "made by", "other parents", "quality")
    html = table(columns, rows, left=columns[:3]) if rows else Markup()
    note = f"{len(children)} individuals have it as a parent."
    return Shown("children", "Children", note, html, "", "every child" if len(rows) > 12 else "")


def _curves(trainings: Mapping[str, Trainings]) -> Markup:
    runs = {name: [training for _, training in found] for name, found in trainings.items() if found}
    return Markup(figures.instance_curves(runs) if runs else "")


def _bound(measured: Mapping[str, Trainings]) -> Shown:
    found = beside_bound({name: trainings for name, trainings in measured.items() if trainings})
    html = Markup(figures.beside_bound(found)) if found else Markup()
    note = "Each instance beside the bound of optimizers that ignore the mean of the outputs."
    return Shown("bound", "Quality beside the bound", note, html, "", "")


def _about_trainings(trainings: Trainings) -> str:
    failed = sum(finished_quality(training.status, training.quality) is None for _, training in trainings)
    return f"{len(trainings)} trainings, {failed or 'none'} of which did not finish."


def _trainings(trainings: Trainings) -> Markup:
    columns = ("instance", "hidden layers", "status", "quality", "bound", "best epoch", "epochs", "time", "message")
    rows = [
        (
            instance.seed.hex()[:8],
            instance.num_hidden_layers,
            training.status,
            quality(training.quality),
            quality(mean_blind_quality(instance)),
            "" if training.best_epoch is None else training.best_epoch,
            training.epochs_run,
            duration(training.seconds),
            training.message,
        )
        for instance, training in trainings[:LISTED]
    ]
    return table(columns, rows, left=("instance", "status", "message")) if rows else Markup()


# --- two genomes -----------------------------------------------------------------------------------------


def comparison_panels(ledger: Ledger, first: Compared, second: Compared, shelf: Shelf) -> list[Shown]:
    """The panels of the page that compares two genomes; as for `genome_panels`."""
    shared = ledger.shared([first.hash, second.hash])
    names = (first.name, second.name)
    measured = {names[0]: shared[first.hash], names[1]: shared[second.hash]} if first.hash != second.hash else {}
    found = [
        _estimates(first, second, shelf),
        _changed("formula", "Formulas", formula(first.genome), formula(second.genome)),
        _changed("genome", "Genomes", first.lines, second.lines),
        Shown("curves", "Learning curves", "On the instances that both were trained on.", _curves(measured), "", ""),
        _bound(measured),
        _pairs(measured),
    ]
    return [panel for panel in found if panel.html]


def _estimates(first: Compared, second: Compared, shelf: Shelf) -> Shown:
    a, b = shelf.estimates.get(first.hash), shelf.estimates.get(second.hash)
    rows = [(each.name, interval(known), known.count if known else "") for each, known in ((first, a), (second, b))]
    if first.hash == second.hash:
        note = "Both are one program."
    elif a and b:
        note = f"By all trainings of the campaign: {second.name} less {first.name} is {gain(b.minus(a))}."
    else:
        note = "Not both have an estimate."
    html = table(("genome", "quality", "instances"), rows, left=("genome",))
    return Shown("estimates", "Estimates", note, html, "", "")


def _changed(key: str, title: str, first: Sequence[str], second: Sequence[str]) -> Shown:
    lines = differences(first, second)
    same = all(line.sign == " " for line in lines)
    html = Markup('<pre class="differences">{}</pre>').format(
        Markup("").join(
            Markup('<span class="{}">{} {}</span>').format(
                {"-": "gone", "+": "come", " ": "both"}[line.sign],
                line.sign,
                Markup("").join(
                    Markup("<mark>{}</mark>").format(part) if marked else part for part, marked in line.parts
                ),
            )
            for line in lines
        )
    )
    return Shown(key, title, "Both are the same." if same else "Lines with - are of the first alone.", html, "", "")


def _pairs(measured: Mapping[str, Trainings]) -> Shown:
    rows: list[tuple[object, ...]] = []
    gains: list[float] = []
    if measured:
        one, other = measured.values()
        for (instance, first), (_, second) in zip(one, other, strict=True):
            a, b = (finished_quality(training.status, training.quality) for training in (first, second))
            if a is not None and b is not None:
                gains.append(b - a)
            difference = f"{b - a:+.3f}" if a is not None and b is not None else ""
            rows.append((_named(instance), instance.num_hidden_layers, quality(a), quality(b), difference))
    note = f"Mean difference on {len(gains)} instances: {fmean(gains):+.3f}." if gains else ""
    columns = ("instance", "hidden layers", *measured, "difference")
    html = table(columns, rows[:LISTED], left=("instance",)) if rows else Markup()
    return Shown("pairs", "Instance by instance", note, html, "", "every instance" if len(rows) > 12 else "")


def _named(instance: Instance) -> str:
    return instance.seed.hex()[:8]


# --- downloads -------------------------------------------------------------------------------------------


def download(
    ledger: Ledger, individual: Individual, format: str, estimates: Mapping[str, Estimate]
) -> tuple[str, bytes]:
    """A file in one of the formats of `evo export`, with its name; of a format with several files, an archive.

    Raises UsageError where there is no such format, or where the genome cannot be written in it.
    """
    chosen = find_format(format)
    export = of_individual(ledger, individual, estimates)
    files = chosen.files(export)
    if len(files) == 1:
        ((name, text),) = files.items()
        return name, text.encode("utf-8", "backslashreplace")
    folder, buffer = f"{stem(export.genome.name)}_{format}", io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in files.items():
            archive.writestr(f"{folder}/{path}", text)
    return f"{folder}.zip", buffer.getvalue()
