"""Prints a program as readable Python: three functions that need torch alone.

They compute bit for bit what the reference computes on the CPU. Operators print as operators, and values that are used
once stand where they are used, so the text reads like the formula. One loop over the tensors computes all that needs
no sum over the whole model; the loop is split at such sums.
"""

from __future__ import annotations

import builtins
import re
from collections import Counter
from types import FunctionType

from genomes.backends import torch_reference
from genomes.backends.own_names import distinct
from genomes.backends.python_text import (
    ATOM,
    CHOICE,
    COMPARE,
    HOST,
    INFIX,
    LINE,
    OR,
    PLACE,
    UNARY,
    calls,
    guarded,
    number,
)  # fmt: skip
from genomes.backends.readout import feature_gains, frozen_end, output_shifts
from genomes.backends.source_text import collect, is_ours, name_in_file
from genomes.backends.torch_reference import FITTED
from genomes.backends.value_names import value_names, with_field_names
from genomes.compiler.branches import ALL, Condition, conditions
from genomes.compiler.merging import merged_branches
from genomes.compiler.program import CLOCK_SOURCES, MODEL_REDUCTIONS, ROLE_SOURCES, Node, Program, random_word
from genomes.compiler.shapes import ShapeClass
from genomes.language.operations import ON_FLOATS

_INLINED = ("learning_rate", "schedule", "delta")  # labels of values that need no line of their own
DEVICE = {
    **INFIX,
    **calls(torch_reference.OPERATIONS),
    **{
        name: (f"torch.{name}({{0}})", ATOM)
        for name in ("abs", "sign", "sqrt", "exp", "log", "tanh", "sin", "cos", "floor")
    },
    "atan2": ("torch.atan2({0}, {1})", ATOM),
    "bfloat16": (f"{{0:{ATOM}}}.to(torch.bfloat16).to(model_params[0].dtype)", ATOM),
    "uniform": ('_uniform(_random_word(state["seed"], state["t"], i, {0}), theta)', ATOM),
    "max": ("torch.maximum({0}, {1})", ATOM),
    "min": ("torch.minimum({0}, {1})", ATOM),
    "and": (f"{{0:{ATOM}}} & {{1:{ATOM}}}", COMPARE),
    "or": (f"{{0:{ATOM}}} | {{1:{ATOM}}}", COMPARE),
    "not": (f"~{{0:{ATOM}}}", UNARY),
    "where": ("torch.where({0}, {1}, {2})", ATOM),
    "number": (f"{{0:{ATOM}}}.to(model_params[0].dtype)", ATOM),
    "sum_tensor": (f"{{0:{ATOM}}}.sum(dim=(0, 1), keepdim=True)", ATOM),
    "max_tensor": (f"{{0:{ATOM}}}.amax(dim=(0, 1), keepdim=True)", ATOM),
    "sum_row": (f"{{0:{ATOM}}}.sum(dim=1, keepdim=True)", ATOM),
    "max_row": (f"{{0:{ATOM}}}.amax(dim=1, keepdim=True)", ATOM),
    "sum_column": (f"{{0:{ATOM}}}.sum(dim=0, keepdim=True)", ATOM),
    "max_column": (f"{{0:{ATOM}}}.amax(dim=0, keepdim=True)", ATOM),
    "output_shift": ("_chosen_shift(shifts if i == shifted else None, {0}, theta)", ATOM),
}
# Forms for one argument on the host beside one on the device, by (operation, which argument is the host's).
MIXED = {
    ("max", 0): (f"{{1:{ATOM}}}.clamp(min={{0}})", ATOM),
    ("max", 1): (f"{{0:{ATOM}}}.clamp(min={{1}})", ATOM),
    ("min", 0): (f"{{1:{ATOM}}}.clamp(max={{0}})", ATOM),
    ("min", 1): (f"{{0:{ATOM}}}.clamp(max={{1}})", ATOM),
    ("where", 0): (f"{{1:{OR}}} if {{0:{OR}}} else {{2:{OR}}}", CHOICE),
}

HELPERS: dict[str, FunctionType] = {
    name_in_file(function): function
    for function in (
        *ON_FLOATS.values(), *torch_reference.OPERATIONS.values(),
        torch_reference.fit, torch_reference.uniform, random_word, torch_reference.bias_row,
        torch_reference.chosen_shift, feature_gains, frozen_end, output_shifts,
    )
    if is_ours(function)
}  # fmt: skip
_CLOCK_TEXT = {
    "t": 't = float(state["t"])',
    "epoch": "epoch = float(epoch)",
    "has_loss": "has_loss = train_loss is not None and val_loss is not None",
    "train_loss": "train_loss = float(train_loss) if has_loss else 1.0",
    "val_loss": "val_loss = float(val_loss) if has_loss else 1.0",
    "model_size": 'model_size = state["model_size"]',
    "layer_count": 'layer_count = state["layer_count"]',
    "steps_per_epoch": 'steps_per_epoch = state["steps_per_epoch"]',
    "output_count": 'output_count = state["output_count"]',
}

_ROLE_TEXT = {
    **{f"is_{role}": f'roles[i] == "{role}"' for role in ("weight", "bias", "norm_scale", "norm_shift")},
    "is_first": "layers[i] == 0",
    "is_last": "layers[i] == last",
    "depth_fraction": "layers[i] / last if last else 0.0",
    "rows": "float(rows)",
    "columns": "float(columns)",
}
_READOUT = {"output_shift", "output_count", "output biases", "as evaluated"}  # what needs the network's frozen end
_LEAVES = (*CLOCK_SOURCES, *ROLE_SOURCES, "const", "load", "g", "theta")
Zone = tuple[str, int]  # ("clock", 0), ("model", level) or ("tensor", level): where a value is computed


def render(program: Program) -> str:
    """The functions' source: helpers, then optimizer_init_state, optimizer_query_at_params, optimizer_step.

    The helpers are the reference's own functions. Raises SourceError where their text is not installed.
    """
    functions = _functions(distinct(with_field_names(merged_branches(program).program), _functions, dir(builtins)))
    used = [function for name, function in HELPERS.items() if re.search(rf"(?<![\w.]){name}\(", functions)]
    imports, helpers = collect(used)
    needs_math = "import math" in imports or "math." in functions
    head = "import math\n\nimport torch" if needs_math else "import torch"
    return "\n\n\n".join([head, *helpers, functions]) + "\n"


def _functions(program: Program) -> str:
    return "\n\n\n".join([_init_state(program), _query(program), _Step(program).text()])


def _used(program: Program) -> set[str]:
    """The operations of a program and of its query, and what else a query does."""
    own = program.query.nodes if program.query else ()
    more = {"output biases": program.output_biases, "as evaluated": program.as_evaluated}
    return {node.op for node in (*program.nodes, *own)} | {name for name, does in more.items() if does}


def _init_state(program: Program) -> str:
    used = _used(program)
    lines = [
        "@torch.no_grad()",
        "def optimizer_init_state(seed, param_sizes, **context):",
        '    """Fresh state. context: shapes; where known roles, trainable, layers (one per tensor), device, dtype."""',
        '    shapes = [tuple(shape) for shape in context["shapes"]]',
        '    roles = context.get("roles") or ["weight" if len(shape) > 1 else "bias" for shape in shapes]',
        '    trainable = context.get("trainable") or [not role.startswith("running") for role in roles]',
        '    layers = context.get("layers") or [max(0, roles[: i + 1].count("weight") - 1) for i in range(len(roles))]',
        '    device, dtype = context.get("device", "cpu"), context.get("dtype", torch.float32)',
        "    last = max((layer for layer, flag in zip(layers, trainable) if flag), default=0)",
        "    tensors = []",
        "    for i, shape in enumerate(shapes):",
        "        if not trainable[i]:",
        "            continue",
        "        columns = 1",
        "        for size in shape[1:]:",
        "            columns *= size",
        "        rows = shape[0] if shape else 1",
        '        tensor = {"index": i, "shape": (rows, columns)}',
        *(f'        tensor["{name}"] = {text}' for name, text in _ROLE_TEXT.items() if name in used),
    ]
    model = []
    of_tensors: list[tuple[Condition, str]] = []
    step = _Step(program)
    for slot, condition in zip(program.slots, step.conditions.slots, strict=True):
        extent = _extent(slot.shape, "rows", "columns")
        held = f'tensor["{slot.name}"] = '
        if slot.init == "theta":
            of_tensors.append((ALL, f"{held}None  # copied from the parameters at the first step"))
        elif slot.shape is ShapeClass.CLOCK:
            model.append(f'"{slot.name}": {slot.init!r}')
        elif slot.shape is ShapeClass.MODEL:
            model.append(f'"{slot.name}": torch.full((1, 1), {slot.init!r}, dtype=dtype, device=device)')
        elif slot.shape is ShapeClass.ROLE:
            of_tensors.append((ALL, f"{held}{slot.init!r}"))
        else:
            of_tensors.append((condition, f"{held}torch.full({extent}, {slot.init!r}, dtype=dtype, device=device)"))
    lines += [f"        {line}" for line in step.guarded(of_tensors)]
    lines.append("        tensors.append(tensor)")
    if "model_size" in used:
        model.append('"model_size": float(sum(t["shape"][0] * t["shape"][1] for t in tensors))')
    if "layer_count" in used:
        model.append('"layer_count": float(last + 1)')
    if used & {"steps_per_epoch", "output_shift", "as evaluated"}:
        model.append('"steps_per_epoch": float(context.get("steps_per_epoch", 8))')
    if used & _READOUT:
        lines.append("    end = _frozen_end(shapes, roles, layers, trainable)")
        model.append('"end": end')
        model.append('"output_count": float(shapes[end[-1]][0]) if end else 0.0')
    if program.as_evaluated:
        model.append('"frozen_scale": None')
    if "uniform" in used:
        model.append('"seed": bytes(seed)')
    entries = ['"t": 0', '"tensors": tensors', *model]
    lines += ["    return {", *(f"        {entry}," for entry in entries), "    }"]
    return "\n".join(lines)


def _extent(shape: ShapeClass, rows: str, columns: str) -> str:
    if shape.is_square:
        right = shape is ShapeClass.RIGHT
        return f"({columns}, {columns})" if right else f"({rows}, {rows} if {columns} > 1 else 1)"
    _, per_row, per_column, _ = shape.value
    return f"({rows if per_row else 1}, {columns if per_column else 1})"


def _query(program: Program) -> str:
    head = "@torch.no_grad()\ndef optimizer_query_at_params(state, model_params, epoch, train_loss, val_loss):\n"
    query, evaluation = program.query, program.evaluation
    if not program.queries:
        return head + '    """Gradients are taken at the parameters as they are."""\n    return None'
    lines, reasons, moves = [], [], []
    if evaluation:
        lines.append(f'takes_back = state["{program.slots[evaluation.applied].name}"] > 0')
        reasons.append("takes_back")
        moves.append(("takes_back", "-", program.slots[evaluation.offset].name))
    if query:
        own = _Step(Program(program.name, query.nodes, (), (), len(query.nodes) - 1))
        lines += own.clock_lines('float(state["t"] + 1)')
        lines.append(f'asked = state["t"] > 0 and ({own.operand(query.when)})')
        reasons.append("asked")
        moves.append(("asked", "+", program.slots[query.offset].name))
        if query.outputs:
            biases = ", ".join(own.operand(i) for i in query.outputs)
            lines.append(f'biases = [{biases}][: int(state["output_count"])]')
            reasons.append("any(biases)")
    lines += [f"if not ({' or '.join(reasons)}):", "    return None", "queried = list(model_params)"]
    lines += ['for tensor in state["tensors"]:', '    i = tensor["index"]']
    for reason, sign, slot in moves:
        moved = f'queried[i] = queried[i] {sign} tensor["{slot}"].reshape(queried[i].shape)'
        lines += [f"    if {reason}:", f"        {moved}"]
    if query and query.outputs:
        last = 'queried[state["end"][-1]]'
        lines += ["if any(biases):", f"    {last} = {last} + _bias_row(biases, {last})"]
    if program.as_evaluated:
        lines += ['if asked and state["frozen_scale"] is not None:']
        lines += ['    queried[state["end"][3]] = state["frozen_scale"]']
    lines.append("return queried")
    doc = '    """Parameters at which to take the gradient, or None for the parameters as they are."""'
    return head + "\n".join([doc, *(f"    {line}" for line in lines)])


class _Step:
    """Prints optimizer_step: decides what gets a name, then writes zone after zone."""

    def __init__(self, program: Program):
        self.program = program
        self.levels = program.levels
        self.conditions = conditions(program)
        self.zones = [self._zone(i, node) for i, node in enumerate(program.nodes)]
        self.uses = Counter(a for node in program.nodes for a in node.arguments)
        self.slot_of = {node: program.slots[slot].name for slot, node in program.stores}
        self.names = value_names(program)
        self.texts: dict[int, tuple[str, int]] = {}
        self.saved: set[int] = set()  # per-tensor values that a later zone needs
        self.labels = dict(program.labels)
        last = max(self.levels)
        needed = [(a, zone) for node, zone in zip(program.nodes, self.zones, strict=True) for a in node.arguments]
        needed += [(node, ("tensor", last)) for _, node in program.stores] + [(program.update, ("tensor", last))]
        for a, zone in needed:
            if self.zones[a] != zone and self.zones[a][0] == "tensor" and program.nodes[a].op not in _LEAVES:
                self.saved.add(a)

    def _zone(self, i: int, node: Node) -> Zone:
        if node.shape is ShapeClass.CLOCK:
            return "clock", 0
        return ("tensor" if node.shape.per_tensor else "model"), self.levels[i]

    def text(self) -> str:
        program = self.program
        last = max(self.levels)
        lines = [
            "@torch.no_grad()",
            "def optimizer_step(state, model_params, gradients, epoch, train_loss, val_loss):",
            '    """Updates to be added to the parameters: one per tensor, zero for those that are not trainable."""',
            '    state["t"] += 1',
        ]
        lines += [f"    {line}" for line in self._clock_sources(_CLOCK_TEXT["t"])]
        lines += [f"    {line}" for line in self._zone_lines(("clock", 0))]
        shifting = any(node.op == "output_shift" for node in program.nodes)
        if shifting or program.as_evaluated:
            lines += [
                '    end, steps = state["end"], state["steps_per_epoch"]',
                '    known = bool(end) and steps > 0 and state["t"] % steps == 0',
            ]
        if shifting:
            lines += [
                "    shifts = _output_shifts(*(model_params[i] for i in end[:-1])) if known else None",
                "    shifted = end[0] if end else -1",
            ]
        lines.append("    updates = [torch.zeros_like(p) for p in model_params]")
        for level in range(last + 1):
            lines += [f"    {line}" for line in self._zone_lines(("model", level))]
            lines += self._loop(level)
        model = [(slot, node) for slot, node in program.stores if not program.slots[slot].shape.per_tensor]
        lines += [f"    {line}" for line in self._stores("state", [(s, n, self._operand(n)) for s, n in model])]
        if program.query and program.as_evaluated:
            moved = f'tensor["{program.slots[program.query.offset].name}"]'
            lines += [
                "    if known:",
                f'        moved = next({moved} for tensor in state["tensors"] if tensor["index"] == end[0])',
                "        frozen_end = (model_params[i] for i in end[:-2])",
                '        state["frozen_scale"] = _feature_gains(*frozen_end, moved=moved.flatten())',
            ]
        lines.append("    return updates")
        return "\n".join(lines)

    def clock_lines(self, t: str) -> list[str]:
        """Assignments of the clock values of a query. ``t``: the step's number."""
        return self._clock_sources(f"t = {t}") + self._zone_lines(("clock", 0))

    def operand(self, node: int) -> str:
        """The text of a value, once the lines of its zone are printed."""
        return self._operand(node)

    def _clock_sources(self, t: str) -> list[str]:
        used = {node.op for node in self.program.nodes}
        if used & {"train_loss", "val_loss"}:
            used.add("has_loss")
        return [t if name == "t" else _CLOCK_TEXT[name] for name in CLOCK_SOURCES if name in used]

    def _loop(self, level: int) -> list[str]:
        program = self.program
        lines = self._conditional_lines(("tensor", level))
        here = [i for i, zone in enumerate(self.zones) if zone == ("tensor", level)]
        slots = self.conditions.slots
        lines += [(self._needed(i), f"{self._saved(i)} = {self._operand(i)}") for i in here if i in self.saved]
        if level == max(self.levels):
            # stores come last: until then the loop reads what the last step stored
            per_tensor = [(slot, node) for slot, node in program.stores if program.slots[slot].shape.per_tensor]
            update = self._argument(program.update, level, ATOM)
            copy = ".clone()" if program.update_is_shared else ""
            lines.append((ALL, f"updates[i] = {update}.reshape(model_params[i].shape){copy}"))
            # a slot that takes over what another held is needed where that is, or for fewer tensors: those come first
            for condition in sorted({slots[s] for s, _ in per_tensor}, key=lambda c: (-len(c), sorted(c))):
                of_these = [(s, n, self._argument(n, level, CHOICE)) for s, n in per_tensor if slots[s] == condition]
                lines += [(condition, line) for line in self._stores("tensor", of_these)]
        body = self.guarded(lines)
        if not body:
            return []
        head = ['for tensor in state["tensors"]:', '    i = tensor["index"]']
        text = "\n".join(body)
        theta_slots = [i for i, slot in enumerate(program.slots) if slot.init == "theta"] if level == 0 else []
        if re.search(r"\btheta\b", text) or theta_slots:
            head.append('    theta = model_params[i].reshape(tensor["shape"])')
        for slot in theta_slots:
            name = program.slots[slot].name
            start = [f'if tensor["{name}"] is None:', f'    tensor["{name}"] = theta.clone()']
            head += [f"    {line}" for line in self.guarded([(slots[slot], line) for line in start])]
        if re.search(r"\bg\b", text):
            head.append('    g = gradients[i].reshape(tensor["shape"])')
        return [f"    {line}" for line in head] + [f"        {line}" for line in body]

    def _stores(self, holder: str, stores: list[tuple[int, int, str]]) -> list[str]:
        """Assignments of (slot, node, text). What a slot held is taken over before it changes; in circles, at once."""
        nodes, slots = self.program.nodes, self.program.slots
        moved = {slot: nodes[node].attribute for slot, node, _ in stores if nodes[node].op == "load"}
        left = {
            slot: (f'{holder}["{slots[slot].name}"]', _copied(text) if self.program.is_borrowed(node) else text)
            for slot, node, text in stores
            if moved.get(slot) != slot
        }
        lines = []
        while left:
            awaited = {moved[slot] for slot in left if slot in moved}
            free = [slot for slot in left if slot not in awaited]
            if not free:
                return [*lines, " = ".join(", ".join(side) for side in zip(*left.values(), strict=True))]
            lines += [" = ".join(left.pop(slot)) for slot in free]
        return lines

    def guarded(self, lines: list[tuple[Condition, str]]) -> list[str]:
        """Lines of a loop over the tensors, each under the condition that it has."""
        return guarded(lines, self._mask)

    def _needed(self, i: int) -> Condition:
        """For which tensors and in which steps a value is needed."""
        return self.conditions.nodes[i] | self.conditions.moments[i]

    def _mask(self, i: int) -> tuple[str, int]:
        return self.texts[i] if self.program.nodes[i].shape is ShapeClass.CLOCK else self._fixed(i)

    def _fixed(self, i: int) -> tuple[str, int]:
        """A value that never changes, and its precedence: written out, so that it may stand anywhere."""
        node = self.program.nodes[i]
        if not node.arguments:
            return self._expression(i, node)
        template, precedence = HOST[node.op]

        def argument(match: re.Match) -> str:
            text, inner = self._fixed(node.arguments[int(match[1])])
            return text if inner <= int(match[2] or CHOICE) else f"({text})"

        return re.sub(PLACE, argument, template), precedence

    def _zone_lines(self, zone: Zone) -> list[str]:
        """Assignments of a zone's named values, in order."""
        return [line for _, line in self._conditional_lines(zone)]

    def _conditional_lines(self, zone: Zone) -> list[tuple[Condition, str]]:
        """Assignments of a zone's named values, in order, and for which tensors they are needed."""
        lines = []
        for i, node in enumerate(self.program.nodes):
            if self.zones[i] != zone:
                continue
            text, precedence = self._expression(i, node)
            if self._inline(i, node, text):
                self.texts[i] = text, precedence
            else:
                lines.append((self._needed(i), f"{self.names[i]} = {text}"))
                self.texts[i] = self.names[i], ATOM
        return lines

    def _inline(self, i: int, node: Node, text: str) -> bool:
        if node.op in _LEAVES:
            return True
        if i in self.slot_of or i in self.saved or self.labels.get(i, "delta") not in _INLINED:
            return False
        users = [k for k, other in enumerate(self.program.nodes) if i in other.arguments]
        if any(self.zones[k] != self.zones[i] for k in users):
            return False
        return self.uses[i] <= 1 and len(text) <= LINE

    def _expression(self, i: int, node: Node) -> tuple[str, int]:
        zone = self.zones[i]
        if node.op == "const":
            assert node.attribute is not None
            value = float(node.attribute)
            return number(value), UNARY if value < 0 else ATOM
        if node.op in (*CLOCK_SOURCES, "g", "theta"):
            return node.op, ATOM
        if node.op in ROLE_SOURCES:
            return f'tensor["{node.op}"]', ATOM
        if node.op == "load":
            slot = self.program.slots[int(node.attribute or 0)]
            return (f'tensor["{slot.name}"]' if slot.shape.per_tensor else f'state["{slot.name}"]'), ATOM
        if node.op in MODEL_REDUCTIONS:
            helper, _ = DEVICE[node.op]
            parts = f'[{self._saved(node.arguments[0])} for tensor in state["tensors"]]'
            return helper.format(parts), ATOM
        hosts = [self.program.nodes[a].shape.on_host for a in node.arguments]
        if node.op == "expand" and not node.shape.on_host:
            return self._expand(node, zone, hosts[0])
        fitted = () if node.shape.on_host or node.op not in FITTED else [a for a in node.arguments if self._unfit(a)]
        template, precedence = HOST[node.op] if node.shape.on_host else DEVICE[node.op]
        if not node.shape.on_host and any(hosts):
            template, precedence = MIXED.get((node.op, hosts.index(True)), (template, precedence))

        def argument(match: re.Match) -> str:
            operand = node.arguments[int(match[1])]
            if operand in fitted:
                return f"_fit({self._argument(operand, zone[1], CHOICE)}, model_params[0].dtype)"
            return self._argument(operand, zone[1], int(match[2] or CHOICE))

        return re.sub(PLACE, argument, template), precedence

    def _expand(self, node: Node, zone: Zone, from_host: bool) -> tuple[str, int]:
        extent = _extent(node.shape, "theta.shape[0]", "theta.shape[1]")
        if from_host:
            value = self._argument(node.arguments[0], zone[1], CHOICE)
            if self._unfit(node.arguments[0]):
                value = f"_fit({value}, model_params[0].dtype)"
            like = "theta" if node.shape.per_tensor else "model_params[0]"
            return f"torch.full({extent}, {value}, dtype={like}.dtype, device={like}.device)", ATOM
        return f"{self._argument(node.arguments[0], zone[1], ATOM)}.expand({extent})", ATOM

    def _unfit(self, node: int) -> bool:
        """Whether a value is a number on the host that float32 might not hold."""
        value = self.program.nodes[node]
        if not value.shape.on_host or value.is_mask:
            return False
        return value.op not in ROLE_SOURCES and not (value.op == "const" and abs(value.attribute or 0.0) < 1e38)

    def _argument(self, node: int, level: int, binding: int) -> str:
        """The text of an operand; a per-tensor value of an earlier level was saved with its tensor."""
        if self.zones[node][0] == "tensor" and self.zones[node][1] != level and node in self.saved:
            return self._saved(node)
        text, precedence = self.texts[node]
        return text if precedence <= binding else f"({text})"

    def _saved(self, node: int) -> str:
        """Where a per-tensor value waits for a later loop; apart from the slots, which keep the last step's values."""
        return f'tensor["new_{self.names[node]}"]'

    def _operand(self, node: int) -> str:
        return self.texts[node][0]


def _copied(text: str) -> str:
    return f"{text}.clone()" if text.isidentifier() else f"({text}).clone()"
