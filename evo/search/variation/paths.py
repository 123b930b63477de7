"""Where expressions stand in a genome, and how to put another in one's place.

A gene is (kind, index): ``("terms", 0)``, ``("gates", 1)``, ``("schedule", 0)``, ``("offset", 0)``. A path leads from
an expression's root to a node: the index of the argument at each level.
"""

from __future__ import annotations

from dataclasses import replace

from evo.search.variation.constants import PLAIN
from genomes.language.expressions import Expression
from genomes.language.genome import ALWAYS, NEVER, ONE, Genome, Term
from genomes.language.primitives import TABLE, Domain

Gene = tuple[str, int]
Path = tuple[int, ...]


def genes(genome: Genome) -> list[Gene]:
    """All genes that hold an expression."""
    genes: list[Gene] = [("terms", i) for i in range(len(genome.terms))]
    genes += [("gates", i) for i in range(len(genome.gates))]
    genes += [("post", i) for i in range(len(genome.post))]
    if genome.schedule != ONE:
        genes.append(("schedule", 0))
    if genome.query:
        genes += [("offset", 0), ("when", 0)] if genome.query.when != NEVER else []
        genes += [("outputs", i) for i in range(len(genome.query.outputs))]
    if genome.evaluation:
        genes += [("evaluation", 0)]
        genes += [("evaluation when", 0)] if genome.evaluation.when != ALWAYS else []
    return genes + [("let", i) for i in range(len(genome.let))]


def scope_of(gene: Gene) -> str:
    """The scope of a gene's expression: the words that it may use are those of ``primitive_set`` for this scope."""
    return {"terms": "", "let": "", "offset": "post", "evaluation": "post", "outputs": "schedule"}.get(gene[0], gene[0])


def expression_of(genome: Genome, gene: Gene) -> Expression:
    """The expression of a gene."""
    kind, i = gene
    match kind:
        case "terms":
            return genome.terms[i].expr
        case "let":
            return genome.let[i].expr
        case "gates":
            return genome.gates[i]
        case "post":
            return genome.post[i]
        case "schedule":
            return genome.schedule
        case "evaluation" | "evaluation when":
            assert genome.evaluation is not None
            return genome.evaluation.offset if kind == "evaluation" else genome.evaluation.when
    assert genome.query is not None
    match kind:
        case "outputs":
            return genome.query.outputs[i]
        case "when":
            return genome.query.when
    return genome.query.offset


def with_expression(genome: Genome, gene: Gene, expression: Expression) -> Genome:
    """The genome with another expression for a gene."""
    kind, i = gene
    match kind:
        case "terms":
            return with_term(genome, i, replace(genome.terms[i], expr=expression))
        case "let":
            return replace(genome, let=with_item(genome.let, i, replace(genome.let[i], expr=expression)))
        case "gates":
            return replace(genome, gates=with_item(genome.gates, i, expression))
        case "post":
            return replace(genome, post=with_item(genome.post, i, expression))
        case "schedule":
            return replace(genome, schedule=expression)
        case "evaluation" | "evaluation when":
            assert genome.evaluation is not None
            changed = {"offset" if kind == "evaluation" else "when": expression}
            return replace(genome, evaluation=replace(genome.evaluation, **changed))
        case "outputs":
            assert genome.query is not None
            outputs = with_item(genome.query.outputs, i, expression)
            return replace(genome, query=replace(genome.query, outputs=outputs))
    assert genome.query is not None
    return replace(genome, query=replace(genome.query, **{kind: expression}))


def with_term(genome: Genome, i: int, term: Term) -> Genome:
    """The genome with another term i."""
    return replace(genome, terms=with_item(genome.terms, i, term))


def with_item(items: tuple, i: int, item: object) -> tuple:
    """The tuple with another entry i."""
    return (*items[:i], item, *items[i + 1 :])


def paths(expression: Expression, path: Path = ()) -> list[tuple[Path, Expression]]:
    """Every node below with its path, parents first."""
    found = [(path, expression)]
    for i, argument in enumerate(expression.arguments):
        found += paths(argument, (*path, i))
    return found


def literals(expression: Expression) -> list[tuple[Path, Domain]]:
    """Paths of all literals, each with the domain of its place."""
    found = []
    for path, node in paths(expression):
        if node.value is not None:
            domain = None
            if path:
                above = at(expression, path[:-1])
                domain = TABLE[above.name].parameters[path[-1]].domain
            found.append((path, domain or PLAIN))
    return found


def at(expression: Expression, path: Path) -> Expression:
    """The node at the end of a path."""
    for i in path:
        expression = expression.arguments[i]
    return expression


def replaced(expression: Expression, path: Path, new: Expression) -> Expression:
    """The expression with another node at the end of a path."""
    if not path:
        return new
    inner = replaced(expression.arguments[path[0]], path[1:], new)
    return replace(expression, arguments=with_item(expression.arguments, path[0], inner))
