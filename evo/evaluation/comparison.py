"""Paired comparison of targets on the same instances: what ``evo compare`` computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from evo.errors import UsageError
from evo.evaluation.defaults import COMPARISON_INSTANCES
from evo.evaluation.question import Question, parse_question
from evo.evaluation.statistics import POWER, Paired, holm, paired
from evo.evaluation.summaries import summarize
from evo.evaluation.trainings import FAILED_QUALITY, Evaluation


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
        """The pair for people: ``adam − lion, depth 4``."""
        return f"{self.a} − {self.b}" + ("" if self.depth is None else f", depth {self.depth}")


@dataclass(frozen=True)
class Comparison:
    """All pairs of targets of an evaluation: first over all depths, then depth by depth where there are several."""

    evaluation: Evaluation
    pairs: tuple[Pair, ...]

    @property
    def question(self) -> Question:
        """What was asked."""
        return self.evaluation.question

    def to_dict(self) -> dict[str, Any]:
        """The object of ``evo compare --json``: that of ``evo evaluate --json`` with summaries, pairs and warnings."""
        asked = self.question
        groups = [None, *asked.depths] if len(asked.depths) > 1 else list(asked.depths)
        return {
            **self.evaluation.to_dict(),
            "failed_quality": FAILED_QUALITY,
            "summaries": [
                {"target": t.name, "n_hidden": depth, **asdict(summarize(self.evaluation.of(t.name, depth)))}
                for t in asked.targets
                for depth in groups
                if self.evaluation.of(t.name, depth)
            ],
            "pairs": [
                {"a": p.a, "b": p.b, "n_hidden": p.depth, "p_holm": p.p_holm, "count": p.paired.count}
                | asdict(p.paired)
                | {"differences": list(p.paired.differences)}
                for p in self.pairs
            ],
            "warnings": [*asked.warnings, *too_few(self.pairs)],
        }


def parse_comparison(names: Sequence[str | Path], **options: Any) -> Question:
    """`parse_question` for at least two targets. Raises UsageError."""
    question = parse_question(names, default=COMPARISON_INSTANCES, **options)
    if len(question.targets) < 2:
        raise UsageError("TARGET: name at least two to compare, for example adam lion")
    return question


def compare_targets(evaluation: Evaluation) -> Comparison:
    """Compare all pairs of targets, instance by instance.

    Failed runs count as FAILED_QUALITY, so that they rank last in the test and weigh in the mean. Of an evaluation that
    was interrupted, a pair's instances are those that both have finished.
    """
    asked = evaluation.question
    qualities = {(result.target, result.instance): result.counted_quality for result in evaluation.results}
    pairs: list[Pair] = []
    for depths in [None] if len(asked.depths) == 1 else [None, asked.depths]:
        family = []
        for a, b in combinations([target.name for target in asked.targets], 2):
            for depth in depths or [None]:
                common = [i for i in asked.instances if (a, i) in qualities and (b, i) in qualities]
                instances = [i for i in common if depth in (None, i.num_hidden_layers)]
                if instances:
                    sides = ([qualities[name, i] for i in instances] for name in (a, b))
                    family.append((a, b, depth, paired(*sides)))
        corrected = holm([member[-1].p for member in family])
        pairs += [Pair(*member, p_holm=p) for member, p in zip(family, corrected, strict=True)]
    return Comparison(evaluation, tuple(pairs))


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
