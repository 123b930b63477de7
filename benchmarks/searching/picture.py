"""The picture of a landscape's runs: regret against budget, quartiles shaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from searching.measures import Summary

COLORS = ("#0072b2", "#d55e00", "#555555", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
STYLES = ("-", "--", "-.", ":")


def draw(path: Path, title: str, summaries: Sequence[Summary], founder: float, budget: int) -> None:
    """Write a PNG. ``founder``: regret of the best founder."""
    figure, axes = plt.subplots(figsize=(9.5, 5.5), constrained_layout=True)
    for i, summary in enumerate(summaries):
        low, middle, high = summary.regrets
        color = COLORS[i % len(COLORS)]
        style = "-" if i == 0 else STYLES[(i + i // len(COLORS)) % len(STYLES)]
        axes.plot(summary.lanes, middle, style, color=color, linewidth=2.6 if i == 0 else 1.5, label=summary.name)
        axes.fill_between(summary.lanes, low, high, color=color, alpha=0.10, linewidth=0)
    axes.axhline(founder, color="#999999", linewidth=1, label="best founder")
    top = max(founder * 1.6, *(summary.regrets[1][len(summary.lanes) // 5] * 1.2 for summary in summaries))
    axes.set(
        title=title,
        xlim=(0, budget),
        ylim=(0, top),
        xlabel="trainings (lanes)",
        ylabel="regret of the declared champion",
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
