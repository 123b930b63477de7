"""Builds programs: expressions become nodes, primitives their bodies; equal values and equal states are shared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from genomes.compiler import program
from genomes.compiler.graph import live, share_states
from genomes.compiler.program import Node, Program, Query, Slot
from genomes.compiler.rules import SIMPLIFY, folded
from genomes.compiler.shapes import ShapeClass, join
from genomes.language.expressions import Expression, is_mask, parse
from genomes.language.primitives import TABLE, Primitive

MAX_PROGRAM_NODES = 4000
NAMES_IN_BODIES = ("g", "theta", "queried", "lr_t")  # sources whose value depends on the genome's other genes
SMALLEST_DIVISOR = 1e-30  # a constant below this can vanish in float32, so it does not make a divisor safe


class LoweringError(ValueError):
    """An expression that parses but has no meaning in its place."""


@dataclass(frozen=True)
class Value:
    """A lowered expression. ``unbiased``: for averages, the node of the bias-corrected value."""

    node: int
    unbiased: int | None = None


@cache
def body(name: str) -> tuple[tuple[str, Expression], ...]:
    """The statements of a primitive's body: (name assigned, expression); the last name is ``""``, the result."""
    primitive = TABLE[name]
    assert primitive.body is not None
    kinds: dict[str, str] = {p.name: p.kind for p in primitive.parameters} | {s.name: "number" for s in primitive.state}
    statements = []
    for line in primitive.body.strip().splitlines():
        target, assign, text = line.strip().partition(" = ")
        if not assign:
            target, text = "", target
        expression = parse(text, names=kinds)
        statements.append((target, expression))
        kinds[target] = "mask" if is_mask(expression) else "number"
    if [n for n, _ in statements].index("") != len(statements) - 1:
        raise ValueError(f"primitive {name}: the result is the last line of its body")
    return tuple(statements)


class Builder:
    """Gathers nodes; the same operation on the same nodes is one node, whoever asks for it."""

    def __init__(self, name: str):
        self.name = name
        self.nodes: list[Node] = []
        self.slots: list[Slot] = []
        self.stores: dict[int, int] = {}
        self._index: dict[Node, int] = {}
        self.nonnegative: list[bool] = []
        self.positive: list[bool] = []
        self._called: dict[tuple, Value] = {}
        self._last_update: int | None = None
        self.labels: dict[int, str] = {}

    # --- nodes ---------------------------------------------------------------------------------------------------

    def add(self, node: Node, nonnegative: bool = False, positive: bool = False) -> int:
        if node not in self._index:
            self._index[node] = len(self.nodes)
            self.nodes.append(node)
            self.nonnegative.append(nonnegative or positive)
            self.positive.append(positive)
            if len(self.nodes) > 10 * MAX_PROGRAM_NODES:
                raise LoweringError("the program grows too large")
        return self._index[node]

    def const(self, value: float) -> int:
        value = float(value) + 0.0  # -0.0 and 0.0 are one constant
        return self.add(Node("const", (), ShapeClass.CLOCK, value), value >= 0, value >= SMALLEST_DIVISOR)

    def source(self, name: str, shape: ShapeClass) -> int:
        positive = name in ("t", "rows", "columns", "model_size", "layer_count")
        nonnegative = name in ("epoch", "train_loss", "val_loss", "depth_fraction")
        return self.add(Node(name, (), shape), nonnegative, positive)

    def slot(self, name: str, shape: ShapeClass, init: float | str) -> int:
        self.slots.append(Slot(name, shape, init))
        return len(self.slots) - 1

    def load(self, slot: int, nonnegative: bool = False) -> int:
        return self.add(Node("load", (), self.slots[slot].shape, slot), nonnegative)

    def theta_start(self) -> int:
        key = ("theta_start",)
        if key not in self._called:
            slot = self.slot("theta_start", ShapeClass.ELEMENT, "theta")
            self._called[key] = Value(self.load(slot))
            self.stores[slot] = self._called[key].node
        return self._called[key].node

    def last_update(self) -> int:
        if self._last_update is None:
            self._last_update = self.slot("last_update", ShapeClass.ELEMENT, 0.0)
        return self.load(self._last_update)

    def close_last_update(self, delta: int) -> None:
        if self._last_update is not None:
            self.stores[self._last_update] = delta

    def number(self, node: int) -> float | None:
        return self.nodes[node].attribute if self.nodes[node].op == "const" else None

    def expand(self, a: int, shape: ShapeClass) -> int:
        """``a`` as a value of the larger class ``shape``."""
        if self.nodes[a].shape is shape:
            return a
        if join(self.nodes[a].shape, shape) is not shape:
            raise LoweringError(f"a value of class {self.nodes[a].shape} does not fit where {shape} is stored")
        return self.add(Node("expand", (a,), shape), self.nonnegative[a], self.positive[a])

    def op(self, name: str, *arguments: int) -> int:
        """The node of an elementwise operation or a reduction, simplified where that is exact."""
        if name in program.REDUCTIONS:
            a = self.expand(arguments[0], ShapeClass.ELEMENT)
            return self.add(Node(name, (a,), program.REDUCTIONS[name]), self.nonnegative[a])
        if name in program.MODEL_REDUCTIONS:
            partial = self.op("sum_tensor" if name == "sum_model" else "max_tensor", arguments[0])
            return self.add(Node(name, (partial,), ShapeClass.MODEL), self.nonnegative[partial])
        if name in program.MATRIX:
            return self.add(
                Node(name, (self.expand(arguments[0], ShapeClass.ELEMENT), *arguments[1:]), ShapeClass.ELEMENT)
            )
        if name == "uniform":
            return self.add(Node(name, arguments, ShapeClass.ELEMENT), positive=True)
        if name == "bfloat16" and self.nodes[arguments[0]].shape.on_host:
            return arguments[0]
        numbers = [self.number(a) for a in arguments]
        if name not in program.MASKS and all(n is not None for n in numbers) and name != "where":
            return self.const(folded(name, [n for n in numbers if n is not None]))
        simpler = SIMPLIFY[name](self, arguments, numbers) if name in SIMPLIFY else None
        return simpler if simpler is not None else self.elementwise(name, *arguments)

    def elementwise(self, name: str, *arguments: int) -> int:
        """The node of an elementwise operation as it stands. Raises LoweringError for a mask in a number's place."""
        masked = name in ("and", "or", "not", "number")
        for i, a in enumerate(arguments):
            if self.nodes[a].is_mask != (masked or (name == "where" and i == 0)):
                raise LoweringError(f"{name} of a {'comparison' if self.nodes[a].is_mask else 'number'}")
        shape = join(*(self.nodes[a].shape for a in arguments))
        if name in program.COMMUTATIVE and Node(name, arguments[::-1], shape) in self._index:
            arguments = arguments[::-1]
        nonnegative, positive = self._signs(name, arguments)
        return self.add(Node(name, arguments, shape), nonnegative, positive)

    def _signs(self, name: str, arguments: tuple[int, ...]) -> tuple[bool, bool]:
        """What is known of the result's sign: (>= 0, > 0 by a margin that float32 can hold)."""
        low = [self.nonnegative[a] for a in arguments]
        up = [self.positive[a] for a in arguments]
        match name:
            case "add":
                return all(low), all(low) and any(up)
            case "mul":
                return all(low) or arguments[0] == arguments[1], False
            case "div" | "safe_div" | "min":
                return all(low), name == "min" and all(up)
            case "max":
                return any(low), any(up)
            case "sqrt" | "abs":
                return True, up[0]
            case "exp" | "number" | "power":
                return True, False
            case "where":
                return all(low[1:]), all(up[1:])
            case "floor" | "tanh":
                return low[0], False
            case "sub":  # 1 - beta ** t, the weights that an average has gathered
                taken = self.nodes[arguments[1]]
                if taken.op == "power" and self.number(arguments[0]) == 1:
                    beta, exponent = self.number(taken.arguments[0]), taken.arguments[1]
                    return beta is not None and beta <= 1 and self.nonnegative[exponent], False
        return False, False

    # --- expressions -----------------------------------------------------------------------------------------------

    def lower(self, expression: Expression, names: Mapping[str, Value]) -> Value:
        """Lower an expression; ``names`` gives the values of the names of its place. Raises LoweringError."""
        if expression.value is not None:
            return Value(self.const(expression.value))
        if expression.name in names:
            return names[expression.name]
        primitive = TABLE[expression.name]
        arguments = [self.lower(argument, names) for argument in expression.arguments]
        for parameter, argument in zip(primitive.parameters, arguments, strict=True):
            if parameter.domain and not self.nodes[argument.node].shape.on_host:
                raise LoweringError(
                    f"{primitive.name}: {parameter.name} must be a number or made of t, epoch, losses and roles, "
                    f"not of gradients or parameters"
                )
        if primitive.op is not None:
            return self._operation(primitive, arguments, names)
        # g means the gradient with coupled decay in a body too, so it belongs to the identity of the call
        key = (
            primitive.name,
            *(a.node for a in arguments),
            *(names[n].node for n in NAMES_IN_BODIES if n in names),
        )
        if key not in self._called:
            self._called[key] = self._expand_body(primitive, arguments, names)
        return self._called[key]

    def _operation(self, primitive: Primitive, arguments: list[Value], names: Mapping[str, Value]) -> Value:
        op = primitive.op
        assert op is not None
        if op == "debias":
            if arguments[0].unbiased is None:
                raise LoweringError("debias wants an average such as ema(x, beta), with a literal beta")
            return Value(arguments[0].unbiased)
        if op == "last_update":
            return Value(self.last_update())
        if op == "theta_start":
            return Value(self.theta_start())
        if op in program.CLOCK_SOURCES:
            return Value(self.source(op, ShapeClass.CLOCK))
        if op in program.ROLE_SOURCES:
            return Value(self.source(op, ShapeClass.ROLE))
        if op in (*NAMES_IN_BODIES, "u", "delta"):
            raise LoweringError(f"{op} has no value here")
        return Value(self.op(op, *(a.node for a in arguments)))

    def _expand_body(self, primitive: Primitive, arguments: list[Value], names: Mapping[str, Value]) -> Value:
        """Lower a body. States start as the class of the argument they are like; what is learnt enlarges them."""
        given = {p.name: a for p, a in zip(primitive.parameters, arguments, strict=True)}
        shapes = {
            s.name: self.nodes[given[s.like].node].shape if s.like != "clock" else ShapeClass.CLOCK
            for s in primitive.state
        }
        signs = {s.name: s.init != "theta" and float(s.init) >= 0 for s in primitive.state}
        while True:
            mark = len(self.slots), dict(self.stores), dict(self._called)
            slots = {s.name: self._state_slot(primitive, s.name, s.init, shapes[s.name]) for s in primitive.state}
            value, stored = self._statements(primitive, given, names, slots, signs)
            wider = {
                s: joined
                for s, slot in slots.items()
                if (joined := join(shapes[s], self.nodes[stored[s]].shape)) is not shapes[s]
            }
            negative = [s for s in slots if signs[s] and not self.nonnegative[stored[s]]]
            if not wider and not negative:
                for s, slot in slots.items():
                    self.stores[slot] = self.expand(stored[s], shapes[s])
                return value
            # guessed wrong: forget these slots (nothing live uses them) and begin again with what is known now
            del self.slots[mark[0] :]
            self.stores, self._called = mark[1], mark[2]
            self._forget_loads(mark[0])
            shapes.update(wider)
            signs.update(dict.fromkeys(negative, False))

    def _state_slot(self, primitive: Primitive, state: str, init: float | str, shape: ShapeClass) -> int:
        prefix = f"{primitive.name}_{state}" if len(primitive.state) > 1 else primitive.name
        count = sum(slot.name.startswith(prefix) for slot in self.slots)
        if init == "theta":
            shape = join(shape, ShapeClass.ELEMENT)
        return self.slot(f"{prefix}_{count + 1}", shape, init)

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
        slots: Mapping[str, int],
        signs: Mapping[str, bool],
    ) -> tuple[Value, dict[str, int]]:
        scope = {n: names[n] for n in NAMES_IN_BODIES if n in names} | dict(given)
        scope |= {s: Value(self.load(slot, signs[s])) for s, slot in slots.items()}
        stored: dict[str, int] = {s: scope[s].node for s in slots}
        result = Value(-1)
        for target, expression in body(primitive.name):
            value = self.lower(expression, scope)
            if target in slots:
                stored[target] = value.node
            if target:
                scope[target] = value
            else:
                result = value
        if primitive.debias and all(
            self.number(given[p.name].node) is not None for p in primitive.parameters if p.domain
        ):
            unbiased = self.lower(parse(primitive.debias, names=dict.fromkeys(scope, "number")), scope)
            result = Value(result.node, unbiased.node)
        return result, stored

    # --- the whole -------------------------------------------------------------------------------------------------

    def program(self, update: int, query: Query | None) -> Program:
        """What is alive: the update, the query's offset, and the states that they depend on."""
        roots = [update] + ([self.stores[query.offset]] if query else [])
        alive: set[int] = {query.offset} if query else set()
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
                query=replace(query, offset=number_of[query.offset]) if query else None,
                labels=tuple((index[node], name) for node, name in self.labels.items() if node in index),
            )
        )
