"""Genome -> program: primitives expand to operations, equal values and equal states are shared, dead ones vanish."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from genomes import host_math, program
from genomes.expressions import Expression, is_mask, parse
from genomes.genome import Decay, Genome, GenomeError
from genomes.primitives import TABLE, Primitive
from genomes.program import Node, Program, Query, Slot
from genomes.shapes import ShapeClass, join

MAX_PROGRAM_NODES = 4000
SMALLEST_DIVISOR = 1e-30  # a constant below this can vanish in float32, so it does not make a divisor safe


class LoweringError(ValueError):
    """An expression that parses but has no meaning in its place."""


@dataclass(frozen=True)
class Value:
    """A lowered expression. ``unbiased``: for averages, the node of the bias-corrected value."""

    node: int
    unbiased: int | None = None


def lower(genome: Genome) -> Program:
    """The program of a genome. Raises GenomeError where a gene has no meaning (its key is named)."""
    builder = Builder(genome.name)
    at = _Place(genome)
    theta = builder.source("theta", ShapeClass.ELEMENT)
    g = builder.source("g", ShapeClass.ELEMENT)
    names = {"theta": Value(theta), "g": Value(g)}
    if genome.decay.kind == "coupled":
        names["g"] = Value(builder.op("add", g, builder.op("mul", _decay_rate(builder, genome.decay), theta)))

    u = builder.const(0.0)
    for i, term in enumerate(genome.terms):
        with at.key(f"terms.{i}.expr"):
            value = builder.lower(term.expr, names).node
            u = builder.op("add", u, builder.op("mul", builder.const(term.weight), value))
    for i, gate in enumerate(genome.gates):
        with at.key(f"gates.{i}"):
            u = builder.lower(gate, {**names, "u": Value(u)}).node
    u = _decayed(builder, genome.decay, u, theta)
    with at.key("schedule"):
        schedule = builder.lower(genome.schedule, {}).node
        if builder.nodes[schedule].shape is not ShapeClass.CLOCK:
            raise LoweringError(
                "a schedule is made of t, epoch, losses and numbers; this one varies with tensors or gradients"
            )
    rate = builder.op("mul", builder.op("mul", builder.const(genome.lr), schedule), _role_scale(builder, genome))
    delta = builder.op("mul", builder.op("neg", rate), u)
    builder.labels |= {u: "u", rate: "learning_rate", schedule: "schedule", delta: "delta"}
    for i, gate in enumerate(genome.post):
        with at.key(f"post.{i}"):
            delta = builder.lower(gate, {**names, "delta": Value(delta)}).node
    delta = builder.expand(delta, ShapeClass.ELEMENT)

    query = None
    if genome.query:
        with at.key("query.offset"):
            offset = builder.lower(genome.query.offset, {**names, "delta": Value(delta)}).node
            slot = builder.slot("query_offset", ShapeClass.ELEMENT, 0.0)
            builder.stores[slot] = builder.expand(offset, ShapeClass.ELEMENT)
        with at.key("query.when"):
            query = Query(slot, _condition(genome.query.when))
    builder.close_last_update(delta)
    lowered = builder.program(delta, query)
    if len(lowered.nodes) > MAX_PROGRAM_NODES:
        raise GenomeError([f"{genome.name}: {len(lowered.nodes)} operations; at most {MAX_PROGRAM_NODES} are allowed"])
    return program.check(lowered)


class _Place:
    """Turns a LoweringError inside ``with place.key("gates.0")`` into a GenomeError that names the gene."""

    def __init__(self, genome: Genome):
        self.genome, self.where = genome, ""

    def key(self, where: str) -> _Place:
        self.where = where
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, LoweringError):
            raise GenomeError([f"{self.genome.name}: {self.where}: {error}"]) from None


def _decay_rate(builder: Builder, decay: Decay) -> int:
    """The decay rate as a role value: 0 for tensors whose role is not decayed."""
    decayed = None
    for role in decay.roles:
        flag = builder.source(f"is_{role}", ShapeClass.ROLE)
        decayed = flag if decayed is None else builder.op("or", decayed, flag)
    assert decayed is not None, "the reader refuses an empty list of roles"
    return builder.op("where", decayed, builder.const(decay.rate), builder.const(0.0))


def _decayed(builder: Builder, decay: Decay, u: int, theta: int) -> int:
    if decay.kind in ("none", "coupled"):
        return u
    pull = theta
    if decay.kind == "start":
        pull = builder.op("sub", theta, builder.theta_start())
    elif decay.kind == "cautious":
        agrees = builder.op("ge", builder.op("mul", u, theta), builder.const(0.0))
        pull = builder.op("where", agrees, theta, builder.const(0.0))
    return builder.op("add", u, builder.op("mul", _decay_rate(builder, decay), pull))


def _role_scale(builder: Builder, genome: Genome) -> int:
    """The product of the multipliers of all roles that a tensor has."""
    scale = builder.const(1.0)
    for role, multiplier in genome.roles:
        flag = builder.source(f"is_{role}", ShapeClass.ROLE)
        scale = builder.op("mul", scale, builder.op("where", flag, builder.const(multiplier), builder.const(1.0)))
    return scale


def _condition(when: Expression) -> tuple[Node, ...]:
    """The nodes of a query's ``when``: clock values without state."""
    builder = Builder("when")
    node = builder.lower(when, {}).node
    if builder.slots or builder.nodes[node].shape is not ShapeClass.CLOCK:
        raise LoweringError("only t, epoch, has_loss, train_loss, val_loss and numbers may decide when to query")
    nodes, index = _live(builder.nodes, [node])
    return tuple(nodes[: index[node] + 1])


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
        self._nonnegative: list[bool] = []
        self._positive: list[bool] = []
        self._called: dict[tuple, Value] = {}
        self._last_update: int | None = None
        self.labels: dict[int, str] = {}

    # --- nodes ---------------------------------------------------------------------------------------------------

    def add(self, node: Node, nonnegative: bool = False, positive: bool = False) -> int:
        if node not in self._index:
            self._index[node] = len(self.nodes)
            self.nodes.append(node)
            self._nonnegative.append(nonnegative or positive)
            self._positive.append(positive)
            if len(self.nodes) > 10 * MAX_PROGRAM_NODES:
                raise LoweringError("the program grows too large")
        return self._index[node]

    def const(self, value: float) -> int:
        value = float(value) + 0.0  # -0.0 and 0.0 are one constant
        return self.add(Node("const", (), ShapeClass.CLOCK, value), value >= 0, value >= SMALLEST_DIVISOR)

    def source(self, name: str, shape: ShapeClass) -> int:
        positive = name in ("t", "rows", "columns", "model_size")
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

    def _number(self, node: int) -> float | None:
        return self.nodes[node].attribute if self.nodes[node].op == "const" else None

    def expand(self, a: int, shape: ShapeClass) -> int:
        """``a`` as a value of the larger class ``shape``."""
        if self.nodes[a].shape is shape:
            return a
        if join(self.nodes[a].shape, shape) is not shape:
            raise LoweringError(f"a value of class {self.nodes[a].shape} does not fit where {shape} is stored")
        return self.add(Node("expand", (a,), shape), self._nonnegative[a], self._positive[a])

    def op(self, name: str, *arguments: int) -> int:
        """The node of an elementwise operation or a reduction, simplified where that is exact."""
        if name in program.REDUCTIONS:
            a = self.expand(arguments[0], ShapeClass.ELEMENT)
            return self.add(Node(name, (a,), program.REDUCTIONS[name]), self._nonnegative[a])
        if name in program.MODEL_REDUCTIONS:
            partial = self.op("sum_tensor" if name == "sum_model" else "max_tensor", arguments[0])
            return self.add(Node(name, (partial,), ShapeClass.MODEL), self._nonnegative[partial])
        numbers = [self._number(a) for a in arguments]
        if name not in program.MASKS and all(n is not None for n in numbers) and name != "where":
            return self.const(
                float(host_math.OPERATIONS[name](*(_in_range(name, n) for n in numbers if n is not None)))
            )
        simpler = _SIMPLIFY[name](self, arguments, numbers) if name in _SIMPLIFY else None
        return simpler if simpler is not None else self.elementwise(name, *arguments)

    def elementwise(self, name: str, *arguments: int) -> int:
        """The node of an elementwise operation as it stands."""
        shape = join(*(self.nodes[a].shape for a in arguments))
        if name in program.COMMUTATIVE and Node(name, arguments[::-1], shape) in self._index:
            arguments = arguments[::-1]
        nonnegative, positive = self._signs(name, arguments)
        return self.add(Node(name, arguments, shape), nonnegative, positive)

    def _signs(self, name: str, arguments: tuple[int, ...]) -> tuple[bool, bool]:
        """What is known of the result's sign: (>= 0, > 0 by a margin that float32 can hold)."""
        low = [self._nonnegative[a] for a in arguments]
        up = [self._positive[a] for a in arguments]
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
                base = self.nodes[arguments[1]].arguments[:1]
                beta = self._number(base[0]) if self.nodes[arguments[1]].op == "power" else None
                return self._number(arguments[0]) == 1 and beta is not None and beta <= 1, False
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
        if primitive.op is not None:
            return self._operation(primitive, arguments, names)
        for parameter, argument in zip(primitive.parameters, arguments, strict=True):
            if parameter.domain and not self.nodes[argument.node].shape.on_host:
                raise LoweringError(
                    f"{primitive.name}: {parameter.name} must be a number or made of t, epoch, losses and roles, "
                    f"not of gradients or parameters"
                )
        # g means the gradient with coupled decay in a body too, so it belongs to the identity of the call
        key = (
            primitive.name,
            *(a.node for a in arguments),
            *(names[n].node for n in ("g", "theta") if n in names),
        )
        if key not in self._called:
            self._called[key] = self._expand_body(primitive, arguments, names)
        return self._called[key]

    def _operation(self, primitive: Primitive, arguments: list[Value], names: Mapping[str, Value]) -> Value:
        op = primitive.op
        assert op is not None
        if op == "debias":
            unbiased = arguments[0].unbiased
            assert unbiased is not None, "the reader lets averages alone through"
            return Value(unbiased)
        if op == "last_update":
            return Value(self.last_update())
        if op == "theta_start":
            return Value(self.theta_start())
        if op in program.CLOCK_SOURCES:
            return Value(self.source(op, ShapeClass.CLOCK))
        if op in program.ROLE_SOURCES:
            return Value(self.source(op, ShapeClass.ROLE))
        if op in program.ELEMENT_SOURCES or op in ("u", "delta"):
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
            negative = [s for s in slots if signs[s] and not self._nonnegative[stored[s]]]
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
        scope = {n: names[n] for n in ("g", "theta") if n in names} | dict(given)
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
            self._number(given[p.name].node) is not None for p in primitive.parameters if p.domain
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
            nodes, index = _live(self.nodes, roots + [self.stores[s] for s in alive])
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
        return _share_states(
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


def _share_states(lowered: Program) -> Program:
    """The program with one slot for those that always hold the same: same start, same stored value."""
    stored = dict(lowered.stores)
    first: dict[tuple, int] = {}
    same = {
        slot: first.setdefault((shape.shape, shape.init, stored[slot]), slot)
        for slot, shape in enumerate(lowered.slots)
    }
    if lowered.query:
        same[lowered.query.offset] = lowered.query.offset
    kept = sorted(set(same.values()))
    if len(kept) == len(lowered.slots):
        return lowered
    number_of = {slot: kept.index(same[slot]) for slot in same}
    nodes: list[Node] = []
    index: dict[Node, int] = {}
    renumber: list[int] = []
    for node in lowered.nodes:
        attribute = node.attribute
        if node.op == "load" and attribute is not None:
            attribute = number_of[int(attribute)]
        new = replace(node, arguments=tuple(renumber[a] for a in node.arguments), attribute=attribute)
        if new not in index:
            index[new] = len(nodes)
            nodes.append(new)
        renumber.append(index[new])
    return _share_states(
        replace(
            lowered,
            nodes=tuple(nodes),
            slots=tuple(lowered.slots[s] for s in kept),
            stores=tuple((number_of[s], renumber[stored[s]]) for s in kept),
            update=renumber[lowered.update],
            query=replace(lowered.query, offset=number_of[lowered.query.offset]) if lowered.query else None,
            labels=tuple((renumber[node], name) for node, name in lowered.labels),
        )
    )


def _live(nodes: list[Node], roots: list[int]) -> tuple[list[Node], dict[int, int]]:
    """The nodes that the roots need, in order, and the new number of each."""
    needed: set[int] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node not in needed:
            needed.add(node)
            stack.extend(nodes[node].arguments)
    order = sorted(needed)
    index = {old: new for new, old in enumerate(order)}
    return [replace(nodes[i], arguments=tuple(index[a] for a in nodes[i].arguments)) for i in order], index


def _in_range(name: str, value: float) -> float:
    match name:
        case "sqrt":
            return max(value, 0.0)
        case "exp":
            return min(value, 80.0)
        case "log":
            return max(value, 1e-37)
    return value


# --- simplifications: exact, or exact but for signs of zero and for infinities ---------------------------------------

Numbers = list[float | None]


def _add(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    if numbers[0] == 0:
        return args[1]
    if numbers[1] == 0:
        return args[0]
    return None


def _sub(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    if numbers[1] == 0:
        return args[0]
    if numbers[0] == 0:
        return b.op("neg", args[1])
    return b.const(0.0) if args[0] == args[1] else None


def _mul(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    for n, other in ((numbers[0], args[1]), (numbers[1], args[0])):
        if n == 0:
            return b.const(0.0)
        if n == 1:
            return other
        if n == -1:
            return b.op("neg", other)
        if n is not None and (inner := b.nodes[other]).op == "mul":
            for x, y in (inner.arguments, inner.arguments[::-1]):
                if (m := b._number(x)) is not None and math.isfinite(m * n):
                    return b.op("mul", b.const(m * n), y)
        if b.nodes[other].op == "neg" and n is not None:
            return b.op("mul", b.const(-n), b.nodes[other].arguments[0])
    return None


def _neg(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    inner = b.nodes[args[0]]
    if inner.op == "neg":
        return inner.arguments[0]
    if inner.op == "mul":
        for x, y in (inner.arguments, inner.arguments[::-1]):
            if (m := b._number(x)) is not None:
                return b.op("mul", b.const(-m), y)
    return None


def _safe_div(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    divisor = b.nodes[args[1]]
    if numbers[1] == 1:
        return args[0]
    if divisor.shape.on_host and not b.nodes[args[0]].shape.on_host:
        return b.op("mul", args[0], b.op("safe_div", b.const(1.0), args[1]))  # one host division, in float64
    if b._positive[args[1]] or numbers[1]:
        return b.elementwise("div", *args)
    return None


def _power(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    base, exponent = args[0], numbers[1]
    if exponent is None:
        return None
    if exponent == 0:
        return b.const(1.0)
    if exponent < 0:
        return b.op("safe_div", b.const(1.0), b.op("power", base, b.const(-exponent)))
    if exponent == 0.5:
        return b.op("sqrt", base)
    if exponent == int(exponent) and exponent <= 16:
        half = b.op("power", base, b.const(exponent // 2)) if exponent > 1 else None
        whole = b.op("mul", half, half) if half is not None else b.const(1.0)
        return b.op("mul", whole, base) if exponent % 2 else whole
    return None


def _clamped(name: str, clamp: str, bound: float) -> Callable[[Builder, tuple[int, ...], Numbers], int | None]:
    def simplify(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int:
        inside = args[0]
        if not (name == "sqrt" and b._nonnegative[inside]):
            inside = b.op(clamp, inside, b.const(bound))
        return b.elementwise(name, inside)

    return simplify


def _extreme(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    return args[0] if args[0] == args[1] else None


def _where(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    mask, x, y = args
    if x == y:
        return x
    compared = [b._number(a) for a in b.nodes[mask].arguments]
    if compared and None not in compared:
        return x if host_math.OPERATIONS[b.nodes[mask].op](*compared) else y
    shape = join(*(b.nodes[a].shape for a in args))
    if shape.on_host:
        return None
    if not b.nodes[mask].shape.on_host:
        if numbers[2] == 0 and numbers[1] is not None:
            return b.op("mul", b.const(numbers[1]), b.elementwise("number", mask))
        if b.nodes[x].shape.on_host and b.nodes[y].shape.on_host:
            return b.elementwise("where", mask, b.expand(x, shape), y)
        return None
    return b.elementwise("where", mask, b.expand(x, shape), b.expand(y, shape))


def _atan2(b: Builder, args: tuple[int, ...], numbers: Numbers) -> int | None:
    shape = join(*(b.nodes[a].shape for a in args))
    if shape.on_host:
        return None
    return b.elementwise("atan2", *(b.expand(a, shape) if b.nodes[a].shape.on_host else a for a in args))


_SIMPLIFY: dict[str, Callable[[Builder, tuple[int, ...], Numbers], int | None]] = {
    "add": _add, "sub": _sub, "mul": _mul, "neg": _neg, "safe_div": _safe_div, "power": _power,
    "sqrt": _clamped("sqrt", "max", 0.0), "exp": _clamped("exp", "min", 80.0), "log": _clamped("log", "max", 1e-37),
    "max": _extreme, "min": _extreme, "where": _where, "atan2": _atan2,
}  # fmt: skip
