"""Trainings of targets on instances: what ``evo evaluate`` computes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from evo.errors import UsageError
from evo.evaluation.bounds import mean_blind_quality
from evo.evaluation.defaults import DEVICE, LOOP, QUICK
from evo.evaluation.question import Question
from evo.evaluation.targets import LOOPS
from evo.events import Event, Listener, ignore
from evo.records import Lane
from evo.training import devices
from evo.training.jobs import CUDA_BATCH
from evo.training.pool import LocalPool, available_cpus
from harness.result import NUMERICS_VERSION, Training
from harness.score import QUALITY_BOUND, target_loss
from harness.task import Instance

FAILED_QUALITY = -QUALITY_BOUND  # what a run without a saved model counts as: the least quality that there is
SECONDS_PER_LANE = 86_400.0


@dataclass(frozen=True)
class Result:
    """The training of one target on one instance. ``target``: its name."""

    target: str
    instance: Instance
    training: Training

    @property
    def counted_quality(self) -> float:
        """The quality; FAILED_QUALITY for a run without one."""
        return FAILED_QUALITY if self.training.quality is None else self.training.quality


@dataclass(frozen=True)
class Evaluation:
    """The results of a question, target by target, each in the order of the question's instances.

    After Ctrl-C (see `Interrupted`) some are missing.
    """

    question: Question
    results: tuple[Result, ...]

    def of(self, target: str, depth: int | None = None) -> list[Result]:
        """The results of one target, at one depth or at all of them."""
        return [r for r in self.results if r.target == target and depth in (None, r.instance.num_hidden_layers)]

    @property
    def complete(self) -> bool:
        """Whether every training was finished."""
        return len(self.results) == self.asked

    @property
    def asked(self) -> int:
        """How many trainings the question asks for."""
        return len(self.question.targets) * len(self.question.instances)

    def to_dict(self) -> dict[str, Any]:
        """The object of ``evo evaluate --json``: the same for the same question; numbers that are not finite are None.

        ``mean_blind_bound``: see `evo.evaluation.bounds`; None for a task without it. A training's wall time is left
        out, because it differs from run to run.
        """
        asked = self.question
        return {
            "task": asked.task,
            "numerics_version": NUMERICS_VERSION,
            "epochs": asked.epochs,
            "patience": asked.patience,
            "init": asked.init,
            "dtype": asked.dtype,
            "accuracy_factor": asked.accuracy_factor,
            "instances": asked.labeled or None,
            "complete": self.complete,
            "results": [self._entry(result) for result in self.results],
        }

    def _entry(self, result: Result) -> dict[str, Any]:
        training = result.training.to_dict()
        del training["seconds"]
        return {
            "target": result.target,
            "n_hidden": result.instance.num_hidden_layers,
            "seed": self.question.seeds[result.instance.seed],
            "mean_blind_bound": mean_blind_quality(result.instance),
            **{name: finite(value) for name, value in training.items()},
        }


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came while targets were trained. ``evaluation``: what was finished by then, which may be nothing."""

    def __init__(self, evaluation: Evaluation):
        super().__init__(f"interrupted after {len(evaluation.results)} of {evaluation.asked} trainings")
        self.evaluation = evaluation


def evaluate_targets(
    question: Question,
    *,
    workers: int = 0,
    device: str = DEVICE,
    progress: Listener = ignore,
    loop: str = LOOP,
) -> Evaluation:
    """Train every target on every instance, in parallel.

    ``loop``: ``literal``, the readable loop that defines what a training is, or ``quick``, the loop of campaigns, whose
    results differ by rounding. ``device``: ``cpu`` or ``cuda``; the literal loop trains one lane at a time on either,
    the quick one all lanes of a depth together on a GPU. ``workers``: processes; 0: one per CPU, or per depth for the
    quick loop on a GPU. ``progress`` gets an event ``training`` for each. Raises EvoError where no process can be
    started or the device cannot be used, UsageError for an unknown device or loop, Interrupted (a KeyboardInterrupt)
    after Ctrl-C.
    """
    if loop not in LOOPS:
        raise UsageError(f"--loop {loop}: not one of {', '.join(LOOPS)}")
    together = loop == QUICK and device != "cpu"
    if together:
        devices.for_campaign(device)
    else:
        devices.for_literal_loop(device)
    hashes = {target: target.hash for target in question.targets}
    lanes = {
        (target.name, instance): Lane(hashes[target], target.text, instance, question.epochs)
        for target in question.targets
        for instance in question.instances
    }
    total = len({lane.key for lane in lanes.values()})
    done: dict[tuple, Training] = {}

    def evaluation() -> Evaluation:
        finished = {place: done[lane.key] for place, lane in lanes.items() if lane.key in done}
        return Evaluation(question, tuple(Result(*place, training) for place, training in finished.items()))

    try:
        with LocalPool(
            min(workers or (len(question.depths) if together else available_cpus()), len(lanes)),
            batch=CUDA_BATCH if together else 1,
            patience=question.patience,
            device=device,
            dtype=question.dtype,
            seconds_per_lane=SECONDS_PER_LANE,
            function=LOOPS[loop],
        ) as pool:
            for lane, training in pool.train(lanes.values()):
                done[lane.key] = _with_target_loss(training, lane.instance)
                progress(Event("training", len(done), total))
    except KeyboardInterrupt:
        raise Interrupted(evaluation()) from None
    return evaluation()


def _with_target_loss(training: Training, instance: Instance) -> Training:
    """``training`` with its target loss, which a worker that died could not tell."""
    if math.isnan(training.target_loss):
        return replace(training, target_loss=target_loss(instance))
    return training


def finite(value: Any) -> Any:
    """``value`` for JSON: a number that is not finite becomes None, also in a list."""
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
