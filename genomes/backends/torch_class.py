"""Prints a program as the body of a `torch.optim.Optimizer`: what one step does with lists of tensors.

The text works on batches: tensors that share device, step, options and roles, so that one statement acts on all of
them (`genomes.backends.torch_tensors`). States change in place where nothing else needs what they held. Values of the
clock and of roles are numbers of a batch; a loop over the batches computes what needs no sum over the whole model.
"""

from __future__ import annotations

import builtins
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from types import FunctionType

from genomes.backends import torch_tensors
from genomes.backends.own_names import distinct
from genomes.backends.python_source import HELPERS
from genomes.backends.python_text import (
    ATOM,
    CHOICE,
    COMPARE,
    HOST,
    OR,
    PLACE,
    POWER,
    PRODUCT,
    SUM,
    UNARY,
    guarded,
    number,
)  # fmt: skip
from genomes.backends.source_text import name_in_file
from genomes.backends.value_names import value_names, with_field_names
from genomes.compiler.branches import ALL, Condition, conditions
from genomes.compiler.merging import merged_branches
from genomes.compiler.nodes import SMALLEST_DIVISOR
from genomes.compiler.options import Open, Option
from genomes.compiler.program import CLOCK_SOURCES, MODEL_REDUCTIONS, OPTION, ROLE_SOURCES, Node, Program, Slot
from genomes.compiler.shapes import ShapeClass
from genomes.language.operations import UNKNOWN

_INLINED = ("u", "learning_rate", "schedule", "delta")  # labels of values that need no line of their own
_NUMBER = 12  # a longer number gets one where tensors meet it
_LINE = 88  # a longer expression gets a name of its own
_SOURCES = (*CLOCK_SOURCES, *ROLE_SOURCES, OPTION, "const", "load", "g", "theta")
_IN_PLACE = {"add", "sub", "mul", "div", "neg", "abs", "sign", "sqrt", "exp", "log", "tanh", "sin", "cos", "floor",
             "max", "min"}  # fmt: skip
_METHOD = {"max": "maximum", "min": "minimum"}
_EACH = {
    "number": "as_number", "bfloat16": "to_bfloat16", "sum_tensor": "sum_all", "max_tensor": "max_all",
    "sum_row": "sum_row", "max_row": "max_row", "sum_column": "sum_column", "max_column": "max_column",
}  # fmt: skip
_INFIX = {"add": ("+", SUM, PRODUCT), "sub": ("-", SUM, PRODUCT), "mul": ("*", PRODUCT, UNARY),
          "div": ("/", PRODUCT, UNARY)}  # fmt: skip
_COMPARED = {"gt": (">", "<"), "ge": (">=", "<=")}
_EXACT = {"t", "model_size", "layer_count", "steps_per_epoch"}  # clock sources that a captured graph may read
_CAPTURABLE = {"add", "sub", "mul", "div", "neg", "power", "const", OPTION, "t"}  # host operations on tensors alike
_SIZED = {"sum_row", "max_row", "sum_column", "max_column", "sum_tensor", "max_tensor"}


_OF_BATCH = (
    "theta", "g", "t", "group", "params", "owner", "states", "copied", "read", "write", "state", "number", "keep",
    "uniform", "step", *CLOCK_SOURCES, *ROLE_SOURCES,
)  # fmt: skip


@dataclass(frozen=True)
class ClassBody:
    """The parts of a class.

    ``update``: the lines of one step, over ``batches``. ``asks``: the lines that say whether the next gradient is taken
    at an offset, over ``batch``; ``query``: the state that is this offset. ``evaluation``: the state that is added for
    an evaluation; ``evaluated``: the number that says whether. ``facts``: what a batch knows of roles. ``clock``: clock
    sources that it knows. ``matrix``: whether tensors are seen as matrices. ``kept``: numbers that last, with their
    starts. ``noise``: whether there is any. ``shared``: options that have one value for all groups. ``uncapturable``:
    why a step cannot be part of a CUDA graph, or ``""``. ``functions``: helpers; ``methods``: of `Tensors`.
    """

    update: tuple[str, ...]
    asks: tuple[str, ...] | None
    query: str | None
    evaluation: str | None
    evaluated: str | None
    facts: tuple[str, ...]
    clock: tuple[str, ...]
    matrix: bool
    kept: tuple[tuple[str, float], ...]
    noise: bool
    shared: tuple[str, ...]
    uncapturable: str
    functions: tuple[FunctionType, ...]
    methods: tuple[str, ...]


def class_body(opened: Open) -> ClassBody:
    """The parts of the class that does what a program with options says."""
    merged = merged_branches(opened.program)
    program, bounds = with_field_names(merged.program), [opened.bounds[i] for i in merged.origin]
    names = {option.name for option in opened.options}

    def write(program: Program) -> str:
        return "\n".join(_Writer(program, opened.options, bounds).lines())

    reserved = {*dir(builtins), *names, *_OF_BATCH, "batch", "batches", "math", "torch", "self"}
    return _Writer(distinct(program, write, reserved), opened.options, bounds).body()


@dataclass(frozen=True)
class _Text:
    """An expression. ``binding``: how tightly it binds; ``fresh``: its memory is nobody else's."""

    text: str
    binding: int = ATOM
    fresh: bool = False


@dataclass
class _Pending:
    """A statement for the end of a step: it writes ``name``; ``value`` may be computed earlier and copied then."""

    name: str
    text: str
    condition: Condition
    value: Callable[[], str] | None = None


class _Writer:
    """Decides what gets a name and what changes in place, then writes loop after loop."""

    def __init__(self, program: Program, options: Sequence[Option], bounds: Sequence[float]):
        self.program, self.nodes = program, program.nodes
        self.options, self.bounds = options, bounds
        self.split = any(node.shape is ShapeClass.MODEL for node in program.nodes)
        self.of_model = False  # whether the text is now outside the loops
        self.levels = program.levels
        self.last = max(self.levels)
        self.conditions = conditions(program)
        self.names = value_names(program)
        self.labels = dict(program.labels)
        self.slot_of = {node: slot for slot, node in program.stores}
        self.uses = Counter(a for node in self.nodes for a in node.arguments)
        self.uses.update(node for _, node in program.stores)
        self.uses[program.update] += 1
        self.users: dict[int, list[int]] = {i: [] for i in range(len(self.nodes))}
        for i, node in enumerate(self.nodes):
            for a in node.arguments:
                self.users[a].append(i)
        self.texts: dict[int, _Text] = {}
        self.saved: set[int] = set()
        self.inlined: set[int] = set()
        self.operators: set[str] = set()  # of lists of tensors
        for i, node in enumerate(self.nodes):
            for a in node.arguments:
                self._save(a, self._zone(i))
        for slot, node in program.stores:
            of_model = program.slots[slot].shape is ShapeClass.MODEL
            self._save(node, ("model" if of_model else "tensor", self.last))
        self._save(program.update, ("tensor", self.last))
        self.deferred: set[int] = set()  # new values of states, computed in place at the end
        self.in_place: set[int] = set()  # new values of states, computed in place where they stand

    # --- zones -----------------------------------------------------------------------------------------------------

    def _zone(self, i: int) -> tuple[str, int]:
        """Where a value is computed: ``host``, or ``tensor`` or ``model`` of a level."""
        shape = self.nodes[i].shape
        if shape.on_host:
            return "host", 0
        return ("tensor" if shape.per_tensor else "model"), self.levels[i]

    def _save(self, node: int, zone: tuple[str, int]) -> None:
        """Note that a zone needs a value: it waits with the batch where that zone is another loop's."""
        mine = self._zone(node)
        if self.nodes[node].op in _SOURCES or mine == zone or mine[0] == "model":
            return
        if mine[0] == "tensor" or self.split:
            self.saved.add(node)

    # --- the whole -------------------------------------------------------------------------------------------------

    def body(self) -> ClassBody:
        query, evaluation = self.program.query, self.program.evaluation
        update = self.lines()
        asks = self._asks()
        text = "\n".join([*update, *(asks or ())])
        functions = [f for name, f in FUNCTIONS.items() if re.search(rf"(?<![\w.]){name}\b", text)]
        facts = tuple(s for s in ROLE_SOURCES if re.search(rf"batch\.{s}\b", text))
        clock = tuple(s for s in CLOCK_SOURCES if re.search(rf"batch\.{s}\b", text))
        kept = tuple(
            (slot.name, float(slot.init)) for slot in self.program.slots if slot.shape.on_host
        )  # fmt: skip
        return ClassBody(
            update=tuple(update), asks=None if asks is None else tuple(asks), query=query and self._slot(query.offset),
            evaluation=evaluation and self._slot(evaluation.offset),
            evaluated=evaluation and self._slot(evaluation.applied), facts=facts, clock=clock,
            matrix=self._is_matrix(), kept=kept, noise="batch.uniform(" in text, shared=self._shared(),
            uncapturable=self._uncapturable(), functions=tuple(functions), methods=_methods(self._called(text)),
        )  # fmt: skip

    def _called(self, text: str) -> set[str]:
        """The methods of `Tensors` that a text calls."""
        by_name = {name for name in vars(torch_tensors.Tensors) if f".{name}(" in text}
        return by_name | self.operators

    def _is_matrix(self) -> bool:
        """Whether something depends on which row and column an entry is in."""
        flat = (ShapeClass.ELEMENT, ShapeClass.CLOCK, ShapeClass.ROLE)
        return any(node.shape not in flat for node in self.nodes) or any(n.op == "odd_polynomial" for n in self.nodes)

    def _shared(self) -> tuple[str, ...]:
        """The options that a value of the whole model depends on: they have one value for all groups."""
        found: set[int] = set()
        for node in self.nodes:
            if node.shape is ShapeClass.MODEL:
                stack = [a for a in node.arguments if self.nodes[a].shape.on_host]
                while stack:
                    a = stack.pop()
                    found |= {int(self.nodes[a].attribute or 0)} if self.nodes[a].op == OPTION else set()
                    stack += self.nodes[a].arguments
        return tuple(self.options[k].name for k in sorted(found))

    def _uncapturable(self) -> str:
        program = self.program
        if program.query is not None or program.evaluation is not None:
            return "gradients or evaluations elsewhere than at the parameters"
        if any(slot.shape.on_host for slot in program.slots):
            return "numbers that are kept on the host"
        for node in self.nodes:
            if node.shape is ShapeClass.CLOCK and node.op not in _CAPTURABLE and not self._constant(node):
                return f"a schedule that the host computes ({node.op})"
            if node.op in ("inverse_root", "gram_schmidt", "order_statistic", "uniform"):
                return f"the operation {node.op}"
        return ""

    def _constant(self, node: Node) -> bool:
        """Whether a number depends on neither the step nor losses."""
        if node.op in CLOCK_SOURCES or node.op == "load":
            return node.op in ("model_size", "layer_count", "steps_per_epoch")
        return all(self._constant(self.nodes[a]) for a in node.arguments)

    def _asks(self) -> list[str] | None:
        query = self.program.query
        if query is None:
            return None
        own = Program(self.program.name, query.nodes, (), (), query.when)
        writer = _Writer(own, self.options, [UNKNOWN] * len(query.nodes))
        lines = writer._host_lines()
        lines.append(f"return {writer._operand(query.when)}")
        text = "\n".join(lines)
        return [*self._fetch_options(text), *self._fetch_batch(text), *lines]

    # --- lines -----------------------------------------------------------------------------------------------------

    def lines(self) -> list[str]:
        """The statements of a step, over ``batches``."""
        program = self.program
        self._choose_places()
        lines: list[str] = []
        of_model = [k for k, slot in enumerate(program.slots) if slot.shape is ShapeClass.MODEL]
        if self.split:
            lines += self._wrapped(self._host_loop())
            lines += [f'{self._slot(k)} = self._kept("{self._slot(k)}", {_start(program.slots[k])})' for k in of_model]
        for level in range(self.last + 1):
            self.of_model = True
            for i in range(len(self.nodes)):
                if self._zone(i) == ("model", level):
                    lines += [line for _, line in self._define(i)]
            self.of_model = False
            lines += self._wrapped(self._loop(level))
        stores = dict(program.stores)
        self.of_model = True
        lines += [f'self._keep("{self._slot(k)}", {self._operand(stores[k])})' for k in of_model]
        self.of_model = False
        return lines

    def _choose_places(self) -> None:
        """Decide which states change in place, and when."""
        for slot, node in self.program.stores:
            if not self.program.slots[slot].shape.per_tensor or self.program.slots[slot].shape.on_host:
                continue
            if self._chain(node, slot, top=True):
                load = self._load_in(node, slot)
                if self.uses[node] == 1 and self.nodes[node].op != "load":
                    self.deferred.add(node)
                elif load is not None and self.uses[load] == 1:
                    self.in_place.add(node)

    def _load_in(self, i: int, slot: int) -> int | None:
        stack = [i]
        while stack:
            k = stack.pop()
            if self.nodes[k].op == "load" and self.nodes[k].attribute == slot:
                return k
            stack += self.nodes[k].arguments
        return None

    def _chain(self, i: int, slot: int, *, top: bool = False) -> bool:
        """Whether a value can be computed in place of what a slot held, by a chain of its first operands."""
        node = self.nodes[i]
        if node.op == "load":
            return node.attribute == slot and not top
        if not top and (self.uses[i] > 1 or i in self.labels or i in self.slot_of or i in self.saved):
            return False
        if node.op not in _IN_PLACE or node.shape is not self.program.slots[slot].shape:
            return False
        if top and self._zone(i) != ("tensor", self.levels[i]):
            return False
        if self.conditions.moments[i] != ALL:
            return False
        return any(self._chain(a, slot) and self._zone(a)[0] == "tensor" for a in self._first_operands(node))

    def _first_operands(self, node: Node) -> Sequence[int]:
        return node.arguments if node.op in ("add", "mul", "max", "min") else node.arguments[:1]

    def _slot(self, k: int) -> str:
        return self.program.slots[k].name

    def _host_lines(self) -> list[str]:
        """Assignments of the numbers of a batch."""
        return [line for i in range(len(self.nodes)) if self._zone(i)[0] == "host" for _, line in self._define(i)]

    def _host_loop(self) -> list[tuple[Condition, str]]:
        """What numbers of the batches other loops need, where there are several."""
        lines = [(ALL, line) for line in self._host_lines()]
        for i in sorted(self.saved):
            if self._zone(i)[0] == "host":
                lines.append((ALL, f"batch.{self.names[i]} = {self._operand(i)}"))
        for i in sorted(self.saved):
            if self._zone(i)[0] == "host":
                self.texts[i] = _Text(f"batch.{self.names[i]}")
        return lines

    def _fetch_options(self, text: str) -> list[str]:
        used = [option.name for option in self.options if _mentions(text, option.name)]
        lines, line = [], []
        for name in used:
            if line and len(", ".join([*line, name])) * 2 + 14 * len(line) > 70:
                lines.append(line)
                line = []
            line.append(name)
        lines += [line] if line else []
        read = [", ".join(f'batch.group["{name}"]' for name in part) for part in lines]
        return [f"{', '.join(part)} = {values}" for part, values in zip(lines, read, strict=True)]

    def _fetch_batch(self, text: str) -> list[str]:
        used = [name for name in ("theta", "g", "t") if _mentions(text, name)]
        return [f"{', '.join(used)} = {', '.join(f'batch.{name}' for name in used)}"] if used else []

    def _loop(self, level: int) -> list[tuple[Condition, str]]:
        """What one level computes of each tensor, and at the last level what a step leaves."""
        lines: list[tuple[Condition, str]] = []
        if level == 0 and not self.split:
            lines += [(ALL, line) for line in self._host_lines()]
        for i in range(len(self.nodes)):
            if self._zone(i) == ("tensor", level):
                lines += self._define(i)
                if i in self.saved and i not in self.in_place and self.nodes[i].op != "load":
                    lines.append((self._needed(i), f"batch.{self.names[i]} = {self._operand(i)}"))
                    self.texts[i] = _Text(f"batch.{self.names[i]}")
        return [*lines, *self._end()] if level == self.last else lines

    def _wrapped(self, lines: list[tuple[Condition, str]]) -> list[str]:
        """The loop over the batches that these lines are the body of, with what they read."""
        body = self.guarded(lines)
        if not body:
            return []
        text = "\n".join(body)
        head = [(ALL, line) for line in (*self._fetch_options(text), *self._fetch_batch(text))]
        fetched: list[tuple[Condition, str]] = []
        for k, slot in enumerate(self.program.slots):
            if not _mentions(text, slot.name):
                continue
            if slot.shape.on_host:
                head.append((ALL, f'{slot.name} = batch.number("{slot.name}")'))
            elif slot.shape.per_tensor:
                fetched.append((self.conditions.slots[k], f"{slot.name} = {self._state(k)}"))
        fetched.sort(key=lambda line: (len(line[0]), sorted(line[0])))
        return ["for batch in batches:", *(f"    {line}" for line in [*self.guarded([*head, *fetched]), *body])]

    def _state(self, k: int) -> str:
        slot = self.program.slots[k]
        more = "" if slot.shape is ShapeClass.ELEMENT else f', "{slot.shape}"'
        more += "" if slot.init == 0 else f", init={_start(slot)}"
        return f'batch.state("{slot.name}"{more})'

    def _end(self) -> list[tuple[Condition, str]]:
        """New values of states, and the update of the parameters, in an order in which each reads what it should."""
        program = self.program
        pending = [self._update()]
        host: list[tuple[Condition, str]] = []
        for slot, node in program.stores:
            shape = program.slots[slot].shape
            if shape.on_host:
                host.append((ALL, f'batch.keep("{self._slot(slot)}", {self._operand(node)})'))
            elif shape.per_tensor and not (self.nodes[node].op == "load" and self.nodes[node].attribute == slot):
                if node in self.in_place:
                    continue
                pending.append(self._store(slot, node))
        return self._ordered(pending) + host

    def _store(self, slot: int, node: int) -> _Pending:
        name, condition = self._slot(slot), self.conditions.slots[slot]
        if node in self.deferred:
            others = set(self.nodes[node].arguments)
            text = self._chained(node, slot).text
            return _Pending(name, text, condition, lambda: self._value(node, whole=True).text if others else name)
        value = self._operand(node)
        return _Pending(name, f"{name}.copy_({value})", condition, lambda: value)

    def _ordered(self, pending: list[_Pending]) -> list[tuple[Condition, str]]:
        lines: list[tuple[Condition, str]] = []
        late: list[tuple[Condition, str]] = []
        left = sorted(pending, key=lambda p: p.name == "theta")

        aliases = self._aliases()

        def reads(one: _Pending, name: str) -> bool:
            return any(_mentions(one.text, alias) for alias in (name, *aliases.get(name, ())))

        while left:
            free = [p for p in left if not any(q is not p and reads(q, p.name) for q in left)]
            if not free:  # a circle: one value waits
                first = left.pop(0)
                assert first.value is not None
                lines.append((first.condition, f"new_{first.name} = ({first.value()}) * 1"))
                late.append((first.condition, f"{first.name}.copy_(new_{first.name})"))
                continue
            left.remove(free[0])
            lines.append((free[0].condition, free[0].text))
        return [*lines, *late]

    def _aliases(self) -> dict[str, list[str]]:
        """For each state, and for the parameters, the names of values that may share its memory."""
        found: dict[str, list[str]] = {}
        for i, node in enumerate(self.nodes):
            if self._zone(i)[0] != "tensor" or i in self.inlined or node.op in _SOURCES:
                continue
            for a in self.program.may_be[i]:
                if self.nodes[a].op in ("load", "theta"):
                    source = self.nodes[a]
                    name = "theta" if source.op == "theta" else self._slot(int(source.attribute or 0))
                    found.setdefault(name, []).append(self.texts[i].text)
        return found

    def _update(self) -> _Pending:
        """The statement that adds the update to the parameters, with what is a number in it taken out."""
        factors, core = self._factors(self.program.update)
        node = self.nodes[core]
        if (
            node.op in ("div", "safe_div")
            and core in self.inlined
            and self.bounds[node.arguments[1]] >= SMALLEST_DIVISOR
        ):
            more, top = self._factors(node.arguments[0])
            bottom = node.arguments[1]
            if all(self._zone(a)[0] == "tensor" and self.nodes[a].shape is ShapeClass.ELEMENT for a in (top, bottom)):
                value = self._product([*factors, *more])
                given = f"{self._operand(top)}, {self._operand(bottom)}"
                return _Pending("theta", f"theta.addcdiv_({given}{value and ', '}{value})", ALL)
        value = self._product(factors)
        return _Pending("theta", f"theta.add_({self._operand(core)}{value and ', '}{value})", ALL)

    def _factors(self, i: int) -> tuple[list[tuple[int, bool]], int]:
        """Numbers that a value is a multiple of, each with its sign turned or not, and what is left of the value."""
        node = self.nodes[i]
        if i not in self.inlined:
            return [], i
        if node.op == "neg" and self._zone(node.arguments[0])[0] == "tensor":
            more, core = self._factors(node.arguments[0])
            return [(-1, True), *more], core
        if node.op == "mul":
            for own, other in (node.arguments, node.arguments[::-1]):
                if self._zone(own)[0] == "host" and self._zone(other)[0] == "tensor" and not self.nodes[own].is_mask:
                    more, core = self._factors(other)
                    return [(own, False), *more], core
        return [], i

    def _product(self, factors: list[tuple[int, bool]]) -> str:
        sign = sum(turned for _, turned in factors) % 2
        numbers = [i for i, turned in factors if not turned]
        binding = PRODUCT if len(numbers) > 1 or sign else CHOICE
        text = " * ".join(self._argument(i, binding) for i in numbers)
        if not text:
            return "-1" if sign else ""
        return f"-{text}" if sign else text

    def guarded(self, lines: list[tuple[Condition, str]]) -> list[str]:
        """Lines of a loop over the batches, each under the condition that it has."""
        return guarded(lines, self._mask)

    def _needed(self, i: int) -> Condition:
        return self.conditions.nodes[i] | self.conditions.moments[i]

    def _mask(self, i: int) -> tuple[str, int]:
        found = self._fixed(i) if self.nodes[i].shape is ShapeClass.ROLE else self.texts[i]
        return found.text, found.binding

    def _fixed(self, i: int) -> _Text:
        """A value that never changes: written out, so that it may stand anywhere."""
        node = self.nodes[i]
        if not node.arguments:
            return self._leaf(i)
        template, binding = HOST[node.op]

        def argument(match: re.Match) -> str:
            found = self._fixed(node.arguments[int(match[1])])
            return found.text if found.binding <= int(match[2] or CHOICE) else f"({found.text})"

        return _Text(re.sub(PLACE, argument, template), binding)

    # --- values ----------------------------------------------------------------------------------------------------

    def _define(self, i: int) -> list[tuple[Condition, str]]:
        """The statement that computes a value, if it has one of its own; its text is known from here on."""
        node = self.nodes[i]
        if node.op in _SOURCES:
            self.texts[i] = self._leaf(i)
            return []
        if i in self.in_place:
            slot = self.slot_of[i]
            found = self._chained(i, slot)
            self.texts[i] = _Text(self._slot(slot))
            return [(self._needed(i), found.text)]
        if i in self.deferred:
            self.texts[i] = _Text(self._slot(self.slot_of[i]))
            return []
        found = self._value(i)
        if self._inline(i, found.text):
            self.texts[i] = found
            self.inlined.add(i)
            return []
        name = self._name(i)
        self.texts[i] = _Text(name)
        return [(self._needed(i), f"{name} = {found.text}")]

    def _name(self, i: int) -> str:
        slots = {slot.name for slot in self.program.slots}
        return f"new_{self.names[i]}" if self.names[i] in slots else self.names[i]

    def _inline(self, i: int, text: str) -> bool:
        if self.labels.get(i, "delta") not in _INLINED or i in self.saved or self.uses[i] > 1 or len(text) > _LINE:
            return False
        if self.nodes[i].shape.on_host:
            of_host = all(self._zone(k)[0] == "host" for k in self.users[i])
            return of_host or (not self.split and len(text) <= _NUMBER)
        return all(self._zone(k) == self._zone(i) for k in self.users[i])

    def _leaf(self, i: int) -> _Text:
        node = self.nodes[i]
        if node.op == "const":
            value = float(node.attribute or 0.0)
            return _Text(_number(value), UNARY if value < 0 else ATOM)
        if node.op == OPTION:
            return _Text(self.options[int(node.attribute or 0)].name)
        if node.op in ("g", "theta", "t"):
            return _Text(node.op)
        if node.op == "load":
            return _Text(self._slot(int(node.attribute or 0)))
        return _Text(f"batch.{node.op}")

    def _value(self, i: int, whole: bool = False) -> _Text:
        """The text of a value. ``whole``: with nothing changed in place but what is new."""
        node = self.nodes[i]
        if node.shape.on_host:
            return self._host(i)
        if node.op in MODEL_REDUCTIONS:
            function = "_sum_model" if node.op == "sum_model" else "_max_model"
            saved = f"batch.{self.names[node.arguments[0]]}"
            return _Text(f"{function}([part for batch in batches for part in {saved}.tensors]).reshape(())")
        if node.shape is ShapeClass.MODEL:
            return self._of_model(i)
        return self._listed(i)

    def _host(self, i: int) -> _Text:
        node = self.nodes[i]
        if node.op == "power" and self._plain_power(node):
            return self._filled(f"{{0:{ATOM}}}**{{1:{UNARY}}}", POWER, node)
        if node.op in ("div", "safe_div") and self.bounds[node.arguments[1]] >= SMALLEST_DIVISOR:
            return self._filled(f"{{0:{PRODUCT}}} / {{1:{UNARY}}}", PRODUCT, node)
        if node.op == "div":
            return self._filled(*HOST["safe_div"], node)
        return self._filled(*HOST[node.op], node)

    def _plain_power(self, node: Node) -> bool:
        """Whether Python's own power never raises: of a base in [0, 1] and an exponent that is not negative."""
        base, exponent = node.arguments
        if not self.bounds[exponent] >= 0:
            return False
        if self.nodes[base].op == OPTION:
            option = self.options[int(self.nodes[base].attribute or 0)]
            return 0 <= option.low <= option.high <= 1
        return self.nodes[base].op == "const" and 0 <= float(self.nodes[base].attribute or 0.0) <= 1

    def _filled(self, template: str, binding: int, node: Node) -> _Text:
        def argument(match: re.Match) -> str:
            return self._argument(node.arguments[int(match[1])], int(match[2] or CHOICE))

        return _Text(re.sub(PLACE, argument, template), binding, fresh=not node.shape.on_host)

    def _of_model(self, i: int) -> _Text:
        """A value of the whole model: a tensor without axes."""
        node = self.nodes[i]
        hosts = [a for a in node.arguments if self.nodes[a].shape.on_host]
        if node.op == "where" and node.arguments[0] in hosts:
            return self._filled(f"{{1:{OR}}} if {{0:{OR}}} else {{2:{OR}}}", CHOICE, node)
        if node.op == "expand":
            return self._filled("_scalar({0}, batches)", ATOM, node)
        if node.op == "number":
            return self._filled("_as_number({0}, batches[0].theta.tensors[0])", ATOM, node)
        if node.op in ("max", "min") and hosts:
            other = next(a for a in node.arguments if a not in hosts)
            bound = "min" if node.op == "max" else "max"
            return _Text(f"{self._argument(other, ATOM)}.clamp({bound}={self._argument(hosts[0], CHOICE)})")
        if node.op in ("div", "safe_div"):
            if self.bounds[node.arguments[1]] >= SMALLEST_DIVISOR or node.op == "div":
                return self._filled(f"{{0:{PRODUCT}}} / {{1:{UNARY}}}", PRODUCT, node)
            return self._filled("_safe_div({0}, {1})", ATOM, node)
        if node.op in ("and", "or", "not"):
            template = {
                "and": f"{{0:{ATOM}}} & {{1:{ATOM}}}",
                "or": f"{{0:{ATOM}}} | {{1:{ATOM}}}",
                "not": f"~{{0:{ATOM}}}",
            }
            return self._filled(template[node.op], COMPARE, node)
        if node.op in _INFIX or node.op in ("gt", "ge", "eq"):
            return self._filled(*HOST[node.op], node)
        if node.op == "neg":
            return self._filled(*HOST["neg"], node)
        if node.op in ("mod", "power"):
            return self._filled(f"_{node.op}({{0}}, {{1}})", ATOM, node)
        if node.op in ("where", "atan2"):
            given = ", ".join(self._operand(a) for a in node.arguments)
            return _Text(f"torch.{node.op}({given})", fresh=True)
        if node.op in ("max", "min"):
            return self._filled(f"torch.{_METHOD[node.op]}({{0}}, {{1}})", ATOM, node)
        if node.op == "bfloat16":
            return self._filled("_to_bfloat16({0})", ATOM, node)
        return self._filled(f"torch.{node.op}({{0}})", ATOM, node)

    def _listed(self, i: int) -> _Text:
        """A value of each tensor of a batch."""
        node = self.nodes[i]
        arguments = node.arguments
        lists = [self._zone(a)[0] == "tensor" for a in arguments]
        match node.op:
            case "add" | "sub" | "mul" | "div" | "max" | "min":
                return self._binary(i, lists)
            case "neg":
                found = self._maybe_in_place(i, arguments[0], "neg_()")
                if not found:
                    self.operators.add("__neg__")
                return found or self._filled(*HOST["neg"], node)
            case "abs" | "sign" | "sqrt" | "exp" | "log" | "tanh" | "sin" | "cos" | "floor":
                found = self._maybe_in_place(i, arguments[0], f"{node.op}_()")
                return found or _Text(f"{self._argument(arguments[0], ATOM)}.{node.op}()", fresh=True)
            case "safe_div" if self.bounds[arguments[1]] >= SMALLEST_DIVISOR:
                return self._binary(i, lists, "div")
            case "gt" | "ge":
                return self._compared(node, lists)
            case "and" | "or":
                first, second = arguments if lists[0] else arguments[::-1]
                sign = "&" if node.op == "and" else "|"
                self.operators.add(f"__{node.op}__")
                return _Text(f"{self._argument(first, ATOM)} {sign} {self._argument(second, ATOM)}", COMPARE, True)
            case "not":
                self.operators.add("__invert__")
                return self._filled(f"~{{0:{ATOM}}}", UNARY, node)
            case "eq":
                first, second = arguments if lists[0] else arguments[::-1]
                return self._each("torch.eq", first, second)
            case "where":
                return self._where(node)
            case "expand":
                kind = f'"{node.shape}"'
                if self.nodes[arguments[0]].shape.on_host:
                    return _Text(f"_each(_full, theta, {kind}, {self._argument(arguments[0], CHOICE)})", fresh=True)
                return _Text(f"_each(_expanded, {self._argument(arguments[0], CHOICE)}, theta, {kind})")
            case "number":
                return _Text(f"_each(_as_number, {self._argument(arguments[0], CHOICE)}, theta)", fresh=True)
            case "uniform":
                return _Text(f"batch.uniform({self._argument(arguments[0], CHOICE)})", fresh=True)
            case "atan2":
                return self._each("torch.atan2", *arguments)
        if node.op in _EACH:
            return self._each(f"_{_EACH[node.op]}", *arguments)
        return self._each(f"_{node.op}", *arguments)

    def _each(self, function: str, *arguments: int) -> _Text:
        given = ", ".join(self._argument(a, CHOICE) for a in arguments)
        return _Text(f"_each({function}, {given})", fresh=True)

    def _where(self, node: Node) -> _Text:
        mask, a, b = node.arguments
        if self.nodes[mask].shape.on_host:
            return replace(self._filled(f"{{1:{OR}}} if {{0:{OR}}} else {{2:{OR}}}", CHOICE, node), fresh=False)
        shown = [self._unexpanded(a), self._unexpanded(b)]
        if all(self._zone(k)[0] == "host" for k in shown):
            shown = [a, b]
        return self._each("torch.where", mask, *shown)

    def _unexpanded(self, i: int) -> int:
        """What a value was expanded from, if it stands here alone; `torch.where` expands by itself."""
        node = self.nodes[i]
        if node.op == "expand" and i in self.inlined and self._zone(node.arguments[0])[0] == "host":
            return node.arguments[0]
        return i

    def _compared(self, node: Node, lists: list[bool]) -> _Text:
        sign, turned = _COMPARED[node.op]
        first, second = node.arguments
        if not lists[0]:
            first, second, sign = second, first, turned
        self.operators.add({">": "__gt__", ">=": "__ge__", "<": "__lt__", "<=": "__le__"}[sign])
        return _Text(f"{self._argument(first, SUM)} {sign} {self._argument(second, SUM)}", COMPARE, True)

    def _binary(self, i: int, lists: list[bool], op: str = "") -> _Text:
        node = self.nodes[i]
        op = op or node.op
        first, second = node.arguments
        commutes = op in ("add", "mul", "max", "min")
        if commutes and (not lists[0] or (lists[1] and not self._is_fresh(first, i) and self._is_fresh(second, i))):
            first, second = second, first
            lists = lists[::-1]
        if not lists[0] and self._zone(first)[0] == "model":
            return self._each("torch.sub" if op == "sub" else "torch.div", first, second)
        method = _METHOD.get(op, op)
        if lists[0]:
            if op == "add" and lists[1]:
                scaled = self._scaled(second)
                if scaled and self._is_fresh(first, i):
                    return _Text(f"{self._argument(first, ATOM)}.add_({scaled})", fresh=True)
            found = self._maybe_in_place(i, first, f"{method}_({self._argument(second, CHOICE)})")
            if found:
                return found
        if op in ("max", "min"):
            return _Text(f"{self._argument(first, ATOM)}.{method}({self._argument(second, CHOICE)})", fresh=True)
        name = "truediv" if op == "div" else op
        self.operators.add(f"__{name}__" if lists[0] else f"__r{name}__")
        sign, binding, right = _INFIX[op]
        return _Text(f"{self._argument(first, binding)} {sign} {self._argument(second, right)}", binding, True)

    def _scaled(self, i: int) -> str:
        """The arguments of ``add_`` for a multiple of a value, where the multiple stands here alone."""
        node = self.nodes[i]
        if node.op != "mul" or i not in self.inlined:
            return ""
        for own, other in (node.arguments, node.arguments[::-1]):
            if self._zone(own)[0] == "host" and self._zone(other)[0] == "tensor":
                return f"{self._argument(other, CHOICE)}, {self._argument(own, CHOICE)}"
        return ""

    def _is_fresh(self, i: int, above: int) -> bool:
        """Whether a value's memory may take the result of ``above``."""
        return i in self.inlined and self.texts[i].fresh and self.nodes[i].shape is self.nodes[above].shape

    def _maybe_in_place(self, i: int, first: int, call: str) -> _Text | None:
        if not self._is_fresh(first, i):
            return None
        return _Text(f"{self._argument(first, ATOM)}.{call}", fresh=True)

    def _chained(self, i: int, slot: int) -> _Text:
        """The text that computes a value in place of what a slot held."""
        node = self.nodes[i]
        if node.op == "load":
            return _Text(self._slot(slot))
        own = next(a for a in self._first_operands(node) if self._chain(a, slot) and self._zone(a)[0] == "tensor")
        before = self._chained(own, slot).text
        if len(node.arguments) == 1:
            return _Text(f"{before}.{node.op}_()")
        (other,) = [a for a in node.arguments if a != own] or [own]
        if node.op == "add":
            averaged = self._lerp(node, own, other, slot)
            if averaged:
                return _Text(averaged)
            factors, core = self._factors(other) if other in self.inlined else ([], other)
            product = self.nodes[core]
            value = self._product(factors)
            more = f", {value}" if value else ""
            if (
                product.op == "mul"
                and core in self.inlined
                and all(
                    self._zone(a)[0] == "tensor" and self.nodes[a].shape is self.nodes[i].shape
                    for a in product.arguments
                )
            ):
                given = ", ".join(self._argument(a, CHOICE) for a in product.arguments)
                return _Text(f"{before}.addcmul_({given}{more})")
            if self._zone(core)[0] == "tensor":
                return _Text(f"{before}.add_({self._argument(core, CHOICE)}{more})")
        return _Text(f"{before}.{_METHOD.get(node.op, node.op)}_({self._argument(other, CHOICE)})")

    def _lerp(self, node: Node, own: int, other: int, slot: int) -> str:
        """The text of an average, beta * m + (1 - beta) * x with x as it stands; else ``""``."""
        kept, added = self.nodes[own], self.nodes[other]
        if kept.op != "mul" or added.op != "mul" or other not in self.inlined:
            return ""
        (beta,) = [a for a in kept.arguments if self.nodes[a].shape.on_host] or [-1]
        weights = [a for a in added.arguments if self.nodes[a].shape.on_host]
        if beta < 0 or len(weights) != 1 or not any(self.nodes[a].op == "load" for a in kept.arguments):
            return ""
        weight = self.nodes[weights[0]]
        (x,) = [a for a in added.arguments if a != weights[0]]
        if weight.op != "sub" or weight.arguments[1] != beta or self.nodes[weight.arguments[0]].attribute != 1:
            return ""
        if (self.nodes[x].op == "mul" and x in self.inlined) or self.nodes[x].shape is not node.shape:
            return ""
        return f"{self._slot(slot)}.lerp_({self._argument(x, CHOICE)}, {self._argument(weights[0], CHOICE)})"

    def _argument(self, i: int, binding: int) -> str:
        found, node = self.texts[i], self.nodes[i]
        if self.of_model and node.shape.on_host:
            if node.op == OPTION:
                return f'batches[0].group["{found.text}"]'
            text = "batches[0].t" if node.op == "t" else found.text.replace("batch.", "batches[0].")
            return f'batches[0].number("{text}")' if node.op == "load" else text
        return found.text if found.binding <= binding else f"({found.text})"

    def _operand(self, i: int) -> str:
        return self._argument(i, CHOICE)


def _mentions(text: str, name: str) -> bool:
    """Whether a text uses a name as a variable."""
    return re.search(rf"(?<![\w.\"]){name}\b(?![\w\"(=])", text) is not None


def _start(slot: Slot) -> str:
    return f'"{slot.init}"' if isinstance(slot.init, str) else _number(slot.init)


def _number(value: float) -> str:
    """A number as people write it."""
    return str(int(value)) if value == int(value) and abs(value) < 1e6 else number(value)


FUNCTIONS: dict[str, FunctionType] = {
    **HELPERS,
    **{
        name_in_file(function): function
        for function in (
            torch_tensors.each, torch_tensors.sum_all, torch_tensors.max_all, torch_tensors.sum_row,
            torch_tensors.max_row, torch_tensors.sum_column, torch_tensors.max_column, torch_tensors.as_number,
            torch_tensors.to_bfloat16, torch_tensors.full, torch_tensors.expanded, torch_tensors.scalar,
        )
    },
}  # fmt: skip
_NEEDS = {
    "__sub__": ("__add__", "__neg__"),
    "__rsub__": ("__neg__", "add_"),
    "__rtruediv__": ("mul_",),
    "add_": ("__mul__",),
    "sub_": ("add_",),
    "addcmul_": ("add_", "__mul__"),
    "addcdiv_": ("add_", "__truediv__"),
}  # fmt: skip  what methods of `Tensors` call


def _methods(used: Collection[str]) -> tuple[str, ...]:
    """The methods of `Tensors` that a text needs, in their order."""
    found: set[str] = set()
    stack = ["__init__", *used]
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack += _NEEDS.get(name, ())
    return tuple(name for name in vars(torch_tensors.Tensors) if name in found)
