"""What a genome costs and how it reads: the figures behind ``evo genome show``."""

from __future__ import annotations

from dataclasses import dataclass

from genomes.backends import latex
from genomes.compiler.identity import genome_identity
from genomes.compiler.lowering import lower
from genomes.compiler.program import ELEMENTWISE, MODEL_REDUCTIONS, REDUCTIONS, Program
from genomes.compiler.shapes import ShapeClass
from genomes.language.decay import DECAY_KINDS
from genomes.language.expressions import call
from genomes.language.genome import ALWAYS, ONE, Decay, Genome
from genomes.language.let import Line, shown_start
from genomes.language.parser import parse_expression
from genomes.language.printer import show


@dataclass(frozen=True)
class Description:
    """``formula``: plain text, one line per gene. ``latex``: the same for TeX. ``buffers``: names of the state buffers
    with an entry per parameter, or per pair of rows or columns. ``scalars``: how many other state values.
    ``operations``: arithmetic operations per parameter and step. ``passes``: times that all parameters are gone through
    in a step, one more for each reduction that another value waits for. ``identity``: of `genomes.compiler.identity`,
    equal for equal programs.
    """

    formula: tuple[str, ...]
    latex: tuple[str, ...]
    buffers: tuple[str, ...]
    scalars: int
    operations: int
    passes: int
    identity: str


def describe(genome: Genome) -> Description:
    """What a genome costs and how it reads. Raises GenomeError where it has no meaning."""
    program = lower(genome)
    buffers = tuple(slot.name for slot in program.slots if slot.is_large)
    return Description(
        formula=tuple(formula(genome)),
        latex=tuple(latex.render(genome)),
        buffers=buffers,
        scalars=len(program.slots) - len(buffers),
        operations=sum(n.shape is ShapeClass.ELEMENT and n.op in ELEMENTWISE for n in program.nodes),
        passes=_passes(program),
        identity=genome_identity(genome),
    )


def formula(genome: Genome) -> list[str]:
    """The update as plain text, in the order in which a step applies it."""
    lines = []
    lines += _decay(genome.decay, "g")
    lines += [_named(line) for line in genome.let]
    terms = [show(t.expr) if t.weight == 1 else f"{t.weight:g} * ({show(t.expr)})" for t in genome.terms]
    lines.append("u = " + " + ".join(terms))
    lines += [f"u <- {show(gate)}" for gate in genome.gates]
    lines += _decay(genome.decay, "u")
    factors = [f"{genome.lr:g}"]
    if genome.schedule != ONE:
        factors.append(f"[{show(genome.schedule)}]")
    if genome.roles:
        factors.append("[" + ", ".join(f"{role}: {scale:g}" for role, scale in genome.roles) + "]")
    lines.append(f"delta = -{' * '.join(factors)} * u")
    lines += [f"delta <- {show(gate)}" for gate in genome.post]
    if genome.query:
        offset, when = show(genome.query.offset), show(genome.query.when)
        lines.append(f"g of step t is taken at theta + [{offset}] of step t - 1 where {when}")
        lines += [f"output {k} has [{show(bias)}] added for it" for k, bias in enumerate(genome.query.outputs)]
        lines += ["frozen features are those of evaluation for it"] if genome.query.as_evaluated else []
    if genome.evaluation:
        start = f", from epoch {genome.evaluation.start} on" if genome.evaluation.start else ""
        when = f", where {show(genome.evaluation.when)}" if genome.evaluation.when != ALWAYS else ""
        lines.append(f"evaluation sees theta + [{show(genome.evaluation.offset)}]{start}{when}")
    return lines


def _named(line: Line) -> str:
    if line.start is None:
        return f"{line.name} = {show(line.expr)}"
    return f"{line.name} <- {show(line.expr)}    (kept, from {shown_start(line.start)})"


def _decay(decay: Decay, name: str) -> list[str]:
    """The line that adds the decay to ``name``, where it joins that."""
    kind = DECAY_KINDS[decay.kind]
    if kind.joins != name:
        return []
    pull = show(call("mul", float(f"{decay.rate:g}"), parse_expression(kind.pull, "gates")))
    return [f"{name} <- {name} + {pull}    ({', '.join(decay.roles)})"]


def _passes(program: Program) -> int:
    depth: list[int] = []
    for node in program.nodes:
        reduces = node.op in REDUCTIONS and node.op not in MODEL_REDUCTIONS
        depth.append(max((depth[a] for a in node.arguments), default=0) + reduces)
    return 1 + max(depth)
