"""What can be evaluated: a known optimizer's name, a genome file, or a foreign submission (a Python file).

A target travels to a worker as text: a genome's YAML, or the path of a submission with its limits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from evo.errors import UsageError
from evo.evaluation.defaults import LOOP, QUICK
from evo.recipe.validation import suggestion
from evo.training import trainer
from evo.training.worker import Answers, one_by_one
from genomes import catalogue
from genomes.analysis.calibration import calibrates, without_calibration
from genomes.backends import torch_reference
from genomes.compiler.lowering import lower, read
from genomes.language import genome
from genomes.language.genome import GenomeError
from harness.optimizer import Optimizer, OptimizerFault
from harness.result import Training
from harness.sandbox import DEFAULT_LIMITS, Limits
from harness.score import target_loss
from harness.submission import open_submission
from harness.train import train

# what a worker of `evo.training.pool` calls, by the loop that genomes are trained in
LOOPS = {LOOP: "evo.evaluation.targets:train_lanes", QUICK: "evo.evaluation.targets:train_lanes_quick"}
_SUBMISSION = "submission "  # no YAML of ours begins so
_YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Target:
    """``name``: as the user wrote it. ``text``: a genome, or where a submission is and what it may use."""

    name: str
    text: str

    @property
    def hash(self) -> str:
        """Equal for targets that give equal results: the same text, and the same content of its file."""
        content = Path(_submission(self.text)["path"]).read_bytes() if self.foreign else b""
        return hashlib.sha256(self.text.encode() + content).hexdigest()

    @property
    def foreign(self) -> bool:
        """Whether it is a submission, which runs in the sandbox."""
        return self.text.startswith(_SUBMISSION)

    @contextmanager
    def optimizer(self) -> Iterator[Optimizer]:
        """Its three functions, for one training at a time. Raises OptimizerFault where a submission fails."""
        if not self.foreign:
            yield torch_reference.optimizer(lower(genome.parse(self.text)))
            return
        fields = _submission(self.text)
        with open_submission(fields.pop("path"), Limits(**fields)) as submission:
            yield submission


def resolve(names: Iterable[str], limits: Limits = DEFAULT_LIMITS) -> list[Target]:
    """The targets called ``names``; ``limits`` hold for foreign ones. Raises UsageError with every mistake."""
    targets, errors = [], []
    for name in names:
        try:
            target = _resolve(name, limits)
            if any(target.name == other.name for other in targets):
                raise UsageError(f"{name}: asked for twice")
            targets.append(target)
        except UsageError as error:
            errors.append(str(error))
    if errors:
        raise UsageError("\n".join(errors))
    return targets


def with_switched_off(targets: Iterable[Target]) -> list[Target]:
    """Targets, and after each genome that calibrates the outputs' mean the same one with that switched off.

    Raises UsageError where none does.
    """
    asked, found = list(targets), []
    for target in asked:
        found.append(target)
        optimizer = None if target.foreign else genome.parse(target.text)
        if optimizer and calibrates(optimizer):
            found.append(Target(f"{target.name} without calibration", genome.dump(without_calibration(optimizer))))
    if len(found) == len(asked):
        raise UsageError(
            "--without-calibration: no genome here calibrates the outputs' mean, so there is nothing to switch off"
            " (submissions cannot be looked into: give their genomes)"
        )
    return found


def train_lanes(lanes: list[dict[str, Any]], **options: Any) -> Answers:
    """Train lanes of targets in the literal loop, one after another; yields position and fields of a `Training`.

    So a genome and the submission that was exported from it give the same numbers, bit for bit.
    """
    yield from one_by_one(_train, lanes, **options)


def train_lanes_quick(lanes: list[dict[str, Any]], **options: Any) -> Answers:
    """Train lanes of targets as `train_lanes` does, genomes on the fast path: other rounding, the same distribution.

    On a GPU that trains all genomes together; submissions come after them, one after another.
    """
    foreign = [lane["text"].startswith(_SUBMISSION) for lane in lanes]
    for function, kind in ((trainer.train_lanes, False), (train_lanes, True)):
        positions = [position for position, other in enumerate(foreign) if other == kind]
        if positions:
            for at, fields in function([lanes[position] for position in positions], **options):
                yield positions[at], fields


def _train(lane: dict[str, Any], *, patience: int, device: str, dtype: str = "float32") -> dict[str, Any]:
    if not lane["text"].startswith(_SUBMISSION):
        return trainer.train_literally(lane, patience=patience, device=device, dtype=dtype)
    instance = trainer.instance(lane)
    options: dict[str, Any] = {"patience": patience, "device": device, "dtype": getattr(torch, dtype)}
    try:
        with Target("", lane["text"]).optimizer() as optimizer:
            return train(instance, optimizer, epochs=lane["epochs"], **options).to_dict()
    except OptimizerFault as fault:  # it could not even be opened
        return Training.failed(fault.status, fault.message, target_loss=target_loss(instance)).to_dict()


def _resolve(name: str, limits: Limits) -> Target:
    path = Path(name)
    if path.suffix == ".py":
        _expect_file(path)
        return Target(name, _SUBMISSION + json.dumps({"path": str(path.resolve()), **asdict(limits)}))
    if path.suffix in _YAML:
        _expect_file(path)
        try:
            return Target(name, genome.dump(read(path)))
        except GenomeError as error:
            raise UsageError(str(error)) from None
        except OSError as error:
            raise UsageError(f"{name}: cannot be read: {error.strerror}") from None
    if name in catalogue.all_names():
        return Target(name, genome.dump(catalogue.load(name)))
    if path.is_file():
        raise UsageError(f"{name}: a genome's file ends in .yaml, a submission's in .py")
    hint = suggestion(name, catalogue.all_names()) or "; evo catalogue lists the known ones"
    raise UsageError(f"{name}: neither a known optimizer nor a genome (.yaml) or submission (.py){hint}")


def _expect_file(path: Path) -> None:
    if path.is_file():
        return
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UsageError(f"{path}: {'not a file' if path.exists() else 'no such file'}{suggestion(path.name, beside)}")


def _submission(text: str) -> dict[str, Any]:
    return json.loads(text.removeprefix(_SUBMISSION))
