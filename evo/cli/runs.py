"""What ``evo runs`` and ``evo diff`` print."""

from __future__ import annotations

import json
from pathlib import Path

from rich.table import Table

from evo.campaign.runs import Listed, find_runs, listed
from evo.cli.messages import say
from evo.cli.terminal import console
from evo.report.comparison import compare_runs

MARKS = {" ": "  ", "-": "- ", "+": "+ "}


def print_runs(folder: Path, *, as_json: bool) -> None:
    """Print where each campaign of a folder stands. Raises UsageError."""
    found = [listed(each) for each in find_runs([folder])]
    if as_json:
        print(json.dumps([{**each.status.to_dict(), "problem": each.problem} for each in found]))
    elif found:
        console().print(_runs(found))
    else:
        say(f"{folder}: there is no campaign in this folder, nor right below it")


def _runs(found: list[Listed]) -> Table:
    table = Table("campaign", "state", "generations", "trainings", "champion", "gap to the reference")
    for each in found:
        trainings = str(each.status.trainings or "")
        table.add_row(each.name, each.state, each.progress, trainings, each.champion or each.problem, each.gap)
    return table


def print_difference(first: Path, second: Path, *, as_json: bool) -> None:
    """Print what differs between two campaigns: recipes, results, the champions' formulas. Raises UsageError."""
    found = compare_runs(first, second)
    if as_json:
        print(json.dumps(found.to_dict()))
        return
    output, names = console(), (found.first.status.run, found.second.status.run)
    if found.recipes:
        table = Table("recipe", *names)
        for each in found.recipes:
            table.add_row(each.key, json.dumps(each.before), json.dumps(each.after))
        output.print(table)
    else:
        print("the recipes are the same")
    table = Table("result", *names)
    for row in found.results:
        table.add_row(*row)
    output.print(table)
    if found.formulas:
        print("the champions' formulas:")
        for line in found.formulas:
            print(MARKS[line.sign] + "".join(text for text, _ in line.parts))
