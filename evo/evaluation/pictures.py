"""Pictures of comparisons and calibrations; the same picture is written as the same bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from statistics import median

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evo import files
from evo.errors import EvoError, UsageError
from evo.evaluation.calibration import WRITTEN_ALPHA, Calibration, Reached
from evo.evaluation.comparison import Comparison, Pair
from evo.evaluation.statistics import LEVEL
from genomes.strict_yaml import escaped
from harness.score import QUALITY_BOUND
from harness.task import TASKS

MAX_PANELS = 12
_REFERENCE_COLORS = ("tab:green", "tab:gray", "black")
KINDS = (".png", ".svg", ".pdf")


def check_path(path: Path, *, force: bool) -> None:
    """Raise UsageError where no picture can be written to ``path``: better before the work than after it."""
    files.check_out(path, force=force)
    if files.is_standard_output(path) or files.is_stream(path):
        return
    if path.suffix.lower() not in KINDS:
        raise UsageError(f"--out {path}: a picture's name ends in {', '.join(KINDS)}")
    if not path.parent.is_dir():
        raise UsageError(f"--out {path}: there is no folder {path.parent}")


def write(draw: Callable[[], Figure], path: Path, *, force: bool = False) -> None:
    """Draw a picture and write it to ``path`` (see `evo.files.write_out`) in the format that its name asks for, or PNG.

    Raises EvoError where it cannot be drawn or written, UsageError where the file exists and ``force`` is not given.
    """
    kind = path.suffix.lower() if path.suffix.lower() in KINDS else KINDS[0]
    dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    content = BytesIO()
    try:
        with matplotlib.rc_context({"svg.hashsalt": "evo", "text.parse_math": False, "text.usetex": False}):
            draw().savefig(content, format=kind[1:], dpi=150, metadata=dates.get(kind))
    except Exception as error:  # of matplotlib, whose errors have no kind in common
        reason = " ".join(str(error).split()) or type(error).__name__
        raise EvoError(f"{path}: the picture cannot be drawn: {reason}") from None
    files.write_out(path, content.getvalue(), force=force)


def draw_comparison(comparison: Comparison) -> Figure:
    """Every difference as a dot, by depth, with the mean and its interval; a panel for each pair of targets."""
    asked, pairs = comparison.question, comparison.pairs
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
        f"task {asked.task}, same instances {asked.labeled}\n"
        f"black: mean and {LEVEL:.0%} interval; red: beyond the axis",
        fontsize=9,
    )
    return figure


def _short(name: str) -> str:
    name = escaped(name)
    return name if len(name) <= 24 else "…" + name[-23:]


def _reach(pairs: Sequence[Pair]) -> float:
    """Half the height of the axis: a few failed runs do not flatten all the rest."""
    sizes = np.abs(np.concatenate([pair.paired.differences for pair in pairs]))
    usual = float(np.quantile(sizes, 0.9))
    largest = float(sizes.max())
    if largest > 4 * usual:
        largest = max(2 * usual, *(abs(end) for pair in pairs for end in (pair.paired.low or 0, pair.paired.high or 0)))
    return max(0.01, 1.08 * largest)


def draw_calibration(calibration: Calibration) -> Figure:
    """By depth: bounds and zero as bands over instances, optimizers as dots with their medians.

    ``tig``: quality, and a second panel with every instance beside its bound; the axis ends below the least bound.
    ``seed``: the alpha at which a run would pass.
    """
    asked, mean_blind = calibration.question, calibration.mean_blind
    threshold = TASKS[asked.task].threshold
    figure = Figure(figsize=(12, 5) if mean_blind else (7.5, 4.5), layout="constrained")
    by_depth, *by_instance = np.atleast_1d(figure.subplots(1, 2 if mean_blind else 1, sharey=True))
    _draw_by_depth(by_depth, calibration)
    if threshold:
        by_depth.set_ylim(bottom=0)
        by_depth.axhline(WRITTEN_ALPHA, color="tab:red", linestyle="--", label="target at accuracy_factor 0")
        by_depth.set_ylabel("alpha at which a run passes (lower is better)")
    else:
        by_depth.set_ylabel("quality")
    if mean_blind:
        _draw_by_instance(by_instance[0], calibration, mean_blind)
        by_depth.set_ylim(_floor(calibration) - 0.05, 1)
    for axes in (by_depth, *by_instance):
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.12))
    trained = f"; optimizers: {asked.epochs} epochs at most" if calibration.optimizers else ""
    figure.suptitle(f"what can be reached: task {asked.task}{trained}", fontsize=10)
    return figure


def _draw_by_depth(axes: Axes, calibration: Calibration) -> None:
    asked = calibration.question
    for r, color in zip(calibration.references, _REFERENCE_COLORS, strict=False):
        low, middle, high = np.quantile(_values(r, calibration), (0.25, 0.5, 0.75))
        label = f"{r.name}: median {middle:.3g}, quartiles {low:.3g} to {high:.3g}"
        axes.axhspan(low, high, color=color, alpha=0.2, linewidth=0)
        axes.axhline(middle, color=color, label=label)
    for (name, runs), shift, color in _optimizers(calibration):
        places = [asked.depths.index(r.depth) + shift for r in runs if r.depth is not None]
        medians = [float(np.median(_values(r, calibration))) for r in runs]
        axes.plot(places, medians, "_", markersize=14, markeredgewidth=2, color=color, label=f"{name} (median)")
        for place, r in zip(places, runs, strict=True):
            _draw_runs(axes, np.full(len(r.losses), place), _values(r, calibration), color, _floor(calibration))
    axes.set_xticks(range(len(asked.depths)), [str(depth) for depth in asked.depths])
    axes.set_xlim(-0.5, len(asked.depths) - 0.5)
    axes.set_xlabel("hidden layers")


def _draw_by_instance(axes: Axes, calibration: Calibration, bound: Reached) -> None:
    """Instances sorted by ``bound``; an optimizer's dots are its runs at all depths."""
    places = np.argsort(np.argsort(bound.qualities, kind="stable"))
    size = min(10.0, 240 / len(places))
    for r, color in zip(calibration.references, _REFERENCE_COLORS, strict=False):
        if median(r.qualities) > _floor(calibration):
            axes.plot(places, r.qualities, "_", markersize=size, markeredgewidth=2, color=color, label=r.name)
    for (name, runs), shift, color in _optimizers(calibration):
        for r in runs:
            _draw_runs(axes, places[: len(r.losses)] + shift, _values(r, calibration), color, _floor(calibration))
        axes.plot([], [], "o", markersize=4, alpha=0.6, color=color, label=f"{name}, at each depth")
    axes.set_xticks([])
    axes.set_xlabel(f"{len(places)} instances, sorted by their bound")


def _draw_runs(axes: Axes, x: np.ndarray, y: np.ndarray, color: str, floor: float) -> None:
    """Dots, those below ``floor`` as triangles on it."""
    inside = y >= floor
    axes.plot(x[inside], y[inside], "o", markersize=4, alpha=0.6, color=color)
    axes.plot(x[~inside], np.full((~inside).sum(), floor), "v", markersize=5, color=color)


def _optimizers(calibration: Calibration) -> list[tuple[tuple[str, list[Reached]], float, str]]:
    """Each optimizer's name and runs, how far to the side its dots are drawn, and their color."""
    runs: dict[str, list[Reached]] = {}
    for r in calibration.optimizers:
        runs.setdefault(r.name, []).append(r)
    return [(item, 0.16 * (k - (len(runs) - 1) / 2), f"C{k}") for k, item in enumerate(runs.items())]


def _values(r: Reached, calibration: Calibration) -> np.ndarray:
    """What a picture shows of each instance: quality, or the alpha at which a run passes."""
    if TASKS[calibration.question.task].threshold:
        return np.minimum(r.alphas, WRITTEN_ALPHA * (1 + QUALITY_BOUND))
    return np.array(r.qualities)


def _floor(calibration: Calibration) -> float:
    """Where dots end: some way below the least bound, so that runs that fail do not flatten all the rest."""
    bound = calibration.mean_blind
    return min(bound.qualities) - 0.3 if bound else -math.inf
