"""The study of rungs: what it trains, what goes on after a stop, and what its figures mean."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import rungs

from genomes.compiler.identity import genome_identity
from harness.task import Instance, seed_bytes

RUNGS, END = [2, 5], 9
INSTANCES = [Instance("tig", 3, seed_bytes(k)) for k in range(2)]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rungs, "RESAMPLES", 5)


def recorded(genome: int, number: int, epochs: int, ran: int, quality: float | None) -> rungs.Row:
    return rungs.Row(genome, number, epochs, ran, quality, {str(r): 1.0 / (genome + r) for r in RUNGS})


def whole(quality) -> dict[rungs.Key, rungs.Row]:
    """Six genomes that run to the end; at rungs they have ``quality`` of genome and epochs."""
    return {(g, n, e): recorded(g, n, e, e, quality(g, e)) for g in range(6) for n in range(2) for e in (*RUNGS, END)}


def test_genomes_are_distinct_programs_and_the_same_each_time():
    found = rungs.genomes(9)
    assert len({genome_identity(genome) for genome in found}) == 9
    assert found[:4] == rungs.genomes(9)[:4]


def test_whole_trainings_come_first_and_rungs_that_were_over_are_not_trained_again():
    first = list(rungs.missing(["a", "b"], INSTANCES, RUNGS, END, {}))
    assert [(lane.hash, lane.epochs) for lane in first] == [("0 0", 9), ("1 0", 9), ("0 1", 9), ("1 1", 9)]
    known = {(g, n, END): recorded(g, n, END, 4 if g else END, 0.5) for g in range(2) for n in range(2)}
    second = list(rungs.missing(["a", "b"], INSTANCES, RUNGS, END, known))
    assert [(lane.hash, lane.epochs) for lane in second] == [
        ("0 0", 2), ("0 0", 5), ("1 0", 2), ("0 1", 2), ("0 1", 5), ("1 1", 2)
    ]  # fmt: skip


def test_a_run_that_was_killed_goes_on_and_other_settings_are_refused(tmp_path):
    path, settings = tmp_path / "rungs.jsonl", {"genomes": 2}
    assert rungs.read(path, settings) == {}
    row = recorded(1, 0, END, 7, None)
    with path.open("a") as file:
        file.write(json.dumps(asdict(row)) + '\n{"genome": 1, "inst')
    assert rungs.read(path, settings) == {(1, 0, END): row}
    with path.open("a") as file:
        file.write(json.dumps(asdict(row) | {"genome": 2}) + "\n")
    assert set(rungs.read(path, settings)) == {(1, 0, END), (2, 0, END)}
    with pytest.raises(SystemExit, match="other settings"):
        rungs.read(path, {"genomes": 3})


def test_rankings_that_are_the_same_or_turned_round_have_tau_1_and_minus_1():
    same, turned = whole(lambda g, e: g / 10 + e / 100), whole(lambda g, e: g / 10 if e == END else -g / 10)
    for known, expected in ((same, 1.0), (turned, -1.0)):
        found = rungs.agreements(rungs.values(known, RUNGS, END), RUNGS)
        by_quality = [each for each in found if each.measure == "quality"]
        assert [each.tau for each in by_quality] == pytest.approx([expected] * 2)
        assert [each.kept for each in by_quality] == [float(expected > 0)] * 2
        assert [each.tau for each in found if each.measure == "validation"] == pytest.approx([1.0] * 2)


def test_what_did_not_finish_ranks_last_and_half_recorded_genomes_do_not_count():
    known = whole(lambda g, e: None if g == 3 else g / 10)
    del known[5, 1, 2]
    found = rungs.values(known, RUNGS, END)
    assert found["end"].shape == (5, 2)
    assert found["end"][3].tolist() == [rungs.WORST] * 2
    assert np.argmin(found["quality"][0][:, 0]) == 3


def test_table_and_picture_say_what_was_measured(tmp_path):
    rows = rungs.agreements(rungs.values(whole(lambda g, e: g / 10), RUNGS, END), RUNGS)
    assert "| quality after so many epochs | 2 | 1.00 (" in rungs.table(rows, "6 genomes")
    rungs.picture(rows, "6 genomes", tmp_path / "rungs.png")
    assert (tmp_path / "rungs.png").stat().st_size > 10_000
