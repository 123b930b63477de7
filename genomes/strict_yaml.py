"""The only YAML reader of the project: plain data, duplicate keys refused, every value with its line.

Beside it stand the writers of text, `quoted` and `word`: what they write, `parse` reads back as it was.

It reads the event stream of PyYAML and builds the data itself, without recursion, so that deep nesting cannot
overflow the stack and aliases cannot expand ("billion laughs"). Anchors, aliases and tags are refused: a file that
is read here is plain data. Numbers follow what people write: ``1e-3`` is a number here (YAML 1.1 says it is text).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1_000_000
MAX_DEPTH = 32

Key = str | int
_INTEGER = re.compile(r"[-+]?[0-9]{1,19}")  # 2**63 - 1 has 19 digits
_DECIMAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
# what YAML forbids in a file, takes for the end of a line, or drops; what a terminal obeys; a space that is not seen
_UNREADABLE = re.compile("[\x00-\x1f\x7f-\xa0\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")
_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")  # what PyYAML counts as the end of a line
_HALF = "half of a surrogate pair is no text"
_WORD = re.compile(r"[A-Za-z0-9_][\w./+-]*", re.ASCII)
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}


class YamlError(ValueError):
    """A document that is refused: ``str()`` is ``source:line: what is wrong``."""

    def __init__(self, message: str, source: str, line: int):
        super().__init__(f"{source}:{line}: {message}")
        self.message, self.source, self.line = message, source, line


@dataclass(frozen=True)
class Document:
    """Plain data and where each part of it stands.

    ``value``: dicts, lists, str, int, float, bool, None. ``lines``: path of keys and indices -> line (from 1).
    ``texts``: path -> a number, a boolean or null as it stands in the document (``1.10``, ``1e3``, ``true``).
    """

    value: Any
    source: str
    lines: Mapping[tuple[Key, ...], int]
    texts: Mapping[tuple[Key, ...], str]

    def line(self, path: tuple[Key, ...]) -> int:
        """The line of ``path``, or of its nearest parent that stands in the document."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def load(path: Path | str) -> Document:
    """Read the YAML file at ``path``. Raises YamlError; OSError where the file cannot be read."""
    return parse(text_of(path), str(path))


def text_of(path: Path | str) -> str:
    """The text of the YAML file at ``path``. Raises YamlError; OSError where the file cannot be read."""
    data = Path(path).read_bytes()
    if len(data) > MAX_BYTES:
        raise YamlError(f"the file has {len(data)} bytes; at most {MAX_BYTES} are read", str(path), 1)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise YamlError("this is not UTF-8 text", str(path), line) from None


def parse(text: str, source: str = "<text>") -> Document:
    """Read one YAML document from ``text``; ``source`` names it in messages. Raises YamlError."""
    if len(text) > MAX_BYTES:
        raise YamlError(f"the text has {len(text)} characters; at most {MAX_BYTES} are read", source, 1)
    builder = _Builder(source)
    try:
        for event in _events(text):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        message, line = _explained(error, text)
        raise YamlError(message, source, line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(_unreadable(text[error.position]), source, line) from None
    except yaml.YAMLError as error:
        raise YamlError(str(error).splitlines()[0], source, 1) from None
    return Document(builder.value, source, builder.lines, builder.texts)


def has_comments(text: str) -> bool:
    """Whether a document that `parse` reads has comments: ``#`` between its tokens, where no value stands."""
    end = 0
    for token in yaml.scan(text, yaml.SafeLoader):
        if "#" in text[end : token.start_mark.index]:
            return True
        end = token.end_mark.index
    return "#" in text[end:]


def scalar(text: str) -> Any:
    """The value of an unquoted YAML scalar: integer, number, true, false, null or text."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    return text


def quoted(text: str) -> str:
    """``text`` as a double-quoted YAML scalar on one line; `parse` reads back any text without lone surrogates."""
    return escaped(json.dumps(text, ensure_ascii=False))  # a JSON string is a YAML double-quoted one


def word(text: str) -> str:
    """``text`` as it is where YAML reads that as the same text, else `quoted`."""
    return text if _WORD.fullmatch(text) and scalar(text) == text else quoted(text)


def escaped(text: str) -> str:
    """``text`` on one line for YAML, terminals and pictures: what one of them cannot read or obeys is an escape."""
    return _UNREADABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _unreadable(character: str) -> str:
    advice = _HALF if "\ud800" <= character <= "\udfff" else f"write it in double quotes as {escaped(character)}"
    return f"the character U+{ord(character):04X} is not read here: {advice}"


def _explained(error: yaml.MarkedYAMLError, text: str) -> tuple[str, int]:
    """What is wrong, and the line at fault: PyYAML names the one where it could not go on, often a later one."""
    problem = error.problem or error.context or "this is not YAML"
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return problem, 1
    began = error.context_mark.line if error.context_mark else mark.line
    if "scanning a quoted scalar" in (error.context or "") and "unexpected end" in problem:
        return "this quote is not closed", began + 1
    if "scanning a simple key" in (error.context or "") or "parsing a flow" in (error.context or ""):
        return problem if began == mark.line else f"{problem} (seen in line {mark.line + 1})", began + 1
    lines = _BREAK.split(text)[: mark.line + 1]
    given = [i for i, line in enumerate(lines[:-1]) if line.strip() and not line.lstrip().startswith("#")]
    first = lines[-1][: mark.column].find(": ") < 0  # whatever stands before is one key, or nothing
    if given and first and ("mapping values" in problem or "<block mapping start>" in problem):
        before, here = (len(line) - len(line.lstrip()) for line in (lines[given[-1]], lines[-1]))
        if here > before:
            message = f"indented below line {given[-1] + 1}, where nothing can stand below: align the two lines"
        else:
            message = f"indented otherwise than line {given[-1] + 1} and those before: align the lines"
        return message, mark.line + 1
    return problem, mark.line + 1


def _events(text: str) -> Iterator[yaml.Event]:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_event():
            yield loader.get_event()
    finally:
        loader.dispose()


class _Builder:
    """Builds data from events with a stack of open containers: no recursion, whatever the depth."""

    def __init__(self, source: str):
        self.source = source
        self.value: Any = None
        self.lines: dict[tuple[Key, ...], int] = {}
        self.texts: dict[tuple[Key, ...], str] = {}
        self.documents = 0
        self.open: list[dict | list] = []
        self.path: list[Key] = []  # the key or index of each value being read, one per open container
        self.pending: list[tuple[Key, int] | None] = []  # per open mapping: the key that awaits its value

    def take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise YamlError("one document per file: remove this '---' and what follows", self.source, line)
        elif isinstance(event, yaml.AliasEvent):
            raise YamlError("aliases (*name) are not read: write the value out", self.source, line)
        elif isinstance(event, yaml.ScalarEvent):
            self._plain(event, line)
            text = self._joined(event.value, line)
            self._add(scalar(text) if event.style is None else text, line, text)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._plain(event, line)
            if len(self.open) == MAX_DEPTH:
                raise YamlError(f"nested deeper than {MAX_DEPTH} levels", self.source, line)
            container: dict | list = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._add(container, line)
            self.open.append(container)
            self.pending.append(None)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self.open.pop()
            self.pending.pop()
            if self.path:
                self.path.pop()

    def _plain(self, event: yaml.NodeEvent, line: int) -> None:
        if event.anchor is not None:
            raise YamlError("anchors (&name) are not read: write the value out", self.source, line)
        if getattr(event, "tag", None) is not None:
            raise YamlError("tags (!name) are not read: write plain data", self.source, line)

    def _joined(self, text: str, line: int) -> str:
        """``text`` with the surrogate pairs that JSON writes made one character each."""
        try:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            raise YamlError(f"{escaped(text)}: {_HALF}", self.source, line) from None

    def _add(self, value: Any, line: int, text: str = "") -> None:
        nested = isinstance(value, dict | list)
        if not self.open:
            self.value = value
            self.lines[()] = line
            return
        parent = self.open[-1]
        if isinstance(parent, dict):
            key = self.pending[-1]
            if key is None:
                self._key(parent, value, line)
                return
            self.pending[-1] = None
            parent[key[0]] = value
            place, line = key
        else:
            place = len(parent)
            parent.append(value)
        self.lines[(*self.path, place)] = line
        if not isinstance(value, dict | list | str):
            self.texts[(*self.path, place)] = text
        if nested:
            self.path.append(place)

    def _key(self, parent: dict, value: Any, line: int) -> None:
        if isinstance(value, dict | list):
            raise YamlError("a key must be a word or a number", self.source, line)
        key = value if isinstance(value, str | int) and not isinstance(value, bool) else str(value)
        if key in parent:
            raise YamlError(f"{key}: this key stands here a second time", self.source, line)
        parent[key] = None  # reserves the key, so that a repeat is seen
        self.pending[-1] = (key, line)
