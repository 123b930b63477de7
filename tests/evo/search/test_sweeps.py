"""The long sweeps: what the language promises, over 10,000 random genomes and 2,000 chains of 20 mutations.

Each goes through in ten parts, so that processes can share them: ``pytest -m slow -n auto FILE``.
"""

import random

import numpy as np
import pytest

from evo.recipe.schema import Limits
from evo.search.variation.random_genome import random_genome
from evo.search.variation.vary import vary
from genomes import catalogue
from genomes.analysis.probe import probe, probe_hash
from genomes.compiler.canonical import canonical
from genomes.compiler.lowering import lower
from genomes.language.genome import dump, parse

PARTS = 10
CHAIN_BOUNDS = Limits(nodes=200, states=10, terms=8)


def broken(genome, seen):
    """The properties that a genome lacks. ``seen``: the probe's trace of each hash so far."""
    program = lower(genome)
    form = canonical(genome)
    trace, canonical_trace = probe(program).trace, probe(lower(form)).trace
    twin = seen.setdefault(probe_hash(genome), trace)
    properties = {
        "parse is dump's inverse": parse(dump(genome)) == genome and parse(dump(form)) == form,
        "canonical form is final": canonical(form) == form,
        "canonical form keeps behavior": trace.shape == canonical_trace.shape
        and np.allclose(trace, canonical_trace, rtol=1e-10, atol=1e-12, equal_nan=True),
        "equal hashes mean equal probes": np.allclose(twin, trace, rtol=1e-7, atol=0, equal_nan=True),
    }
    return [name for name, kept in properties.items() if not kept]


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_ten_thousand_random_genomes(part):
    seen, failures = {}, []
    for case in range(part, 10_000, PARTS):
        genome = random_genome("r", Limits(), random.Random(case))
        failures += [(case, name) for name in broken(genome, seen)]
    assert failures == []


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_two_thousand_chains_of_twenty_mutations(part):
    seen, failures = {}, []
    for case in range(part, 2_000, PARTS):
        rng = random.Random(case)
        genome = catalogue.load(rng.choice(catalogue.names()))
        for _ in range(20):
            genome = vary([genome], 0.0, {}, CHAIN_BOUNDS, rng).genome
            if parse(dump(genome)) != genome:
                failures.append((case, "parse is dump's inverse"))
        failures += [(case, name) for name in broken(genome, seen)]
    assert failures == []
