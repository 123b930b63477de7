"""Who takes part, with which settings, and the grids that they are all tuned by."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from evo.recipe.search_settings import ALGORITHMS
from searching import peers
from searching.campaigns import play_campaign
from searching.landscape import Landscape
from searching.play import OutOfBudget, Play

TUNED = Path(__file__).parent / "settings.json"  # what `--tune` found; a contestant that is not there has its first
PRESENT_GA = "present GA"


@dataclass(frozen=True)
class Contestant:
    """A search with its grid of settings. ``needs_constants``: it takes part where all numbers have a worth."""

    name: str
    play: Callable[[Play, Mapping[str, Any]], None]
    grid: Mapping[str, tuple]
    needs_constants: bool = False

    @property
    def points(self) -> list[dict[str, Any]]:
        """Every combination of the grid."""
        return [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]

    @property
    def settings(self) -> dict[str, Any]:
        """Those that tuning found best; without tuning the first of the grid."""
        tuned = json.loads(TUNED.read_text()) if TUNED.exists() else {}
        return tuned.get(self.name, {}).get("settings") or self.points[0]

    def run(self, landscape: Landscape, seed: int, budget: int, settings: Mapping[str, Any] | None = None) -> Play:
        """One run, with ``settings`` or its own."""
        play = Play(landscape, seed, budget)
        try:
            self.play(play, self.settings if settings is None else settings)
        except OutOfBudget:
            return play
        raise AssertionError(f"{self.name} ended before its budget")


def campaign(algorithm: str, fixed: Mapping[str, Any] = {}) -> Callable[[Play, Mapping[str, Any]], None]:
    """A campaign; settings are keys of the recipe as ``section.key``, beside the ``fixed`` ones."""

    def play(play: Play, settings: Mapping[str, Any]) -> None:
        chosen = {"search.algorithm": algorithm, **fixed, **settings}
        play_campaign(play, play.landscape.recipe(play.seed, chosen))

    return play


QUICKSTART = {  # as in runs/quickstart/recipe.yaml
    "population": 16,
    "gate.instances": 0,
    "instances.search": 2,
    "instances.retest": 2,
    "instances.selection": 6,
    "search.tournament": 3,
    "search.contenders": 4,
    "search.elites": 2,
    "search.parsimony": 0.0005,
}
_SMALL = {"population": (16, 24), "instances.search": (4, 8)}  # for budgets that are small beside those of the presets
GRIDS: dict[str, Mapping[str, tuple]] = {  # of our algorithms; others have _SMALL
    "raced_evolution": {
        "population": (16, 12, 24),
        "instances.search": (8, 4),
        "search.islands": (2, 1),
    },
    "genetic": {
        "population": (16, 24),
        "instances.search": (2, 4, 8),
        "instances.retest": (2, 8),
    },
}
OWN_FORMS = ("evolving_optimizers",)  # those that make genomes of a form of their own, which nobody has recorded
_SCORES = {"k": (4, 2, 8), "instances": ("fixed", "fresh")}

CONTESTANTS: dict[str, Contestant] = {
    found.name: found
    for found in (
        *(
            Contestant(name, campaign(name), GRIDS.get(name, _SMALL), name == "evolving_optimizers")
            for name in ALGORITHMS
        ),
        Contestant(PRESENT_GA, campaign("genetic", QUICKSTART), {}),
        Contestant("random search", peers.random_search, {"k": (4, 2, 8, 16), "instances": ("fixed", "fresh")}),
        Contestant("1 + lambda", peers.one_plus_lambda, {"k": (4, 2, 8, 16), "lambda": (4, 2, 8)}),
        Contestant("DEAP mu + lambda", peers.deap_mu_plus_lambda, {"mu": (8, 16), "lambda": (16,), **_SCORES}),
        Contestant("Optuna TPE", peers.optuna_tpe, {"founders": (1, 3), **_SCORES}, needs_constants=True),
        Contestant("Optuna CMA-ES", peers.optuna_cmaes, {"founders": (1, 3), **_SCORES}, needs_constants=True),
    )
}


def contestants(landscape: Landscape) -> list[Contestant]:
    """Those that can play on a landscape."""
    return [found for found in CONTESTANTS.values() if landscape.constants or not found.needs_constants]
