"""Builds programs: expressions become nodes, primitives their bodies; equal values and equal states are shared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from genomes.compiler.graph import live, share_states
from genomes.compiler.nodes import Nodes
from genomes.compiler.program import Evaluation, Node, Program, Query, Slot
from genomes.compiler.rules import SIMPLIFY
from genomes.compiler.shapes import LoweringError, ShapeClass, join
from genomes.language.expressions import Expression
from genomes.language.operations import OPERATIONS, UNKNOWN
from genomes.language.parser import body, unbiased_result
from genomes.language.primitives import TABLE, Domain, Lowering, Primitive

Lowered = TypeVar("Lowered")
# words that mean in a body what they mean outside it
NAMES_IN_BODIES = tuple(p.name for p in TABLE.values() if p.lowering == "given" and not p.scope)
_HERE = "this is made of t, epoch, losses and numbers"


@dataclass(frozen=True)
class Value:
    """A lowered expression. ``unbiased``: for averages, the node of the bias-corrected value."""

    node: int
    unbiased: int | None = None


@dataclass(frozen=True)
class Kept:
    """A state to be kept. ``slot``: its slot's name, or what that begins with; ``shape``: its smallest class."""

    name: str
    slot: str
    shape: ShapeClass
    init: float | str


def slot_prefix(primitive: Primitive, state: str) -> str:
    """What the names of slots for this state of a primitive begin with; ``_1``, ``_2`` ... follow."""
    return f"{primitive.name}_{state}" if len(primitive.state) > 1 else primitive.name


class Builder(Nodes):
    """Nodes, state slots and stores of one program, gathered from expressions."""

    def __init__(self, name: str, own_names: Collection[str] = ()):
        """``own_names``: names that slots of words may not have."""
        super().__init__(SIMPLIFY)
        self.name = name
        self.own_names = frozenset(own_names)
        self.slots: list[Slot] = []
        self.stores: dict[int, int] = {}
        self._called: dict[tuple, Value] = {}
        self._last_update: int | None = None
        self._evaluation_offset: int | None = None
        self._evaluation_follows = False
        self.output_biases: list[int] = []  # nodes of what the query adds to each output
        self.labels: dict[int, str] = {}
        self.words: dict[int, str] = {}
        self._held_to_one: set[int] = set()  # constants of any value, held to a range that includes 1

    def another(self, name: str) -> Builder:
        """A builder of the same kind, with nothing in it."""
        return Builder(name)

    def gene(self, name: str, value: float) -> int:
        """The node of a number that is a gene of its own, such as the learning rate."""
        return self.const(value)

    def is_literal(self, node: int) -> bool:
        """Whether a value is a number that never changes."""
        return self.number(node) is not None

    def slot(self, name: str, shape: ShapeClass, init: float | str) -> int:
        """The number of a new state slot, whose name is no genome's own."""
        while name in self.own_names:
            name += "_"
        return self._own_slot(name, shape, init)

    def _own_slot(self, name: str, shape: ShapeClass, init: float | str) -> int:
        self.slots.append(Slot(name, shape, init))
        return len(self.slots) - 1

    def load(self, slot: int, nonnegative: bool = False) -> int:
        """The node of what a slot held before this step."""
        return self.add(Node("load", (), self.slots[slot].shape, slot), 0.0 if nonnegative else UNKNOWN)

    def theta_start(self) -> int:
        """The node of the parameters at the first step."""
        key = ("theta_start",)
        if key not in self._called:
            slot = self.slot("theta_start", ShapeClass.ELEMENT, "theta")
            self._called[key] = Value(self.load(slot))
            self.stores[slot] = self._called[key].node
        return self._called[key].node

    def last_update(self) -> int:
        """The node of the update that the last step applied."""
        if self._last_update is None:
            self._last_update = self.slot("last_update", ShapeClass.ELEMENT, 0.0)
        return self.load(self._last_update)

    def close_last_update(self, delta: int) -> None:
        """Store this step's update for the next, where the program wants it."""
        if self._last_update is not None:
            self.stores[self._last_update] = delta

    def evaluation_offset(self) -> int:
        """The node of what the last evaluation added to the parameters; 0 in a genome without that gene."""
        if self._evaluation_follows:
            raise LoweringError(f"evaluation_offset has no value here in a genome with the gene evaluation; {_HERE}")
        return self.const(0.0) if self._evaluation_offset is None else self.load(self._evaluation_offset)

    def evaluated_step(self) -> int:
        """The mask of the steps that an evaluation may follow."""
        return self.lower(Expression("last_step_of_epoch"), {}).node

    def expect_evaluation(self) -> None:
        """Say that there is an evaluation gene: until it is opened its offset has no value."""
        self._evaluation_follows = True

    def open_evaluation(self) -> tuple[Evaluation, int | None]:
        """The slots of the evaluation gene, and the mask of the steps that take its offset back, if any do."""
        self._evaluation_follows = False
        offset = self._evaluation_offset = self.slot("evaluation_offset", ShapeClass.ELEMENT, 0.0)
        applied = self.slot("evaluation_applied", ShapeClass.CLOCK, 0.0)
        return Evaluation(offset, applied), self.op("gt", self.load(applied, nonnegative=True), self.const(0.0))

    # --- expressions -----------------------------------------------------------------------------------------------

    def lower(self, expression: Expression, names: Mapping[str, Value]) -> Value:
        """Lower an expression; ``names`` gives the values of the names of its place. Raises LoweringError."""
        if expression.value is not None:
            return Value(self.const(expression.value))
        if expression.name in names:
            return names[expression.name]
        primitive = TABLE.get(expression.name)
        if primitive is None:
            raise LoweringError(f"unknown name {expression.name!r}")
        arguments = [self.lower(argument, names) for argument in expression.arguments]
        for i, parameter in enumerate(primitive.parameters):
            if parameter.domain is None:
                continue
            node = arguments[i].node
            if parameter.varies and self._may_be_one(node):
                arguments[i] = Value(self._held(node, replace(parameter.domain, high=1.0)))
                self._held_to_one.add(arguments[i].node)
                continue
            if not self.nodes[node].shape.on_host:
                raise LoweringError(
                    f"{primitive.name}: {parameter.name} must be a number or made of t, epoch, losses and roles, "
                    f"not of gradients or parameters"
                )
            arguments[i] = Value(self._held(node, parameter.domain))
        if primitive.op is not None:
            source = OPERATIONS[primitive.op].kind in ("clock source", "role source")
            nodes = [a.node for a in arguments]
            return Value(self.source(primitive.op) if source else self.op(primitive.op, *nodes))
        if primitive.lowering is not None:
            return self._lowered_word(primitive, primitive.lowering, arguments)
        varying = primitive.varying_body is not None and any(a.node in self._held_to_one for a in arguments)
        # g means the gradient with coupled decay in a body too, so it belongs to the identity of the call
        key = (
            primitive.name,
            *(a.node for a in arguments),
            *(names[n].node for n in NAMES_IN_BODIES if n in names),
        )
        if key not in self._called:
            self._called[key] = self._expand_body(primitive, arguments, names, varying)
            self._name(self._called[key].node, primitive.name)
        return self._called[key]

    def _name(self, node: int, name: str) -> None:
        """Name a value after a word, where it has no name yet and is worth one."""
        if self.nodes[node].arguments:
            self.words.setdefault(node, name)

    def _may_be_one(self, node: int) -> bool:
        """Whether a value comes from the device, or is set to 1 by a choice."""
        value = self.nodes[node]
        if not value.shape.on_host or node in self._held_to_one:
            return True
        return value.op == "where" and any(self.number(a) == 1 or self._may_be_one(a) for a in value.arguments[1:])

    def _held(self, node: int, domain: Domain) -> int:
        """A constant's value in its domain: the nearest number there, where that is whole, rounded down."""
        held = self.op("max", self.op("min", node, self.const(domain.high)), self.const(domain.low))
        return self.op("floor", held) if domain.whole else held

    def _lowered_word(self, primitive: Primitive, lowering: Lowering, arguments: list[Value]) -> Value:
        """A word that is neither one operation nor a body."""
        match lowering:
            case "given":
                raise LoweringError(f"{primitive.name} has no value here; {_HERE}")
            case "kept":
                return Value(getattr(self, primitive.name)())  # a method for each
            case "query bias":
                return Value(self._any_bias() if primitive.result == "mask" else self._bias(arguments[0].node))
            case "unbiased":
                if arguments[0].unbiased is None:
                    raise LoweringError("debias wants an average such as ema(x, beta)")
                return Value(arguments[0].unbiased)
            case "delayed":
                return Value(self._delayed(arguments[0].node, self._literal(primitive.name, arguments[1].node)))
            case "window sum":
                return Value(self._window_sum(arguments[0].node, self._literal(primitive.name, arguments[1].node)))

    def _literal(self, name: str, node: int) -> int:
        number = self.number(node)
        if number is None:
            raise LoweringError(f"{name}: k must be a literal number")
        return int(number)

    def _delayed(self, x: int, k: int) -> int:
        """The node of a value k steps ago, kept by a chain of states: each takes what the one before it held."""
        for _ in range(k):
            key = ("delay", x)
            if key not in self._called:
                count = sum(slot.name.startswith("delay_") for slot in self.slots)
                slot = self.slot(f"delay_{count + 1}", self.nodes[x].shape, 0.0)
                self._called[key] = Value(self.load(slot, self.bounds[x] >= 0))
                self.stores[slot] = x
            x = self._called[key].node
        return x

    def _window_sum(self, x: int, k: int) -> int:
        """The node of the sum over the last k steps: of both halves of the window, the older one by delay."""
        if k == 1:
            return x
        if k % 2:
            return self.op("add", x, self._delayed(self._window_sum(x, k - 1), 1))
        half = self._window_sum(x, k // 2)
        return self.op("add", half, self._delayed(half, k // 2))

    def _bias(self, output: int) -> int:
        number = self._literal("output_bias", output)
        return self.output_biases[number] if number < len(self.output_biases) else self.const(0.0)

    def _any_bias(self) -> int:
        size = self.const(0.0)
        for bias in self.output_biases:
            size = self.op("add", size, self.op("abs", bias))
        return self.op("gt", size, self.const(0.0))

    def _expand_body(
        self, primitive: Primitive, arguments: list[Value], names: Mapping[str, Value], varying: bool
    ) -> Value:
        """Lower a body. ``varying``: that for arguments of any value."""
        given = {p.name: a for p, a in zip(primitive.parameters, arguments, strict=True)}
        states = [
            Kept(
                s.name,
                slot_prefix(primitive, s.name),
                self.nodes[given[s.like].node].shape if s.like else ShapeClass.CLOCK,
                s.init,
            )
            for s in primitive.state
        ]
        value, _ = self.keeping(states, lambda held: self._statements(primitive, given, names, held, varying))
        return value

    def keeping(
        self, states: Sequence[Kept], lowered: Callable[[Mapping[str, Value]], tuple[Lowered, Mapping[str, int]]]
    ) -> tuple[Lowered, Mapping[str, Value]]:
        """Lower what keeps ``states``: what ``lowered`` returns first, and the values that the states held before.

        ``lowered`` takes the values that they held, and returns second the nodes to be stored. States start with the
        class that is given; what they store enlarges them.
        """
        shapes = {s.name: s.shape for s in states}
        signs = {s.name: s.init != "theta" and float(s.init) >= 0 for s in states}
        while True:
            mark = len(self.slots), dict(self.stores), dict(self._called)
            slots = {s.name: self._state_slot(s, shapes[s.name]) for s in states}
            held = {s: Value(self.load(slot, signs[s])) for s, slot in slots.items()}
            result, stored = lowered(held)
            wider = {
                s: joined
                for s, slot in slots.items()
                if (joined := join(shapes[s], self.nodes[stored[s]].shape)) is not shapes[s]
            }
            negative = [s for s in slots if signs[s] and not self.bounds[stored[s]] >= 0]
            if not wider and not negative:
                for s, slot in slots.items():
                    self.stores[slot] = self.expand(stored[s], self.slots[slot].shape)
                return result, held
            # guessed wrong: forget these slots (nothing live uses them) and begin again with what is known now
            del self.slots[mark[0] :]
            self.stores, self._called = mark[1], mark[2]
            if self._last_update is not None and self._last_update >= mark[0]:
                self._last_update = None
            self._forget_loads(mark[0])
            shapes.update(wider)
            signs.update(dict.fromkeys(negative, False))

    def _state_slot(self, state: Kept, shape: ShapeClass) -> int:
        if state.init == "theta":
            shape = join(shape, ShapeClass.ELEMENT)
        if state.slot in self.own_names:
            return self._own_slot(state.slot, shape, state.init)
        count = sum(slot.name.startswith(state.slot) for slot in self.slots)
        return self.slot(f"{state.slot}_{count + 1}", shape, state.init)

    def _forget_loads(self, first_slot: int) -> None:
        """Loads of forgotten slots must not be found again: a later slot of that number means something else."""
        for node, index in list(self._index.items()):
            if node.op == "load" and node.attribute is not None and node.attribute >= first_slot:
                del self._index[node]
                self.nodes[index] = replace(node, attribute=-1)

    def _statements(
        self,
        primitive: Primitive,
        given: Mapping[str, Value],
        names: Mapping[str, Value],
        held: Mapping[str, Value],
        varying: bool,
    ) -> tuple[Value, dict[str, int]]:
        scope = {n: names[n] for n in NAMES_IN_BODIES if n in names} | dict(given) | dict(held)
        stored = {s: value.node for s, value in held.items()}
        result = Value(-1)
        for target, expression in body(primitive.name, varying):
            value = self.lower(expression, scope)
            if target in held:
                stored[target] = value.node
            if target:
                scope[target] = value
                self._name(value.node, target)
            else:
                result = value
        literal = all(self.is_literal(given[p.name].node) for p in primitive.parameters if p.domain)
        corrected = unbiased_result(primitive.name, literal)
        if corrected:
            result = Value(result.node, self.lower(corrected, scope).node)
            self._name(result.unbiased or 0, f"{primitive.name}_debiased")
        return result, stored

    def program(self, update: int, query: Query | None, evaluation: Evaluation | None) -> Program:
        """The program of what is alive: the update, what queries need, and the states that they depend on."""
        alive: set[int] = {query.offset} if query else set()
        alive |= {evaluation.offset, evaluation.applied} if evaluation else set()
        roots = [update]
        while True:
            nodes, index = live(self.nodes, roots + [self.stores[s] for s in alive])
            loaded = {int(n.attribute) for n in nodes if n.op == "load" and n.attribute is not None}
            if loaded <= alive:
                break
            alive |= loaded
        kept = sorted(alive)
        number_of = {slot: i for i, slot in enumerate(kept)}
        renumbered = tuple(
            replace(n, attribute=number_of[int(n.attribute)]) if n.op == "load" and n.attribute is not None else n
            for n in nodes
        )
        return share_states(
            Program(
                name=self.name,
                nodes=renumbered,
                slots=tuple(self.slots[s] for s in kept),
                stores=tuple((number_of[s], index[self.stores[s]]) for s in kept),
                update=index[update],
                query=query and replace(query, offset=number_of[query.offset]),
                evaluation=evaluation and Evaluation(number_of[evaluation.offset], number_of[evaluation.applied]),
                labels=tuple((index[node], name) for node, name in self.labels.items() if node in index),
                words=tuple((index[node], name) for node, name in self.words.items() if node in index),
            )
        )
