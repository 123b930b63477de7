"""Every kind of weight decay: its record is whole, and it lowers, prints and acts as the record says."""

from __future__ import annotations

import json

import pytest
import torch

from genomes.analysis.describe import formula
from genomes.backends import latex
from genomes.backends.torch_reference import optimizer
from genomes.compiler.lowering import lower
from genomes.language.decay import DECAY_KINDS, DECAYING, DecayKind
from genomes.language.genome import Genome, parse
from tests.genomes.drive import drive

KINDS = [DECAY_KINDS[name] for name in DECAYING]


def decayed(kind: str, text: str = "g") -> Genome:
    data = {"genome": 1, "name": "n", "lr": 1, "terms": [{"expr": text}]}
    roles = ["weight", "bias", "norm_scale", "norm_shift"]
    return parse(json.dumps(data | {"decay": {"kind": kind, "rate": 0.25, "roles": roles}}))


def test_the_order_is_that_of_the_draws():
    assert DECAYING == ("decoupled", "cautious", "coupled", "start")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_kind_is_what_its_record_says(kind: DecayKind):
    assert kind.doc
    assert kind.joins in ("g", "u")
    written = {"g": f"g + 0.25 * ({kind.pull})", "u": "g"}[kind.joins]
    genome = parse(json.dumps({"genome": 1, "name": "n", "lr": 1, "terms": [{"expr": written}]}
                   | ({"gates": [f"u + 0.25 * ({kind.pull})"]} if kind.joins == "u" else {})))  # fmt: skip
    found, wanted = (drive(optimizer(lower(g)), 6) for g in (decayed(kind.name), genome))
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_kind_is_printed_where_it_joins(kind: DecayKind):
    (line,) = [line for line in formula(decayed(kind.name)) if "0.25" in line]
    assert line.startswith(f"{kind.joins} <- {kind.joins} + 0.25 * ")
    (line,) = [line for line in latex.render(decayed(kind.name)) if "0.25" in line]
    assert kind.latex in line
    assert line.startswith(kind.joins)


def test_coupled_decay_is_part_of_every_gradient():
    coupled, decoupled = (drive(optimizer(lower(decayed(kind, "sign(g)"))), 2) for kind in ("coupled", "decoupled"))
    assert not all(torch.equal(x, y) for x, y in zip(coupled, decoupled, strict=True))
    assert {float(x) for update in coupled for x in update.flatten()} <= {-1.0, 0.0, 1.0}
