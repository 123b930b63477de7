"""``evo compare``: which of several targets is better, on the same instances, and how sure that is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from evo.errors import UsageError
from evo.evaluation.evaluate import FAILED_QUALITY, Result, as_json, evaluate, summarise, summary_table, terminal, warn
from evo.evaluation.pictures import check, save
from evo.evaluation.question import Question, question, shared_streams
from evo.evaluation.statistics import LEVEL, POWER, Paired, holm, paired

MAX_PANELS = 12


@dataclass(frozen=True)
class Pair:
    """Qualities of target ``a`` minus those of ``b``. ``depth``: None for all depths together.

    ``p_holm``: the test's p, corrected over all pairs (and over depths, too, for one depth).
    """

    a: str
    b: str
    depth: int | None
    paired: Paired
    p_holm: float

    @property
    def name(self) -> str:
        return f"{self.a} − {self.b}" + ("" if self.depth is None else f", depth {self.depth}")


def compare(asked: Question, results: Sequence[Result]) -> list[Pair]:
    """All pairs of targets: first over all depths, then depth by depth where there are several.

    Failed runs count as FAILED_QUALITY, so that they rank last in the test and weigh in the mean.
    """
    qualities = {(result.target, result.instance): result.counted_quality for result in results}
    pairs = []
    for depths in [None] if len(asked.depths) == 1 else [None, asked.depths]:
        family = []
        for a, b in combinations([target.name for target in asked.targets], 2):
            for depth in depths or [None]:
                instances = [i for i in asked.instances if depth in (None, i.num_hidden_layers)]
                sides = ([qualities[name, i] for i in instances] for name in (a, b))
                family.append((a, b, depth, paired(*sides)))
        corrected = holm([member[-1].p for member in family])
        pairs += [Pair(*member, p_holm=p) for member, p in zip(family, corrected, strict=True)]
    return pairs


def too_few(pairs: Sequence[Pair]) -> list[str]:
    """A warning for each pair with fewer instances than its spread needs for the difference seen."""
    warnings = []
    for pair in pairs:
        count, needed = pair.paired.count, pair.paired.needed
        if count < 2:
            warnings.append(f"{pair.name}: one instance says nothing about others")
        elif needed is not None and count < needed:
            spread = np.std(pair.paired.differences, ddof=1)
            warnings.append(
                f"{pair.name}: {count} instances are too few; a mean difference of {pair.paired.mean:+.3f} with a "
                f"spread of {spread:.3f} needs about {needed:,} to be found in {POWER:.0%} of comparisons"
            )
    return warnings


def run(
    names: Sequence[str],
    *,
    workers: int = 0,
    device: str = "cpu",
    json_output: bool = False,
    out: Path | None = None,
    **options: Any,
) -> None:
    """What ``evo compare`` does; ``options``: see `question`; ``out``: where the picture goes.

    Raises UsageError, EvaluatorError.
    """
    asked = question(names, **options)
    if len(asked.targets) < 2:
        raise UsageError("TARGET: name at least two to compare, for example adam lion")
    if out is not None:
        check(out)
    warn(shared_streams(asked.seeds))
    results = evaluate(asked, workers=workers, device=device)
    pairs = compare(asked, results)
    if out is not None:
        save(picture(asked, pairs), out)
    if json_output:
        print(json.dumps(_json(asked, results, pairs), allow_nan=False))
        return
    console = terminal()
    console.print(summary_table(asked, results))
    console.print(pair_table(pairs))
    for warning in too_few([pair for pair in pairs if pair.depth is None]):
        warn(warning)


def _json(asked: Question, results: Sequence[Result], pairs: Sequence[Pair]) -> dict[str, Any]:
    """The object of ``evo evaluate --json``, with summaries, pairs and warnings."""
    groups = [None, *asked.depths] if len(asked.depths) > 1 else list(asked.depths)
    summaries = []
    for target in asked.targets:
        for depth in groups:
            of_group = [r for r in results if r.target == target.name and depth in (None, r.instance.num_hidden_layers)]
            summaries.append({"target": target.name, "n_hidden": depth, **asdict(summarise(of_group))})
    return {
        **as_json(asked, results),
        "failed_quality": FAILED_QUALITY,
        "summaries": summaries,
        "pairs": [
            {"a": p.a, "b": p.b, "n_hidden": p.depth, "p_holm": p.p_holm, "count": p.paired.count, **asdict(p.paired)}
            for p in pairs
        ],
        "warnings": [*filter(None, [shared_streams(asked.seeds)]), *too_few(pairs)],
    }


def pair_table(pairs: Sequence[Pair]) -> Table:
    """A row for each pair and depth."""
    table = Table(title="paired differences of quality, first minus second")
    table.add_column("targets", overflow="fold")
    for column in ("depth", "instances", "mean", f"{LEVEL:.0%} interval", "median", "wins", "p", "p (Holm)", "needed"):
        table.add_column(column, justify="right")
    for pair in pairs:
        d = pair.paired
        table.add_row(
            f"{pair.a} − {pair.b}",
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
    return table


def picture(asked: Question, pairs: Sequence[Pair]) -> Figure:
    """Every difference as a dot, by depth, with the mean and its interval; a panel for each pair of targets."""
    together = [pair for pair in pairs if pair.depth is None]
    if len(together) > MAX_PANELS:
        together = [pair for pair in together if pair.a == asked.targets[0].name][:MAX_PANELS]
    columns = min(3, len(together))
    rows = -(-len(together) // columns)
    figure = Figure(figsize=(1.2 + 3.6 * columns, 0.6 + 3.0 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    reach = _reach(together)
    for panel in panels.flat[len(together) :]:
        panel.set_axis_off()
    for panel, whole in zip(panels.flat, together, strict=False):
        by_depth = {p.depth: p.paired for p in pairs if (p.a, p.b) == (whole.a, whole.b)}
        shown = {depth: by_depth.get(depth, whole.paired) for depth in asked.depths}
        panel.axhline(0, color="0.6", linewidth=1)
        for place, d in enumerate(shown.values()):
            values = np.array(d.differences)
            x = place + np.linspace(-0.25, 0.25, len(values)) if len(values) > 1 else np.array([place])
            inside = np.abs(values) <= reach
            panel.plot(x[inside], values[inside], ".", color="tab:blue", alpha=0.5, markersize=5)
            for sign, marker in ((1, "^"), (-1, "v")):
                beyond = values * sign > reach
                panel.plot(x[beyond], np.full(beyond.sum(), sign * reach), marker, color="tab:red", markersize=5)
            if d.low is not None and d.high is not None:
                error = [[d.mean - d.low], [d.high - d.mean]]
                panel.errorbar([place + 0.36], [d.mean], error, fmt="o", color="black", capsize=3, markersize=4)
        panel.set_title(f"{_short(whole.a)} − {_short(whole.b)}", fontsize=9)
        panel.set_xticks(range(len(shown)), [str(depth) for depth in shown])
        panel.set_xlim(-0.5, len(shown) - 0.4)
        panel.set_ylim(-1.08 * reach, 1.08 * reach)
    figure.supylabel("difference of quality (above 0: the first is better)", fontsize=9)
    figure.supxlabel("hidden layers", fontsize=9)
    figure.suptitle(
        f"task {asked.task}, same instances\nblack: mean and {LEVEL:.0%} interval; red: beyond the axis", fontsize=9
    )
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 24 else "…" + name[-23:]


def _reach(pairs: Sequence[Pair]) -> float:
    """Half the height of the axis: a few failed runs do not flatten all the rest."""
    sizes = np.abs(np.concatenate([pair.paired.differences for pair in pairs]))
    usual = float(np.quantile(sizes, 0.9))
    largest = float(sizes.max())
    if largest > 4 * usual:
        largest = max(2 * usual, *(abs(end) for pair in pairs for end in (pair.paired.low or 0, pair.paired.high or 0)))
    return max(0.01, 1.08 * largest)
