"""Reads, writes and compares recipes.

All mistakes of a recipe are reported at once, each as ``file:line: key: what is wrong``; one that came in
through ``--set KEY=VALUE`` names that instead of a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from evo.errors import UsageError
from evo.recipe.rules import Known, contradictions
from evo.recipe.schema import MAY_CHANGE, Recipe, plain, recipe_with
from evo.recipe.search_settings import ALGORITHMS
from evo.recipe.validation import Closed, Fault, flat, shown, suggestion, validate
from genomes import strict_yaml
from genomes.strict_yaml import YamlError

MOST_LISTED = 100  # mistakes


class RecipeError(UsageError):
    """A recipe that we refuse: ``errors`` holds a line for each mistake up to `MOST_LISTED`, ``str()`` all of them."""

    def __init__(self, errors: Sequence[str]):
        super().__init__("\n".join(errors))
        self.errors = tuple(errors)


def load(path: Path, overrides: Sequence[str] = (), *, known: Known, launched: Recipe | None = None) -> Recipe:
    """Read the recipe at ``path``, with ``overrides`` (``KEY=VALUE``) applied. Raises RecipeError; OSError.

    ``known``: the names that it may use. ``launched``: the recipe of a campaign under way; it fills in what the file
    leaves out, so that a default that changes between versions changes no campaign.
    """
    try:
        document = strict_yaml.load(path)
    except YamlError as error:
        raise RecipeError([str(error)]) from None
    if not isinstance(document.value, dict):
        found = "is empty" if document.value is None else "is not a mapping"
        raise RecipeError([f"{document.source}:1: recipe: the file {found}; it needs at least name: ..."])
    folder = path.parent if launched is None else None  # later, its genomes have been read
    return _read(document, overrides, known, launched, folder)


def reload(launched: Recipe, overrides: Sequence[str], *, known: Known) -> Recipe:
    """The recipe of a campaign whose file is gone, with ``overrides`` applied. Raises RecipeError."""
    return _read(strict_yaml.parse(dump(launched), "the recipe as launched"), overrides, known, launched, None)


def _read(
    document: strict_yaml.Document,
    overrides: Sequence[str],
    known: Known,
    launched: Recipe | None,
    folder: Path | None,
) -> Recipe:
    """``folder``: where start genomes are looked for; None: they are not."""
    value: Any = document.value
    applied: list[_Override] = []
    errors = []
    for text in overrides:
        try:
            override = _Override.parse(text)
            value = _replaced(value, override.path, override.value)
            applied.append(override)
        except ValueError as error:
            errors.append(f"--set {text}: {error}")
    value = value if launched is None else _completed(value, launched)
    recipe, faults = _validated(value)
    found: list[tuple[tuple[tuple, ...], Fault]] = [((fault.path,), fault) for fault in faults]
    if recipe is not None:
        wrong = _Paths(fault.path for fault in faults)
        for keys, fault in contradictions(recipe, folder, known):
            if not any(map(wrong.touch, keys)):
                found.append(((fault.path, *keys), fault))
    lines = _lines_of(document)
    located = [(_location(document.source, lines, applied, *paths), fault) for paths, fault in found]
    located.sort(key=lambda item: item[0][0])
    errors += [f"{where}: {fault}" for (_, where), fault in located[:MOST_LISTED]]
    if len(located) > MOST_LISTED:
        errors.append(f"{document.source}: {len(located) - MOST_LISTED} more mistakes are not listed")
    if errors or recipe is None:
        raise RecipeError(errors)
    return recipe


def named(name: str, algorithm: str | None = None) -> Recipe:
    """The recipe with all defaults, or the preset of an algorithm. Raises RecipeError where a name is not one."""
    value: dict[str, Any] = {"name": name}
    if algorithm is not None:
        settings = ALGORITHMS.get(algorithm)
        value |= {"search": {"algorithm": algorithm}} | (dict(settings.preset) if settings else {})
    recipe, faults = _validated(value)
    if recipe is None or faults:
        raise RecipeError([str(fault) for fault in faults])
    return recipe


@lru_cache(maxsize=64)
def from_text(text: str) -> Recipe:
    """The recipe that ``dump`` wrote. Raises RecipeError."""
    try:
        value = strict_yaml.parse(text, "stored recipe").value
    except YamlError as error:
        raise RecipeError([str(error)]) from None
    recipe, faults = _validated(value if isinstance(value, dict) else {})
    if recipe is None or faults:
        raise RecipeError([f"stored recipe: {fault}" for fault in faults])
    return recipe


def _validated(value: dict[str, Any]) -> tuple[Recipe | None, list[Fault]]:
    """The recipe and its faults, read with the settings of the search algorithm that it names."""
    faults: list[Fault] = []
    name = _algorithm(value) or Recipe.model_fields["search"].default.algorithm
    if not isinstance(name, str) or name not in ALGORITHMS:
        hint = suggestion(str(name), ALGORITHMS) or f"; there are {', '.join(ALGORITHMS)}"
        message = f"there is no algorithm {shown(name)}{hint}"
        faults.append(Fault(("search", "algorithm"), lambda: message))
        value = {key: value[key] for key in value if key != "search"}
        name = Recipe.model_fields["search"].default.algorithm
    recipe, found = validate(recipe_with(name), value, fallback={"name": "unnamed"})
    return recipe and plain(recipe), faults + found


def _algorithm(value: dict[str, Any]) -> Any:
    section = value.get("search")
    return section.get("algorithm") if isinstance(section, dict) else None


def dump(recipe: Recipe, comments: bool = False) -> str:
    """YAML text with every key; ``from_text(dump(r)) == r``. ``comments`` adds each key's meaning."""
    return "\n".join(_lines(recipe, "", comments)) + "\n"


@dataclass(frozen=True)
class Change:
    """A key whose value differs between two recipes. ``allowed``: a campaign under way may take it."""

    key: str
    before: Any
    after: Any
    allowed: bool

    def __str__(self) -> str:
        return f"{self.key}: {shown(self.before)} -> {shown(self.after)}"


def changes(before: Recipe, after: Recipe) -> list[Change]:
    """What differs between two recipes, in the order of the recipe's keys."""
    old, new = flat(before), flat(after)
    allowed = MAY_CHANGE
    if before.difficulty.sampler == "curriculum":
        allowed = allowed - {"generations"}  # difficulty follows generation / generations
    keys = dict.fromkeys((*old, *new))
    return [Change(key, old.get(key), new.get(key), key in allowed) for key in keys if old.get(key) != new.get(key)]


_Key = tuple[str, ...]


@dataclass(frozen=True)
class _Override:
    text: str
    path: _Key
    value: Any

    @classmethod
    def parse(cls, text: str) -> _Override:
        key, equals, value = text.partition("=")
        path = tuple(key.strip().split("."))
        if not equals or not all(path):
            raise ValueError("write KEY=VALUE, for example population=12 or difficulty.depths=[4,7]")
        try:
            return cls(text, path, strict_yaml.parse(value, key).value)
        except YamlError as error:
            raise ValueError(f"{key}: {error.message}") from None


def _replaced(value: Any, path: _Key, new: Any, above: _Key = ()) -> Any:
    if not path:
        return new
    if not isinstance(value, dict | None):
        raise ValueError(f"{'.'.join(above)}: there are no keys below it, only the value {shown(value)}")
    value = dict(value or {})
    value[path[0]] = _replaced(value.get(path[0]), path[1:], new, (*above, path[0]))
    return value


def _completed(value: dict[str, Any], launched: Recipe) -> dict[str, Any]:
    """``value`` with what it leaves out as launched; another algorithm has other settings, of which none is left."""
    base = launched.model_dump(mode="json")
    if _algorithm(value) not in (None, launched.search.algorithm):
        del base["search"]
    return _merged(base, value)


def _merged(base: Any, value: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(value, dict):
        return value
    return {key: _merged(base.get(key), value[key]) if key in value else base[key] for key in {**base, **value}}


def _lines_of(document: strict_yaml.Document) -> dict[_Key, int]:
    """The line of every path; its keys and indices are text, since pydantic names a key 5 "5"."""
    return {tuple(map(str, path)): line for path, line in document.lines.items()}


def _location(
    source: str, lines: Mapping[_Key, int], overrides: Sequence[_Override], *paths: tuple
) -> tuple[tuple, str]:
    """Where one of ``paths`` was given: a key to sort by, and the words for it.

    The last override of any of them comes first, then the first of them that stands in the file, then the section in
    which the first would stand.
    """
    for number, override in reversed(list(enumerate(overrides))):
        if any(_related(override.path, path) for path in paths):
            return (1, number), f"--set {override.text}"
    names = [tuple(map(str, path)) for path in paths]
    given = next((name for name in names if name in lines), names[0])
    while given not in lines:
        given = given[:-1]
    return (0, lines[given]), f"{source}:{lines[given]}"


def location(document: strict_yaml.Document, overrides: Sequence[str], key: str) -> str:
    """Where a key was given: ``file:line``, or ``--set KEY=VALUE``. ``overrides``: that were read without fault."""
    applied = [_Override.parse(text) for text in overrides]
    return _location(document.source, _lines_of(document), applied, tuple(key.split(".")))[1]


def _related(path: tuple, other: tuple) -> bool:
    """Whether one of them is, or stands above, the other."""
    return all(a == b for a, b in zip(path, other, strict=False))


class _Paths:
    """Paths, and whether one is `_related` to any of them, however many there are."""

    def __init__(self, paths: Iterable[tuple]) -> None:
        self._paths = set(paths)
        self._above = {above for path in self._paths for above in _upwards(path)}

    def touch(self, path: tuple) -> bool:
        return path in self._above or any(above in self._paths for above in _upwards(path))


def _upwards(path: tuple) -> Iterator[tuple]:
    """The path and all that it stands below."""
    return (path[:length] for length in range(len(path) + 1))


def _yaml(value: Any) -> str:
    if isinstance(value, str):
        return strict_yaml.word(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_yaml(key)}: {_yaml(item)}' for key, item in value.items())}}}"
    return json.dumps(value)


def _lines(section: Closed, indent: str, comments: bool) -> Iterator[str]:
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        text = f"{indent}{key}:" if isinstance(value, Closed) else f"{indent}{key}: {_yaml(value)}"
        yield f"{text:<34}  # {field.description}" if comments else text
        if isinstance(value, Closed):
            yield from _lines(value, indent + "  ", comments)
