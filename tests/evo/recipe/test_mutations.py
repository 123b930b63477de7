"""A mistake in a recipe, whatever it is, gets a message that names its line, within a second, and no traceback."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from evo.campaign.run import KNOWN
from evo.recipe import reader
from evo.recipe.reader import RecipeError
from evo.recipe.schema import Recipe

Lines = list[str]
Mutation = Callable[[Lines, int, random.Random], int]  # edits the line at an index; returns the index that is at fault

LETTERS = "abcdefghijklmnopqrstuvwxyz_"
NUMBERS = ("-1", "0", "1", "1e9", "99999999999999999999", "1.5", "-3.7", "1e999", ".nan", ".inf")
WORDS = (
    "tigs",
    "nothing",
    "adm",
    "ädam",
    "'",
    '"',
    "%",
    "@x",
    "`x`",
    "x: y",
    "- x",
    "[x",
    "x]",
    "{x",
    "&x",
    "*x",
    "!x y",
)
TYPES = ("{oops: 1}", "[1, [2]]", "[]", "{}", "null", "true", "2020-01-01", "'quoted text'", "~", "")


def _parts(line: str) -> tuple[str, str, str]:
    """Indent, key, value."""
    key, _, value = line.partition(":")
    return key[: len(key) - len(key.lstrip())], key.strip(), value.strip()


def _with_value(choices: tuple[str, ...]) -> Mutation:
    def mutate(lines: Lines, at: int, rng: random.Random) -> int:
        indent, key, _ = _parts(lines[at])
        lines[at] = f"{indent}{key}: {rng.choice(choices)}"
        return at

    return mutate


def _drop(lines: Lines, at: int, rng: random.Random) -> int:
    del lines[at]
    return min(at, len(lines) - 1)


def _repeat(lines: Lines, at: int, rng: random.Random) -> int:
    lines.insert(at, lines[at])
    return at + 1


def _rename(lines: Lines, at: int, rng: random.Random) -> int:
    indent, key, value = _parts(lines[at])
    cut = rng.randrange(len(key))
    key = key[:cut] + rng.choice(LETTERS) + key[cut + rng.randint(0, 1) :]
    lines[at] = f"{indent}{key}: {value}"
    return at


def _indent(lines: Lines, at: int, rng: random.Random) -> int:
    lines[at] = rng.choice((" ", "   ", "\t", "      ")) + lines[at]
    return at


def _outdent(lines: Lines, at: int, rng: random.Random) -> int:
    inner = [i for i, line in enumerate(lines) if line.startswith(" ")]
    at = rng.choice(inner)
    lines[at] = lines[at][rng.randint(1, 2) :]
    return at


def _replace_a_character(lines: Lines, at: int, rng: random.Random) -> int:
    cut = rng.randrange(len(lines[at]))
    lines[at] = lines[at][:cut] + rng.choice("[]{}:,#&*!|>'\"%@`-?\t\0\x85é") + lines[at][cut + 1 :]
    return at


MUTATIONS: dict[str, Mutation] = {
    "drop": _drop,
    "repeat": _repeat,
    "rename": _rename,
    "number": _with_value(NUMBERS),
    "word": _with_value(WORDS),
    "type": _with_value(TYPES),
    "indent": _indent,
    "outdent": _outdent,
    "character": _replace_a_character,
}


def refusals(folder: Path, cases: range) -> tuple[Counter[str], list[tuple[int, str, str, str]]]:
    """How many recipes were refused by mutation, and those whose message does not name the line at fault."""
    path = folder / "recipe.yaml"
    refused, astray = Counter[str](), list[tuple[int, str, str, str]]()
    for case in cases:
        rng = random.Random(case)
        lines = reader.dump(Recipe(name="mutated"), comments=case % 2 == 0).splitlines()
        name = rng.choice(list(MUTATIONS))
        at = rng.randrange(len(lines))
        at = MUTATIONS[name](lines, at, rng)
        path.write_text("\n".join(lines) + "\n")
        start = time.process_time()
        try:
            reader.load(path, known=KNOWN)
        except RecipeError as error:
            refused[name] += 1
            named = re.findall(r"recipe\.yaml:(\d+): |line (\d+)", str(error))
            if str(at + 1) not in {number for pair in named for number in pair}:
                astray.append((case, name, lines[at], str(error)))
        assert time.process_time() - start < 1, case
    return refused, astray


@pytest.mark.parametrize("cases", [range(200, 300), pytest.param(range(300, 1300), marks=pytest.mark.slow)], ids=len)
def test_of_a_mutated_recipe_the_right_line_is_named(tmp_path, cases):
    refused, astray = refusals(tmp_path, cases)
    assert refused.keys() == MUTATIONS.keys()
    assert sum(refused.values()) > 0.8 * len(cases)
    assert len(astray) <= 0.05 * sum(refused.values()), astray


MANY = range(3_000)


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"key{i}: 1\n" for i in MANY),
        "search:\n" + "".join(f"  key{i}: 1\n" for i in MANY),
        f"baselines: [{', '.join(f'adan{i}' for i in MANY)}]\n",
        f"baselines: [{', '.join(['adam'] * len(MANY))}]\n",
        f"difficulty: {{depths: [{', '.join('x' * len(MANY))}]}}\n",
        f"variation: {{weights: {{{', '.join(f'mutate_{i}: 1' for i in MANY)}}}}}\n",
        f"variation: {{weights: {{{', '.join(f'mutate_{i}: x' for i in MANY)}}}}}\n",
        f"start: {{genomes: [{', '.join(f'{i}.yaml' for i in MANY)}]}}\n",
        f"{'k' * 100}: 1\ntask: {'t' * 100_000}\nname2: {'[' * 1000}",
        f"start: {{genomes: [{'g' * 10_000}]}}\n",
    ],
)
def test_many_mistakes_take_no_longer_than_one_each(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\n" + text)
    start = time.process_time()
    with pytest.raises(RecipeError) as caught:
        reader.load(path, known=KNOWN)
    assert time.process_time() - start < 3  # what is quadratic takes minutes; a worker full of objects collects garbage
    assert len(caught.value.errors) <= reader.MOST_LISTED + 1
    if len(caught.value.errors) > reader.MOST_LISTED:
        assert re.search(r"recipe.yaml: 290\d more mistakes are not listed", caught.value.errors[-1])
