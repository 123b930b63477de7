"""Two campaigns beside each other: what differs between their recipes, and what each of them found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evo.campaign.folder import RunFolder
from evo.campaign.run import KNOWN
from evo.campaign.status import Status, facts, has_progress, open_to_read, standing
from evo.errors import UsageError
from evo.recipe import reader
from evo.recipe.reader import Change
from evo.recipe.schema import Recipe
from evo.records import plain
from evo.report.differences import Line, differences
from genomes.analysis.describe import formula


@dataclass(frozen=True)
class Side:
    """One of two campaigns. ``formula``: of its champion, no lines where there is none."""

    status: Status
    recipe: Recipe
    formula: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Two campaigns. ``recipes``: keys whose values differ."""

    first: Side
    second: Side
    recipes: tuple[Change, ...]

    @property
    def results(self) -> list[tuple[str, str, str]]:
        """What is known of each, by the words of `evo status`; a dash where it is known of the other alone."""
        one, other = (_told(side.status) for side in (self.first, self.second))
        return [(label, one.get(label, "–"), other.get(label, "–")) for label in dict.fromkeys((*one, *other))]

    @property
    def formulas(self) -> list[Line]:
        """The champions' formulas, line by line."""
        return differences(self.first.formula, self.second.formula)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {
            "runs": [self.first.status.run, self.second.status.run],
            "recipes": [{"key": each.key, "values": [each.before, each.after]} for each in self.recipes],
            "results": [side.status.to_dict() for side in (self.first, self.second)],
            "formulas": [plain(side.formula) for side in (self.first, self.second)],
        }


def compare_runs(first: Path | str, second: Path | str) -> Comparison:
    """Compare the campaigns in two folders, launched or not. Raises UsageError, LedgerError."""
    one, other = _side(first), _side(second)
    return Comparison(one, other, tuple(reader.changes(one.recipe, other.recipe)))


def _side(path: Path | str) -> Side:
    folder = RunFolder.find(path)
    if not has_progress(folder):
        if not folder.recipe.is_file():
            raise UsageError(f"{folder.path}: there is neither a recipe nor a campaign in it")
        return Side(Status(str(folder.path), "not launched"), reader.load(folder.recipe, known=KNOWN), ())
    with open_to_read(folder, "compare") as ledger:
        found = standing(folder, ledger, ledger.past(), ledger.statuses(), running=folder.in_use())
        hall_of_fame = ledger.checkpoint().hall_of_fame
        champion = tuple(formula(hall_of_fame[0].individual.genome)) if hall_of_fame else ()
        return Side(found, reader.from_text(ledger.meta()["recipe"]), champion)


def _told(status: Status) -> dict[str, str]:
    told = {"state": status.state}
    if status.name:
        told["generations"] = f"{status.generation} of {status.generations}"
        told |= {label: text for label, text in facts(status) if label}
    return told
