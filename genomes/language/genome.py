"""A genome: readable genes that specify an optimizer, and their YAML form.

The update that a genome means, added to the parameters in every step::

    u = sum of weight * expr over the terms, with g + rate * theta for g under coupled decay
    u = gate(u)                                              for each gate in turn
    delta = -(lr * schedule * role) * (u + decay)
    delta = post(delta)                                      for each post in turn

In an epoch's last step the offset of `Evaluation` is added too, and taken back in the next one's first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from genomes import strict_yaml
from genomes.language.decay import DECAY_KINDS
from genomes.language.expressions import Expression, number
from genomes.language.let import MAX_LINES, Line, LineError, head, names_in, needed
from genomes.language.parser import ExpressionError, constant, kind_of, parse_expression
from genomes.language.primitives import OUTPUT
from genomes.language.printer import show
from genomes.strict_yaml import quoted, word

VERSION = 1
MAX_TERMS, MAX_GATES = 12, 8
TENSOR_ROLES = ("weight", "bias", "norm_scale", "norm_shift")
ROLES = (*TENSOR_ROLES, "first", "last")
KEYS = (
    "genome",
    "name",
    "source",
    "oracle",
    "lr",
    "let",
    "terms",
    "gates",
    "decay",
    "schedule",
    "roles",
    "query",
    "post",
    "evaluation",
)
MAX_OUTPUTS = int(OUTPUT.high) + 1
FROM_RANGE = (0.0, 1_000_000.0)  # epochs
LR_RANGE = (0.0, 1000.0)
WEIGHT_RANGE = (-1e6, 1e6)
RATE_RANGE = (0.0, 100.0)
ROLE_RANGE = (0.0, 1000.0)
ONE = number(1)
ALWAYS, NEVER = parse_expression("t > 0"), parse_expression("t < 0")
MAX_NAME, MAX_NOTE = 64, 1000  # characters
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.+-]{{0,{MAX_NAME - 1}}}")


class GenomeError(ValueError):
    """A genome that cannot be read or has no meaning.

    ``str()``: one line per problem, ``source:line: key: message``.
    """

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Term:
    """A summand of the direction: ``weight`` times the value of ``expr``."""

    weight: float
    expr: Expression


@dataclass(frozen=True)
class Decay:
    """Weight decay of the tensors whose role is in ``roles``; ``kind``: one of `DECAY_KINDS`."""

    kind: str = "none"
    rate: float = 0.0
    roles: tuple[str, ...] = ("weight",)


@dataclass(frozen=True)
class Query:
    """The gradient is taken at theta + offset in the steps where the mask ``when`` is true.

    ``offset``: a value of the last step, over ``delta`` (the update that it applied) and all that terms may use.
    ``outputs``: numbers added to the outputs, by the bias of a frozen last layer, in all steps where one is not 0.
    ``as_evaluated``: where ``when`` is true, a frozen end's features are those that evaluation at theta + offset gives.
    """

    offset: Expression
    when: Expression
    outputs: tuple[Expression, ...] = ()
    as_evaluated: bool = False


@dataclass(frozen=True)
class Evaluation:
    """The network is evaluated at theta + ``offset``, after epochs from ``start`` on in which ``when`` is true.

    The offset is added in an epoch's last step, of which it is a value, and taken back in the next epoch's first step,
    whose gradient is taken without it. ``theta`` is without it; losses and the word ``evaluation_offset`` tell of it.
    """

    offset: Expression
    start: int = 0
    when: Expression = ALWAYS


@dataclass(frozen=True)
class Genome:
    """See the module's text. ``roles``: (role, learning-rate multiplier) pairs that are not 1.

    ``let``: named values and states, in order; all other expressions may use the names.

    ``source``: where it comes from. ``oracle``: the independent implementation that it is checked against.
    """

    name: str
    lr: float
    terms: tuple[Term, ...]
    source: str = ""
    oracle: str = ""
    gates: tuple[Expression, ...] = ()
    decay: Decay = Decay()
    schedule: Expression = ONE
    roles: tuple[tuple[str, float], ...] = ()
    query: Query | None = None
    post: tuple[Expression, ...] = ()
    evaluation: Evaluation | None = None
    let: tuple[Line, ...] = ()

    @property
    def size(self) -> int:
        """Nodes of all expressions: the measure of complexity that parsimony uses."""
        trees = [line.expr for line in self.let]
        trees += [t.expr for t in self.terms] + [*self.gates, *self.post, self.schedule]
        trees += [self.query.offset, *self.query.outputs] if self.query else []
        trees += [self.evaluation.offset] if self.evaluation else []
        return sum(tree.size for tree in trees)

    def mapped(self, change: Callable[[Expression], Expression]) -> Genome:
        """The genome with every expression changed."""
        query, evaluation = self.query, self.evaluation
        return replace(
            self,
            let=tuple(replace(line, expr=change(line.expr)) for line in self.let),
            terms=tuple(replace(t, expr=change(t.expr)) for t in self.terms),
            gates=tuple(map(change, self.gates)),
            schedule=change(self.schedule),
            query=query
            and replace(
                query,
                offset=change(query.offset),
                when=change(query.when),
                outputs=tuple(map(change, query.outputs)),
            ),
            post=tuple(map(change, self.post)),
            evaluation=evaluation
            and replace(evaluation, offset=change(evaluation.offset), when=change(evaluation.when)),
        )

    def without_unused_lines(self) -> Genome:
        """The genome without the ``let`` lines on which nothing else depends."""
        return replace(self, let=needed(self.let, names_in(self.outside_let)))

    @property
    def outside_let(self) -> list[Expression]:
        """All expressions but those of the ``let`` lines."""
        trees = [t.expr for t in self.terms] + [*self.gates, *self.post, self.schedule]
        trees += [self.query.offset, self.query.when, *self.query.outputs] if self.query else []
        return trees + ([self.evaluation.offset, self.evaluation.when] if self.evaluation else [])

    def renamed(self, name: str, source: str = "") -> Genome:
        """The same optimizer under another name."""
        return replace(self, name=name, source=source, oracle="")


def load(path: Path | str) -> Genome:
    """Read a genome file. Raises GenomeError for its content, OSError where it cannot be read."""
    try:
        return _read(strict_yaml.load(path))
    except strict_yaml.YamlError as error:
        raise GenomeError([str(error)]) from None


def parse(text: str, source: str = "<text>") -> Genome:
    """Read a genome from YAML text; ``source`` names it in messages. Raises GenomeError."""
    try:
        return _read(strict_yaml.parse(text, source))
    except strict_yaml.YamlError as error:
        raise GenomeError([str(error)]) from None


def dump(genome: Genome) -> str:
    """The genome as YAML text; ``parse(dump(genome)) == genome``."""
    lines = [f"genome: {VERSION}", f"name: {word(genome.name)}"]
    if genome.source:
        lines.append(f"source: {quoted(genome.source)}")
    if genome.oracle:
        lines.append(f"oracle: {quoted(genome.oracle)}")
    lines.append(f"lr: {genome.lr!r}")
    if genome.let:
        lines += ["let:", *(f"  - {quoted(str(line))}" for line in genome.let)]
    lines.append("terms:")
    lines += [f"  - {{weight: {t.weight!r}, expr: {quoted(show(t.expr))}}}" for t in genome.terms]
    if genome.gates:
        lines.append("gates:")
        lines += [f"  - {quoted(show(gate))}" for gate in genome.gates]
    if genome.decay.kind != "none":
        roles = ", ".join(genome.decay.roles)
        lines.append(f"decay: {{kind: {genome.decay.kind}, rate: {genome.decay.rate!r}, roles: [{roles}]}}")
    if genome.schedule != ONE:
        lines.append(f"schedule: {quoted(show(genome.schedule))}")
    if genome.roles:
        lines.append(f"roles: {{{', '.join(f'{role}: {scale!r}' for role, scale in genome.roles)}}}")
    if genome.query:
        offset, when = show(genome.query.offset), show(genome.query.when)
        outputs = ", ".join(quoted(show(bias)) for bias in genome.query.outputs)
        more = f", outputs: [{outputs}]" if outputs else ""
        more += ", as_evaluated: true" if genome.query.as_evaluated else ""
        lines.append(f"query: {{offset: {quoted(offset)}, when: {quoted(when)}{more}}}")
    if genome.post:
        lines.append("post:")
        lines += [f"  - {quoted(show(gate))}" for gate in genome.post]
    if genome.evaluation:
        lines += ["evaluation:", f"  offset: {quoted(show(genome.evaluation.offset))}"]
        if genome.evaluation.start:
            lines.append(f"  from: {genome.evaluation.start}")
        if genome.evaluation.when != ALWAYS:
            lines.append(f"  when: {quoted(show(genome.evaluation.when))}")
    return "\n".join(lines) + "\n"


def _read(document: strict_yaml.Document) -> Genome:
    return _Reader(document).genome()


class _Reader:
    """Reads all genes and gathers every problem, so that a person sees them at once."""

    def __init__(self, document: strict_yaml.Document):
        self.document = document
        self.problems: list[str] = []
        self.names: dict[str, str] = {}  # kinds of the names that may be used
        self.numbers: dict[str, float] = {}  # values of those that are made of numbers alone

    def genome(self) -> Genome:
        data = self.document.value
        if data is None:
            self.problem((), f"this file is empty; a genome has the keys {', '.join(KEYS)}")
            raise GenomeError(self.problems)
        if not isinstance(data, dict):
            self.problem((), f"expected a genome (keys {', '.join(KEYS)}), got {_kind(data)}")
            raise GenomeError(self.problems)
        self.closed((), data, KEYS)
        if "genome" not in data:
            self.problem((), f"missing key 'genome' (the version of the form: genome: {VERSION})")
        elif type(data["genome"]) is not int or data["genome"] != VERSION:  # true and 1.0 equal 1 in Python
            self.problem(("genome",), f"version {data['genome']!r} is not read here; this program reads {VERSION}")
        name = self.name(("name",), data.get("name"))
        source, oracle = self.note(("source",), data.get("source")), self.note(("oracle",), data.get("oracle"))
        if "lr" not in data:
            self.problem((), "missing key 'lr' (the learning rate)")
        lr = self.number(("lr",), data.get("lr", 1.0), LR_RANGE)
        let = self.let(data.get("let"))
        terms = self.list_of(("terms",), data.get("terms"), self.term, 1, MAX_TERMS)
        gates = self.list_of(("gates",), data.get("gates") or [], self.gate("gates"), 0, MAX_GATES)
        post = self.list_of(("post",), data.get("post") or [], self.gate("post"), 0, MAX_GATES)
        schedule = self.expression(("schedule",), data.get("schedule", 1))
        genome = Genome(
            name=name, lr=lr, terms=tuple(terms), source=source, oracle=oracle, gates=tuple(gates),
            decay=self.decay(data.get("decay")), schedule=schedule, roles=self.roles(data.get("roles")),
            query=self.query(data.get("query")), post=tuple(post), evaluation=self.evaluation(data.get("evaluation")),
            let=let,
        )  # fmt: skip
        if self.problems:
            raise GenomeError(self.problems)
        return genome

    def problem(self, path: tuple[strict_yaml.Key, ...], message: str) -> None:
        key = ".".join(str(part) for part in path)
        where = f"{self.document.source}:{self.document.line(path)}"
        self.problems.append(f"{where}: {key}: {message}" if key else f"{where}: {message}")

    def closed(self, path: tuple, data: dict, known: tuple[str, ...]) -> None:
        for key in data:
            if key not in known:
                near = get_close_matches(str(key), known, 1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
                self.problem((*path, key), f"unknown key; {hint}")

    def number(self, path: tuple, value: Any, allowed: tuple[float, float]) -> float:
        low, high = allowed
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.problem(path, f"expected a number, got {_shown(value)}")
        elif not low <= value <= high:
            self.problem(path, f"{value:g} is out of range; allowed is {low:g} to {high:g}")
        else:
            return float(value)
        return 1.0

    def name(self, path: tuple, value: Any) -> str:
        value = self.document.texts.get(path) or value  # 1.10, 1e3 and true are names as they stand there
        if value is None:
            self.problem((), f"missing key {path[-1]!r}")
        elif not isinstance(value, str) or not _NAME.fullmatch(value):
            wanted = f"letters, digits and . _ + - (at most {MAX_NAME})"
            self.problem(path, f"expected {wanted}, got {_shown(value)}")
        else:
            return value
        return "unnamed"

    def note(self, path: tuple, value: Any) -> str:
        if value is None:
            return ""
        value = self.document.texts.get(path, value)
        if not isinstance(value, str) or len(value) > MAX_NOTE:
            self.problem(path, f"expected a text of at most {MAX_NOTE} characters")
            return ""
        return value

    def list_of(self, path: tuple, data: Any, read: Callable[[tuple, Any], Any], least: int, most: int) -> list:
        if data is None:
            self.problem((), f"missing key {path[-1]!r}")
            return []
        if not isinstance(data, list) or not least <= len(data) <= most:
            self.problem(path, f"expected a list of {least} to {most} entries, got {_kind(data)}")
            return []
        return [read((*path, i), item) for i, item in enumerate(data)]

    def expression(self, path: tuple, value: Any, scope: str = "", mask: bool = False) -> Expression:
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = repr(value)
        if not isinstance(value, str):
            self.problem(path, f"expected an expression, got {_shown(value)}")
            return number(0)
        try:
            expression = parse_expression(value, scope, self.names, self.numbers)
        except ExpressionError as error:
            self.problem(path, str(error))
            return number(0)
        if (kind_of(expression, self.names) == "mask") != mask:
            wanted = "a comparison" if mask else "a number: where(mask, 1, 0) makes one"
            self.problem(path, f"expected {wanted}")
        return expression

    def let(self, data: Any) -> tuple[Line, ...]:
        path = ("let",)
        texts = self.list_of(path, [] if data is None else data, lambda path, item: (path, item), 0, MAX_LINES)
        heads: list[tuple[tuple, str, tuple]] = []
        for place, text in texts:
            if not isinstance(text, str):
                self.problem(place, f"expected 'name = expression', got {_shown(text)}")
                continue
            try:
                heads.append((place, text, head(text)))
            except LineError as error:
                self.problem(place, str(error))
        known = [name for _, _, (name, _, _) in heads]
        self.names = {name: "later" if start is None else "number" for _, _, (name, start, _) in heads}
        lines = []
        for i, (place, text, (name, start, length)) in enumerate(heads):
            if name in known[:i]:
                self.problem(place, f"{name} is defined already; a name is defined once")
                continue
            lines.append(Line(name, self._named(place, " " * length + text[length:], name, start is not None), start))
        return tuple(lines)

    def _named(self, path: tuple, text: str, name: str, is_state: bool) -> Expression:
        """The expression of a name, whose kind is known from here on."""
        self.numbers.pop(name, None)
        try:
            expression = parse_expression(text, "", self.names, self.numbers)
        except ExpressionError as error:
            self.problem(path, str(error))
            expression = number(0)
        kind = kind_of(expression, self.names)
        if is_state:
            if kind == "mask":
                self.problem(path, "a state keeps a number: where(mask, 1, 0) makes one")
            return expression
        self.names[name] = kind
        value = constant(expression, self.numbers)
        if value is not None and kind != "mask":
            self.numbers[name] = value
        return expression

    def term(self, path: tuple, data: Any) -> Term:
        if not isinstance(data, dict):
            self.problem(path, f"expected {{weight: 1.0, expr: ...}}, got {_shown(data)}")
            return Term(1.0, number(0))
        self.closed(path, data, ("weight", "expr"))
        weight = self.number((*path, "weight"), data.get("weight", 1.0), WEIGHT_RANGE)
        if "expr" not in data:
            self.problem(path, "missing key 'expr'")
        return Term(weight, self.expression((*path, "expr"), data.get("expr", "0")))

    def gate(self, scope: str) -> Callable[[tuple, Any], Expression]:
        return lambda path, value: self.expression(path, value, scope)

    def decay(self, data: Any) -> Decay:
        if data is None:
            return Decay()
        path = ("decay",)
        if not isinstance(data, dict):
            self.problem(path, f"expected {{kind: decoupled, rate: 0.01, roles: [weight]}}, got {_shown(data)}")
            return Decay()
        self.closed(path, data, ("kind", "rate", "roles"))
        kind = data.get("kind", "decoupled")
        if not isinstance(kind, str) or kind not in DECAY_KINDS:
            self.problem((*path, "kind"), f"{_shown(kind)} is unknown; known are {', '.join(DECAY_KINDS)}")
            kind = "none"
        rate = self.number((*path, "rate"), data.get("rate", 0.0), RATE_RANGE)
        roles = data.get("roles", ["weight"])
        unknown = [role for role in roles if role not in TENSOR_ROLES] if isinstance(roles, list) else []
        if not isinstance(roles, list) or not roles or unknown:
            near = get_close_matches(str(unknown[0]), TENSOR_ROLES, 1) if unknown else []
            hint = f", not {_shown(unknown[0])}" if unknown else ""
            hint += f"; did you mean {near[0]}?" if near else ""
            self.problem((*path, "roles"), f"expected a list of {', '.join(TENSOR_ROLES)}{hint}")
            roles = ["weight"]
        if kind == "none" or rate == 0:
            return Decay()
        return Decay(kind, rate, tuple(role for role in TENSOR_ROLES if role in roles))

    def roles(self, data: Any) -> tuple[tuple[str, float], ...]:
        if data is None:
            return ()
        if not isinstance(data, dict):
            self.problem(("roles",), f"expected {{weight: 1, bias: 1, ...}}, got {_shown(data)}")
            return ()
        self.closed(("roles",), data, ROLES)
        scales = {role: self.number(("roles", role), data[role], ROLE_RANGE) for role in ROLES if role in data}
        return tuple((role, scale) for role, scale in scales.items() if scale != 1)

    def query(self, data: Any) -> Query | None:
        if data is None:
            return None
        path = ("query",)
        if not isinstance(data, dict):
            self.problem(path, f"expected {{offset: ..., when: ...}}, got {_shown(data)}")
            return None
        self.closed(path, data, ("offset", "when", "outputs", "as_evaluated"))
        given = data.get("outputs")
        outputs = self.list_of((*path, "outputs"), [] if given is None else given, self.gate(""), 0, MAX_OUTPUTS)
        if "offset" not in data and not outputs:
            self.problem(path, "missing key 'offset'")
        offset = self.expression((*path, "offset"), data.get("offset", "0"), "post")
        always = "t > 0" if "offset" in data else "t < 0"  # without an offset, queries are for the outputs alone
        when = self.expression((*path, "when"), data.get("when", always), mask=True)
        as_evaluated = data.get("as_evaluated", False)
        if not isinstance(as_evaluated, bool):
            self.problem((*path, "as_evaluated"), f"expected true or false, got {_shown(as_evaluated)}")
        return Query(offset, when, tuple(outputs), as_evaluated is True)

    def evaluation(self, data: Any) -> Evaluation | None:
        if data is None:
            return None
        path = ("evaluation",)
        if not isinstance(data, dict):
            self.problem(path, f"expected {{offset: ..., from: 0, when: ...}}, got {_shown(data)}")
            return None
        self.closed(path, data, ("offset", "from", "when"))
        if "offset" not in data:
            self.problem(path, "missing key 'offset'")
        offset = self.expression((*path, "offset"), data.get("offset", "0"), "post")
        start = self.number((*path, "from"), data.get("from", 0), FROM_RANGE)
        if start != int(start):
            self.problem((*path, "from"), f"expected a whole number of epochs, got {start:g}")
        when = self.expression((*path, "when"), data.get("when", "t > 0"), mask=True)
        return Evaluation(offset, int(start), when)


def _kind(data: Any) -> str:
    if isinstance(data, dict):
        return f"a mapping of {len(data)} keys"
    if isinstance(data, list):
        return f"a list of {len(data)} entries"
    return _shown(data)


def _shown(data: Any) -> str:
    text = repr(data)
    return text if len(text) <= 60 else text[:57] + "..."
