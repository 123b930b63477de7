"""Draw what the packages import: ``python -m docs.import_graph [FILE]`` writes docs/import_graph.png.

Every box imports from boxes below it, in the order that ``tests/imports.py`` states. An arrow is left out where other
arrows lead to the same box.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, permutations
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from tests.imports import ORDER, imports, modules, place

Box = tuple[str, str]  # a top package and an entry of its order; "" where the package is one box
Arrow = tuple[Box, Box]
Point = tuple[float, float]
Line = tuple[Point, Point]

WIDTH, HEIGHT = 0.84, 0.56  # of a box, beside columns and rows that are 1 apart
COLUMNS = {"harness": [0.0], "evo": [1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4.25], "genomes": [5.5, 6.5]}
COLORS = {"harness": "#b8860b", "evo": "#1f5f99", "genomes": "#2e7d4f"}
STARTS = 3  # of the search for a layout
INK, PALE, WRONG = "#222222", "#555555", "#c62828"


def box_of(module: str) -> Box:
    """The box that a module is drawn in."""
    top, entry = place(module)
    return top, entry if ORDER[top] else ""


def boxes() -> list[Box]:
    """All boxes in order: each imports from those before it."""
    return [(top, entry) for top, entries in ORDER.items() for entry in entries or [""]]


def followed(arrows: set[Arrow], start: Box) -> set[Box]:
    """All boxes that arrows lead to from ``start``."""
    found, ahead = set(), [start]
    while ahead:
        at = ahead.pop()
        new = {b for a, b in arrows if a == at} - found
        found |= new
        ahead += new
    return found


def direct(arrows: set[Arrow]) -> set[Arrow]:
    """The arrows less those between boxes that a longer way leads between as well."""
    return {(a, b) for a, b in arrows if not any(b in followed(arrows, c) for x, c in arrows if x == a and c != b)}


def rows(shown: list[Box], arrows: set[Arrow]) -> dict[Box, int]:
    """A row for each box: above all that it imports, and not below the one before it in its package's order."""
    found: dict[Box, int] = {}
    last: dict[str, int] = {}
    for box in shown:
        above = [found[b] + 1 for a, b in arrows if a == box]
        found[box] = last[box[0]] = max([0, last.get(box[0], 0), *above])
    return found


def layout(row_of: dict[Box, int], arrows: set[Arrow]) -> dict[Box, Point]:
    """Where the centers of the boxes are: in columns that let few arrows cross boxes and one another.

    Each row in turn takes its best places, until none finds better ones; the best of a few random starts is taken.
    """
    lines: dict[tuple[str, int], list[Box]] = {}
    for box, row in row_of.items():
        lines.setdefault((box[0], row), []).append(box)
    ways = {}
    for (top, row), line in lines.items():
        places = [xs for xs in permutations(COLUMNS[top], len(line)) if apart(xs)]
        ways[top, row] = [dict(zip(line, xs, strict=True)) for xs in places]
    found = []
    for start in range(STARTS):
        rng = random.Random(start)
        xs = {box: x for line in lines for box, x in rng.choice(ways[line]).items()}
        before = None
        while before != xs:
            before = xs
            for line in lines:
                xs = min((xs | way for way in ways[line]), key=lambda xs: clutter(xs, row_of, arrows))
        found.append(xs)
    xs = min(found, key=lambda xs: clutter(xs, row_of, arrows))
    return {box: (xs[box], row) for box, row in row_of.items()}


def apart(xs: Sequence[float]) -> bool:
    """Whether boxes at these places do not touch."""
    return all(abs(a - b) >= 1 for a, b in combinations(xs, 2))


def clutter(xs: dict[Box, float], row_of: dict[Box, int], arrows: set[Arrow]) -> float:
    """How hard a layout is to read: lines through boxes above all, then crossings, then lines that go far aside."""
    at = {box: (xs[box], row) for box, row in row_of.items()}
    lines = {(a, b): ends_of(at[a], at[b]) for a, b in sorted(arrows)}
    hidden = sum(passes(line, at[box]) for arrow, line in lines.items() for box in at if box not in arrow)
    crossings = sum(cross(a, b) for a, b in combinations(lines.values(), 2))
    return 10 * hidden + crossings + 0.3 * sum((a[0] - b[0]) ** 2 for a, b in lines.values())


def ends_of(above: Point, below: Point) -> Line:
    """From the lower edge of one box to the upper edge of another, shifted a little towards each other."""
    lean = 0.3 * max(-1.0, min(1.0, below[0] - above[0])) * WIDTH
    return (above[0] + lean, above[1] - HEIGHT / 2), (below[0] - lean, below[1] + HEIGHT / 2)


def passes(line: Line, center: Point, margin: float = 0.05) -> bool:
    """Whether a line passes through the box at ``center``, or close by: then it crosses a diagonal."""
    (x, y), right, up = center, WIDTH / 2 + margin, HEIGHT / 2 + margin
    rising, falling = ((x - right, y - up), (x + right, y + up)), ((x - right, y + up), (x + right, y - up))
    return cross(line, rising) or cross(line, falling)


def cross(first: Line, second: Line) -> bool:
    """Whether two lines cross."""

    def side(a: Point, b: Point, c: Point) -> float:
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    (a, b), (c, d) = first, second
    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def draw(path: Path) -> None:
    """Write the picture of the imports as they are to a PNG file."""
    found = modules()
    counts = Counter(box_of(module) for module, file in found.items() if file.stat().st_size)
    arrows = {(a, b) for m, ts in imports(found).items() for t in ts if (a := box_of(m)) != (b := box_of(t))}
    shown = [box for box in boxes() if any(box in arrow for arrow in arrows)]
    number = {box: i for i, box in enumerate(shown)}
    downward = {(a, b) for a, b in arrows if number[a] > number[b]}
    drawn = direct(downward)
    at = layout(rows(shown, downward), drawn)
    top = max(y for _, y in at.values())

    figure = Figure(figsize=(12, 0.8 * top + 2.2), dpi=110, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-0.75, 7.25), ylim=(-1.0, top + 0.95))
    axes.axis("off")
    draw_groups(axes, at, counts)
    draw_arrows(axes, at, drawn, arrows - downward)
    draw_boxes(axes, at, counts)
    note = f"An arrow: imports from. Not drawn: {len(downward - drawn)} of {len(arrows)}, where other arrows lead to."
    if arrows - downward:
        note += " Red: against the order."
    axes.text(3.25, -0.75, note, ha="center", va="center", fontsize=9.5, color=PALE)
    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})


def draw_groups(axes: Axes, at: dict[Box, Point], counts: Counter[Box]) -> None:
    """A colored ground for each top package; its name and size where it has more than one box."""
    for name, columns in COLUMNS.items():
        ys = [y for (top, _), (_, y) in at.items() if top == name]
        left, right, low, high = columns[0] - 0.56, columns[-1] + 0.56, min(ys) - 0.42, max(ys) + 0.42
        color = COLORS[name]
        axes.add_patch(Rectangle((left, low), right - left, high - low, facecolor=color, alpha=0.08, linewidth=0))
        if len(ys) > 1:
            size = sum(count for (top, _), count in counts.items() if top == name)
            axes.text(left + 0.04, high + 0.08, name, color=color, fontsize=15, fontweight="bold")
            axes.text(right - 0.04, high + 0.08, f"{size} modules", color=color, fontsize=10, ha="right")


def draw_arrows(axes: Axes, at: dict[Box, Point], downward: set[Arrow], upward: set[Arrow]) -> None:
    """Straight lines in the importer's color; bent red ones against the order."""
    look = {"arrowstyle": "-|>", "mutation_scale": 11, "shrinkA": 0, "shrinkB": 0, "linewidth": 1.2, "zorder": 1}
    for a, b in sorted(downward):
        axes.add_patch(FancyArrowPatch(*ends_of(at[a], at[b]), color=COLORS[a[0]], **look))
    for a, b in sorted(upward):
        end, start = ends_of(at[b], at[a])
        axes.add_patch(FancyArrowPatch(start, end, color=WRONG, connectionstyle="arc3,rad=0.25", **look))


def draw_boxes(axes: Axes, at: dict[Box, Point], counts: Counter[Box]) -> None:
    """A box for each package: its name, and how many modules it has."""
    for (top, entry), (x, y) in at.items():
        corner, shape = (x - WIDTH / 2, y - HEIGHT / 2), "round,pad=0,rounding_size=0.06"
        look = {"facecolor": "white", "edgecolor": COLORS[top], "linewidth": 1.4}
        axes.add_patch(FancyBboxPatch(corner, WIDTH, HEIGHT, shape, **look))
        count = counts[top, entry]
        middle = {"ha": "center", "va": "center"}
        axes.text(x, y + 0.09, entry or top, fontsize=11.5, fontweight="bold", color=INK, **middle)
        axes.text(x, y - 0.14, "1 module" if count == 1 else f"{count} modules", fontsize=8.5, color=PALE, **middle)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("import_graph.png"))
