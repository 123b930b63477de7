"""MAP-Elites: one elite for each cell, the best; and what is said where the package is missing."""

import importlib
import random
import sys
from dataclasses import replace

import pytest

from evo.errors import UsageError
from evo.recipe import reader
from evo.recipe.rules import Known
from evo.recipe.search_settings import MapElites
from evo.search.evidence import fit
from genomes import catalogue
from genomes.analysis.probe import probe_genome
from tests.evo.search.played import OPEN, begun, play, recipe_of


@pytest.fixture(autouse=True)
def archives():
    """The module of ribs; loaded here, because it takes seconds."""
    return pytest.importorskip("ribs.archives")


def test_memory_tells_families_apart_and_no_learning_rate_changes_it():
    memory = {name: probe_genome(catalogue.load(name)).memory for name in ("sgd", "signsgd", "adam", "signum", "lamb")}
    assert memory["sgd"] == pytest.approx(0, abs=1e-9)
    assert 0.1 < memory["signsgd"] < 0.3 < 0.5 < memory["adam"] < memory["signum"] < 0.8
    faster = replace(catalogue.load("adam"), lr=0.5)
    assert probe_genome(faster).memory == pytest.approx(memory["adam"], abs=1e-6)


def test_each_cell_has_its_best_and_parents_train_again(archives):
    recipe = recipe_of("map_elites", OPEN, generations=5)
    recipe = recipe.model_copy(update={"search": MapElites(cost_cells=20, memory_cells=20)})
    played = play(recipe)
    search = begun(recipe, played, random.Random(0))
    elites = list(search._living())
    grid = archives.GridArchive(solution_dim=1, dims=(20, 20), ranges=((0, 8), (0, 1)))
    cells = {int(grid.index_of_single(search.measures(i))): i for i in elites}
    assert len(cells) == len(elites) > 1
    known = fit(played.observed.values()).estimates
    for individual in played.known.values():
        elite = cells[int(grid.index_of_single(search.measures(individual)))]
        if individual.generation == 4 or individual.hash == elite.hash:
            assert known[individual.hash].mean <= known[elite.hash].mean
    for request, told in zip(played.requests[1:], played.tells[1:], strict=True):
        parents = {played.known[id].hash for i in told.individuals for id in i.parents}
        assert parents <= {lane.hash for lane in request.lanes}


def test_a_recipe_says_where_the_package_is_missing(monkeypatch, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("name: m\nsearch:\n  algorithm: map_elites\n")
    known = Known(lambda: ())
    assert reader.load(path, known=known).search.algorithm == "map_elites"
    monkeypatch.setitem(sys.modules, "ribs", None)
    with pytest.raises(UsageError, match=r"recipe.yaml:3: search.algorithm: map_elites needs the package ribs; .*pip"):
        reader.load(path, known=known)
    monkeypatch.setitem(sys.modules, "ribs.archives", None)
    monkeypatch.delitem(sys.modules, "evo.search.map_elites", raising=False)
    with pytest.raises(UsageError, match="map_elites needs the package ribs; install it with"):
        importlib.import_module("evo.search.map_elites")
