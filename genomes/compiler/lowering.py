"""Genome -> program: what each gene means, in the order in which a step applies them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from genomes import strict_yaml
from genomes.compiler import program
from genomes.compiler.builder import NAMES_IN_BODIES, Builder, Value
from genomes.compiler.graph import live
from genomes.compiler.let import Named, clock_lines, lower_lines
from genomes.compiler.nodes import MAX_PROGRAM_NODES
from genomes.compiler.program import Program, Query
from genomes.compiler.shapes import LoweringError, ShapeClass
from genomes.language import genome as genes
from genomes.language.decay import DECAY_KINDS
from genomes.language.expressions import Expression
from genomes.language.genome import Decay, Genome, GenomeError, parse
from genomes.language.parser import parse_expression


def read(path: Path | str) -> Genome:
    """Read a genome file and check that it has a meaning. Raises GenomeError that names file, line and key; OSError."""
    try:
        return read_text(strict_yaml.text_of(path), str(path))
    except strict_yaml.YamlError as error:
        raise GenomeError([str(error)]) from None


def read_text(text: str, source: str) -> Genome:
    """`read`, for the text of a file; ``source`` names it in messages. Raises GenomeError."""
    genome = parse(text, source)
    try:
        lower(genome)
    except GenomeError as error:
        document = strict_yaml.parse(text, source)
        raise GenomeError([_at_line(document, problem) for problem in error.problems]) from None
    return genome


def _at_line(document: strict_yaml.Document, problem: str) -> str:
    """A problem of `lower`, ``name: key: message`` or ``name: message``, with file and line for the name."""
    _, key, *message = problem.split(": ", 2)
    path = tuple(int(part) if part.isdigit() else part for part in key.split(".")) if message else ()
    return ": ".join([f"{document.source}:{document.line(path)}", key, *message])


@lru_cache(maxsize=256)  # reading, screening, probing and training ask for one genome in a row
def lower(genome: Genome) -> Program:
    """The program of a genome. Raises GenomeError where a gene has no meaning (its key is named)."""
    try:
        return program.check(lowered(genome, Builder(genome.name, [line.name for line in genome.let])))
    except LoweringError as error:
        raise GenomeError([f"{genome.name}: {error}"]) from None


def lowered(genome: Genome, builder: Builder) -> Program:
    """The program of a genome, whose form nobody has checked. Raises GenomeError, LoweringError."""
    at = _Place(genome)
    if genome.evaluation:
        builder.expect_evaluation()
    theta = builder.source("theta")
    g = builder.source("g")
    clock = _clock_names(builder, genome, at)
    with at.key("schedule"):
        schedule = builder.lower(genome.schedule, clock.values).node
        if not builder.nodes[schedule].shape.on_host:
            raise LoweringError(
                "a schedule is made of t, epoch, losses, roles and numbers; this one varies with gradients"
            )
    rate = builder.op("mul", builder.op("mul", builder.gene("lr", genome.lr), schedule), _role_scale(builder, genome))
    evaluation, shifted = builder.open_evaluation() if genome.evaluation else (None, None)
    if shifted is not None:
        clean = builder.op("sub", theta, builder.evaluation_offset())
        theta = builder.op("where", shifted, clean, theta)
    query, queried = None, theta
    if genome.query:
        query = _query(builder, genome, genome.query, at)
        asked = builder.lower(genome.query.when, clock.values).node
        queried = builder.op("where", asked, builder.op("add", theta, builder.load(query.offset)), theta)
        builder.output_biases = [builder.lower(bias, clock.values).node for bias in genome.query.outputs]
    names = {"theta": Value(theta), "g": Value(g), "queried": Value(queried), "lr_t": Value(rate)}
    names["g"] = Value(_decayed(builder, genome.decay, "g", names))
    names |= lower_lines(builder, genome.let, names, at.key, clock).values

    u = builder.const(0.0)
    for i, term in enumerate(genome.terms):
        with at.key(f"terms.{i}.expr"):
            value = builder.lower(term.expr, names).node
            u = builder.op("add", u, builder.op("mul", builder.gene(f"terms.{i}.weight", term.weight), value))
    for i, gate in enumerate(genome.gates):
        with at.key(f"gates.{i}"):
            u = builder.lower(gate, {**names, "u": Value(u)}).node
    u = _decayed(builder, genome.decay, "u", {"theta": Value(theta), "u": Value(u)})
    delta = builder.op("mul", builder.op("neg", rate), u)
    builder.labels = {u: "u", rate: "learning_rate", schedule: "schedule", delta: "delta"} | builder.labels
    for i, gate in enumerate(genome.post):
        with at.key(f"post.{i}"):
            delta = builder.lower(gate, {**names, "delta": Value(delta)}).node
    delta = builder.expand(delta, ShapeClass.ELEMENT)

    if genome.query and query:
        with at.key("query.offset"):
            offset = builder.lower(genome.query.offset, {**names, "delta": Value(delta)}).node
            builder.stores[query.offset] = builder.expand(offset, ShapeClass.ELEMENT)
    builder.close_last_update(delta)
    update = delta
    if genome.evaluation and evaluation:
        with at.key("evaluation.when"):
            now = _evaluated(builder, genome.evaluation, names)
        with at.key("evaluation.offset"):
            offset = builder.lower(genome.evaluation.offset, {**names, "delta": Value(delta)}).node
            offset = builder.expand(offset, ShapeClass.ELEMENT)
        before = builder.load(evaluation.offset)
        if shifted is not None:
            update = builder.op("where", shifted, builder.op("sub", delta, before), delta)
            update = builder.op("where", now, builder.op("add", update, offset), update)
            update = builder.expand(update, ShapeClass.ELEMENT)
        builder.stores[evaluation.offset] = builder.expand(builder.op("where", now, offset, before), ShapeClass.ELEMENT)
        builder.stores[evaluation.applied] = builder.op("where", now, builder.const(1.0), builder.const(0.0))
    found = builder.program(update, query, evaluation)
    if len(found.nodes) > MAX_PROGRAM_NODES:
        raise GenomeError([f"{genome.name}: {len(found.nodes)} operations; at most {MAX_PROGRAM_NODES} are allowed"])
    return found


class _Place:
    """Turns a LoweringError inside ``with place.key("gates.0")`` into a GenomeError that names the gene."""

    def __init__(self, genome: Genome):
        self.genome, self.where = genome, ""

    def key(self, where: str) -> _Place:
        self.where = where
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, LoweringError):
            raise GenomeError([f"{self.genome.name}: {self.where}: {error}"]) from None


def _decay_rate(builder: Builder, decay: Decay) -> int:
    """The decay rate as a role value: 0 for tensors whose role is not decayed."""
    decayed = None
    for role in decay.roles:
        flag = builder.source(f"is_{role}")
        decayed = flag if decayed is None else builder.op("or", decayed, flag)
    assert decayed is not None, "the reader refuses an empty list of roles"
    return builder.op("where", decayed, builder.gene("decay.rate", decay.rate), builder.const(0.0))


def _decayed(builder: Builder, decay: Decay, name: str, names: Mapping[str, Value]) -> int:
    """The value called ``name`` (``g`` or ``u``), with the decay where that joins it."""
    value, kind = names[name].node, DECAY_KINDS[decay.kind]
    if kind.joins != name:
        return value
    pull = builder.lower(parse_expression(kind.pull, names=dict.fromkeys(names, "number")), names).node
    return builder.op("add", value, builder.op("mul", _decay_rate(builder, decay), pull))


def _role_scale(builder: Builder, genome: Genome) -> int:
    """The product of the multipliers of all roles that a tensor has."""
    scale = builder.const(1.0)
    for role, multiplier in genome.roles:
        flag = builder.source(f"is_{role}")
        factor = builder.gene(f"roles.{role}", multiplier)
        scale = builder.op("mul", scale, builder.op("where", flag, factor, builder.const(1.0)))
    return scale


def _clock_names(builder: Builder, genome: Genome, at: _Place) -> Named:
    """The names that are known before any gradient, for the genes that need some."""
    wanted: list[tuple[str, Expression]] = [("schedule", genome.schedule)]
    if genome.query:
        wanted += [("query.when", genome.query.when)]
        wanted += [(f"query.outputs.{i}", bias) for i, bias in enumerate(genome.query.outputs)]
    if genome.evaluation:
        wanted.append(("evaluation.when", genome.evaluation.when))
    needed: set[str] = set()
    for key, expression in wanted:
        with at.key(key):
            needed |= {line.name for line in clock_lines(genome.let, [expression])}
    return lower_lines(builder, genome.let, {}, at.key, Named(), needed)


def _query(builder: Builder, genome: Genome, query: genes.Query, at: _Place) -> Query:
    """A query with nodes of its own for ``when`` and ``outputs``: clock values without state."""
    own = builder.another("when")
    if genome.evaluation:
        own.expect_evaluation()
    wanted = {line.name for line in clock_lines(genome.let, [*query.outputs, query.when])}
    unfit = {word: Value(own.source("g")) for word in NAMES_IN_BODIES}  # so that they are told apart from typing errors
    names = {**unfit, **lower_lines(own, genome.let, {}, at.key, Named(), wanted).values}
    found = []
    for i, expression in enumerate((*query.outputs, query.when)):
        is_when = i == len(query.outputs)
        with at.key("query.when" if is_when else f"query.outputs.{i}"):
            node = own.lower(expression, names).node
            if own.slots or own.nodes[node].shape is not ShapeClass.CLOCK:
                what = "decide when to query" if is_when else "say what a query adds to an output"
                raise LoweringError(f"only t, epoch, has_loss, train_loss, val_loss and numbers may {what}")
            found.append(node)
    nodes, index = live(own.nodes, found)
    offset = builder.slot("query_offset", ShapeClass.ELEMENT, 0.0)
    *outputs, when = (index[node] for node in found)
    return Query(offset, tuple(nodes), when, tuple(outputs), query.as_evaluated)


def _evaluated(builder: Builder, evaluation: genes.Evaluation, names: Mapping[str, Value]) -> int:
    """The mask of the steps that add the offset."""
    asked = builder.lower(evaluation.when, names).node
    if builder.nodes[asked].shape is not ShapeClass.CLOCK:
        raise LoweringError("when to evaluate elsewhere is made of t, epoch, losses and numbers")
    late = builder.op("ge", builder.source("epoch"), builder.const(evaluation.start))
    mask = asked if not evaluation.start else builder.op("and", late, asked)
    last = builder.evaluated_step()
    return last if evaluation.when == genes.ALWAYS and not evaluation.start else builder.op("and", last, mask)
