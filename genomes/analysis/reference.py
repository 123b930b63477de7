"""The reference page of the language, made from its table: ``python -m genomes.analysis.reference > docs/primitives.md``."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator

from genomes.compiler.builder import Builder, Value, slot_prefix
from genomes.compiler.nodes import MAX_PROGRAM_NODES
from genomes.compiler.shapes import ShapeClass
from genomes.language.decay import DECAY_KINDS
from genomes.language.expressions import Expression, call, number
from genomes.language.genome import MAX_GATES, MAX_TERMS
from genomes.language.let import MAX_LETTERS, MAX_LINES
from genomes.language.operations import OPERATIONS
from genomes.language.parser import MAX_CHARACTERS, MAX_DEPTH, MAX_NODES, parse_expression
from genomes.language.primitives import TABLE, Domain, Parameter, Primitive
from genomes.language.printer import show, signature
from genomes.strict_yaml import MAX_BYTES

GROUPS = {
    "source": "What a step sees. `u` exists in `gates` alone, `delta` in `post` and in offsets.",
    "signal": "Numbers of the training as a whole: known before any gradient, in float64. Schedules are made of them.",
    "role": "What kind of tensor it is and where it stands: one value per tensor, known before any gradient.",
    "elementwise": "Entry by entry. Operators bind as in Python; `**` binds tightest, then unary minus.",
    "stateful": "Values that last: each keeps state buffers from step to step. Equal calls share them. Each buffer is "
    "listed with its class, where `x` is an element value: the accumulators of the field.",
    "evaluation": "What is evaluated, and what an optimizer may know of it. Training does not see the mean of the outputs "
    "where the network's end is frozen behind a BatchNorm; evaluation does.",
    "reduction": "From many entries to one: a tensor, each row, each column, the whole model. A tensor is seen as a "
    "matrix `[rows, columns]` = `[out, in]`; a vector of n entries is `[n, 1]`.",
    "matrix": "On a tensor seen as a matrix. Costly: matrix products, so more per entry the larger the tensor. Arguments "
    "called `a` and `b` are square values, of class `left` or `right`, or numbers, which stand for that many times the "
    "identity; `x` and `y` are others.",
    "noise": "Pseudo-random numbers: functions of the run's seed, the step, the tensor, the entry and the stream.",
    "schedule": "Factors that follow the training. Units are epochs unless the name says steps.",
    "gate": "Transforms of a direction or an update. All may stand anywhere, but those marked `post`.",
    "composite": "Names of the field for what their bodies say.",
}


def _decay_table() -> str:
    lines = ["| decay kind | what it does | known as |", "|---|---|---|"]
    for kind in DECAY_KINDS.values():
        known = "; ".join(filter(None, (kind.known_as, kind.source)))
        lines.append(f"| `{kind.name}` | {kind.doc} | {known} |")
    return "\n".join(lines)


def _operations_table() -> str:
    """The exact meaning of each elementwise word that is one operation, as the operation's record states it."""
    lines = ["| word | exact meaning |", "|---|---|"]
    for primitive in TABLE.values():
        if primitive.group == "elementwise" and primitive.op:
            record = OPERATIONS[primitive.op]
            guard = f" of {record.guard[0]}(x, {record.guard[1]:g})" if record.guard else ""
            lines.append(f"| `{_written(primitive)}` | {record.meaning}{guard} |")
    return "\n".join(lines)


def _written(primitive: Primitive) -> str:
    if primitive.infix is None:
        return signature(primitive)
    symbol = primitive.infix[0]
    names = [p.name for p in primitive.parameters]
    if len(names) == 2:
        return f"{names[0]} {symbol} {names[1]}"
    return f"not {names[0]}" if symbol == "not" else f"-{names[0]}"


INTRODUCTION = f"""\
# Primitives

This page is written by `python -m genomes.analysis.reference` from the table in `genomes/language/primitives.py`; a test fails where
they differ.

## A genome

| key | meaning |
|---|---|
| `genome: 1` | version of this form |
| `name`, `source`, `oracle` | what it is called, where it comes from, what it is checked against |
| `lr` | learning rate |
| `let` | list of lines `name = expression` and `name from start = expression`: named values and states, see below |
| `terms` | list of `{{weight: 1.0, expr: "..."}}`, summed to the direction |
| `gates` | list of expressions over `u`, the direction so far: a chain of gradient transforms |
| `decay` | weight decay: `{{kind, rate, roles}}`; kinds below; roles of the tensors that decay, `[weight]` unless given |
| `schedule` | expression, a factor of the learning rate, made of clock and role values |
| `roles` | learning-rate multipliers (parameter groups) for `weight`, `bias`, `norm_scale`, `norm_shift`, `first`, `last` (layer) |
| `post` | list of expressions over `delta`, the update so far |
| `query` | `{{offset, when, outputs, as_evaluated}}`, a lookahead point: the gradient of step t is taken at theta + `offset` where `when` holds for that t; `offset` is the value of the step before, so step 1 never looks ahead. `outputs`: numbers, one per output, that the bias of a frozen last layer has more for a gradient, in every step in which one of them is not 0. `as_evaluated: true`: where `when` holds, frozen features are divided by what evaluation at theta + `offset` divides them by, as far as the last step of the epoch before knows it (`genomes.backends.readout.feature_gains`) |
| `evaluation` | `{{offset, from, when}}`, what evaluation sees: `offset` is added to the parameters in an epoch's last step and taken back in the next epoch's first, after epochs from `from` on (0 unless given) in which `when` holds. The first gradient of the next epoch is taken without it, and `theta` is without it; `val_loss` and the saved model have it, and the word `evaluation_offset` is the last one, wherever `theta` may stand |

Every step adds to the parameters what these lines come to:

    names = what the let lines say, in order
    u     = sum of weight * expr over the terms
    u     = gate                                     for each of the gates in turn
    u     = u + decay
    delta = -(lr * schedule * role multipliers) * u
    delta = post                                     for each of post in turn

{_decay_table()}

Offsets may use all that terms may, and `delta`, the update that the step applies; the query's `when` and `outputs` are
made of `t`, `epoch`, losses and numbers, the evaluation's `when` may also use clock values that last, such as `improved`.
`average(theta + delta) - (theta + delta)` is the way from the next parameters to an average of all. In the task `tig` a batch for which a query was answered leaves no trace in BatchNorm's running
statistics.

**Names.** A line of `let` names a value, which all other expressions may use: a number, a comparison or an average that
`debias` takes. With `from` it names a state, which is kept for the next step: before its line the name means what the
last step kept (in step 1 the start: a number, or `theta` for a copy of the first parameters), from its line on what
this step keeps. So states may depend on one another:

    let:
      - "m = debias(ema(g, 0.9))"
      - "B from 0 = B - mean_all(d * (m - prev(m))) * d * d"
      - "d from 0 = m / max(abs(B), 0.01)"

A value is used below its line alone; a name is defined once, and is none of the words below. Lines may use all that
terms may. `query.when`, `query.outputs` and `evaluation.when` may use names that are made of clock values, the schedule
those made of clock and role values.
A name that nothing uses costs nothing; `evo genome simplify` takes it away. Names are for people: genomes that differ in
names alone, or in whether a value has one, are one program. `evo genome show`, LaTeX and exported source keep them.

Some words here have another name in the field:

| here | in the field |
|---|---|
| gate | gradient or update transform, as in optax |
| query | lookahead point, as in Nesterov's method and in extragradient |
| clock value | scalar that depends on the step alone; as a state buffer: scalar schedule state |
| `theta`, `g`, `delta` | parameters, gradient, update |
| terms, `u` | the direction before the learning rate |
| composite | named optimizer rule |
| decay `start` | L2-SP: L2 regularization towards the starting point |

## Expressions

Expressions are made of numbers, the words below, `+ - * / % **`, `> >= < <= ==`, `and or not` and calls with
positional or named arguments. Comparisons give masks; `where(mask, 1, 0)` makes a number of one. A word's **body** is
its meaning in the language itself: `name = expression` names a value; where the name is one of its buffers, the value
is also kept for the next step, and before that line the name means what the last step kept. The last line is the
result.

**Classes.** Every value belongs to a class that says along which axes it varies: `clock` (nothing but the step),
`role` (the tensor), both known on the host in float64; `model` (nothing but the step), `tensor`, `row`, `column`,
`element`, which come from gradients or parameters, and the square classes `left` and `right`, below. Elementwise words
give the smallest class that holds all their arguments. Constants (arguments with a range) are numbers within it, or made of clock and role values and held to it in
every step: to its nearest number, rounded down where the range is whole. A schedule is a clock value, or a role value
where roles have schedules of their own, as in `where(is_weight, cosine(100), 1)`; `lr_t` is then one, too.

**Square values.** `outer(x, y)` is a matrix `[rows, rows]` for each tensor, of class `left`, `inner(x, y)` one `[columns,
columns]`, of class `right`. All elementwise words and all that keep values act on them entry by entry, beside numbers of
clock, role, model and tensor alone: `ema(outer(g, g), 0.95)`, `0.5 * L + 1e-6 * identity(L)`, `hold(L, t % 10 == 0)`; a
number that is added is added to every entry. `matmul` brings them back to element values: `matmul(L, g)`, `matmul(g, R)`.
They are no updates, and reductions do not take them, but for `matrix_trace`. A tensor of one column (a vector, or a weight
behind one input) has left values as diagonals, `[rows, 1]`: products, roots and bases are then those of its entries, and
its right values are `[1, 1]`. So `matmul(inverse_root(running_sum(outer(g, g)), 2), g)` is AdaGrad for vectors, and
`soap` is Adam. A branch by role keeps statistics for weights alone: `where(is_weight, shampoo(g), adam(g))`. What a mask
of the clock chooses, as in `hold(inverse_root(L, 4), t % 10 == 1)`, is computed in the steps that choose it, on a CPU and in
exported Python; on a GPU, whose steps are recorded, in all.

**Averages of any beta.** The `beta` of some averages may be any value at all, of the device too, and is then held to 0
... 1. In a step (or a tensor, or an entry) where it is 1, the average stays as it is and x plays no part, whatever it
is; where it is 0, the average begins anew and what it held plays no part. So `ema(g, where(held, 1, 0.9))` holds,
`ema(g, where(anew, 0, 0.9))` resets, and a genome skips steps whose gradient is not finite, its averages and their bias
corrections included, by `adam(g, where(all_finite(g), 0.9, 1), where(all_finite(g), 0.999, 1))` and the gate
`where(all_finite(g), u, 0)`. A host value is held to 0.999999, as literals are, and multiplies whatever is there, unless
a `where` sets it to 1: then all this is true of it, too. `debias` divides by 1 - beta^t where beta is a literal, else by `gathered_weight(beta)`.

**Branches by role.** `where(is_weight, a, b)` is a for weights and b for the rest in every step, since its mask is made
of role values and numbers alone. What one branch alone is made of, states included, is computed and kept for its
tensors alone by the reference and by exported Python; the other back ends leave out the products of matrices, and keep
states whole. A mask that may change from step to step divides no states.

**Special values** mean the same on the host and on tensors, in every back end, but for the sign of zero. What the table
does not say is arithmetic of IEEE 754: a NaN argument gives NaN, what is too large is infinite, and subnormal numbers
are numbers like any other, not 0. A host number beside tensors is rounded to their precision first: 1e-60 is 0 beside
float32. An average over an infinity is infinite or NaN from then on, depending on the back end; one whose beta is 1 in
that step, by a mask, stays as it was.

{_operations_table()}
"""

LIMITS = f"""\
**Limits.** A file has at most {MAX_BYTES / 1e6:g} MB; a genome {MAX_TERMS} terms, {MAX_GATES} gates and as many in
`post`, {MAX_LINES} lines in `let` with names of at most {MAX_LETTERS} letters, digits and `_`, and {MAX_PROGRAM_NODES} operations once all words are expanded. An expression has at most {MAX_CHARACTERS}
characters, {MAX_NODES} nodes (numbers, names, operators and calls) and {MAX_DEPTH} levels. Each operator is a level
above its operands, so `a + b + c` has three; a long sum needs fewer levels as `(a + b) + (c + d)`, or as several terms.
A constant made of numbers alone, such as `1 - 1e-3`, is held to its range as a number is; one whose range is whole
takes whole numbers alone.
"""


def page() -> str:
    """The whole page, Markdown."""
    parts = [INTRODUCTION, LIMITS]
    unknown = {p.group for p in TABLE.values()} - GROUPS.keys()
    if unknown:
        raise ValueError(f"groups without a text: {', '.join(sorted(unknown))}")
    for group, text in GROUPS.items():
        parts.append(f"## {group.capitalize()}\n\n{text}\n")
        parts += ["\n".join(_entry(p)) for p in TABLE.values() if p.group == group]
    return "\n".join(parts)


def _entry(primitive: Primitive) -> Iterator[str]:
    yield f"### `{_written(primitive)}`\n"
    kind = f"{result_class(primitive)}, mask" if primitive.result == "mask" else f"{result_class(primitive)}"
    place = f"; in `{primitive.scope}` alone" if primitive.scope == "gates" else ""
    place = "; in `post` and in offsets alone" if primitive.scope == "post" else place
    yield f"{_sentence(primitive.doc)} *{kind}{place}*\n"
    if primitive.body:
        yield textwrap.indent(textwrap.dedent(primitive.body).strip(), "    ") + "\n"
    if primitive.varying_body:
        yield "Where an argument may be 1 or comes from the device:\n"
        yield textwrap.indent(textwrap.dedent(primitive.varying_body).strip(), "    ") + "\n"
    any_value = "; may be any other value, held to 0 ... 1"
    lines = [
        f"- `{p.name}`: {_domain(p.domain)}{any_value if p.varies else ''}" for p in primitive.parameters if p.domain
    ]
    for state, shape in zip(primitive.state, state_classes(primitive), strict=True):
        start = "as the parameters" if state.init == "theta" else f"from {state.init:g}"
        lines.append(f"- keeps `{state.name}` ({shape}), {start}")
    if primitive.debias:
        other = f"; `{primitive.varying_debias}` where `beta` is no literal" if primitive.varying_debias else ""
        lines.append(f"- `debias` of it: `{primitive.debias}`{other}")
    if primitive.source:
        lines.append(f"- {primitive.source}")
    if lines:
        yield "\n".join(lines) + "\n"


def _sentence(text: str) -> str:
    text = text[0].upper() + text[1:] if not text.startswith(("x ", "a x")) else text
    return text if text.endswith(".") else text + "."


def _domain(domain: Domain) -> str:
    scales = {
        "linear": "uniform",
        "log": "log-uniform",
        "one_minus_log": "log-uniform in 1 - value",
        "integer": "log-uniform, whole",
        "index": "uniform, whole",
    }
    unit = f" {domain.unit}" if domain.unit else ""
    low, high = domain.prior
    drawn = f"drawn from {low:g} to {high:g}, {scales[domain.scale]}"
    return f"{domain.low:g} to {domain.high:g}{unit}; {drawn}"


def example(primitive: Primitive) -> Expression:
    """The primitive on ordinary values: gradients, positive element values, an average, the middle of each prior."""
    arguments: list[Expression] = []
    for parameter in primitive.parameters:
        arguments.append(_argument(parameter, len(arguments)))
    return call(primitive.name, *arguments)


def _argument(parameter: Parameter, position: int) -> Expression:
    if parameter.domain:
        low, high = parameter.domain.prior
        whole = parameter.domain.whole
        middle = math.sqrt(low * high) if parameter.domain.scale in ("integer", "log") else (low + high) / 2
        return number(round(middle) if whole else middle)
    if parameter.kind == "mask":
        return parse_expression("g > theta")
    if parameter.kind == "square":
        return parse_expression("inner(g, g)" if parameter.name == "b" else "outer(g, g)")
    if parameter.kind == "average":
        return parse_expression("ema(g, 0.9)")
    return parse_expression("g" if position == 0 else f"abs(theta) + {position}")


def result_class(primitive: Primitive) -> ShapeClass:
    """The class of the primitive's result, where its values are element values."""
    return _lowered(primitive)[1]


def state_classes(primitive: Primitive) -> list[ShapeClass]:
    """The class of each state buffer of a primitive, where its values are element values and the learning rate is a clock value."""
    builder, _ = _lowered(primitive, rate="t")
    shapes = {slot.name: slot.shape for slot in builder.slots}
    return [shapes[f"{slot_prefix(primitive, state.name)}_1"] for state in primitive.state]


def _lowered(primitive: Primitive, rate: str = "rows") -> tuple[Builder, ShapeClass]:
    """The example of a primitive, lowered, and its class. ``rate``: a source of the class that ``lr_t`` has."""
    builder = Builder("example")
    builder.open_evaluation()  # with which alone the word for its offset is more than 0
    element = Value(builder.source("g"))
    names = {
        "g": element,
        "theta": element,
        "u": element,
        "delta": element,
        "queried": element,
        "lr_t": Value(builder.source(rate)),
    }
    result = builder.lower(parse_expression(show(example(primitive)), primitive.scope), names)
    return builder, builder.nodes[result.node].shape


if __name__ == "__main__":
    print(page(), end="")
