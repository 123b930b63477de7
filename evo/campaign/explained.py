"""What each part of a champion earns, as ``evo explain RUN`` left it beside the ledger, for report and exports."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from evo import files
from evo.campaign.folder import RunFolder
from evo.evaluation.ablation import Explanation, Removal
from evo.evaluation.question import Question
from genomes.compiler.identity import genome_identity
from genomes.strict_yaml import escaped


@dataclass(frozen=True)
class Earning:
    """What the champion has more than without one part. ``low``, ``high``: of the 95 % interval, where there is one.

    ``p``: corrected over all parts.
    """

    what: str
    mean: float
    low: float | None
    high: float | None
    p: float

    @property
    def in_words(self) -> str:
        """``+0.021 (+0.008 … +0.035)``."""
        ends = "" if self.low is None or self.high is None else f" ({self.low:+.3f} … {self.high:+.3f})"
        return f"{self.mean:+.3f}{ends}"


@dataclass(frozen=True)
class Explained:
    """What ``evo explain`` found. ``hash``: the program; ``where``: task, depths, epochs and instances, in words.

    ``earnings``: largest first. ``removed``: parts that can go, one after another.
    """

    hash: str
    where: str
    earnings: tuple[Earning, ...]
    removed: tuple[Removal, ...]


def keep(folder: RunFolder, explanation: Explanation, question: Question) -> None:
    """Write what was found. Raises EvoError."""
    depths = ", ".join(map(str, question.depths))
    where = f"task {question.task}, depths {depths}, at most {question.epochs} epochs, instances {question.labeled}"
    values = {
        "hash": genome_identity(explanation.genome),
        "where": where,
        **explanation.to_dict(),
    }
    files.write(folder.explanation, json.dumps(values, ensure_ascii=False, indent=1))


def kept(folder: RunFolder) -> Explained | None:
    """What was written last; None without, and where the file is not as `keep` writes it."""
    try:
        values: dict[str, Any] = json.loads(folder.explanation.read_text(encoding="utf-8"))
        earnings = tuple(
            Earning(_plain(part["what"]), part["mean"], part["low"], part["high"], part["p_holm"])
            for part in values["parts"]
        )
        removed = tuple(
            Removal(_plain(each["what"]), each["loss"], each["high"], _plain(each["instances"]))
            for each in values["removals"]
        )
        found = Explained(str(values["hash"]), _plain(values["where"]), earnings, removed)
        _ = [each.in_words for each in earnings], [f"{each.loss:+f}{each.high:+f}" for each in removed]  # numbers?
        return found
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _plain(text: Any) -> str:
    """A text of the file, for one line of a page, a comment or a docstring, whatever somebody wrote into it."""
    return escaped(str(text)).replace("\\", "/").replace('"', "'")
