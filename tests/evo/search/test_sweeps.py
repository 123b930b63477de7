"""The long sweeps: what the language and breeding promise, over 10,000 genomes each and 2,000 chains of 20 mutations.

Each goes through in ten parts, so that processes can share them: ``pytest -m slow -n auto FILE``.
"""

import random
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
import torch

from evo.randomness import generator
from evo.recipe import reader
from evo.recipe.schema import Limits
from evo.search import breeding, screening
from evo.search.variation import vary as variation
from evo.search.variation.random_genome import random_genome
from evo.search.variation.vary import vary
from genomes import catalogue
from genomes.analysis.probe import probe, probe_hash
from genomes.compiler.canonical import canonical
from genomes.compiler.identity import genome_identity
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


def updates(genome):
    """All updates of a genome in 350 steps of epochs 0 to 999, ``[step, entry]``."""
    network = screening._SMALL
    theta, gradient = torch.linspace(-1, 1, network.size, dtype=torch.float64), torch.zeros(network.size).double()
    run, rng = network.bind(lower(genome), theta, gradient), np.random.Generator(np.random.PCG64(1))
    found = []
    for t, *moment in screening._moments(network):
        run.t = t - 1
        gradient.copy_(torch.from_numpy(rng.standard_normal(network.size)))
        found.append(run.step(*moment).clone())
        theta += torch.tanh(found[-1])
    return torch.stack(found).numpy()


def same(one, other):
    """Whether they act the same but for rounding: the flat back end fuses ``a * b + c``, and not ``c + a * b``."""
    traces = [(probe(lower(genome)).trace, updates(genome)) for genome in (one, other)]
    return all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-7, atol=1e-12, equal_nan=True)
        for a, b in zip(*traces, strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_of_ten_thousand_children_none_is_rejected_that_acts_differently(part, monkeypatch):
    """A child is rejected where it shares its identity with its parent or a member: then it must act the same."""
    bred = defaultdict(dict)  # identity -> the different genomes that had it, by text

    def recorded(genome):
        identity = genome_identity(genome)
        bred[identity].setdefault(dump(genome.renamed("x", "")), genome)
        return identity

    monkeypatch.setattr(breeding, "genome_identity", recorded)
    monkeypatch.setattr(variation, "genome_identity", recorded)
    recipe = reader.from_text(f"name: x\npopulation: 100\nseed: {part}\n")
    breeder = breeding.Breeder(recipe)
    members = breeding.first_generation(breeder, (), lambda done, total: None)
    for generation in range(1, 11):
        rng, seen = generator(part, generation), set()
        parents = [rng.sample(members, 2) for _ in members]
        members = [breeding.new_child(breeder, generation, i, pair, seen) for i, pair in enumerate(parents)]
    groups = [list(genomes.values()) for genomes in bred.values() if len(genomes) > 1]
    print(f"\npart {part}: {sum(map(len, bred.values()))} genomes, {len(bred)} identities, {len(groups)} shared")
    assert [pair for genomes in groups for pair in pairwise(genomes) if not same(*pair)] == []
