"""``evo calibrate``: what can be reached in a task, so that a quality can be read: a bound, zero, known optimizers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import cdist

from evo.errors import UsageError
from evo.evaluation.evaluate import FAILED_QUALITY, Result, evaluate, terminal, warn
from evo.evaluation.pictures import check, save
from evo.evaluation.question import Question, question, shared_streams
from harness.data import NOISE_STD, TEST, TRAIN, load_data
from harness.result import NUMERICS_VERSION
from harness.score import QUALITY_BOUND, quality
from harness.task import TASKS

WRITTEN_ALPHA = 4.0  # of the written challenge at accuracy_factor 0, and always of `tig`
BASELINES = ("adam", "cautious_adanw")
ASSUMPTIONS = (
    "Gaussian process: knows the noise and the kernel exp(-s² |x - x'|² / 2), the limit of many random features "
    "whose frequencies have the task's standard deviation s; learns from the 1000 training rows. For functions drawn "
    "from that limit no predictor is better on average. It does not know the 128 features of an instance, which a "
    "network does not either, so on a single instance a network may be better.",
    "Zero: always predicts 0, the mean of all functions.",
    "Data do not depend on depth, so both hold for every depth; known optimizers are trained at each.",
)


@dataclass(frozen=True)
class Reached:
    """What one predictor reaches: test losses, and the alpha at which each run would just meet its target.

    ``name``: ``Gaussian process``, ``zero`` or an optimizer. ``depth``: None where it does not matter.
    ``losses``, ``alphas``: one entry an instance, infinite for a failed run. alpha = test loss / (target loss / alpha).
    """

    name: str
    depth: int | None
    losses: tuple[float, ...]
    alphas: tuple[float, ...]

    @property
    def qualities(self) -> tuple[float, ...]:
        """At alpha 4, that is of `tig`, and of the written challenge at accuracy_factor 0."""
        return tuple(FAILED_QUALITY if math.isinf(a) else quality(a, WRITTEN_ALPHA) or 0.0 for a in self.alphas)

    @property
    def factors(self) -> tuple[float, ...]:
        """The greatest accuracy_factor at which each run would pass: 4000 - 1000 alpha."""
        return tuple(1000 * (WRITTEN_ALPHA - alpha) for alpha in self.alphas)


def calibrate(asked: Question, *, workers: int = 0, device: str = "cpu", baseline_instances: int = 4) -> list[Reached]:
    """The bound and zero on all seeds of ``asked``, its targets on the first ``baseline_instances`` of them."""
    seeds = list(asked.seeds)
    reached = [
        _reached(
            "Gaussian process", None, asked.task, {seed: gaussian_process_loss(asked.task, seed) for seed in seeds}
        ),
        _reached("zero", None, asked.task, {seed: zero_loss(asked.task, seed) for seed in seeds}),
    ]
    if not asked.targets or not baseline_instances:
        return reached
    few = replace(asked, seeds={seed: asked.seeds[seed] for seed in seeds[:baseline_instances]})
    results = evaluate(few, workers=workers, device=device)
    for target in few.targets:
        for depth in few.depths:
            of_depth = [r for r in results if (r.target, r.instance.num_hidden_layers) == (target.name, depth)]
            reached.append(_reached(target.name, depth, asked.task, {r.instance.seed: _loss(r) for r in of_depth}))
    return reached


def _reached(name: str, depth: int | None, task: str, losses: dict[bytes, float]) -> Reached:
    alphas = [loss / load_data(task, seed).target_loss(1.0) for seed, loss in losses.items()]
    return Reached(name, depth, tuple(losses.values()), tuple(alphas))


def _loss(result: Result) -> float:
    loss = result.training.test_loss
    return math.inf if loss is None or math.isnan(loss) else loss


def gaussian_process_loss(task: str, seed: bytes) -> float:
    """Test loss of the posterior mean K(test, train) (K(train, train) + noise^2 I)^-1 y, an output at a time.

    K(x, x') = exp(-|x - x'|^2 / (2 l^2)), 1 / l the standard deviation of the task's frequencies: what the covariance
    of sqrt(2 / n) * sum a cos(w x + b) tends to (Rahimi & Recht 2007, with a ~ N(0, 1), so that the variance is 1).
    """
    data = load_data(task, seed)
    length = float(TASKS[task].omega_divisor)
    x, y = data.x.astype(np.float64), data.y.astype(np.float64)
    covariance = _kernel(x[TRAIN], x[TRAIN], length)
    covariance[np.diag_indices_from(covariance)] += NOISE_STD**2
    weights = cho_solve(cho_factor(covariance), y[TRAIN])
    return float(np.mean((_kernel(x[TEST], x[TRAIN], length) @ weights - y[TEST]) ** 2))


def _kernel(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    """``[n, dims]``, ``[m, dims]`` -> ``[n, m]``"""
    return np.exp(cdist(a, b, "sqeuclidean") / (-2 * length**2))


def zero_loss(task: str, seed: bytes) -> float:
    """Test loss of a model that always predicts 0."""
    return float(np.mean(load_data(task, seed).y[TEST].astype(np.float64) ** 2))


def verdict(asked: Question, reached: Sequence[Reached]) -> str:
    """In words: what the bound means for the task."""
    bound = reached[0]
    losses = f"{fmean(bound.losses):.3g} ({min(bound.losses):.3g} to {max(bound.losses):.3g})"
    if not TASKS[asked.task].threshold:
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


def run(
    task: str,
    *,
    depths: str | None = None,
    seeds: str = "0:160000:10000",
    baselines: Sequence[str] = BASELINES,
    baseline_instances: int = 4,
    epochs: int = 100,
    workers: int = 0,
    device: str = "cpu",
    json_output: bool = False,
    out: Path | None = None,
    **options: Any,
) -> None:
    """What ``evo calibrate`` does; ``options``: see `question`; ``out``: the picture.

    Raises UsageError, EvaluatorError.
    """
    if task not in TASKS:
        raise UsageError(f"TASK {task}: not one of {', '.join(TASKS)}")
    chosen = depths or ",".join(map(str, TASKS[task].depths))
    asked = question(baselines or BASELINES, task=task, depths=chosen, seeds=seeds, epochs=epochs, **options)
    if not baselines:
        asked = replace(asked, targets=())
    if out is not None:
        check(out)
    warn(shared_streams(asked.seeds))
    reached = calibrate(asked, workers=workers, device=device, baseline_instances=baseline_instances)
    if out is not None:
        save(picture(asked, reached), out)
    if json_output:
        print(json.dumps(_json(asked, reached), allow_nan=False))
        return
    console = terminal()
    console.print(table(asked, reached))
    console.print(verdict(asked, reached), highlight=False)
    for assumption in ASSUMPTIONS:
        console.print(assumption, style="dim", highlight=False)


def _json(asked: Question, reached: Sequence[Reached]) -> dict[str, Any]:
    def finite(values: Sequence[float]) -> list[float | None]:
        return [value if math.isfinite(value) else None for value in values]

    return {
        "task": asked.task,
        "numerics_version": NUMERICS_VERSION,
        "epochs": asked.epochs,
        "seeds": list(asked.seeds.values()),
        "reached": [
            {
                "name": r.name,
                "n_hidden": r.depth,
                "test_loss": finite(r.losses),
                "alpha": finite(r.alphas),
                "quality": list(r.qualities),
                "accuracy_factor": finite(r.factors),
            }
            for r in reached
        ],
        "verdict": verdict(asked, reached),
        "assumptions": list(ASSUMPTIONS),
    }


def table(asked: Question, reached: Sequence[Reached]) -> Table:
    """A row for each predictor and depth."""
    threshold = TASKS[asked.task].threshold
    result = Table(title=f"what can be reached: task {asked.task}")
    result.add_column("predictor", overflow="fold")
    columns = ["depth", "instances", "test loss", "mean quality", "median quality", "worst", "best"]
    columns += ["passes at alpha", "accuracy_factor"] if threshold else []
    for column in columns:
        result.add_column(column, justify="right")
    for r in reached:
        cells = [
            r.name,
            "any" if r.depth is None else str(r.depth),
            str(len(r.losses)),
            f"{fmean(r.losses):.4f}",
            f"{fmean(r.qualities):.3f}",
            f"{median(r.qualities):.3f}",
            f"{min(r.qualities):.3f}",
            f"{max(r.qualities):.3f}",
        ]
        if threshold:
            middle = median(r.alphas)
            cells += [f"{middle:.1f}", "–" if math.isinf(middle) else f"{1000 * (WRITTEN_ALPHA - middle):,.0f}"]
        result.add_row(*cells)
    result.caption = f"quality at alpha {WRITTEN_ALPHA:g}; optimizers: {asked.epochs} epochs at most"
    if any(math.isinf(loss) for r in reached for loss in r.losses):
        result.caption += f"; a failed run counts as {FAILED_QUALITY:g}"
    return result


def picture(asked: Question, reached: Sequence[Reached]) -> Figure:
    """By depth: the bound and zero as bands over instances, optimizers as dots with their medians.

    ``tig``: quality; ``seed``: the alpha at which a run would pass.
    """
    threshold = TASKS[asked.task].threshold
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()

    def values(r: Reached) -> np.ndarray:
        top = WRITTEN_ALPHA * (1 + QUALITY_BOUND)
        return np.minimum(r.alphas, top) if threshold else np.array(r.qualities)

    for r, color in zip(reached, ("tab:green", "tab:gray"), strict=False):
        axes.axhspan(values(r).min(), values(r).max(), color=color, alpha=0.25, linewidth=0)
        axes.axhline(float(np.median(values(r))), color=color, label=f"{r.name} (median, range)")
    optimizers = list(dict.fromkeys(r.name for r in reached[2:]))
    for k, name in enumerate(optimizers):
        shift = 0.16 * (k - (len(optimizers) - 1) / 2)
        runs = [r for r in reached[2:] if r.name == name]
        middles = [float(np.median(values(r))) for r in runs]
        places = [asked.depths.index(r.depth) + shift for r in runs if r.depth is not None]
        axes.plot(places, middles, "_", markersize=14, markeredgewidth=2, color=f"C{k}", label=f"{name} (median)")
        for place, r in zip(places, runs, strict=True):
            axes.plot([place] * len(r.losses), values(r), "o", markersize=4, alpha=0.6, color=f"C{k}")
    axes.set_xticks(range(len(asked.depths)), [str(depth) for depth in asked.depths])
    axes.set_xlim(-0.5, len(asked.depths) - 0.5)
    axes.set_xlabel("hidden layers")
    if threshold:
        axes.set_ylim(bottom=0)
        axes.axhline(WRITTEN_ALPHA, color="tab:red", linestyle="--", label="target at accuracy_factor 0")
        axes.set_ylabel("alpha at which a run passes (lower is better)")
    else:
        axes.set_ylabel("quality")
    trained = f"; optimizers: {asked.epochs} epochs at most" if optimizers else ""
    axes.set_title(f"what can be reached: task {asked.task}{trained}", fontsize=10)
    axes.legend(fontsize=8, loc="best")
    return figure
