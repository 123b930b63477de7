"""Removes from a genome what does not change how it acts, and says what it removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from genomes.canonical import canonical, with_composites
from genomes.expressions import Expression, is_mask, number, show
from genomes.genome import ONE, Decay, Genome, GenomeError
from genomes.identity import semantic_hash


@dataclass(frozen=True)
class Simplified:
    """The smaller genome, and a line for each thing removed, in the order of removal."""

    genome: Genome
    removed: tuple[str, ...]


def simplify(genome: Genome) -> Simplified:
    """Take away genes and parts of expressions for as long as the semantic hash stays the same.

    Equal behaviour means equal on the probe of ``genomes.identity``, to nine digits. What is left is written in
    canonical form, with composites where they fit. Raises GenomeError.
    """
    wanted = semantic_hash(genome)
    removed: list[str] = []
    while True:
        for smaller, what in _smaller(genome):
            if _acts(smaller) == wanted:
                genome = smaller
                removed.append(what)
                break
        else:
            break
    tidy = with_composites(canonical(genome))
    return Simplified(tidy if _acts(tidy) == wanted else genome, tuple(removed))


def _acts(genome: Genome) -> str | None:
    try:
        return semantic_hash(genome)
    except GenomeError:
        return None


def _smaller(genome: Genome) -> Iterator[tuple[Genome, str]]:
    """Genomes with one thing less, largest things first."""
    if genome.query:
        yield replace(genome, query=None), f"query: {show(genome.query.offset)}"
    if genome.decay.kind != "none":
        yield replace(genome, decay=Decay()), f"decay: {genome.decay.kind}"
    if genome.schedule != ONE:
        yield replace(genome, schedule=ONE), f"schedule: {show(genome.schedule)}"
    for role, scale in genome.roles:
        yield replace(genome, roles=tuple(r for r in genome.roles if r[0] != role)), f"roles.{role}: {scale:g}"
    for gene in ("gates", "post"):
        items = getattr(genome, gene)
        for i, item in enumerate(items):
            yield replace(genome, **{gene: items[:i] + items[i + 1 :]}), f"{gene}.{i}: {show(item)}"
            for part, what in _smaller_expressions(item):
                yield replace(genome, **{gene: (*items[:i], part, *items[i + 1 :])}), f"{gene}.{i}: {what}"
    terms = genome.terms
    for i, term in enumerate(terms):
        if len(terms) > 1:
            yield replace(genome, terms=terms[:i] + terms[i + 1 :]), f"terms.{i}: {show(term.expr)}"
        for part, what in _smaller_expressions(term.expr):
            changed = (*terms[:i], replace(term, expr=part), *terms[i + 1 :])
            yield replace(genome, terms=changed), f"terms.{i}: {what}"
    for part, what in _smaller_expressions(genome.schedule):
        yield replace(genome, schedule=part), f"schedule: {what}"


def _smaller_expressions(tree: Expression) -> Iterator[tuple[Expression, str]]:
    """Trees with one node replaced by one of its arguments, or by 0 or 1."""
    if tree.value is not None or not tree.arguments:
        return
    if not is_mask(tree):
        for constant in (0.0, 1.0):
            yield number(constant), f"{show(tree)} is {constant:g}"
    for argument in tree.arguments:
        if argument.value is None and is_mask(argument) == is_mask(tree):
            yield argument, f"{show(tree)} acts as {show(argument)}"
    for i, argument in enumerate(tree.arguments):
        for part, what in _smaller_expressions(argument):
            yield replace(tree, arguments=(*tree.arguments[:i], part, *tree.arguments[i + 1 :])), what
