"""The comparison with the oracles is sharp: change any number of a known optimizer by 1 %, and it notices.

So the common trajectory reaches every branch in which a number of an entry plays a part. Numbers below 1e-4 (epsilons)
are left out; what else goes unnoticed is listed, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from genomes import catalogue
from genomes.language.expressions import Expression, number
from genomes.language.genome import Genome
from genomes.language.printer import show
from tests.genomes.compare import TOLERANCE, compare

UNNOTICED = {
    "adashift": {"t > 4.04"},  # steps are whole
    "adopt": {"t > 1.01"},
    "radam": {"rectification(0.999) > 0.01"},  # it jumps from 0 past 0.01
    "lars": {"norm(theta) > 0.01", "where(norm(theta) > 0"},  # weights are never all 0
    "asgd": {"t - 1.01", "** 0.7575", "0.000101", "max(1.01, t - 41)"},  # lambda * lr is tiny; the query comes later
    "swan": {"columns > 1.01"},
    "evolved_2025": {"min(1.01", "max(0.01"},  # the ends of the cosine lie beyond the run
    "sgdp": {"project_tangent(u, 0.101)"},  # no cosine falls between 0.1 and 0.101 of its bound
    "adalite": {"rows > 1.01", "1.01)"},  # the trust ratio of a vector of one; its update is a ratio of averages of it
    "spam": {"since < 20.2"},  # steps are whole
    "zclip_adam": {"t <= 25.25", "z > 1.515"},  # no score falls between 1.5 and 1.515
    "adamp": {"project_tangent(u, 0.101)"},
    "sgd_swa_epochs": {"epoch >= 75.75"},  # epochs are whole
    "dgc": {"min(1.00899"},  # tensors of fewer than 1000 entries send one either way
}


def changed(tree: Expression) -> Iterator[tuple[Expression, Expression]]:
    """The tree with one number changed, and the node around that number."""
    for i, argument in enumerate(tree.arguments):
        before, after = tree.arguments[:i], tree.arguments[i + 1 :]
        if argument.value is None:
            for other, around in changed(argument):
                yield replace(tree, arguments=(*before, other, *after)), around
        elif abs(argument.value) >= 1e-4 or argument.value == 0:
            other = replace(tree, arguments=(*before, number(argument.value * 1.01 or 0.01), *after))
            yield other, other


def mutants(entry: Genome) -> Iterator[tuple[str, Genome]]:
    """The entry with one number changed by 1 %, or without one gate: (what was changed, genome)."""
    for i, term in enumerate(entry.terms):
        others = [(around, replace(term, expr=tree)) for tree, around in changed(term.expr)]
        for around, other in others:
            yield show(around), replace(entry, terms=(*entry.terms[:i], other, *entry.terms[i + 1 :]))
        heavier = replace(term, weight=1.01 * term.weight)
        yield f"weight of term {i}", replace(entry, terms=(*entry.terms[:i], heavier, *entry.terms[i + 1 :]))
    for i, line in enumerate(entry.let):
        for tree, around in changed(line.expr):
            lines = (*entry.let[:i], replace(line, expr=tree), *entry.let[i + 1 :])
            yield f"{line.name} = {show(around)}", replace(entry, let=lines)
    for gene in ("gates", "post"):
        items = getattr(entry, gene)
        for i, item in enumerate(items):
            yield f"no {show(item)}", replace(entry, **{gene: (*items[:i], *items[i + 1 :])})
            for tree, around in changed(item):
                yield show(around), replace(entry, **{gene: (*items[:i], tree, *items[i + 1 :])})
    for tree, around in changed(entry.schedule):
        yield show(around), replace(entry, schedule=tree)
    if entry.query:
        yield "no query", replace(entry, query=None)
        for tree, around in changed(entry.query.offset):
            yield show(around), replace(entry, query=replace(entry.query, offset=tree))
    if entry.decay.kind != "none":
        yield "decay", replace(entry, decay=replace(entry.decay, rate=1.01 * entry.decay.rate))
    for scaled, _ in entry.roles:
        yield scaled, replace(entry, roles=tuple((r, 1.01 * s if r == scaled else s) for r, s in entry.roles))
    yield "lr", replace(entry, lr=1.01 * entry.lr)


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue.names())
def test_every_number_matters(name: str):
    excused = UNNOTICED.get(name, set())
    missed = [
        what
        for what, mutant in mutants(catalogue.load(name))
        if not any(part in what for part in excused) and compare(name, mutant).error < TOLERANCE
    ]
    assert not missed, f"{name}: {missed} changed by 1 % and nothing was noticed"
