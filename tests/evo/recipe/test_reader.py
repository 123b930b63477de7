"""The recipe: every mistake is named with its line, all of them at once."""

import contextlib
import random
from pathlib import Path

import pytest

from evo.recipe import reader
from evo.recipe.reader import RecipeError
from evo.recipe.rules import Known
from evo.recipe.schema import Recipe

KNOWN = Known(lambda: ("mutate_constant", "cross_terms"), lambda: ("adam", "lion", "cautious_adanw"))
CASES = Path(__file__).parents[2] / "cases"
START = "start: {catalogue: [adam], random: 2}\n"


def read(tmp_path: Path, text: str, *overrides: str, **options) -> Recipe:
    (path := tmp_path / "recipe.yaml").write_text(text)
    return reader.load(path, overrides, **{"known": KNOWN, **options})


def errors(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, text, *overrides)
    return [line.replace(f"{tmp_path}/", "") for line in caught.value.errors]


def test_everything_but_the_name_has_a_default(tmp_path):
    recipe = read(tmp_path, "name: x\n" + START)
    assert (recipe.task, recipe.patience, recipe.difficulty.depths) == ("tig", 50, (4, 7, 10, 14, 18))


def test_every_mistake_is_named_with_its_line(tmp_path):
    text = (
        "recipe: 1\nname: Bad Name\npopulaton: 12\ngenerations: 0\nepochs: 1.5\ntask: tigs\n"
        "difficulty:\n  depths: [4, x]\n  sampler: stratfied\nsearch: 3\nstart: {catalogue: [adm]}\n"
    )
    assert errors(tmp_path, text) == [
        "recipe.yaml:2: name: must be lower-case letters, digits, - and _ (at most 64), got 'Bad Name'",
        "recipe.yaml:3: populaton: there is no such key; did you mean population?",
        "recipe.yaml:4: generations: must be at least 1, got 0",
        "recipe.yaml:5: epochs: must be a whole number, got 1.5",
        "recipe.yaml:6: task: must be tig or seed, got 'tigs'; did you mean tig?",
        "recipe.yaml:8: difficulty.depths[1]: must be a whole number, got 'x'",
        "recipe.yaml:9: difficulty.sampler: must be stratified or uniform or curriculum, got 'stratfied';"
        " did you mean stratified?",
        "recipe.yaml:10: search: must be a mapping with keys below it, got 3",
        "recipe.yaml:11: start.catalogue[0]: the catalogue has no 'adm'; did you mean adam?",
    ]


def test_contradictions_are_reported_beside_plain_mistakes(tmp_path):
    text = "name: x\nseed: -1\ndifficulty:\n  depths: [1, 7]\nsearch:\n  islands: 20\n" + START
    assert errors(tmp_path, text) == [
        "recipe.yaml:2: seed: must be at least 0, got -1",
        "recipe.yaml:4: difficulty.depths: with depth 1 the task tig trains no layer; the least is 2",
        "recipe.yaml:6: search.islands: 20 is more than half of the population of 24",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("depths: [4]", "depths: there is no such key; did you mean difficulty.depths?"),
        (
            "variation: {weights: {mutate_const: 1}}",
            "variation.weights.mutate_const: there is no such",
        ),
        (
            "variation: {weights: {mutate_constant: 0, cross_terms: 0}}",
            "variation.weights: all operators have",
        ),
        ("difficulty: {accuracy_factors: [0, 9]}", "difficulty.accuracy_factors: the task tig has none"),
        ("difficulty: {accuracy_factors: [0]}", "difficulty.accuracy_factors[1]: is missing"),
        ("difficulty: {depths: [4, 4]}", "difficulty.depths: 4 stands here a second time"),
        ("difficulty:", "difficulty: must be a mapping with keys below it, got null"),
        ("baselines: [adam, sgd]", "baselines[1]: the catalogue has no 'sgd'"),
        ("search: {islands: 13}", "search.islands: 13 is more than half of the population of 24"),
        ("instances: {search: 4}", "instances.search: 4 are fewer than the 5 depths, of which a race's first block"),
        ("gate: {instances: 7}", "gate.instances: 7 are too few for a trial to tell anything; write at least 8, or 0"),
        ("gate: {look: 3}", "gate.look: 3 are too few to look at; write at least 8, or 0 for what is usual"),
        ("search: {elites: 5}", "search.elites: there is no such key; write algorithm: genetic or evolving_optimizers"),
        ("search: {contenders: 5}", "search.contenders: there is no such key; write algorithm: genetic beside it"),
        ("search: {algorithm: genetic, tournament: 30}", "search.tournament: 30 is more than the population of 24"),
        (
            "search: {algorithm: genetic, elites: 5}",
            "search.contenders: must lie between elites (5) and population (24)",
        ),
        ("selection: {elites: 2}", "selection: there is no such key; it is called search now"),
        ("search: {algorithm: genetics}", "search.algorithm: there is no algorithm 'genetics'; did you mean genetic?"),
        ("search: {algorithm: 3}", "search.algorithm: there is no algorithm 3; there are raced_evolution, genetic"),
        ("limits: {terms: 13}", "limits.terms: must be at most 12, got 13"),
        ("recipe: 2", "recipe: must be 1, got 2"),
        ("limits: {seconds_per_lane: .inf}", "limits.seconds_per_lane: must be a number, got"),
        ("epochs: 1e999", "epochs: must be a whole number"),
        ("5: 6", "5: there is no such key; the keys here are recipe, name,"),
    ],
)
def test_each_mistake_points_to_its_own_line(tmp_path, line, message):
    found = errors(tmp_path, f"name: x\n{START}{line}\n")
    assert len(found) == 1
    assert found[0].startswith(f"recipe.yaml:3: {message}"), found


def test_missing_files_and_too_many_starters(tmp_path):
    text = "name: x\npopulation: 2\nsearch: {islands: 1}\n"
    text += "start:\n  catalogue: [adam, lion]\n  genomes: [g.yaml]\n  random: 0\n"
    assert errors(tmp_path, text) == [
        "recipe.yaml:4: start: 3 genomes are named or random, more than the population of 2",
        "recipe.yaml:6: start.genomes[0]: there is no file g.yaml",
    ]


def test_overrides_apply_and_are_blamed_by_name(tmp_path):
    text = "name: x\npopulation: 12\n" + START
    recipe = read(tmp_path, text, "population=6", "difficulty.depths=[4,7]", "instances={search: 2}", "epochs=9")
    assert (recipe.population, recipe.difficulty.depths, recipe.instances.search) == (6, (4, 7), 2)
    assert errors(tmp_path, text, "population=1", "dificulty.depths=[4]", "epochs", "name.x=1", "seed=[1") == [
        "--set epochs: write KEY=VALUE, for example population=12 or difficulty.depths=[4,7]",
        "--set name.x=1: name: there are no keys below it, only the value 'x'",
        "--set seed=[1: seed: expected ',' or ']', but got '<stream end>'",
        "--set population=1: population: must be at least 2, got 1",
        "--set dificulty.depths=[4]: dificulty: there is no such key; did you mean difficulty?",
    ]


def test_of_keys_that_do_not_go_together_the_override_is_blamed_then_what_stands_in_the_file(tmp_path):
    text = "name: x\nlimits:\n  terms: 4\n  nodes: 14\n"
    excess = "start.catalogue[0]: adam has 15 nodes, more than the {} of limits.nodes: raise that, or leave it out"
    assert "recipe.yaml:4: " + excess.format(14) in errors(tmp_path, text)
    assert "--set limits.nodes=4: " + excess.format(4) in errors(tmp_path, text, "limits.nodes=4")
    text = "name: x\nsearch: {algorithm: genetic, elites: 2}\n" + START
    assert errors(tmp_path, text, "population=3", "search.tournament=2") == [
        "--set population=3: search.contenders: must lie between elites (2) and population (3)",
    ]
    text = "name: x\ninstances: {search: 6}\n" + START
    assert errors(tmp_path, text, "difficulty.depths=[2,3,4,5,6,7,8,9,10,11]", "gate.instances=9") == [
        "--set difficulty.depths=[2,3,4,5,6,7,8,9,10,11]: instances.search: 6 are fewer than the 10 depths, of which a"
        " race's first block has one each",
        "--set gate.instances=9: gate.instances: 9 are too few for a trial to tell anything; write at least 10, or 0"
        " for no gate",
    ]
    assert read(tmp_path, text, "difficulty.depths=[4,7]", "gate.instances=0").gate.instances == 0
    assert errors(tmp_path, text, "task=seed", "difficulty.accuracy_factors=[9,0]", "seed=1") == [
        "--set difficulty.accuracy_factors=[9,0]: difficulty.accuracy_factors: the first must not exceed the second,"
        " got 9, 0",
    ]


@pytest.mark.parametrize(
    ("case", "overrides", "message"),
    [
        ("no_contenders_recipe", (), ":7: search.contenders: 0 lets nobody into the hall of fame"),
        ("over_limits_catalogue_recipe", ("limits.nodes=4", "limits.states=0"), ": start.catalogue[0]: adam has 15"),
        ("over_limits_catalogue_recipe", ("limits.states=1",), ": start.catalogue[0]: adam has 2 states, more than"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(case, overrides, message):
    with pytest.raises(RecipeError) as caught:
        reader.load(CASES / f"{case}.yaml", overrides, known=KNOWN)
    (line,) = caught.value.errors
    where = f"--set {overrides[0]}" if overrides else str(CASES / f"{case}.yaml")
    assert line.startswith(where + message)


def test_limits_of_a_campaign_under_way_are_past(tmp_path):
    text = "name: x\nlimits: {nodes: 14}\n" + START
    assert errors(tmp_path, text) != []
    assert read(tmp_path, text, launched=Recipe(name="x")).limits.nodes == 14


def test_a_broken_file_gives_one_clear_line(tmp_path):
    assert errors(tmp_path, "name: x\nname: y\n") == ["recipe.yaml:2: name: this key stands here a second time"]
    assert errors(tmp_path, "") == ["recipe.yaml:1: recipe: the file is empty; it needs at least name: ..."]
    assert errors(tmp_path, "- 1\n")[0].startswith("recipe.yaml:1: recipe: the file is not a mapping")


def test_a_resolved_recipe_can_be_written_and_read_back(tmp_path):
    text = "name: x\nlimits: {seconds_per_lane: 1e3}\nvariation: {weights: {mutate_constant: 0.1}}\n" + START
    recipe = read(tmp_path, text)
    assert reader.from_text(reader.dump(recipe)) == recipe
    assert reader.from_text(reader.dump(recipe, comments=True)) == recipe
    odd = recipe.model_copy(update={"name": "1e3", "baselines": ("null", "a: b", "1e-3", "é'\"\\")})
    assert reader.from_text(reader.dump(odd)) == odd
    assert all("#" in line for line in reader.dump(recipe, comments=True).splitlines())


def test_changes_name_the_key_and_say_what_a_campaign_may_take(tmp_path):
    launched = read(tmp_path, "name: x\nepochs: 5\ngenerations: 3\n" + START)
    # what the file leaves out stays as launched, here epochs
    now = read(tmp_path, "name: x\ngenerations: 9\npopulation: 30\n" + START, launched=launched)
    found = reader.changes(launched, now)
    assert [(str(change), change.allowed) for change in found] == [
        ("population: 24 -> 30", False),
        ("generations: 3 -> 9", True),
    ]


def test_a_curriculum_under_way_keeps_its_number_of_generations(tmp_path):
    text = "name: x\ngenerations: 3\ndifficulty: {sampler: curriculum}\n" + START
    launched = read(tmp_path, text)
    now = read(tmp_path, text, "generations=9", "limits.seconds_per_lane=7")
    assert [(change.key, change.allowed) for change in reader.changes(launched, now)] == [
        ("generations", False),
        ("limits.seconds_per_lane", True),
    ]


def test_a_wrong_value_is_blamed_on_its_line_whatever_the_key(tmp_path):
    names = (*Recipe(name="x").start.catalogue, "cautious_adanw")
    known = Known(lambda: (), lambda: names)
    lines = reader.dump(Recipe(name="x")).splitlines()
    for number, line in enumerate(lines):
        key, _, _ = line.partition(":")
        text = "\n".join([*lines[:number], f"{key}: {{oops: 1}}", *lines[number + 1 :]])
        if not line.endswith(":"):  # a section's keys would hang in the air
            with pytest.raises(RecipeError) as caught:
                read(tmp_path, text, known=known)
            assert f"recipe.yaml:{number + 1}: " in caught.value.errors[0], line


def test_genome_files_are_not_looked_for_once_a_campaign_has_begun(tmp_path):
    text = "name: x\nstart: {catalogue: [adam], genomes: [gone.yaml], random: 2}\n"
    assert errors(tmp_path, text) == ["recipe.yaml:2: start.genomes[0]: there is no file gone.yaml"]
    assert read(tmp_path, text, launched=Recipe(name="x")).start.genomes == ("gone.yaml",)


def test_mutated_recipes_never_crash_the_reader(tmp_path):
    good = reader.dump(Recipe(name="x"), comments=True)
    names = (*Recipe(name="x").start.catalogue, "cautious_adanw")
    known = Known(lambda: (), lambda: names)
    pool = [
        "",
        "[",
        "]",
        "{",
        "}",
        ":",
        "- ",
        "null",
        "1e999",
        "-1",
        "'",
        '"',
        "&a",
        "*a",
        "!t",
        "\t",
        "\x00",
        "é",
    ]
    for case in range(150):
        rng = random.Random(case)
        lines = good.splitlines()
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(lines))
            cut = rng.randint(0, len(lines[at]))
            lines[at] = lines[at][:cut] + rng.choice(pool) + lines[at][cut + rng.randint(0, 3) :]
        with contextlib.suppress(RecipeError):
            read(tmp_path, "\n".join(lines), known=known)
