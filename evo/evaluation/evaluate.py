"""``evo evaluate``: train targets on instances that the user names, and say how well they do."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from evo.evaluation.question import Question, question, shared_streams
from evo.evaluation.targets import TRAIN_LANES
from evo.records import Lane
from evo.training import devices
from evo.training.pool import Pool, available_cpus
from harness.result import NUMERICS_VERSION, Training
from harness.score import QUALITY_BOUND, bundle_qualities, target_loss
from harness.task import TASKS, Instance

FAILED_QUALITY = -QUALITY_BOUND  # what a run without a saved model counts as: the least quality that there is
BUNDLE_SIZE = 4  # instances whose median is one score
SECONDS_PER_LANE = 86_400.0
LINE_SECONDS = 30.0  # between two lines of progress


@dataclass(frozen=True)
class Result:
    target: str
    instance: Instance
    training: Training

    @property
    def counted_quality(self) -> float:
        """Quality, where a run without one counts as the worst."""
        return FAILED_QUALITY if self.training.quality is None else self.training.quality


def evaluate(asked: Question, *, workers: int = 0, device: str = "cpu", progress: bool = True) -> list[Result]:
    """Train all that is asked for, in parallel; results target by target, each in the order of its instances.

    ``workers``: processes, 0 for one a CPU. ``device``: of the literal loop, which trains one lane at a time anywhere.
    Raises WorkerError when no process can be started; UsageError, EvoError for a device that is none.
    """
    devices.for_literal_loop(device)
    hashes = {target: target.hash for target in asked.targets}
    lanes = {
        (target.name, instance): Lane(hashes[target], target.text, instance, asked.epochs)
        for target in asked.targets
        for instance in asked.instances
    }
    with Pool(
        min(workers or available_cpus(), len(lanes)),
        batch=1,
        patience=asked.patience,
        device=device,
        dtype=asked.dtype,
        seconds_per_lane=SECONDS_PER_LANE,
        function=TRAIN_LANES,
    ) as pool:
        done = dict(_shown(pool.train(lanes.values()), len({lane.key for lane in lanes.values()}), progress))
    return [Result(name, instance, done[lane.key]) for (name, instance), lane in lanes.items()]


def _shown(done: Iterable[tuple[Lane, Training]], total: int, progress: bool) -> Iterator[tuple[tuple, Training]]:
    """Pass on what is done; standard error shows a bar where it is a terminal, else a line now and then."""
    terminal, told = sys.stderr.isatty(), time.monotonic()
    with Progress(console=Console(stderr=True), disable=not (progress and terminal)) as bar:
        task = bar.add_task("training", total=total)
        for count, (lane, training) in enumerate(done, start=1):
            if math.isnan(training.target_loss):  # the worker died before it could say
                training = replace(training, target_loss=target_loss(lane.instance))
            yield lane.key, training
            bar.advance(task)
            if progress and not terminal and time.monotonic() - told > LINE_SECONDS:
                told = time.monotonic()
                print(f"trained {count} of {total}", file=sys.stderr, flush=True)


def as_json(asked: Question, results: Iterable[Result]) -> dict[str, Any]:
    """The object of ``--json``, the same for the same question. Numbers that are not finite become null."""
    return {
        "task": asked.task,
        "numerics_version": NUMERICS_VERSION,
        "epochs": asked.epochs,
        "patience": asked.patience,
        "init": asked.init,
        "dtype": asked.dtype,
        "accuracy_factor": asked.accuracy_factor,
        "results": [_entry(asked, result) for result in results],
    }


def _entry(asked: Question, result: Result) -> dict[str, Any]:
    training = result.training
    return {
        "target": result.target,
        "n_hidden": result.instance.num_hidden_layers,
        "seed": asked.seeds[result.instance.seed],
        "status": training.status,
        "message": training.message,
        "epochs_run": training.epochs_run,
        "best_epoch": training.best_epoch,
        "train_loss": [_finite(loss) for loss in training.train_loss],
        "val_loss": [_finite(loss) for loss in training.val_loss],
        "test_loss": _finite(training.test_loss),
        "target_loss": _finite(training.target_loss),
        "quality": _finite(training.quality),
        "passed": training.passed,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Summary:
    """One target on some instances. ``mean``, ``median``: of qualities, failed runs counted as FAILED_QUALITY.

    ``bundle_median``: mean over bundles of BUNDLE_SIZE instances of one depth, each scored by its median.
    ``failed``: share of runs without a quality. ``loss_ratio``: median of test loss / target loss. ``passed``: share
    of runs that reach the target; None for a task that has no threshold.
    """

    count: int
    mean: float
    median: float
    bundle_median: float
    failed: float
    loss_ratio: float | None
    passed: float | None


def summarise(results: Sequence[Result]) -> Summary:
    """The summary of one target's ``results``, which must not be empty."""
    qualities = [result.counted_quality for result in results]
    bundles: list[float | None] = []
    for depth in dict.fromkeys(result.instance.num_hidden_layers for result in results):
        of_depth = [r.counted_quality for r in results if r.instance.num_hidden_layers == depth]
        bundles += bundle_qualities(of_depth, BUNDLE_SIZE)
    losses = [(r.training.test_loss, r.training.target_loss) for r in results]
    ratios = [math.inf if test is None else test / target for test, target in losses]
    passed = [result.training.passed for result in results]
    return Summary(
        count=len(results),
        mean=fmean(qualities),
        median=median(qualities),
        bundle_median=fmean(bundle for bundle in bundles if bundle is not None),
        failed=sum(result.training.quality is None for result in results) / len(results),
        loss_ratio=_finite(median(ratios)),
        passed=None if None in passed else sum(map(bool, passed)) / len(passed),
    )


def run(
    names: Sequence[str],
    *,
    workers: int = 0,
    device: str = "cpu",
    json_output: bool = False,
    verbose: bool = False,
    **options: Any,
) -> None:
    """What ``evo evaluate`` does; ``options`` are those of `question`. Raises UsageError, WorkerError."""
    asked = question(names, **options)
    warn(shared_streams(asked.seeds))
    results = evaluate(asked, workers=workers, device=device)
    if json_output:
        print(json.dumps(as_json(asked, results), allow_nan=False))
        return
    console = terminal()
    if verbose:
        console.print(result_table(asked, results))
    console.print(summary_table(asked, results))


def warn(text: str) -> None:
    """Say ``text`` on standard error, if there is any."""
    if text:
        Console(stderr=True, highlight=False).print(f"warning: {text}", style="yellow")


def terminal() -> Console:
    """Standard output for tables: as wide as the terminal, and wide enough where there is none."""
    return Console(width=None if sys.stdout.isatty() else 140)


def summary_table(asked: Question, results: Sequence[Result]) -> Table:
    """A row for each target and depth, and one for all depths of a target."""
    threshold = TASKS[asked.task].threshold
    table = Table(title=f"task {asked.task}, {asked.epochs} epochs at most, init {asked.init}")
    table.add_column("target", overflow="fold")
    columns = ["depth", "instances", "mean", "median", "bundle median", "failed"]
    columns += ["test loss / target", "passed"] if threshold else []
    for column in columns:
        table.add_column(column, justify="right")
    for target in asked.targets:
        of_target = [result for result in results if result.target == target.name]
        groups: list[tuple[str, list[Result]]] = [
            (str(depth), [r for r in of_target if r.instance.num_hidden_layers == depth]) for depth in asked.depths
        ]
        groups += [("all", of_target)] if len(asked.depths) > 1 else []
        for depth, group in groups:
            s = summarise(group)
            cells = [
                depth,
                str(s.count),
                f"{s.mean:.3f}",
                f"{s.median:.3f}",
                f"{s.bundle_median:.3f}",
                f"{s.failed:.0%}",
            ]
            if threshold:
                cells += ["–" if s.loss_ratio is None else f"{s.loss_ratio:.3g}", f"{s.passed or 0:.0%}"]
            table.add_row(target.name, *cells)
    table.caption = f"quality; bundle median: mean over bundles of {BUNDLE_SIZE}"
    if any(result.training.quality is None for result in results):
        table.caption += f"; a failed run counts as {FAILED_QUALITY:g}"
    return table


def result_table(asked: Question, results: Sequence[Result]) -> Table:
    """A row for each training."""
    table = Table("target", "depth", "seed", "status", "epochs", "best", "test loss", "target", "quality")
    for result in results:
        t = result.training
        table.add_row(
            result.target,
            str(result.instance.num_hidden_layers),
            str(asked.seeds[result.instance.seed]),
            t.status if not t.message else f"{t.status}: {t.message}",
            str(t.epochs_run),
            "–" if t.best_epoch is None else str(t.best_epoch),
            "–" if t.test_loss is None else f"{t.test_loss:.4g}",
            f"{t.target_loss:.4g}",
            "–" if t.quality is None else f"{t.quality:.4f}",
        )
    return table
