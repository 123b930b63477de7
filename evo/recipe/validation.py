"""Closed pydantic models read from plain data: every fault at once, said in plain words, with its path.

Knows pydantic and nothing of recipes. A path is what pydantic calls a location: keys and list indices.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

Path = tuple[str | int, ...]


class Closed(BaseModel):
    """A section of plain data: unknown keys are faults, values are not converted, instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    renamed: ClassVar[Mapping[str, str]] = {}  # keys of earlier versions -> what they are called now

    @classmethod
    def hint(cls, key: str) -> str:
        """What else to say of a key that the section lacks; empty where there is nothing."""
        return ""


class Fault(NamedTuple):
    """What is wrong, and where: a path of keys and list indices.

    ``message`` is made when it is called for: it may take the time of a `suggestion`, and of many faults few are shown.
    """

    path: Path
    message: Callable[[], str]

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message()}"


Model = TypeVar("Model", bound=Closed)


def validate(model: type[Model], value: dict, fallback: Mapping[str, Any]) -> tuple[Model | None, list[Fault]]:
    """``value`` as an instance of ``model``, and its faults.

    Where there are faults, the instance has defaults (and ``fallback`` for keys without one) in their place,
    so that checks across keys can still be made; it is None where not even that is possible. Takes time in proportion
    to the size of ``value``, whatever is wrong with it.
    """
    text = json.dumps(value)
    try:
        return model.model_validate_json(text), []  # JSON, where strict mode takes a list for a tuple
    except ValidationError as error:
        problems = error.errors(include_url=False)
    paths = [tuple(part for part in problem["loc"] if part != "[key]") for problem in problems]
    within = Counter(path[:length] for path in paths for length in range(len(path) + 1))
    faults = [
        Fault(path, partial(_message, model, problem, path))
        for problem, path in zip(problems, paths, strict=True)
        if problem["type"] != "too_short" or within[path] == 1  # of wrong items none is left, and they are named
    ]
    sound = json.loads(text)
    for path, _ in faults:
        _remove(sound, path)
    try:
        return model.model_validate_json(json.dumps({**fallback, **sound})), faults
    except ValidationError:
        return None, faults


def flat(section: Closed, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value for every key of ``section`` and of the sections in it."""
    found: dict[str, Any] = {}
    for key in type(section).model_fields:
        value = getattr(section, key)
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Closed) else {prefix + key: value}
    return found


def dotted(path: Path) -> str:
    """A path for people: ``difficulty.depths[1]``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{_shortened(part)}" for part in path)
    return "".join(parts).removeprefix(".")


def suggestion(word: str, known: Collection[str]) -> str:
    """`` did you mean ...?`` with the nearest of ``known``, or nothing."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def shown(value: Any) -> str:
    """A value as it stands in a YAML file, shortened."""
    return _shortened(json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else repr(value))


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


_MESSAGES = {
    "missing": "is missing{description}",
    "int_type": "must be a whole number, got {got}",
    "int_from_float": "must be a whole number, got {got}",
    "float_type": "must be a number, got {got}",
    "finite_number": "must be a finite number, got {got}",
    "string_type": "must be text, got {got}",
    "tuple_type": "must be a list, for example [a, b], got {got}",
    "dict_type": "must be a mapping of names to numbers, got {got}",
    "model_type": "must be a mapping with keys below it, got {got}",
    "greater_than_equal": "must be at least {ge}, got {got}",
    "less_than_equal": "must be at most {le}, got {got}",
    "less_than": "must be less than {lt}, got {got}",
    "too_short": "must have at least {min_length} item",
    "value_error": "{error}",
}


def _message(model: type[Closed], problem: Mapping[str, Any], path: Path) -> str:
    kind, got = problem["type"], shown(problem["input"])
    if kind == "extra_forbidden":
        return _unknown_key(model, path)
    if kind == "literal_error":
        expected = re.findall(r"\w+", problem["ctx"]["expected"].replace(" or ", " "))
        return f"must be {' or '.join(expected)}, got {got}{suggestion(str(problem['input']), expected)}"
    section = _section(model, path[:-1])
    field = section.model_fields.get(str(path[-1])) if section else None
    context = {"got": got, "description": f": {field.description}" if field else "", **problem.get("ctx", {})}
    return _MESSAGES[kind].format(**context) if kind in _MESSAGES else f"{problem['msg']}, got {got}"


def _unknown_key(model: type[Closed], path: Path) -> str:
    word = str(path[-1])
    section = _section(model, path[:-1])
    if section and word in section.renamed:
        return f"there is no such key; it is called {section.renamed[word]} now"
    if section and (hint := section.hint(word)):
        return f"there is no such key; {hint}"
    siblings = list(section.model_fields) if section else []
    misplaced = [key for key in _keys(model) if key.rpartition(".")[2] == word]
    close = misplaced or difflib.get_close_matches(word, siblings, n=1)
    if close:
        return f"there is no such key; did you mean {' or '.join(close)}?"
    return f"there is no such key; the keys here are {', '.join(siblings)}"


def _keys(model: type[Closed], prefix: str = "") -> list[str]:
    keys = []
    for key in model.model_fields:
        inner = _section(model, (key,))
        keys += _keys(inner, f"{prefix}{key}.") if inner else [prefix + key]
    return keys


def _section(model: type[Closed], path: Path) -> type[Closed] | None:
    """The model of the section at ``path``."""
    section: Any = model
    for part in path:
        field = section.model_fields.get(str(part))
        section = field.annotation if field else None
        if not (isinstance(section, type) and issubclass(section, Closed)):
            return None
    return section


def _remove(value: dict[str, Any], path: Path) -> None:
    """Remove what stands at ``path``, if it is still there; a list with a faulty item goes as a whole."""
    *above, last = map(str, path)
    for key in above:
        inner = value.get(key)
        if not isinstance(inner, dict):
            last = key
            break
        value = inner
    value.pop(last, None)
