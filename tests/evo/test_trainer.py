"""Workers train on the flat path; its results are those of the literal loop, within rounding, whoever computes them."""

import json
from pathlib import Path

import pytest

from evo import campaign, trainer
from evo.campaign import Machine
from evo.folder import RunFolder
from evo.jobs import fields
from evo.ledger import Ledger
from evo.records import Lane
from genomes import catalogue
from genomes.genome import dump
from harness import flat
from harness.task import Instance, seed_bytes

RECIPE = """\
name: small
population: 4
generations: 1
epochs: 2
difficulty: {depths: [2]}
start: {catalogue: [adam, adamw, lion, nadam], random: 0}
instances: {search: 1, retest: 1, selection: 1, final: 1}
baselines: [adam]
"""
INSTANCE = Instance("tig", 2, seed_bytes(1))
FIELDS = fields(Lane("", "", INSTANCE, epochs=1))


# float32 losses of two correct implementations differ by so much after two epochs at depth 2: see test_flat
BOUND = 0.02


def _results(path: Path, machine: Machine) -> tuple[str, dict]:
    """The digest of a campaign's ledger, and by lane: status and validation losses."""
    path.mkdir()
    (path / "recipe.yaml").write_text(RECIPE)
    assert campaign.launch(path, machine=machine).finished
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        rows = ledger.rows("SELECT hash, num_hidden_layers, seed, status, val_loss FROM evaluations")
        return ledger.digest(), {tuple(lane): (status, json.loads(losses)) for *lane, status, losses in rows}


def test_a_campaign_agrees_with_the_literal_loop_and_does_not_depend_on_workers_or_batches(tmp_path):
    digest, quick = _results(tmp_path / "one", Machine(1))
    assert _results(tmp_path / "two", Machine(2, batch=3))[0] == digest
    _, literal = _results(tmp_path / "literal", Machine(1, function=trainer.TRAIN_LITERAL))
    common = quick.keys() & literal.keys()
    assert len(common) >= 5  # four individuals and a baseline; later lanes depend on what the first ones came to
    for lane in common:
        assert quick[lane][0] == literal[lane][0]
        assert quick[lane][1] == pytest.approx(literal[lane][1], rel=BOUND)
    assert any(quick[lane] != literal[lane] for lane in common)  # they did take two paths


def test_lanes_take_the_flat_path_unless_told_otherwise(monkeypatch):
    taken = []
    train = flat.train
    monkeypatch.setattr(flat, "train", lambda *args, **options: taken.append(1) or train(*args, **options))
    lanes = [FIELDS | {"text": dump(catalogue.load("adam"))}]
    ((_, quick),) = trainer.train_lanes(lanes, patience=50, device="cpu")
    assert taken == [1]
    ((_, literal),) = trainer.train_lanes_literal(lanes, patience=50, device="cpu")
    assert taken == [1]
    assert quick["val_loss"] == pytest.approx(literal["val_loss"], rel=1e-3)
    assert quick["quality"] == pytest.approx(literal["quality"], abs=1e-3)
