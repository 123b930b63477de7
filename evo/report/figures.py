"""The pictures of a report, as SVG text to be set into a page; they take their text color from the page."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, cycle
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from evo.evaluation.bounds import MEAN_BLIND
from evo.formatting import interval, steps
from evo.records import Estimate
from evo.report.data import BesideBound, Curve, OnFront, Point, Priced, Report
from evo.report.lineage import Drawing
from harness.result import Training

# Okabe and Ito's colors, which people with any color vision tell apart, and both light and dark pages show
ORANGE, BLUE, GREEN, PURPLE, SKY = "#e69f00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9"
BASELINES = (ORANGE, GREEN, PURPLE, SKY)
_INK, _GRID = "#010203", "#040506"  # stand for the page's text and line colors
_SIZE = (9.2, 3.6)
_DASHED = (0, (4, 2))
NAMED = 12  # most promotions whose ids stand in the picture
MOST_INSTANCES = 60  # in a picture
_GOLDEN = 0.6180339887498949  # multiples of it spread evenly, modulo 1
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,  # a name with $ is no formula
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def generations(report: Report) -> str:
    """The best and the median of each generation over training steps, as differences to the first baseline."""
    points = report.points
    with matplotlib.rc_context(_STYLE):
        figure, axes = _over_budget(report)
        _band(axes, points, [p.best for p in points], BLUE, "best of the generation", width=2.2)
        medians = [math.nan if p.median is None else p.median for p in points]
        places = [p.budget for p in points]
        axes.plot(places, medians, color=SKY, linewidth=1.6, marker=_marker(points), label="its median")
        _baselines(axes, report)
        return _svg(figure, axes, "generations")


def champion(report: Report) -> str:
    """The champion over training steps, as a difference to the first baseline, with its promotions."""
    points = report.points
    with matplotlib.rc_context(_STYLE):
        figure, axes = _over_budget(report)
        _band(axes, points, [p.champion for p in points], BLUE, "champion", width=2.2, step="post")
        _baselines(axes, report)
        axes.margins(y=0.15)  # room for the ids
        promoted = [(p.budget, p.champion.mean, id) for p in points for id in p.promoted if p.champion]
        if promoted:
            places, heights, _ = zip(*promoted, strict=True)
            axes.plot(places, heights, "^", color=BLUE, markersize=9, label="promoted")
        for place, height, id in promoted[-NAMED:]:
            axes.annotate(id, (place, height), (0, 9), textcoords="offset points", ha="center", fontsize=9)
        return _svg(figure, axes, "champion")


def controls(report: Report) -> str:
    """The champions of the campaign and of its controls over training steps, as differences to the first baseline."""
    colors = (GREEN, PURPLE, SKY, ORANGE)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _over_budget(report, generations=False)
        for control, color in zip(report.controls, cycle(colors)):
            _band(axes, control.points, [p.champion for p in control.points], color, control.algorithm, step="post")
        own = [p.champion for p in report.points]
        _band(axes, report.points, own, BLUE, report.recipe.search.algorithm, width=2.2, step="post")
        return _svg(figure, axes, "controls")


def front(found: Sequence[OnFront]) -> str:
    """Qualities with their 95 % intervals over operations per step; color: state buffers. Baselines are crosses."""
    states = sorted({each.states for each in found})
    colors = dict(zip(states, cycle((SKY, BLUE, GREEN, ORANGE, PURPLE))))
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes("elementwise operations per parameter and step", "quality")
        axes.set_xscale("symlog", linthresh=8)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        for count in states:
            members = [each for each in found if each.states == count and each.rank]
            axes.plot([], [], "o", color=colors[count], label=f"{count} state{'s' if count != 1 else ''}")
            for each in members:
                style = {"color": colors[count], "markersize": 9 if each.rank == 1 else 6, "elinewidth": 1.2}
                spread = (each.estimate.high - each.estimate.low) / 2
                axes.errorbar(each.operations, each.estimate.mean, spread, fmt="o", **style)
        for each in found:
            if not each.rank:
                axes.plot(each.operations, each.estimate.mean, "x", color=colors[each.states], markersize=8)
            label = str(each.rank) if each.rank else each.name
            place = (each.operations, each.estimate.mean)
            offset = ((7, 4), (-12, 4), (7, -12), (-12, -12))[each.rank % 4] if each.rank else (7, -12)
            axes.annotate(label, place, offset, textcoords="offset points", fontsize=9)
        return _svg(figure, axes, "front")


def _over_budget(report: Report, generations: bool = True) -> tuple[Figure, Axes]:
    """Axes of training steps, with the campaign's ``generations`` above, and differences to the reference."""
    reference, points = report.reference, report.points
    figure, axes = _axes(
        "training steps of all lanes, cumulated", f"quality less that of {reference}" if reference else "quality"
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: steps(round(value))))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8))
    if generations:
        above = axes.secondary_xaxis("top")
        step = math.ceil(len(points) / 12)
        shown = points[step - 1 :: step]
        above.set_xticks([p.budget for p in shown], [str(p.number) for p in shown])
        above.set_xlabel("generation")
    if reference:
        axes.axhline(0, color=BASELINES[0], linewidth=1.3, linestyle=_DASHED, label=reference)
    return figure, axes


def _baselines(axes: Axes, report: Report) -> None:
    for name, color in zip(report.baselines[1:], cycle((*BASELINES[1:], BASELINES[0])), strict=False):
        _band(axes, report.points, [p.baselines.get(name) for p in report.points], color, name, style=_DASHED)


def _band(
    axes: Axes,
    points: Sequence[Point],
    values: Sequence[Estimate | None],
    color: str,
    label: str,
    width: float = 1.3,
    style: Any = "-",
    step: Any = None,
) -> None:
    """A line of estimates with their 95 % intervals; ``step``: as of ``fill_between``."""
    means, low, high = ([math.nan if v is None else getattr(v, end) for v in values] for end in ("mean", "low", "high"))
    places = [p.budget for p in points]
    drawn = f"steps-{step}" if step else "default"
    axes.plot(
        places,
        means,
        color=color,
        linewidth=width,
        linestyle=style,
        drawstyle=drawn,
        marker=_marker(points),
        label=label,
    )
    axes.fill_between(places, low, high, color=color, alpha=0.14, linewidth=0, step=step)
    if len(points) == 1 and math.isfinite(means[0]):
        axes.vlines(places, low, high, color=color, linewidth=1.3)


def _marker(points: Sequence[Point]) -> str | None:
    return "o" if len(points) < 3 else None  # a line of one point is not seen


def learning_curves(curves: Sequence[Curve]) -> str:
    """Mean validation loss by epoch, on a logarithmic scale."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes("epoch", "mean validation loss")
        for curve, color in zip(curves, chain([BLUE], cycle(BASELINES)), strict=False):
            values = [value if math.isfinite(value) else math.nan for value in curve.val_loss]
            marker = "o" if len(values) == 1 else None
            width = 2.2 if color == BLUE else 1.4
            axes.plot(range(len(values)), values, color=color, linewidth=width, marker=marker, label=curve.name)
        targets = [curve.target_loss for curve in curves if math.isfinite(curve.target_loss)]
        if targets:
            style = {"linewidth": 1.2, "linestyle": (0, (1, 3))}
            axes.axhline(targets[0], color=_INK, label="target (quality 0)", **style)
        _loss_scales(axes)
        return _svg(figure, axes, "curves")


def instance_curves(trainings: Mapping[str, Sequence[Training]]) -> str:
    """Validation losses by epoch, a line for each training, of one or more optimizers by name."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes("epoch", "validation loss")
        for (name, runs), color in zip(trainings.items(), chain([BLUE], cycle(BASELINES)), strict=False):
            shown = [run.val_loss for run in runs if run.val_loss][:MOST_INSTANCES]
            for number, losses in enumerate(shown):
                values = [value if math.isfinite(value) else math.nan for value in losses]
                marker = "o" if len(values) == 1 else None
                label = name if number == 0 else None
                axes.plot(
                    range(len(values)), values, color=color, linewidth=1.2, alpha=0.75, marker=marker, label=label
                )
        _loss_scales(axes)
        return _svg(figure, axes, "instances")


def _loss_scales(axes: Axes) -> None:
    """A logarithmic scale of losses over epochs."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))


def beside_bound(found: BesideBound) -> str:
    """Qualities by instance, sorted by the bound of optimizers that ignore the mean; triangles lie below the axis.

    A line leads from the champion without its calibration, a circle, to the champion with it. Of many instances, some
    are shown, evenly spaced by their bounds.
    """
    found = _thinned(found)
    places = range(len(found.bounds))
    depths = list(map(str, found.depths)) if len(places) <= 40 else []
    instances = "hidden layers of the instances" if depths else "instances"
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(f"{instances}, sorted by their bound", "quality")
        floor = min(found.bounds) - 0.4
        for rank, (name, color) in enumerate(zip(found.qualities, chain([BLUE], cycle(BASELINES)), strict=False)):
            known = [(x, y) for x, y in zip(places, found.qualities[name], strict=True) if y is not None]
            inside = [(x, y) for x, y in known if y >= floor]
            below = [(x, floor) for x, y in known if y < floor]
            style = {"color": color, "markersize": 6 if color == BLUE else 4.5, "alpha": 0.85, "zorder": 3 - rank / 100}
            axes.plot(*_columns(inside), "o", label=name, **style)
            axes.plot(*_columns(below), "v", **style)
        _without_calibration(axes, found, floor)
        width = min(14.0, 420 / len(places))
        axes.plot(places, found.bounds, "_", color=_INK, markersize=width, markeredgewidth=1.8, label=MEAN_BLIND)
        axes.set_xticks(places[: len(depths)], depths)
        axes.margins(x=0.5 / len(places))
        return _svg(figure, axes, "bound")


def _thinned(found: BesideBound) -> BesideBound:
    """At most `MOST_INSTANCES` of the instances; those on which the champion trained without calibration first."""
    count = len(found.bounds)
    blind = found.without_calibration or [None] * count
    order = sorted(range(count), key=lambda i: (blind[i] is None, (i * _GOLDEN) % 1))
    kept = sorted(order[:MOST_INSTANCES])

    def some(values: Sequence[Any]) -> list[Any]:
        return [values[i] for i in kept]

    qualities = {name: some(values) for name, values in found.qualities.items()}
    return BesideBound(some(found.depths), some(found.bounds), qualities, found.without_calibration and some(blind))


def _without_calibration(axes: Axes, found: BesideBound, floor: float) -> None:
    champion, *_ = found.qualities
    sides = zip(found.qualities[champion], found.without_calibration or [], strict=False)
    known = [(x, ours, blind) for x, (ours, blind) in enumerate(sides) if blind is not None]
    if not known:
        return
    places, blind = [x for x, _, _ in known], [max(blind, floor) for _, _, blind in known]
    style = {"color": BLUE, "markersize": 6, "markerfacecolor": "none", "zorder": 2.5}
    axes.plot(places, blind, "o", label=f"{champion} without calibration", **style)
    ends = [max(blind, floor) if ours is None else max(ours, floor) for _, ours, blind in known]
    axes.vlines(places, blind, ends, color=BLUE, linewidth=1, alpha=0.5, zorder=2)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def quality_against_cost(prices: Sequence[Priced]) -> str:
    """Estimates with their intervals over operations; the area of a mark grows with the state buffers."""
    colors = {"others": SKY, "baseline": ORANGE, "hall of fame": GREEN, "champion": BLUE}
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes("operations per parameter and step", "quality")
        for order, (kind, color) in enumerate(colors.items()):
            found = [each for each in prices if each.kind == kind]
            if not found:
                continue
            places = [max(1, each.operations) for each in found]
            known = [each.estimate for each in found]
            style = {"color": color, "zorder": 2 + order / 10}
            axes.vlines(places, [e.low for e in known], [e.high for e in known], linewidth=1, alpha=0.5, **style)
            sizes = [22 * (1 + each.states) for each in found]
            axes.scatter(places, [e.mean for e in known], s=sizes, alpha=0.8, linewidth=0, label=kind, **style)
            if kind in ("champion", "baseline"):
                for each in found:
                    place = (max(1, each.operations), each.estimate.mean)
                    axes.annotate(each.name, place, (7, 4), textcoords="offset points", fontsize=9)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        return _svg(figure, axes, "cost")


def formula(lines: Sequence[str]) -> str:
    """Lines of LaTeX, set by matplotlib; empty where it cannot set one of them."""
    with matplotlib.rc_context({**_STYLE, "svg.fonttype": "path", "text.parse_math": True, "mathtext.fontset": "cm"}):
        figure = Figure(figsize=(9.2, 1), dpi=72)
        renderer, top = FigureCanvasAgg(figure).get_renderer(), 1.0
        try:
            for line in lines:
                text = figure.text(0, top, f"${line}$", fontsize=15, va="top")
                top -= (text.get_window_extent(renderer).height + 14) / 72
            return _saved(figure, "formula")
        except (ValueError, RuntimeError):  # mathtext knows less than TeX
            return ""


def lineage(drawing: Drawing, link: Callable[[str], str] | None = None) -> str:
    """The ancestors as rows, latest first, each with lines to its parents, as version histories are drawn.

    ``link``: the address that an individual's row leads to, by its id.
    """
    row, column, left, top = 26, 18, 12, 15
    text = left + column * (max(drawing.columns, default=0) + 1) + 6

    def x(position: tuple[int, int]) -> int:
        return left + column * position[1]

    def y(position: tuple[int, int]) -> int:
        return top + row * position[0]

    parts = []
    for rail in drawing.rails:
        color = (BLUE, *BASELINES)[rail.end[1] % 5]
        turn = min(y(rail.start) + row, y(rail.end))
        middle = (y(rail.start) + turn) / 2
        curve = f"C {x(rail.start)} {middle}, {x(rail.end)} {middle}, {x(rail.end)} {turn}"
        path = f"M {x(rail.start)} {y(rail.start)} {curve} L {x(rail.end)} {y(rail.end)}"
        parts.append(f'<path d="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
    for number, (ancestor, column_of) in enumerate(zip(drawing.rows, drawing.columns, strict=True)):
        member, position = ancestor.individual, (number, column_of)
        color = (BLUE, *BASELINES)[column_of % 5]
        quality = "no estimate" if ancestor.estimate is None else interval(ancestor.estimate)
        kept = f", kept for {ancestor.kept} more" if ancestor.kept else ""
        name = f' "{_escaped(member.name)}"' if member.name != member.id else ""
        made = _escaped(f"{member.operator} from {ancestor.source}" if ancestor.source else member.operator)
        words = f"<tspan font-weight='600'>{member.id}</tspan>{name} · {made} · {quality}{kept}"
        parts.append(f'<circle cx="{x(position)}" cy="{y(position)}" r="5" fill="{color}"/>')
        words = f'<text x="{text}" y="{y(position) + 4}" font-size="13" fill="currentColor">{words}</text>'
        parts.append(f'<a href="{_escaped(link(member.id))}">{words}</a>' if link else words)
    height = top + row * len(drawing.rows)
    return f'<svg viewBox="0 0 760 {height}" width="760" height="{height}" role="img">{"".join(parts)}</svg>'


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _svg(figure: Figure, axes: Axes, name: str) -> str:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    return _saved(figure, name)


def _saved(figure: Figure, name: str) -> str:
    """SVG text without prologue; ids differ between pictures and not between runs."""
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, bbox_inches="tight", metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor").replace(_GRID, "var(--line)")
    text = _without_styles(text)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    return re.sub(r'(url\(#|href="#)', rf"\1{name}-", text)


def _without_styles(svg: str) -> str:
    """The same picture with attributes for styles, which a strict content security policy forbids."""
    defaults = ' stroke-linejoin="round" stroke-linecap="butt"'  # what matplotlib's style sheet says of all elements
    svg = re.sub(r"<style.*?</style>", "", svg, count=1, flags=re.DOTALL)
    return re.sub(r"<\w[^<>]*>", _attributes, svg.replace("<svg", f"<svg{defaults}", 1))


def _attributes(tag: re.Match[str]) -> str:
    def named(style: re.Match[str]) -> str:
        pairs = (declaration.partition(":") for declaration in style[1].split(";") if declaration.strip())
        return "".join(f' {name.strip()}="{value.strip()}"' for name, _, value in pairs)

    return re.sub(r'\sstyle="([^"]*)"', named, tag[0])


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
