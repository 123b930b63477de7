"""What can be reached in a task, so that a quality can be read: what ``evo calibrate`` computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any

import numpy as np

from evo.errors import UsageError
from evo.evaluation.bounds import MEAN_BLIND, gaussian_process_loss, mean_blind_loss, zero_loss
from evo.evaluation.defaults import BASELINE_INSTANCES, BASELINES, CALIBRATION_EPOCHS, CALIBRATION_INSTANCES, DEVICE
from evo.evaluation.question import Question, parse_question
from evo.evaluation.trainings import FAILED_QUALITY, Result, evaluate_targets, finite
from evo.events import Listener, ignore
from harness.data import load_data
from harness.result import NUMERICS_VERSION
from harness.score import quality
from harness.task import TASKS

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
WRITTEN_ALPHA = 4.0  # of the written challenge at accuracy_factor 0, and always of `tig`
ASSUMPTIONS = (
    "Gaussian process: knows the noise and the kernel exp(-s² |x - x'|² / 2), the limit of many random features "
    "whose frequencies have the task's standard deviation s; learns from the 1000 training rows. For functions drawn "
    "from that limit no predictor is better on average. It does not know the 128 features of an instance, which a "
    "network does not either, so on a single instance a network may be better.",
    "Zero: always predicts 0, the mean of all functions.",
    "Data do not depend on depth, so these hold for every depth; known optimizers are trained at each.",
)
MEAN_BLIND_ASSUMPTION = (
    "Bound of mean-blind optimizers: the function itself, less its mean over the training rows. The frozen end of the "
    "network gives every training batch outputs of mean 0, so no gradient tells of the mean, and an optimizer that "
    "does not measure it stays near this bound, instance by instance. What depends on depth is how near: running means "
    "lag and losses of float32 round, by some hundredths of quality to either side, and deep networks train less well."
)


@dataclass(frozen=True)
class Reached:
    """What one predictor reaches: test losses, and the alpha at which each run would just meet its target.

    ``name``: ``Gaussian process``, ``zero``, MEAN_BLIND or an optimizer. ``depth``: None where it does not matter.
    ``losses``, ``alphas``: one per instance, infinite for a failed run; an optimizer's are those of the first
    instances. alpha = test loss / (target loss / alpha).
    """

    name: str
    depth: int | None
    losses: tuple[float, ...]
    alphas: tuple[float, ...]

    @property
    def qualities(self) -> tuple[float, ...]:
        """Qualities at WRITTEN_ALPHA: those of `tig`, and of the written challenge at accuracy_factor 0."""
        return tuple(FAILED_QUALITY if math.isinf(a) else quality(a, WRITTEN_ALPHA) or 0.0 for a in self.alphas)

    @property
    def quantiles(self) -> dict[str, float]:
        """Quantiles of the qualities at QUANTILES, by name: ``5%`` and so on."""
        return {f"{q:.0%}": float(np.quantile(self.qualities, q)) for q in QUANTILES}

    @property
    def factors(self) -> tuple[float, ...]:
        """The greatest accuracy_factor at which each run would pass: 4000 - 1000 alpha."""
        return tuple(1000 * (WRITTEN_ALPHA - alpha) for alpha in self.alphas)


@dataclass(frozen=True)
class Calibration:
    """What each predictor reaches: the Gaussian process, zero, where the task hides the mean the bound of optimizers
    that ignore it, then the question's targets at each depth."""

    question: Question
    reached: tuple[Reached, ...]

    @property
    def references(self) -> list[Reached]:
        """Predictors that do not depend on depth."""
        return [r for r in self.reached if r.depth is None]

    @property
    def optimizers(self) -> list[Reached]:
        """The question's targets, each at each depth."""
        return [r for r in self.reached if r.depth is not None]

    @property
    def mean_blind(self) -> Reached | None:
        """The bound of optimizers that ignore the mean; None for a task that does not hide it."""
        return next((r for r in self.references if r.name == MEAN_BLIND), None)

    def above_bound(self, reached: Reached) -> float | None:
        """Mean of quality less the bound of mean-blind optimizers, on the same instances; None without that bound."""
        bound = self.mean_blind
        if bound is None:
            return None
        return fmean(a - b for a, b in zip(reached.qualities, bound.qualities, strict=False))

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the predictors are, in words."""
        return (*ASSUMPTIONS, *([MEAN_BLIND_ASSUMPTION] if self.mean_blind else []))

    @property
    def verdict(self) -> str:
        """In words: what the bounds mean for the task."""
        text = _verdict(self.question.task, self.reached[0])
        return text if self.mean_blind is None else f"{text} {_mean_blind_verdict(self.mean_blind)}"

    def to_dict(self) -> dict[str, Any]:
        """The object of ``evo calibrate --json``; numbers that are not finite are None."""
        return {
            "task": self.question.task,
            "numerics_version": NUMERICS_VERSION,
            "epochs": self.question.epochs,
            "instances": self.question.labeled or None,
            "seeds": list(self.question.seeds.values()),
            "reached": [
                {
                    "name": r.name,
                    "n_hidden": r.depth,
                    "test_loss": finite(r.losses),
                    "alpha": finite(r.alphas),
                    "quality": list(r.qualities),
                    "accuracy_factor": finite(r.factors),
                    "quantiles": r.quantiles,
                    "above_mean_blind": self.above_bound(r),
                }
                for r in self.reached
            ],
            "verdict": self.verdict,
            "assumptions": list(self.assumptions),
        }


def parse_calibration(
    task: str,
    *,
    depths: str | int | Sequence[int] | None = None,
    instances: str | int | None = None,
    seeds: str | int | Sequence[int | str] | None = None,
    epochs: int = CALIBRATION_EPOCHS,
    baselines: Sequence[str] = BASELINES,
) -> Question:
    """`parse_question` for a calibration. ``depths``: by default all of the task. ``baselines``: may be empty.

    Raises UsageError.
    """
    if task not in TASKS:
        raise UsageError(f"TASK {task}: not one of {', '.join(TASKS)}")
    chosen = TASKS[task].depths if depths is None else depths
    question = parse_question(
        baselines or BASELINES, task=task, depths=chosen, instances=instances, seeds=seeds, epochs=epochs,
        default=CALIBRATION_INSTANCES,
    )  # fmt: skip
    return question if baselines else replace(question, targets=())


def calibrate_task(
    question: Question,
    *,
    workers: int = 0,
    device: str = DEVICE,
    baseline_instances: int = BASELINE_INSTANCES,
    progress: Listener = ignore,
) -> Calibration:
    """The bounds and zero on all seeds of ``question``, its targets on the first ``baseline_instances`` of them.

    Raises as `evaluate_targets` does.
    """
    task, seeds = question.task, list(question.seeds)
    reached = [
        _reached("Gaussian process", None, task, {seed: gaussian_process_loss(task, seed) for seed in seeds}),
        _reached("zero", None, task, {seed: zero_loss(task, seed) for seed in seeds}),
    ]
    if TASKS[task].hides_mean:
        reached.append(_reached(MEAN_BLIND, None, task, {seed: mean_blind_loss(task, seed) for seed in seeds}))
    if question.targets and baseline_instances:
        few = replace(question, seeds={seed: question.seeds[seed] for seed in seeds[:baseline_instances]})
        evaluation = evaluate_targets(few, workers=workers, device=device, progress=progress)
        for target in few.targets:
            for depth in few.depths:
                losses = {r.instance.seed: _loss(r) for r in evaluation.of(target.name, depth)}
                reached.append(_reached(target.name, depth, task, losses))
    return Calibration(question, tuple(reached))


def _reached(name: str, depth: int | None, task: str, losses: dict[bytes, float]) -> Reached:
    alphas = [loss / load_data(task, seed).target_loss(1.0) for seed, loss in losses.items()]
    return Reached(name, depth, tuple(losses.values()), tuple(alphas))


def _loss(result: Result) -> float:
    loss = result.training.test_loss
    return math.inf if loss is None or math.isnan(loss) else loss


def _mean_blind_verdict(bound: Reached) -> str:
    """What the bound of mean-blind optimizers means, in words."""
    low, high = bound.quantiles["25%"], bound.quantiles["75%"]
    return (
        f"An optimizer that ignores the mean of the outputs is bounded by {fmean(bound.qualities):.3f} "
        f"(median {median(bound.qualities):.3f}, half of the instances from {low:.3f} to {high:.3f}, all from "
        f"{min(bound.qualities):.3f} to {max(bound.qualities):.3f}): read qualities beside the bound of each instance."
    )


def _verdict(task: str, bound: Reached) -> str:
    losses = f"{fmean(bound.losses):.3g} ({min(bound.losses):.3g} to {max(bound.losses):.3g})"
    if not TASKS[task].threshold:
        return (
            f"A Gaussian process that knows kernel and noise reaches quality {fmean(bound.qualities):.3f} "
            f"({min(bound.qualities):.3f} to {max(bound.qualities):.3f} over {len(bound.losses)} instances), test loss "
            f"{losses}: no optimizer does better on average. A perfect predictor would have 0.875."
        )
    target = fmean(loss / alpha * WRITTEN_ALPHA for loss, alpha in zip(bound.losses, bound.alphas, strict=True))
    factors = median(bound.factors), max(bound.factors), min(bound.factors)
    typical, easiest, hardest = (100 * round(factor / 100) for factor in factors)
    start = (
        f"Passing becomes possible from about accuracy_factor {typical:,} on downwards "
        f"(alpha {median(bound.alphas):.3g}; {easiest:,} on the easiest of {len(bound.losses)} instances, "
        f"{hardest:,} on the hardest)."
    )
    if min(bound.alphas) > WRITTEN_ALPHA:
        return (
            f"As written, no optimizer can pass this task: at accuracy_factor 0 the target is {target:.2g} "
            f"(alpha {WRITTEN_ALPHA:g}), and a Gaussian process that knows kernel and noise has test loss {losses}; "
            f"greater accuracy factors are harder still. {start} Grade it by the ratio of test loss to target."
        )
    return start
