"""Workers train on the flat path; its results are those of the literal loop, within rounding, whoever computes them."""

import json
import sys
from pathlib import Path

import pytest
import torch

from evo.campaign.folder import RunFolder
from evo.campaign.run import Machine, launch
from evo.errors import UsageError
from evo.ledger.ledger import Ledger
from evo.records import Lane
from evo.training import trainer, worker
from evo.training.jobs import fields
from genomes import catalogue
from genomes.backends.flat.optimizer import FlatProgram
from genomes.compiler.lowering import lower
from genomes.language.genome import dump, parse
from harness import flat
from harness.task import Instance, seed_bytes

RECIPE = """\
name: small
population: 4
generations: 1
epochs: 2
difficulty: {depths: [2]}
start: {catalogue: [adam, adamw, lion, nadam], random: 0}
instances: {search: 2, final: 1}
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
    assert launch(path, device="cpu", machine=machine).finished
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        rows = ledger.rows("SELECT hash, num_hidden_layers, seed, status, val_loss FROM evaluations")
        return ledger.digest(), {tuple(lane): (status, json.loads(losses)) for *lane, status, losses in rows}


@pytest.mark.slow
def test_a_campaign_agrees_with_the_literal_loop_and_does_not_depend_on_workers_or_batches(tmp_path):
    digest, quick = _results(tmp_path / "one", Machine(1))
    assert _results(tmp_path / "two", Machine(2, batch=3))[0] == digest
    _, batched = _results(tmp_path / "batched", Machine(1, batch=100, function="tests.evo.batched_worker:train"))
    _, literal = _results(tmp_path / "literal", Machine(1, function=worker.TRAIN_LITERAL))
    for path in (quick, batched):
        common = path.keys() & literal.keys()
        assert (
            len(common) >= 8
        )  # four individuals, one of them the baseline; later lanes depend on what the first ones came to
        for lane in common:
            assert path[lane][0] == literal[lane][0]
            assert path[lane][1] == pytest.approx(literal[lane][1], rel=BOUND)
        assert any(path[lane] != literal[lane] for lane in common)  # they did take two paths


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


class FakeGpu:
    """Stands in for `batches`: trains each lane on the CPU, the last first; fails as genomes are told to."""

    def __init__(self, faults: dict[str, Exception]):
        self.faults = {lower(parse(text)): fault for text, fault in faults.items()}
        self.sizes: list[int] = []

    def train_batch(self, lanes, *, epochs, patience, device, dtype):
        assert (device, dtype) == ("cuda", "float32")
        self.sizes.append(len(lanes))
        for position in reversed(range(len(lanes))):
            program, instance = lanes[position]
            if program in self.faults:
                raise self.faults[program]
            yield position, flat.train(instance, FlatProgram(program), epochs=epochs, patience=patience)


@pytest.fixture
def on_gpu(monkeypatch):
    """Trains lanes of genomes' texts as a worker on a GPU does: the fake GPU, and what was answered."""

    def call(texts: list[str], **faults: Exception) -> tuple[FakeGpu, dict]:
        gpu = FakeGpu({dump(catalogue.load(name)): fault for name, fault in faults.items()})
        monkeypatch.setattr(trainer, "train_batch", gpu.train_batch)
        monkeypatch.setattr(trainer, "expect_to_work", lambda device: None)
        lanes = [FIELDS | {"text": text} for text in texts]
        answers = list(trainer.train_lanes(lanes, patience=50, device="cuda"))
        assert sorted(position for position, _ in answers) == list(range(len(texts)))  # each once
        return gpu, dict(answers)

    return call


def test_on_a_gpu_lanes_are_trained_together(on_gpu):
    texts = [dump(catalogue.load(name)) for name in ("adam", "lion", "nadam")]
    gpu, answers = on_gpu([texts[0], "lr: what", *texts[1:]])
    assert gpu.sizes == [3]
    assert answers[1]["status"] == "error"
    assert answers[1]["message"].startswith("GenomeError: ")
    for position, text in ((0, texts[0]), (2, texts[1]), (3, texts[2])):
        ((_, alone),) = trainer.train_lanes([FIELDS | {"text": text}], patience=50, device="cpu")
        assert answers[position] | {"seconds": 0} == alone | {"seconds": 0}


def test_on_a_gpu_an_exception_is_the_error_of_its_cause_alone(on_gpu):
    names = ["sgd", "adam", "lion", "adamw", "nadam", "rmsprop", "heavy_ball", "nesterov"]
    texts = [dump(catalogue.load(name)) for name in names]
    gpu, answers = on_gpu(texts, lion=ValueError("no such kernel"))
    assert answers[2]["message"] == "ValueError: no such kernel"
    assert [answers[i]["status"] for i in range(8)] == ["finished"] * 2 + ["error"] + ["finished"] * 5
    assert gpu.sizes == [8, 2, 1]  # five were done before; the rest is divided


def test_on_a_gpu_that_fails_the_process_ends_so_that_the_pool_takes_another(on_gpu, monkeypatch):
    monkeypatch.setattr(trainer, "exit_process", sys.exit)
    with pytest.raises(SystemExit, match="the GPU failed: an illegal memory access"):
        on_gpu([dump(catalogue.load("sgd"))], sgd=torch.AcceleratorError("an illegal memory access"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_a_gpu_a_worker_for_one_says_so_before_it_blames_a_lane(monkeypatch):
    monkeypatch.setattr(trainer, "exit_process", lambda reason, code: sys.exit(f"{code}: {reason}"))
    with pytest.raises(SystemExit, match="69: device cuda does not work: "):
        list(trainer.train_lanes([FIELDS | {"text": ""}], patience=50, device="cuda"))


@pytest.mark.parametrize(
    ("terms", "error", "message"),
    [
        ('[{expr: "clip(g, norm(g))"}]', UsageError, r"mine.yaml:4: terms.0.expr: clip: limit must be"),
        (
            "[" + ", ".join(f'{{expr: "ema(g, 0.{k})"}}' for k in (1, 2, 3)) + "]",
            UsageError,
            "has 3 states, more than the 2 of limits.states",
        ),
    ],
    ids=["no meaning", "beyond limits"],
)
def test_a_start_genome_that_cannot_take_part_is_refused_before_anything_is_written(
    tmp_path: Path, terms: str, error: type[Exception], message: str
):
    (tmp_path / "mine.yaml").write_text(f"genome: 1\nname: mine\nlr: 1e-3\nterms: {terms}\n")
    recipe = (
        RECIPE.replace("nadam], random: 0}", "nadam], random: 0, genomes: [mine.yaml]}").replace("adamw, ", "")
        + "limits: {states: 2}\n"
    )
    (tmp_path / "recipe.yaml").write_text(recipe)
    with pytest.raises(error, match=message):
        launch(tmp_path, device="cpu", machine=Machine(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yaml", "recipe.yaml"]
