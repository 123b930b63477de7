"""Tables of evaluations, comparisons and calibrations."""

from __future__ import annotations

import math
from statistics import fmean, median

from rich.table import Table

from evo.evaluation.ablation import MARGIN, Explanation
from evo.evaluation.bounds import MEAN_BLIND, mean_blind_quality
from evo.evaluation.calibration import WRITTEN_ALPHA, Calibration
from evo.evaluation.comparison import Comparison
from evo.evaluation.question import Question
from evo.evaluation.reasons import listed, reasons
from evo.evaluation.statistics import LEVEL, POWER
from evo.evaluation.summaries import BUNDLE_SIZE, summarize
from evo.evaluation.trainings import FAILED_QUALITY, Evaluation
from genomes.strict_yaml import escaped
from harness.score import bundle_qualities
from harness.task import TASKS

_QUARTILES = {"25%": "25%", "median": "50%", "75%": "75%"}  # columns, and the quantiles that they show
_MEDIAN = {"median": "50%"}


def summary_table(evaluation: Evaluation) -> Table:
    """A row for each target and depth, and one for all depths of a target."""
    asked = evaluation.question
    threshold = TASKS[asked.task].threshold
    title = f"task {asked.task}, {asked.epochs} epochs at most, init {asked.init}"
    table = Table(title=title + _partial(evaluation))
    table.add_column("target", overflow="fold")
    columns = ["depth", "instances", "mean", "median", "bundle median", "failed"]
    columns += ["test loss / target", "passed"] if threshold else []
    for column in columns:
        table.add_column(column, justify="right")
    depths = [*asked.depths, None] if len(asked.depths) > 1 else list(asked.depths)
    for target in asked.targets:
        for depth in depths:
            if not (results := evaluation.of(target.name, depth)):
                continue
            s = summarize(results)
            cells = [
                "all" if depth is None else str(depth),
                str(s.count),
                f"{s.mean:.3f}",
                f"{s.median:.3f}",
                f"{s.bundle_median:.3f}",
                f"{s.failed:.0%}",
            ]
            if threshold:
                cells += ["–" if s.loss_ratio is None else f"{s.loss_ratio:.3g}", f"{s.passed or 0:.0%}"]
            table.add_row(escaped(target.name), *cells)
    if bounds := _mean_blind(evaluation):
        bundles = [bound for bound in bundle_qualities(bounds, BUNDLE_SIZE) if bound is not None]
        middle = f"{fmean(bounds):.3f}", f"{median(bounds):.3f}", f"{fmean(bundles):.3f}"
        table.add_row(MEAN_BLIND, "any", str(len(bounds)), *middle, "–", style="dim")
    table.caption = f"quality; bundle median: mean over bundles of {BUNDLE_SIZE}"
    if any(result.training.quality is None for result in evaluation.results):
        table.caption += f"; a failed run counts as {FAILED_QUALITY:g}"
    table.caption += _provenance(asked)
    return table


def unfinished(evaluation: Evaluation) -> list[str]:
    """Lines that say of each target why trainings did not finish, and how many; none where all did."""
    lines = []
    for target in evaluation.question.targets:
        results = evaluation.of(target.name)
        if found := reasons(result.training for result in results):
            count = sum(reason.count for reason in found)
            lines.append(f"{escaped(target.name)}: {count} of {len(results)} trainings diverged or failed:")
            lines += [f"  {line}" for line in listed(found)]
    return lines


def training_table(evaluation: Evaluation) -> Table:
    """A row for each training."""
    table = Table("target", "depth", "seed", "status", "epochs", "best", "test loss", "target", "quality")
    for result in evaluation.results:
        t = result.training
        table.add_row(
            escaped(result.target),
            str(result.instance.num_hidden_layers),
            _short(str(evaluation.question.seeds[result.instance.seed])),
            t.status if not t.message else "\n".join(map(escaped, f"{t.status}: {t.message}".splitlines())),
            str(t.epochs_run),
            "–" if t.best_epoch is None else str(t.best_epoch),
            "–" if t.test_loss is None else f"{t.test_loss:.4g}",
            f"{t.target_loss:.4g}",
            "–" if t.quality is None else f"{t.quality:.4f}",
        )
    return table


def pair_table(comparison: Comparison) -> Table:
    """A row for each pair of targets and depth."""
    table = Table(title="paired differences of quality, first minus second" + _partial(comparison.evaluation))
    table.add_column("targets", overflow="fold")
    for column in ("depth", "instances", "mean", f"{LEVEL:.0%} interval", "median", "wins", "p", "p (Holm)", "needed"):
        table.add_column(column, justify="right")
    for pair in comparison.pairs:
        d = pair.paired
        table.add_row(
            escaped(f"{pair.a} − {pair.b}"),
            "all" if pair.depth is None else str(pair.depth),
            str(d.count),
            f"{d.mean:+.4f}",
            "–" if d.low is None else f"{d.low:+.4f} … {d.high:+.4f}",
            f"{d.median:+.4f}",
            f"{d.wins:.0%}",
            f"{d.p:.2g}",
            f"{pair.p_holm:.2g}",
            "–" if d.needed is None else f"{d.needed:,}",
        )
    table.caption = (
        f"interval: bootstrap of the mean; p: Wilcoxon signed-rank; a failed run counts as {FAILED_QUALITY:g}; needed: "
        f"instances for this difference and spread at power {POWER:g} and level {1 - LEVEL:.2g}, "
        "7.85 (standard deviation / mean)²"
    )
    table.caption += _provenance(comparison.question)
    return table


def parts_table(explanation: Explanation) -> Table:
    """A row for each part of an optimizer: what it is worth."""
    table = Table(title=f"what each part is worth: quality {explanation.quality:.3f} less that without it")
    table.add_column("without", overflow="fold")
    for column in ("worth", f"{LEVEL:.0%} interval", "p (Holm)"):
        table.add_column(column, justify="right", no_wrap=True)
    for part in explanation.parts:
        d = part.paired
        interval = "–" if d.low is None else f"{d.low:+.4f} … {d.high:+.4f}"
        table.add_row(escaped(part.what), f"{d.mean:+.4f}", interval, f"{part.p_holm:.2g}")
    table.caption = f"instances: {explanation.instances}; interval: bootstrap of the mean; p: Wilcoxon signed-rank"
    return table


def removed(explanation: Explanation) -> list[str]:
    """What the optimizer can do without, in lines for people."""
    lines = [
        f"removed: {escaped(removal.what)}: {-removal.loss:+.4f}, surely no worse than {-removal.high:+.4f}"
        f" (instances {removal.instances})"
        for removal in explanation.removals
    ]
    return lines or [f"nothing can go without a risk of losing {MARGIN:g}"]


def calibration_table(calibration: Calibration) -> Table:
    """A row for each predictor and depth."""
    asked = calibration.question
    threshold = TASKS[asked.task].threshold
    table = Table(title=f"what can be reached: task {asked.task}")
    table.add_column("predictor", overflow="fold")
    quantiles = _MEDIAN if threshold else _QUARTILES
    columns = ["depth", "instances", "test loss", "mean", "worst", *quantiles, "best"]
    columns += ["above bound"] if calibration.mean_blind else []
    columns += ["passes at alpha", "accuracy_factor"] if threshold else []
    for column in columns:
        table.add_column(column, justify="right")
    for r in calibration.reached:
        cells = [
            r.name,
            "any" if r.depth is None else str(r.depth),
            str(len(r.losses)),
            f"{fmean(r.losses):.4f}",
            f"{fmean(r.qualities):.3f}",
            f"{min(r.qualities):.3f}",
            *(f"{r.quantiles[name]:.3f}" for name in quantiles.values()),
            f"{max(r.qualities):.3f}",
        ]
        if (above := calibration.above_bound(r)) is not None:
            cells.append(f"{above:+.3f}")
        if threshold:
            middle = median(r.alphas)
            cells += [f"{middle:.1f}", "–" if math.isinf(middle) else f"{1000 * (WRITTEN_ALPHA - middle):,.0f}"]
        table.add_row(*cells)
    table.caption = f"mean to best: quality at alpha {WRITTEN_ALPHA:g}; optimizers: {asked.epochs} epochs at most"
    if calibration.mean_blind:
        table.caption += f"; above bound: mean of quality less the {MEAN_BLIND}, on the same instances"
    if any(math.isinf(loss) for r in calibration.reached for loss in r.losses):
        table.caption += f"; a failed run counts as {FAILED_QUALITY:g}"
    table.caption += _provenance(asked)
    return table


def _provenance(asked: Question) -> str:
    """Which instances these were, and what is to be said against them."""
    named = f"\ninstances {asked.labeled} (repeat with --instances {asked.labeled})" if asked.label else ""
    return named + (f"\nwarning: {asked.guessed}" if asked.guessed else "")


def _short(seed: str) -> str:
    """A seed by its first digits; ``--json`` has all of them."""
    return seed if len(seed) <= 20 else f"{seed[:12]}…"


def _mean_blind(evaluation: Evaluation) -> list[float]:
    """The bound of mean-blind optimizers on each seed that was trained on; none for a task that has no such bound."""
    instances = {result.instance.seed: result.instance for result in evaluation.results}
    bounds = map(mean_blind_quality, instances.values())
    return [bound for bound in bounds if bound is not None]


def _partial(evaluation: Evaluation) -> str:
    done = len(evaluation.results)
    return "" if evaluation.complete else f"; partial: {done} of {evaluation.asked} trainings, then interrupted"
