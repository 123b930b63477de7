"""Removes from a genome what does not change how it acts, and says what it removed and how surely.

A removal is *exact* where both genomes mean the same program. Any other is judged *on the probe* of
``genomes.analysis.probe``, to nine digits, and a probe sees some epochs, losses and gradients, never all. What
chooses or rounds (``where``, comparisons, ``floor``, ``%``, ``sign``, ``bfloat16``, and words that are made of them)
may lie still on the probe and act elsewhere. So a removal that is not exact is never tried on such a part, below it,
beside it (but in a sum), or on what it is applied to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from genomes.analysis.probe import probe_hash
from genomes.compiler.canonical import canonical, with_composites
from genomes.compiler.identity import genome_identity, is_never
from genomes.language.decay import DECAY_KINDS
from genomes.language.expressions import Expression, is_mask, number
from genomes.language.genome import ONE, Decay, Genome, GenomeError, dump, parse
from genomes.language.let import kinds
from genomes.language.operations import OPERATIONS
from genomes.language.parser import body, parse_expression
from genomes.language.primitives import TABLE
from genomes.language.printer import show

EXACT, ON_THE_PROBE = "exact", "on the probe"
_CONSTANTS = (" is 0", " is 1")  # ends of what was removed


@dataclass(frozen=True)
class Simplified:
    """The smaller genome, and a line for each thing removed, in the order of removal; each ends in how surely."""

    genome: Genome
    removed: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
    """A genome with one thing less. ``choosing``: a choice is removed, or hangs on what is: exact or not at all."""

    genome: Genome
    what: str
    choosing: bool

    @property
    def constant(self) -> bool:
        """Whether a number stands in the place of a part."""
        return self.what.endswith(_CONSTANTS)


def simplify(genome: Genome) -> Simplified:
    """Take away genes and parts of expressions for as long as the genome acts the same: exactly, or on the probe.

    What is left is written in canonical form, with composites where they fit. Raises GenomeError.
    """
    wanted = probe_hash(genome)
    removed: list[str] = []
    while True:
        identity = _identity(genome)
        for candidate in _smaller(genome):
            smaller = candidate.genome
            exact = _identity(smaller) == identity
            if (exact or (not candidate.choosing and _acts(smaller) == wanted)) and _readable(smaller):
                genome = smaller
                removed.append(f"{candidate.what} ({EXACT if exact else ON_THE_PROBE})")
                break
        else:
            break
    tidy = with_composites(canonical(genome))
    return Simplified(tidy if _acts(tidy) == wanted and _readable(tidy) else genome, tuple(removed))


def with_one_thing_less(genome: Genome) -> Iterator[tuple[str, Genome]]:
    """Genomes without one gene or one part of an expression, largest things first, each with what it lacks.

    They act differently, as a rule: what each thing is worth, trainings must say. Parts give way to what they are made
    of, not to 0 or 1, which would take the things around them away as well.
    """
    if genome.evaluation:
        yield f"evaluation: {show(genome.evaluation.offset)}", replace(genome, evaluation=None)
    if genome.query:
        yield f"query: {show(genome.query.offset)}", replace(genome, query=None)
        if genome.query.as_evaluated:
            yield "query.as_evaluated", replace(genome, query=replace(genome.query, as_evaluated=False))
    for candidate in _smaller(genome):
        if not candidate.constant and _readable(candidate.genome):
            yield candidate.what, candidate.genome


def _acts(genome: Genome) -> str | None:
    try:
        return probe_hash(genome)
    except GenomeError:
        return None


def _readable(genome: Genome) -> bool:
    """Whether the genome's text is read again: what is left of a constant may lie outside its domain."""
    try:
        return parse(dump(genome)) == genome
    except GenomeError:
        return False


def _identity(genome: Genome) -> str | None:
    try:
        return genome_identity(genome)
    except GenomeError:
        return None


@cache
def _chooses(name: str) -> bool:
    """Whether a word chooses or rounds, or is made of one that does."""
    primitive = TABLE.get(name)
    if primitive is None:  # a name in a body
        return False
    if primitive.result == "mask" or (primitive.op and OPERATIONS[primitive.op].chooses):
        return True
    return bool(primitive.body) and any(
        _chooses(node.name) for _, statement in body(name) for node in statement.walk() if node.value is None
    )


@dataclass(frozen=True)
class _Names:
    """What is known of the names of ``let`` lines: which are masks, and which choose or are made of what does."""

    masks: frozenset[str]
    choosing: frozenset[str]

    @staticmethod
    def of(genome: Genome) -> _Names:
        """The names of a genome."""
        masks = frozenset(name for name, kind in kinds(genome.let).items() if kind == "mask")
        found = _Names(masks, frozenset())
        for _ in genome.let:  # a state may choose by a line below it
            choosing = frozenset(line.name for line in genome.let if found.has_choice(line.expr))
            found = _Names(masks, choosing)
        return found

    def is_mask(self, tree: Expression) -> bool:
        """Whether the expression is a comparison rather than a number."""
        return tree.name in self.masks or is_mask(tree)

    def has_choice(self, tree: Expression) -> bool:
        """Whether a part of the expression chooses or rounds."""
        return any(node.name in self.choosing or _chooses(node.name) for node in tree.walk() if node.value is None)

    def smaller(self, tree: Expression, ahead: bool) -> Iterator[tuple[Expression, str, bool]]:
        """Trees with one node replaced by one of its arguments, or by 0 or 1, and whether a choice hangs on that.

        ``ahead``: one does already, outside this tree.
        """
        if tree.value is not None or not tree.arguments:
            return
        if not self.is_mask(tree):
            for result in (0.0, 1.0):
                yield number(result), f"{show(tree)} is {result:g}", ahead or self.has_choice(tree)
        # a factor that chooses may hide what it is multiplied by; a summand cannot
        beside = tree.name not in ("add", "sub") and any(map(self.has_choice, tree.arguments))
        below = ahead or _chooses(tree.name) or beside
        for i, argument in enumerate(tree.arguments):
            lost = any(map(self.has_choice, tree.arguments[:i] + tree.arguments[i + 1 :]))
            if argument.value is None and self.is_mask(argument) == self.is_mask(tree):
                yield argument, f"{show(tree)} acts as {show(argument)}", below or lost
        for i, argument in enumerate(tree.arguments):
            for part, what, choosing in self.smaller(argument, below):
                yield replace(tree, arguments=(*tree.arguments[:i], part, *tree.arguments[i + 1 :])), what, choosing


def _smaller(genome: Genome) -> Iterator[_Candidate]:
    """Genomes with one thing less, largest things first.

    Terms and decay are summed, so a choice in one hides nothing of another; gates, post, schedule and roles change or
    multiply what the others made.
    """
    names = _Names.of(genome)
    kind = DECAY_KINDS[genome.decay.kind]
    pull = parse_expression(kind.pull or "0", "gates")
    after = any(map(names.has_choice, (*genome.post, genome.schedule)))
    gated = after or any(map(names.has_choice, genome.gates))
    anywhere = gated or any(names.has_choice(term.expr) for term in genome.terms) or names.has_choice(pull)
    used = genome.without_unused_lines()
    if used.let != genome.let:
        yield _Candidate(used, f"let: {', '.join(line.name for line in genome.let if line not in used.let)}", True)
    if genome.query and is_never(genome.query.when) and not genome.query.outputs:
        yield _Candidate(replace(genome, query=None), f"query: {show(genome.query.offset)}", True)
    if genome.evaluation and is_never(genome.evaluation.when):
        yield _Candidate(replace(genome, evaluation=None), f"evaluation: {show(genome.evaluation.offset)}", True)
    if genome.decay.kind != "none":
        choosing = after if kind.joins == "u" and not names.has_choice(pull) else True  # else a part of every g
        yield _Candidate(replace(genome, decay=Decay()), f"decay: {genome.decay.kind}", choosing)
    if genome.schedule != ONE:
        yield _Candidate(replace(genome, schedule=ONE), f"schedule: {show(genome.schedule)}", anywhere)
    for role, scale in genome.roles:
        roles = tuple(r for r in genome.roles if r[0] != role)
        yield _Candidate(replace(genome, roles=roles), f"roles.{role}: {scale:g}", anywhere)
    for gene in ("gates", "post"):
        items = getattr(genome, gene)
        for i, item in enumerate(items):
            without = replace(genome, **{gene: items[:i] + items[i + 1 :]})
            yield _Candidate(without, f"{gene}.{i}: {show(item)}", anywhere)
            for part, what, choosing in names.smaller(item, anywhere):
                changed = replace(genome, **{gene: (*items[:i], part, *items[i + 1 :])})
                yield _Candidate(changed, f"{gene}.{i}: {what}", choosing)
    terms = genome.terms
    for i, term in enumerate(terms):
        if len(terms) > 1:
            without = replace(genome, terms=terms[:i] + terms[i + 1 :])
            yield _Candidate(without, f"terms.{i}: {show(term.expr)}", gated or names.has_choice(term.expr))
        for part, what, choosing in names.smaller(term.expr, gated):
            changed = (*terms[:i], replace(term, expr=part), *terms[i + 1 :])
            yield _Candidate(replace(genome, terms=changed), f"terms.{i}: {what}", choosing)
    for part, what, choosing in names.smaller(genome.schedule, anywhere):
        yield _Candidate(replace(genome, schedule=part), f"schedule: {what}", choosing)
    for i, line in enumerate(genome.let):  # what hangs on a name is not looked for: any choice may
        for part, what, choosing in names.smaller(line.expr, anywhere or bool(names.choosing)):
            changed = (*genome.let[:i], replace(line, expr=part), *genome.let[i + 1 :])
            yield _Candidate(replace(genome, let=changed), f"let.{i}: {what}", choosing)
