"""What a user may name as a target, and what is said about a name that is none."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

import pytest
import torch

from evo.errors import UsageError
from evo.evaluation.targets import resolve, train_lanes, with_switched_off
from evo.records import Lane
from evo.training.jobs import fields
from genomes import catalogue
from genomes.analysis.calibration import without_calibration
from genomes.language import genome
from harness.sandbox import Limits
from harness.task import Instance, seed_bytes
from harness.train import train

CASES = Path(__file__).parents[2] / "cases"
FINISHING = ["torch_adamw.py", "bom.py", "adamw"]  # the second begins with a byte order mark
SUBMISSION = """
def optimizer_init_state(seed, param_sizes): return None
def optimizer_step(state, model_params, gradients, epoch, train_loss, val_loss):
    return [-1e-6 * g for g in gradients]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(genome.dump(catalogue.load("lion").renamed("mine")))
    (tmp_path / "theirs.py").write_text(SUBMISSION)
    (tmp_path / "broken.yaml").write_text("genome: 1\nname: broken\nlr: fast\n")
    (tmp_path / "notes.txt").write_text("")
    return tmp_path


def test_names_genome_files_and_submissions_are_targets(folder):
    targets = resolve(["adam", "mine.yaml", "theirs.py"])
    assert [target.name for target in targets] == ["adam", "mine.yaml", "theirs.py"]
    assert [target.foreign for target in targets] == [False, False, True]
    context = {"shapes": [(2, 3)], "roles": ["weight"], "trainable": [True], "layers": [0]}
    for target in targets:
        with target.optimizer() as optimizer:
            state = optimizer.init_state(bytes(32), [6], **context, device=torch.device("cpu"), dtype=torch.float32)
            updates = optimizer.step(state, [torch.ones(2, 3)], [torch.ones(2, 3)], 0, None, None)
        assert updates[0].shape == (2, 3)
        assert (updates[0] < 0).all()


def test_a_worker_trains_every_kind_of_target_as_this_process_does(folder):
    instance = Instance("tig", 2, seed_bytes(3))
    targets = resolve(["adam", "mine.yaml", "theirs.py"])
    lanes = [fields(Lane(target.hash, target.text, instance, epochs=1)) for target in targets]
    answers = dict(train_lanes(lanes, patience=50, device="cpu"))
    assert len(answers) == 3
    for position, target in enumerate(targets):
        answer = answers[position]
        with target.optimizer() as optimizer:
            training = train(instance, optimizer, epochs=1)
        assert answer["train_loss"] == training.train_loss
        assert answer["quality"] == training.quality


def test_adamw_of_torch_trains_as_the_known_one(monkeypatch):
    monkeypatch.chdir(CASES)
    assert Path("bom.py").read_bytes().startswith(codecs.BOM_UTF8), "a formatter took what this is about"
    lanes = [fields(Lane(t.hash, t.text, Instance("tig", 2, seed_bytes(0)), 2)) for t in resolve(FINISHING)]
    answers = dict(train_lanes(lanes, patience=50, device="cpu"))
    assert [answers[position]["status"] for position in range(3)] == ["finished"] * 3
    theirs, known = answers[0], answers[2]
    assert theirs["train_loss"] == pytest.approx(known["train_loss"], rel=1e-4)
    assert theirs["quality"] == pytest.approx(known["quality"], abs=1e-3)


def test_a_submission_that_cannot_be_opened_is_a_result(folder):
    (folder / "theirs.py").write_text("def broken(:")
    (target,) = resolve(["theirs.py"], Limits(load_seconds=5))
    lane = fields(Lane(target.hash, target.text, Instance("tig", 2, bytes(32)), epochs=1))
    ((_, answer),) = train_lanes([lane], patience=50, device="cpu")
    assert answer["status"] == "syntax_error"
    assert answer["message"].startswith("theirs.py:1:")
    assert answer["target_loss"] > 0


def test_equal_targets_share_a_hash_and_a_changed_file_does_not(folder):
    def hash_of(name: str) -> str:
        return resolve([name])[0].hash

    assert hash_of("adam") == hash_of("adam") != hash_of("lion")
    before = hash_of("theirs.py")
    (folder / "theirs.py").write_text(SUBMISSION + "\n# changed\n")
    assert hash_of("theirs.py") != before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adm", "did you mean adam?"),
        ("quux", "evo catalogue lists the known ones"),
        ("mime.yaml", "mime.yaml: no such file; did you mean mine.yaml?"),
        ("their.py", "did you mean theirs.py?"),
        ("nowhere/x.yaml", "nowhere/x.yaml: no such file"),
        ("broken.yaml", "broken.yaml:3: lr:"),
        ("notes.txt", "a genome's file ends in .yaml, a submission's in .py"),
        ("", "neither a known optimizer"),
    ],
)
def test_what_is_no_target_is_refused_with_a_hint(name, message, folder):
    with pytest.raises(UsageError) as caught:
        resolve([name])
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_mistakes_are_told_at_once(folder):
    with pytest.raises(UsageError) as caught:
        resolve(["adm", "adam", "adam", "mime.yaml"])
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == ["adm", "adam", "mime.yaml"]


MEANINGLESS = {
    "clip.yaml": ('terms:\n  - {expr: "clip(g, norm(g))"}', "clip.yaml:5: terms.0.expr: clip: limit must be"),
    "schedule.yaml": ('schedule: "g"\nterms: [{expr: "g"}]', "schedule.yaml:4: schedule: g has no value here"),
    "when.yaml": (
        'terms: [{expr: g}]\nquery: {offset: delta, when: "g > 0"}',
        "when.yaml:5: query.when: only t, epoch, has_loss, train_loss, val_loss and numbers may",
    ),
}


@pytest.mark.parametrize("name", MEANINGLESS)
def test_a_genome_without_meaning_is_no_target(name: str, tmp_path: Path):
    """Not one that trains to the worst quality."""
    genes, message = MEANINGLESS[name]
    path = tmp_path / name
    path.write_text(f"genome: 1\nname: x\nlr: 1e-3\n{genes}\n")
    with pytest.raises(UsageError, match=re.escape(f"{tmp_path}/{message}")):
        resolve([str(path)])


def test_beside_a_genome_that_calibrates_stands_the_same_without(folder):
    targets = with_switched_off(resolve(["adam", "calibrated_adam", "theirs.py"]))
    names = ["adam", "calibrated_adam", "calibrated_adam without calibration", "theirs.py"]
    assert [target.name for target in targets] == names
    assert genome.parse(targets[2].text) == without_calibration(catalogue.load("calibrated_adam"))
    with pytest.raises(UsageError, match="--without-calibration: no genome here calibrates"):
        with_switched_off(resolve(["adam", "theirs.py"]))
