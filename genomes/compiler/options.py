"""Programs whose constants stay open: what is evolved becomes an option that a user of the optimizer may set.

An option has the place of a number in a genome, and its node, ``option``, the class of one. Equal numbers are one
option where they are arguments of the same kind, plain ones of one line, or where one of them is a plain number beside
a beta or an epsilon: what is written as ``1 - 0.999 ** t`` belongs to ``ema(x, 0.999)``. Numbers that make the form of
an expression rather than its size stay numbers: 0, 1, 2, 0.5, whole exponents, pi, and lengths of chains of states.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from genomes.compiler.builder import Builder, Value
from genomes.compiler.lowering import lower, lowered
from genomes.compiler.nodes import SMALLEST_DIVISOR
from genomes.compiler.program import OPTION, Evaluation, Node, Program
from genomes.compiler.shapes import ShapeClass
from genomes.language.expressions import Expression
from genomes.language.genome import Genome
from genomes.language.operations import OPERATIONS, UNKNOWN
from genomes.language.primitives import BETA, TABLE, Domain, Parameter

_FORM = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, math.pi, 2 * math.pi)
_UNIVERSAL = ("beta", "eps")  # kinds that plain numbers of the same value belong to
_TINY = 1e-4  # a plain number up to here is there to keep a divisor from 0
_UNKNOWABLE = ("output_shift", "output_count", "output_error", "output_correction")  # 0 where no end is frozen
_TAKEN = frozenset({  # names in groups of parameters that are no option's
    "lr", "initial_lr", "min_lr", "max_lr", "swa_lr", "params", "param_names", "self", "maximize", "foreach",
    "capturable", "seed", "mode", "roles", "layers", "epoch", "train_loss", "val_loss", "steps_per_epoch",
})  # fmt: skip
_STRUCTURAL = ("delayed", "window sum", "query bias")  # words whose constants are no values


@dataclass(frozen=True)
class Option:
    """A number that a user may set within ``low <= value <= high``; ``whole``: to whole numbers. ``value``: evolved."""

    name: str
    value: float
    low: float
    high: float
    whole: bool = False

    @property
    def allowed(self) -> str:
        """What it may be, for people."""
        if 0 < self.low < 10 * SMALLEST_DIVISOR:  # to keep it from 0
            allowed = "above 0"
        elif math.isinf(self.low):
            allowed = "any number" if self.high > 0 else "below 0"
        else:
            allowed = f"from {self.low:g}"
        if self.high > 0 and not math.isinf(self.high):
            allowed += f" to {self.high:g}"
        return f"whole, {allowed}" if self.whole else allowed


@dataclass(frozen=True)
class Open:
    """A program with nodes ``option``, the options in their order, and lower bounds of the nodes' values."""

    program: Program
    options: tuple[Option, ...]
    bounds: tuple[float, ...]


@dataclass(frozen=True)
class _Place:
    """A number of a genome. ``kind``: what it is an argument of, or where it stands if it is a ``plain`` number.

    ``low``, ``high``: what it may be; ``argument``: the argument's name, where one word has several of a kind.
    """

    value: float
    kind: str
    low: float
    high: float
    whole: bool = False
    argument: str = ""
    plain: bool = False


def lower_open(genome: Genome, *, frozen_end: bool) -> Open:
    """The program of a genome with options in the places of its numbers; `lr` is always one. Raises GenomeError.

    ``frozen_end``: whether it trains the challenge's networks; see `_Elsewhere` for what it means on others.
    """
    lower(genome)  # whose messages name genes
    places = _Places(genome if frozen_end else _without_outputs(genome))
    builder = (_OpenBuilder if frozen_end else _Elsewhere)(genome.name, [line.name for line in genome.let], places)
    program = lowered(places.opened, builder)
    bounds = builder.bounds_of(program)
    own = program.query.nodes if program.query else ()
    used = sorted({int(n.attribute or 0) for n in (*program.nodes, *own) if n.op == OPTION} | {0})

    def renumbered(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        return tuple(replace(n, attribute=used.index(int(n.attribute or 0))) if n.op == OPTION else n for n in nodes)

    query = program.query and replace(program.query, nodes=renumbered(program.query.nodes))
    program = replace(program, nodes=renumbered(program.nodes), query=query)
    return Open(program, tuple(places.options[k] for k in used), bounds)


def unused(name: str, taken: set[str]) -> str:
    """The name, or one made of it that is not ``taken``; it is from now on."""
    found, n = name, 1
    while found in taken:
        n += 1
        found = f"{name}_{n}"
    taken.add(found)
    return found


def _without_outputs(genome: Genome) -> Genome:
    """The genome whose query changes nothing of a frozen end; without a query where it did nothing else."""
    if genome.query is None:
        return genome
    query = replace(genome.query, outputs=(), as_evaluated=False)
    return replace(genome, query=None if query.offset.value == 0 else query)


class _Places:
    """The numbers of a genome that become options, and the genome with names in their places."""

    def __init__(self, genome: Genome):
        self.genes: dict[str, int] = {}
        self._places: list[_Place] = []
        self._less_than_one: set[float] = set()
        for tree in [line.expr for line in genome.let] + genome.outside_let:
            for node in tree.walk():
                if node.name == "sub" and node.arguments[0].value == 1 and node.arguments[1].value is not None:
                    self._less_than_one.add(node.arguments[1].value)
        self._gene("lr", genome.lr, "lr", 0.0)
        self._homes = {line.expr: line.name for line in genome.let} | {genome.schedule: "schedule"}
        for name, gene in (("query", genome.query), ("evaluation", genome.evaluation)):
            trees = (gene.offset, gene.when, *getattr(gene, "outputs", ())) if gene else ()
            self._homes |= dict.fromkeys(trees, name)
        self.opened = genome.mapped(self._opened)
        for i, term in enumerate(genome.terms):
            if term.weight not in _FORM:
                self._gene(f"terms.{i}.weight", term.weight, "term_weight", UNKNOWN)
        if genome.decay.kind != "none":
            self._gene("decay.rate", genome.decay.rate, "weight_decay", 0.0)
        for role, multiplier in genome.roles:
            self._gene(f"roles.{role}", multiplier, f"lr_scale_{role}", 0.0)
        self.option_of, self.options = self._joined()

    def _gene(self, gene: str, value: float, kind: str, low: float) -> None:
        self.genes[gene] = self._add(_Place(value, kind, low, math.inf))

    def _add(self, place: _Place) -> int:
        self._places.append(place)
        return len(self._places) - 1

    def _named(self, place: _Place) -> Expression:
        return Expression(f"{OPTION} {self._add(place)}")

    def _opened(self, tree: Expression) -> Expression:
        """The expression of a gene with names in the places of its numbers."""
        home = self._homes.get(tree, "")
        if home and tree.value is not None:  # a number with a name
            place = self._place(tree.value, None, home)
            return tree if place is None else self._named(replace(place, kind=home, plain=False))
        home = f"{home}_constant" if home else "constant"

        def opened(tree: Expression, above: tuple[Expression, int] | None) -> Expression:
            if tree.value is not None:
                place = self._place(tree.value, above, home)
                return tree if place is None else self._named(place)
            structural = tree.name in TABLE and TABLE[tree.name].lowering in _STRUCTURAL
            arguments = tuple(
                argument if structural and argument.value is not None else opened(argument, (tree, i))
                for i, argument in enumerate(tree.arguments)
            )
            return replace(tree, arguments=arguments)

        return opened(tree, None)

    def _place(self, value: float, above: tuple[Expression, int] | None, home: str) -> _Place | None:
        """A number's place; None for one that stays. ``above``: what it is an argument of, and which."""
        word = TABLE.get(above[0].name) if above else None
        parameter = word.parameters[above[1]] if word and above else None
        if abs(value) < SMALLEST_DIVISOR:
            return None
        if word and parameter and parameter.domain:
            return self._constant(value, word.name, parameter, parameter.domain)
        if value in _FORM or abs(value) > 1e12 or (word and word.name == "pow" and value == int(value)):
            return None
        siblings = {a.name for a in above[0].arguments} if above else set()
        if word and word.name == "mul" and siblings & {"theta", "queried"}:
            return _Place(value, "weight_decay", 0.0 if value > 0 else UNKNOWN, math.inf)
        if value in self._less_than_one and 0.5 <= value < 1:
            return _Place(value, "beta", BETA.low, BETA.high)
        if 0 < value <= _TINY and word and word.name in ("add", "max"):
            return _Place(value, "eps", SMALLEST_DIVISOR, math.inf)
        high = 1.0 if value in self._less_than_one and value < 1 else math.inf
        if value < 0:
            return _Place(value, home, -math.inf, -SMALLEST_DIVISOR, plain=True)
        return _Place(value, home, SMALLEST_DIVISOR, high, plain=True)

    def _constant(self, value: float, word: str, parameter: Parameter, domain: Domain) -> _Place:
        name = parameter.name
        own = word if word.endswith(name) else f"{word}_{name}"
        kind = "beta" if domain is BETA else "eps" if name == "epsilon" else own
        low = SMALLEST_DIVISOR if kind == "eps" and value > 0 else domain.low
        return _Place(value, kind, low, domain.high, domain.whole, name if kind == "beta" else "")

    def _joined(self) -> tuple[list[int], list[Option]]:
        """For each place the number of its option, and the options."""
        shared = {p.value: (p.kind, p.argument) for p in reversed(self._places) if p.kind in _UNIVERSAL and p.argument}
        shared |= {p.value: (p.kind, "") for p in reversed(self._places) if p.kind == "eps"}
        keys = [
            (p.value, p.kind, p.argument)
            if p.argument or not (p.plain or p.kind == "beta")
            else (p.value, *shared.get(p.value, (p.kind, "")))
            for p in self._places
        ]
        groups = list(dict.fromkeys(keys))
        count = Counter(kind for _, kind, _ in groups)
        seen: Counter[str] = Counter()
        taken = set(_TAKEN)
        options: list[Option] = []
        for group in groups:
            value, kind, _ = group
            members = [p for p, key in zip(self._places, keys, strict=True) if key == group]
            seen[kind] += 1
            numbered = kind + (str(seen[kind]) if count[kind] > 1 else "")
            name = unused(numbered, taken) if options else "lr"
            low, high = max(p.low for p in members), min(p.high for p in members)
            options.append(Option(name, value, low, high, any(p.whole for p in members)))
        return [groups.index(key) for key in keys], options


class _OpenBuilder(Builder):
    """Builds programs whose options are values of their own, into which nothing is folded."""

    def __init__(self, name: str, own_names: Collection[str], places: _Places):
        super().__init__(name, own_names)
        self._places = places

    def another(self, name: str) -> Builder:
        return type(self)(name, (), self._places)

    def lower(self, expression: Expression, names: Mapping[str, Value]) -> Value:
        before, option, place = expression.name.partition(f"{OPTION} ")
        if option and not before:
            return Value(self._option(int(place)))
        return super().lower(expression, names)

    def gene(self, name: str, value: float) -> int:
        place = self._places.genes.get(name)
        return self.const(value) if place is None else self._option(place)

    def is_literal(self, node: int) -> bool:
        return super().is_literal(node) or self.nodes[node].op == OPTION

    def bounds_of(self, program: Program) -> tuple[float, ...]:
        """Lower bounds of the values of a finished program."""
        signs = [slot.init != "theta" and float(slot.init) >= 0 for slot in program.slots]
        while True:
            found = _OpenBuilder(program.name, (), self._places)
            for node in program.nodes:
                if node.arguments:
                    found._made(node.op, node.arguments, node.shape)
                else:
                    found.add(node, found._bound(node, signs))
            negative = [slot for slot, node in program.stores if signs[slot] and not found.bounds[node] >= 0]
            if not negative:
                return tuple(found.bounds)
            for slot in negative:
                signs[slot] = False

    def _bound(self, node: Node, signs: Sequence[bool]) -> float:
        """A lower bound of a value that has no arguments. ``signs``: for each slot whether it is never negative."""
        if node.op == "load":
            return 0.0 if signs[int(node.attribute or 0)] else UNKNOWN
        if node.op == OPTION:
            return self._places.options[int(node.attribute or 0)].low
        return float(node.attribute or 0.0) if node.op == "const" else OPERATIONS[node.op].bound([])

    def _option(self, place: int) -> int:
        node = Node(OPTION, (), ShapeClass.CLOCK, self._places.option_of[place])
        return self.add(node, self._bound(node, ()))

    def _held(self, node: int, domain: Domain) -> int:
        return node if self.nodes[node].op == OPTION else super()._held(node, domain)

    def _gathered_weight(self, one: int, power: int) -> float:
        """As in a program of numbers, with the highest value of an option in the number's place."""
        base = power if self.nodes[power].op == OPTION else (*self.nodes[power].arguments, -1)[0]
        if self.number(one) != 1 or base < 0 or self.nodes[base].op != OPTION:
            return super()._gathered_weight(one, power)
        option = self._places.options[int(self.nodes[base].attribute or 0)]
        if not 0 <= option.low <= option.high <= 1:
            return UNKNOWN
        if base == power:
            return 1 - option.high
        if self.nodes[power].op != "power":
            return UNKNOWN
        exponent = self.nodes[power].arguments[1]
        if not self.bounds[exponent] >= 0:
            return UNKNOWN
        return 1 - option.high if self.bounds[exponent] >= 1 and self.nodes[exponent].shape.on_host else 0.0


class _Elsewhere(_OpenBuilder):
    """Builds programs for networks of any kind, which have no frozen end: words about it are 0.

    Of the evaluation gene they keep the offset alone: neither gradients nor updates ever see it.
    """

    def lower(self, expression: Expression, names: Mapping[str, Value]) -> Value:
        return Value(self.const(0.0)) if expression.name in _UNKNOWABLE else super().lower(expression, names)

    def evaluated_step(self) -> int:
        nobody_said = self.op("eq", self.source("steps_per_epoch"), self.const(0.0))
        return self.op("or", nobody_said, super().evaluated_step())

    def open_evaluation(self) -> tuple[Evaluation, int | None]:
        evaluation, _ = super().open_evaluation()
        return evaluation, None
