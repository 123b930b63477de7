"""The table of the genome language: one record per word.

A primitive means one operation of the program (``op``), a short text in the language itself (``body``), or what
lowering alone can give it (``lowering``). Back ends know operations only, so a new primitive with a body works in every
back end: to add one, add its record here and nothing else.

A body is a straight line of statements, one per line. ``name = expression`` names a value; where the name is one of
the record's ``state`` buffers it also stores the value for the next step. Before its assignment a state name means the
value stored by the last step. The last line is the result.

What words are for 0, infinities and NaN is what their operations are: see the records in `operations`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genomes.language.operations import OPERATIONS

Kind = Literal["number", "mask", "average", "square"]
Lowering = Literal["given", "kept", "unbiased", "query bias", "delayed", "window sum"]


@dataclass(frozen=True)
class Domain:
    """What a literal constant may be, and where random genomes draw it from.

    ``low <= constant <= high`` is checked of literals; others are held to it. ``prior``: the range that is drawn from
    and that mutation stays within; ``scale``: ``linear``, ``log``, ``one_minus_log`` (log-uniform in 1 - constant, as
    betas want), ``integer`` (log-uniform, rounded) or ``index`` (uniform, whole).
    """

    low: float
    high: float
    prior: tuple[float, float]
    scale: Literal["linear", "log", "one_minus_log", "integer", "index"] = "linear"
    unit: str = ""

    @property
    def whole(self) -> bool:
        """Whether the constant is a whole number."""
        return self.scale in ("integer", "index")


BETA = Domain(0.0, 0.999999, (0.5, 0.9999), "one_minus_log", "per step")
EPSILON = Domain(0.0, 10.0, (1e-10, 1e-3), "log")
FRACTION = Domain(0.0, 1.0, (0.0, 1.0))
LIMIT = Domain(0.0, 1e9, (1e-2, 1e1), "log")
EPOCHS = Domain(1, 1_000_000, (2, 1000), "integer", "epochs")
STEPS = Domain(1, 10_000_000, (2, 2000), "integer", "steps")
PERIOD = Domain(1, 10_000_000, (2, 50), "integer", "steps")
FACTOR = Domain(0.0, 1000.0, (0.1, 10.0), "log")
SHRINK = Domain(0.0, 1.0, (0.3, 0.95))
GROW = Domain(1.0, 10.0, (1.01, 1.5))
LOWEST_STEP = Domain(0.0, 1.0, (1e-4, 1e-1), "log")
HIGHEST_STEP = Domain(1.0, 1e9, (2.0, 1e3), "log")
INTERVALS = Domain(64, 128, (64, 128), "integer")
COEFFICIENT = Domain(-100.0, 100.0, (-5.0, 5.0))
D0 = Domain(0.0, 1.0, (1e-7, 1e-4), "log")
LAGS = Domain(1, 128, (2, 16), "integer", "steps")
PLACE = Domain(0, 1e9, (0, 10), "index")
PROBE = Domain(0.01, 1e4, (10.0, 1e3), "log")
GAIN = Domain(-0.1, 0.1, (0.001, 0.02), "log")
OUTPUT = Domain(0, 15, (0, 1), "index")
ROOT = Domain(1, 4, (1, 4), "index")
DAMPING = Domain(1e-8, 0.1, (1e-7, 1e-2), "log")
STREAM = Domain(0, 1_000_000, (1, 9), "integer")
UNIFORM_STREAM = Domain(0, 2 * STREAM.high + 1, (1, 9), "integer")  # `noise` takes two of these for each of its own


@dataclass(frozen=True)
class Parameter:
    """An argument. ``domain`` set: a constant, otherwise a value of ``kind``.

    ``square``: a number of a square class (`genomes.compiler.shapes`), or one number for a tensor, which stands for so
    many times the identity; lowering refuses others.
    A constant is a literal within its domain, or made of clock and role values and held to the domain in every step.
    ``varies``: it may be any value. One of the device is held to ``low <= value <= 1``, and so is one that a `where`
    sets to 1.
    """

    name: str
    kind: Kind = "number"
    domain: Domain | None = None
    default: float | None = None
    varies: bool = False


@dataclass(frozen=True)
class State:
    """A buffer that lasts from step to step, filled with ``init`` at the start.

    It has the class of argument ``like``; where there is none, and where that class is too small, the class of what
    is stored in it.
    """

    name: str
    like: str | None = None
    init: float | Literal["theta"] = 0.0


@dataclass(frozen=True)
class Primitive:
    """One word of the language: see the module's text. ``infix``: its operator and precedence, where it has one.

    ``lowering``: ``given`` where the genome's other genes say what it is (coupled decay is part of ``g``), ``kept``
    where it is a state of the whole genome, ``unbiased`` where it is the bias-corrected value of an average, ``query
    bias`` where the query says what it is, ``delayed`` and ``window sum`` where it keeps as many states as a literal
    says. ``varying_body``: the body where an argument that `varies` may be 1 or comes from the device;
    ``varying_debias``: ``debias`` where such an argument is no literal.
    Raises ValueError for a record that contradicts itself.
    """

    name: str
    group: str
    doc: str
    parameters: tuple[Parameter, ...] = ()
    result: Kind = "number"
    op: str | None = None
    body: str | None = None
    lowering: Lowering | None = None
    state: tuple[State, ...] = ()
    infix: tuple[str, int] | None = None
    scope: str = ""  # where it may stand: "" anywhere, "gates" or "post"
    debias: str | None = None  # for averages: the bias-corrected value, over the body's names
    varying_body: str | None = None
    varying_debias: str | None = None
    latex: str | None = None  # with {0}, {1} ... for its arguments
    source: str = ""

    def __post_init__(self):
        if sum(meaning is not None for meaning in (self.op, self.body, self.lowering)) != 1:
            raise ValueError(f"primitive {self.name}: give one of op, body and lowering")
        if self.op is not None:
            self._check_operation(self.op)
        names = {parameter.name for parameter in self.parameters}
        for state in self.state:
            if state.like is not None and state.like not in names:
                raise ValueError(f"primitive {self.name}: state {state.name} is like {state.like}, no argument")
        optional = [p.default is not None for p in self.parameters]
        if optional != sorted(optional):
            raise ValueError(f"primitive {self.name}: a default stands before an argument without one")

    def _check_operation(self, op: str) -> None:
        operation = OPERATIONS.get(op)
        if operation is None:
            raise ValueError(f"primitive {self.name}: {op} is no operation")
        masks = tuple(i for i, p in enumerate(self.parameters) if p.kind == "mask")
        if (len(self.parameters), self.result == "mask", masks) != (operation.arity, operation.mask, operation.masks):
            raise ValueError(f"primitive {self.name}: {op} has other arguments or another result")


def value(name: str, kind: Kind = "number") -> Parameter:
    """An argument that may be any expression of its kind."""
    return Parameter(name, kind)


def constant(name: str, domain: Domain, default: float | None = None) -> Parameter:
    """An argument that is a literal or a host value, within its domain."""
    return Parameter(name, "number", domain, default)


def varying(name: str, domain: Domain, default: float | None = None) -> Parameter:
    """An argument that is a constant where it is a literal or a host value, and may be any other value too."""
    return Parameter(name, "number", domain, default, varies=True)


X, Y = value("x"), value("y")
SQUARE_A = value("a", "square")
NAMED_IN_GATES, NAMED_IN_POST = "gates", "post"

_SOURCES = [
    Primitive("g", "source", "gradient of the summed loss at the queried parameters", lowering="given", latex="g"),
    Primitive("theta", "source", "parameters before this step", lowering="given", latex=r"\theta"),
    Primitive("theta_start", "source", "parameters at the first step", lowering="kept", latex=r"\theta_0"),
    Primitive("queried", "source", "parameters at which this step's gradient was taken: theta, or theta plus the "
              "query's offset", lowering="given", latex=r"\theta'"),
    Primitive("lr_t", "source", "learning rate of this step: lr times schedule times role multipliers",
              lowering="given", latex=r"\eta_t"),
    Primitive("last_update", "source", "update that the last step applied (0 at first)", lowering="kept",
              latex=r"\Delta_{t-1}"),
    Primitive("evaluation_offset", "source",
              "offset of the last evaluation (0 before; in a genome without that gene the number 0)", lowering="kept",
              latex=r"\epsilon"),
    Primitive("u", "source", "the direction so far", lowering="given", scope=NAMED_IN_GATES, latex="u"),
    Primitive("delta", "source", "the signed update so far", lowering="given", scope=NAMED_IN_POST, latex=r"\Delta"),
]  # fmt: skip

_SIGNALS = [
    Primitive("t", "signal", "number of this step, from 1", op="t", latex="t"),
    Primitive("epoch", "signal", "number of this epoch, from 0", op="epoch", latex="e"),
    Primitive("has_loss", "signal", "whether losses are known yet (not in epoch 0)", result="mask", op="has_loss"),
    Primitive("train_loss", "signal", "training loss of the last epoch, mean; 1 while unknown", op="train_loss",
              latex=r"L_{\mathrm{train}}"),
    Primitive("val_loss", "signal", "validation loss of the last epoch, mean; 1 while unknown", op="val_loss",
              latex=r"L_{\mathrm{val}}"),
    Primitive("new_epoch", "signal", "true at the first step of an epoch", result="mask",
              state=(State("last", init=-1.0),), body="last_seen = last\nlast = epoch\nepoch > last_seen"),
    Primitive("best_loss", "signal", "lowest validation loss so far; 1 while unknown",
              state=(State("best", init=1.0), State("seen")),
              body="""
              best = where(has_loss, where(seen > 0, min(best, val_loss), val_loss), best)
              seen = where(has_loss, 1, seen)
              best"""),
    Primitive("improved", "signal", "true at the first step after an epoch with the lowest validation loss so far",
              result="mask", body="new_epoch and has_loss and val_loss < prev(where(has_loss, best_loss, 1e30))"),
    Primitive("stale_epochs", "signal", "epochs since the validation loss was lowest",
              state=(State("stale"),),
              body="""
              stale = where(improved, 0, where(new_epoch and has_loss, stale + 1, stale))
              stale"""),
    Primitive("loss_noise", "signal", "noise floor of the validation loss: root of the average, over epochs, of its "
              "squared change since the epoch before", (constant("beta", BETA, 0.9),),
              state=(State("v"), State("before"), State("epochs")),
              body="""
              news = new_epoch and has_loss
              v = where(news and epochs > 0, beta * v + (1 - beta) * square(val_loss - before), v)
              before = where(news, val_loss, before)
              epochs = where(news, epochs + 1, epochs)
              sqrt(v / (1 - beta ** max(1, epochs - 1)))"""),
    Primitive("steps_per_epoch", "signal", "steps of an epoch; 0 where nobody has said", op="steps_per_epoch"),
    Primitive("last_step_of_epoch", "signal", "true at the last step of an epoch, before evaluation", result="mask",
              body="steps_per_epoch > 0 and t % steps_per_epoch == 0"),
    Primitive("layer_count", "signal", "number of layers, the last trainable one included", op="layer_count"),
]  # fmt: skip

_ROLES = [
    Primitive(f"is_{role}", "role", f"true for tensors of role {role}", result="mask", op=f"is_{role}")
    for role in ("weight", "bias", "norm_scale", "norm_shift")
] + [
    Primitive("is_first", "role", "true for the tensors of the first layer", result="mask", op="is_first"),
    Primitive("is_last", "role", "true for the tensors of the last trainable layer", result="mask", op="is_last"),
    Primitive("depth_fraction", "role", "0 at the first layer, 1 at the last trainable one", op="depth_fraction"),
    Primitive("rows", "role", "rows (outputs) of the tensor", op="rows"),
    Primitive("model_size", "role", "number of trainable parameters", op="model_size"),
    Primitive("columns", "role", "columns (inputs) of the tensor; 1 for a vector", op="columns"),
]

_ELEMENTWISE = [
    Primitive("or", "elementwise", "either", (value("a", "mask"), value("b", "mask")), "mask", op="or",
              infix=("or", 1), latex=r"{0} \vee {1}"),
    Primitive("and", "elementwise", "both", (value("a", "mask"), value("b", "mask")), "mask", op="and",
              infix=("and", 2), latex=r"{0} \wedge {1}"),
    Primitive("not", "elementwise", "the opposite", (value("a", "mask"),), "mask", op="not", infix=("not", 3),
              latex=r"\neg({0})"),
    Primitive("gt", "elementwise", "greater", (X, Y), "mask", op="gt", infix=(">", 4), latex="{0} > {1}"),
    Primitive("ge", "elementwise", "greater or equal", (X, Y), "mask", op="ge", infix=(">=", 4), latex=r"{0} \geq {1}"),
    Primitive("lt", "elementwise", "less", (X, Y), "mask", body="y > x", infix=("<", 4), latex="{0} < {1}"),
    Primitive("le", "elementwise", "less or equal", (X, Y), "mask", body="y >= x", infix=("<=", 4),
              latex=r"{0} \leq {1}"),
    Primitive("eq", "elementwise", "equal", (X, Y), "mask", op="eq", infix=("==", 4), latex="{0} = {1}"),
    Primitive("add", "elementwise", "sum", (X, Y), op="add", infix=("+", 5), latex="{0} + {1}"),
    Primitive("sub", "elementwise", "difference", (X, Y), op="sub", infix=("-", 5), latex="{0} - {1}"),
    Primitive("mul", "elementwise", "product", (X, Y), op="mul", infix=("*", 6), latex=r"{0}\,{1}"),
    Primitive("div", "elementwise", "quotient; 0 where the divisor is 0", (X, Y), op="safe_div", infix=("/", 6),
              latex=r"\frac{{{0}}}{{{1}}}"),
    Primitive("mod", "elementwise", "remainder with the divisor's sign; 0 where the divisor is 0", (X, Y), op="mod",
              infix=("%", 6), latex=r"{0} \;\mathrm{{mod}}\; {1}"),
    Primitive("neg", "elementwise", "negation", (X,), op="neg", infix=("-", 7), latex="-{0}"),
    Primitive("pow", "elementwise", "power: whole exponents of any x, others of max(x, 0); 0 for 0 to a negative one",
              (X, Y), op="power", infix=("**", 8), latex="{0}^{{{1}}}"),
    Primitive("abs", "elementwise", "magnitude", (X,), op="abs", latex=r"\left|{0}\right|"),
    Primitive("sign", "elementwise", "-1, 0 or 1; 0 for NaN", (X,), op="sign", latex=r"\mathrm{{sign}}({0})"),
    Primitive("sqrt", "elementwise", "square root of max(x, 0)", (X,), op="sqrt", latex=r"\sqrt{{{0}}}"),
    Primitive("exp", "elementwise", "exponential of min(x, 80)", (X,), op="exp", latex=r"e^{{{0}}}"),
    Primitive("log", "elementwise", "natural logarithm of max(x, 1e-37)", (X,), op="log", latex=r"\log({0})"),
    Primitive("tanh", "elementwise", "hyperbolic tangent", (X,), op="tanh", latex=r"\tanh({0})"),
    Primitive("sin", "elementwise", "sine", (X,), op="sin", latex=r"\sin({0})"),
    Primitive("cos", "elementwise", "cosine", (X,), op="cos", latex=r"\cos({0})"),
    Primitive("atan2", "elementwise", "angle of (y, x), y first", (Y, X), op="atan2",
              latex=r"\mathrm{{atan2}}({0}, {1})", source="Everett et al. 2024, arXiv:2407.05872"),
    Primitive("bfloat16", "elementwise", "rounded to 8 significant bits, ties to even; values that the host knows "
              "(clock, role) stay exact", (X,), op="bfloat16"),
    Primitive("quantise8", "elementwise", "nearest value of the 8-bit dynamic code, for x in [-1, 1]: a decimal "
              "exponent of 0 to 6, `intervals` / 2^exponent equal intervals in [0.1, 1]; 0 and 1 are codes too",
              (X, constant("intervals", INTERVALS, 64)),
              body="""
              exponent = min(6, max(0, floor(-log(abs(x)) / 2.302585092994046)))
              scaled = abs(x) * 10 ** exponent
              count = intervals / 2 ** exponent
              inside = 0.1 + 0.9 * (max(0, min(floor((scaled - 0.1) / 0.9 * count), count - 1)) + 0.5) / count
              above = where(exponent > 0, 1 + 2.25 / count, where(x > 0, 1, inside))
              below = where(exponent < 6, 0.1 - 0.09 / count, 0)
              nearest = where(2 * scaled > inside + above, above, where(2 * scaled < inside + below, below, inside))
              sign(x) * nearest / 10 ** exponent""",
              source="Dettmers et al. 2022, arXiv:2110.02861, section 1.3"),
    Primitive("is_finite", "elementwise", "neither infinite nor NaN", (X,), "mask",
              body="abs(x) < 1.7976931348623157e308"),
    Primitive("floor", "elementwise", "largest whole number not above x", (X,), op="floor",
              latex=r"\lfloor {0} \rfloor"),
    Primitive("max", "elementwise", "the larger", (X, Y), op="max", latex=r"\max({0}, {1})"),
    Primitive("min", "elementwise", "the smaller", (X, Y), op="min", latex=r"\min({0}, {1})"),
    Primitive("where", "elementwise", "x where the mask is true, else y", (value("mask", "mask"), X, Y), op="where",
              latex=r"\mathrm{{where}}({0}, {1}, {2})"),
    Primitive("square", "elementwise", "x times x", (X,), body="x * x", latex="{0}^2"),
    Primitive("softsign", "elementwise", "x / (1 + |x|)", (X,), body="x / (1 + abs(x))"),
    Primitive("clip", "elementwise", "x limited to [-limit, limit]", (X, constant("limit", LIMIT, 1.0)),
              body="max(min(x, limit), -limit)", latex=r"\mathrm{{clip}}({0}, {1})"),
    Primitive("blend", "elementwise", "(1 - fraction) x + fraction y", (X, Y, constant("fraction", FRACTION, 0.5)),
              body="(1 - fraction) * x + fraction * y"),
]  # fmt: skip

_STATEFUL = [
    Primitive("ema", "stateful", "exponential moving average, from 0, not bias-corrected",
              (X, varying("beta", BETA, 0.9)), "average", state=(State("m", "x"),),
              body="m = beta * m + (1 - beta) * x\nm", debias="m / (1 - beta ** t)",
              varying_body="m = where(beta < 1, where(beta > 0, beta * m, 0) + (1 - beta) * x, m)\nm",
              varying_debias="m / gathered_weight(beta)",
              latex=r"\mathrm{{EMA}}_{{{1}}}({0})"),
    Primitive("debias", "stateful", "an average divided by the weights it has gathered: ema / (1 - beta^t), and "
              "ema / gathered_weight(beta) where beta is no literal",
              (value("x", "average"),), lowering="unbiased", latex=r"\widehat{{{0}}}",
              source="Kingma & Ba 2015, arXiv:1412.6980, section 3"),
    Primitive("gathered_weight", "stateful", "sum of the weights that an average has gathered: 1 - beta^t for one beta",
              (varying("beta", BETA, 0.9),), state=(State("w", "beta"),), body="w = beta * w + (1 - beta)\nw"),
    Primitive("trace", "stateful", "decaying sum: m = beta m + x", (X, varying("beta", BETA, 0.9)),
              state=(State("m", "x"),), body="m = beta * m + x\nm",
              varying_body="m = where(beta > 0, beta * m, 0) + x\nm", latex=r"\mathrm{{trace}}_{{{1}}}({0})",
              source="Polyak 1964"),
    Primitive("prev", "stateful", "value at the last step (0 at first)", (X,), state=(State("p", "x"),),
              body="before = p\np = x\nbefore", latex=r"({0})_{{t-1}}"),
    Primitive("delay", "stateful", "value k steps ago (0 in the first k steps); keeps k states",
              (X, constant("k", LAGS, 2)), lowering="delayed", latex=r"({0})_{{t-{1}}}"),
    Primitive("window_sum", "stateful", "sum of the values of the last k steps, this one included; keeps k - 1 states, "
              "sums of halves of the window, so that nothing drifts and what leaves the window is forgotten",
              (X, constant("k", LAGS, 2)), lowering="window sum"),
    Primitive("change", "stateful", "difference to the last step (0 at first)", (X,), state=(State("p", "x"),),
              body="d = where(t > 1, x - p, 0)\np = x\nd", latex=r"\delta({0})"),
    Primitive("running_sum", "stateful", "sum over all steps", (X,), state=(State("s", "x"),),
              body="s = s + x\ns", latex=r"\sum_t({0})"),
    Primitive("running_product", "stateful", "product over all steps", (X,), state=(State("p", "x", 1.0),),
              body="p = p * x\np", latex=r"\prod_t({0})"),
    Primitive("running_max", "stateful", "largest of 0 and the values of all steps", (X,), state=(State("h", "x"),),
              body="h = max(h, x)\nh", latex=r"\max_t({0})"),
    Primitive("decaying_max", "stateful", "the larger of x and beta times the last value, from 0",
              (X, constant("beta", BETA, 0.999)), state=(State("h", "x"),), body="h = max(beta * h, x)\nh",
              source="Kingma & Ba 2015 (Adamax), arXiv:1412.6980, algorithm 2"),
    Primitive("ema_from_first", "stateful", "exponential moving average that starts at the first value",
              (X, constant("beta", BETA, 0.9)), state=(State("m", "x"),),
              body="m = where(t > 1, beta * m + (1 - beta) * x, x)\nm"),
    Primitive("yogi_average", "stateful", "average of x >= 0 that moves by (1 - beta) x towards x, however far it is",
              (X, constant("beta", BETA, 0.999)), "average", state=(State("v", "x"),),
              body="v = v - (1 - beta) * sign(v - x) * x\nv", debias="v / (1 - beta ** t)",
              source="Zaheer et al. 2018, Adaptive methods for nonconvex optimization, algorithm 2"),
    Primitive("step_sizes", "stateful", "a factor per entry, from 1: times grow where x keeps its sign since the last "
              "step, times shrink where it flips, within [low, high]",
              (X, constant("grow", GROW, 1.2), constant("shrink", SHRINK, 0.5), constant("low", LOWEST_STEP, 1e-3),
               constant("high", HIGHEST_STEP, 1e3)),
              state=(State("s", "x", 1.0), State("before", "x")),
              body="""
              agreement = x * before
              s = max(low, min(high, s * where(agreement > 0, grow, where(agreement < 0, shrink, 1))))
              before = x
              s""",
              source="Riedmiller & Braun 1993, A direct adaptive method for faster backpropagation learning"),
    Primitive("rprop", "stateful", "sign of x times its step_sizes; where the sign flips: 0 now, no verdict next time",
              (X, constant("grow", GROW, 1.2), constant("shrink", SHRINK, 0.5), constant("low", LOWEST_STEP, 1e-3),
               constant("high", HIGHEST_STEP, 1e3)),
              state=(State("s", "x", 1.0), State("before", "x")),
              body="""
              agreement = x * before
              s = max(low, min(high, s * where(agreement > 0, grow, where(agreement < 0, shrink, 1))))
              before = where(agreement < 0, 0, x)
              sign(before) * s""",
              source="Igel & Hüsken 2000, Improving the Rprop learning algorithm (iRprop-)"),
    Primitive("sign_with_feedback", "stateful", "sign of x plus what earlier signs left over, scaled to the mean "
              "magnitude in the tensor; the rest is carried on", (X,), state=(State("rest", "x"),),
              body="""
              wanted = x + rest
              sent = mean_all(abs(wanted)) * sign(wanted)
              rest = wanted - sent
              sent""",
              source="Karimireddy et al. 2019, arXiv:1901.09847, algorithm 2"),
    Primitive("ema8", "stateful", "ema whose buffer is kept in 8 bits (quantise8), scaled by the largest magnitude of "
              "each row (of all entries where there is one column); this step's value is exact",
              (X, constant("beta", BETA, 0.9), constant("intervals", INTERVALS, 64)), "average",
              state=(State("m", "x"),),
              body="""
              exact = beta * m + (1 - beta) * x
              scale = where(columns > 1, max_row(abs(exact)), max_all(abs(exact)))
              m = scale * quantise8(exact / scale, intervals)
              exact""",
              debias="exact / (1 - beta ** t)", source="Dettmers et al. 2022, arXiv:2110.02861, section 2"),
    Primitive("ema_bfloat16", "stateful", "ema whose buffer is kept in bfloat16; this step's value is exact",
              (X, constant("beta", BETA, 0.9)), "average", state=(State("m", "x"),),
              body="""
              exact = beta * m + (1 - beta) * x
              m = bfloat16(exact)
              exact""",
              debias="exact / (1 - beta ** t)"),
    Primitive("sm3_square", "stateful", "upper bound of the sum of x^2, kept as one number per row and one per column",
              (X,), state=(State("row"), State("column")),
              body="""
              bound = min(row, column) + x * x
              row = max_row(bound)
              column = max_column(bound)
              bound""",
              source="Anil et al. 2019, arXiv:1901.11150, algorithm SM3-II"),
    Primitive("factored_square", "stateful", "ema of x^2 as row means times column means over their mean: one number "
              "per row and one per column are kept; beta may follow the clock",
              (X, varying("beta", BETA, 0.999)),
              body="""
              row = ema(mean_row(x * x), beta)
              column = ema(mean_column(x * x), beta)
              row * column / max(mean_all(row), 1e-15)""",
              source="Shazeer & Stern 2018, arXiv:1804.04235, algorithm 4"),
]  # fmt: skip

_EVALUATION = [
    Primitive("output_count", "evaluation", "outputs behind the network's frozen end; 0 where it has none",
              op="output_count"),
    Primitive("output_shift", "evaluation", "change of the trainable parameters that moves the evaluated mean of "
              "output k by 1 and of the others by 0, to first order, in an epoch's last step; 0 in other steps, and "
              "where the network has no frozen end", (constant("k", OUTPUT),), op="output_shift",
              latex=r"\sigma_{{{0}}}"),
    Primitive("output_bias", "evaluation", "what the query adds to output k in this step",
              (constant("k", OUTPUT),), lowering="query bias"),
    Primitive("any_output_bias", "evaluation", "whether the query adds something to any output in this step",
              result="mask", lowering="query bias"),
    Primitive("output_error", "evaluation", "measured mean error of output k: mean of the targets, since training "
              "holds the predictions' mean at 0; 0 until the query has biased output k, and no other, for an epoch",
              (constant("k", OUTPUT),),
              state=(State("plain"), State("error"), State("bias"), State("biased")),
              body="""
              news = new_epoch and has_loss
              plain = where(news and biased == 0, train_loss, plain)
              error = where(news and abs(bias) > 0, output_count * (plain - train_loss) / (2 * bias) + bias / 2, error)
              bias = output_bias(k)
              biased = where(any_output_bias, 1, 0)
              error""",
              latex=r"\mu_{{{0}}}"),
    Primitive("output_correction", "evaluation", "what output k's mean still lacks, by validation losses: every "
              "output_count epochs the value is moved by `size`, up and down in turn; the losses of three turns give "
              "the error, at most `trust`, of which `gain` is added",
              (constant("k", OUTPUT), constant("size", FACTOR, 0.05), constant("gain", FRACTION, 0.25),
               constant("trust", FACTOR, 0.3)),
              state=(State("sum"), State("last"), State("before"), State("turns")),
              body="""
              turn = new_epoch and has_loss and (epoch - 1) % output_count == k
              curved = (val_loss + before) / 2 - last
              rose = floor((epoch - 1) / output_count) % 2 == 0
              lacks = curved * output_count / (4 * size) * where(rose, -1, 1)
              sum = where(turn and turns > 1, sum + gain * max(-trust, min(trust, lacks)), sum)
              turns = where(turn, turns + 1, turns)
              before = where(turn, last, before)
              last = where(turn, val_loss, last)
              sum + where(epoch % output_count == k, size, 0) * where(floor(epoch / output_count) % 2 == 0, 1, -1)"""),
    Primitive("output_probe", "evaluation", "for `query.outputs`: `size` throughout epoch `start` + k, 0 in all "
              "others, so that output_error(k) is measured",
              (constant("k", OUTPUT), constant("start", EPOCHS, 1), constant("size", PROBE, 100)),
              body="where(epoch == start + k, size, 0)"),
    Primitive("calibration", "evaluation", "for `evaluation.offset`: the shift that takes the mean errors of the "
              "first two outputs away; `slack` is an error of output 0 that is left on purpose, falling as the square "
              "root of what is left of `epochs`, so that the validation loss falls too and runs seldom end before",
              (constant("slack", FACTOR, 0.0), constant("epochs", EPOCHS, 300)),
              body="""
              left = slack * sqrt(1 - epoch / epochs)
              output_shift(0) * (output_error(0) - left) + output_shift(1) * output_error(1)"""),
    Primitive("norm_gain", "evaluation", "for `evaluation.offset`: adds `rate` times x to the scales of BatchNorm, 0 "
              "elsewhere. Training divides by a batch's biased variance, evaluation by a mean of unbiased ones, which "
              "behind a normalized layer is too large by up to n / (n - 1) in a batch of n: features shrink, and "
              "1 / (2 * n) makes up for one layer",
              (X, constant("rate", GAIN, 0.004)), body="where(is_norm_scale, rate * x, 0)"),
    Primitive("average", "evaluation", "average with weights beta^n that sum to 1 from the first step on: the mean "
              "of all values until 1 / (1 - beta) steps have passed", (X, constant("beta", BETA, 0.99)),
              state=(State("m", "x"),), body="m = m + max(1 - beta, 1 / t) * (x - m)\nm",
              latex=r"\overline{{{0}}}", source="Polyak & Juditsky 1992"),
    Primitive("tail_average", "evaluation", "mean of the values since epoch `start`; x before",
              (X, constant("start", EPOCHS)),
              state=(State("m", "x"), State("n")),
              body="""
              n = where(epoch >= start, n + 1, 0)
              m = where(n > 0, m + (x - m) / max(1, n), x)
              m""", source="Izmailov et al. 2018 (SWA), arXiv:1803.05407"),
    Primitive("hold", "evaluation", "x as it was at the last step where the mask was true; 0 before",
              (X, value("mask", "mask")), state=(State("h", "x"),), body="h = where(mask, x, h)\nh"),
]  # fmt: skip

_REDUCTIONS = [
    Primitive("sum_all", "reduction", "sum over a tensor", (X,), op="sum_tensor", latex=r"\sum({0})"),
    Primitive("max_all", "reduction", "largest entry of a tensor", (X,), op="max_tensor", latex=r"\max({0})"),
    Primitive("sum_row", "reduction", "sum over each row", (X,), op="sum_row"),
    Primitive("sum_column", "reduction", "sum over each column", (X,), op="sum_column"),
    Primitive("max_row", "reduction", "largest entry of each row", (X,), op="max_row"),
    Primitive("max_column", "reduction", "largest entry of each column", (X,), op="max_column"),
    Primitive("sum_model", "reduction", "sum over all trainable tensors", (X,), op="sum_model"),
    Primitive("max_model", "reduction", "largest entry of all trainable tensors", (X,), op="max_model"),
    Primitive("all_finite", "reduction", "whether no entry of any trainable tensor is infinite or NaN", (X,), "mask",
              body="max_model(where(is_finite(x), 0, 1)) == 0"),
    Primitive("order_statistic", "reduction", "entry number k of each tensor in ascending order, from 0; its largest "
              "from size - 1 on; NaN where any entry is NaN", (X, constant("k", PLACE)), op="order_statistic"),
    Primitive("quantile", "reduction", "quantile of each tensor, linear between the two nearest entries; NaN where any "
              "entry is NaN", (X, constant("q", FRACTION, 0.5)),
              body="""
              place = q * (rows * columns - 1)
              rest = place - floor(place)
              below = order_statistic(x, floor(place))
              above = order_statistic(x, floor(place) + 1)
              where(rest > 0 and above > below, (1 - rest) * below + rest * above, below)""",
              source="Hyndman & Fan 1996, Sample quantiles in statistical packages, definition 7"),
    Primitive("mean_all", "reduction", "mean over a tensor", (X,), body="sum_all(x) / (rows * columns)"),
    Primitive("mean_row", "reduction", "mean over each row", (X,), body="sum_row(x) / columns"),
    Primitive("mean_column", "reduction", "mean over each column", (X,), body="sum_column(x) / rows"),
    Primitive("mean_model", "reduction", "mean over all trainable tensors", (X,),
              body="sum_model(x) / model_size"),
    Primitive("norm", "reduction", "Euclidean norm of a tensor", (X,), body="sqrt(sum_all(x * x))",
              latex=r"\|{0}\|"),
    Primitive("norm_row", "reduction", "Euclidean norm of each row", (X,), body="sqrt(sum_row(x * x))"),
    Primitive("norm_column", "reduction", "Euclidean norm of each column", (X,), body="sqrt(sum_column(x * x))"),
    Primitive("rms", "reduction", "root mean square of a tensor", (X,), body="sqrt(mean_all(x * x))",
              latex=r"\mathrm{{rms}}({0})"),
    Primitive("global_norm", "reduction", "Euclidean norm over all trainable tensors", (X,),
              body="sqrt(sum_model(x * x))", latex=r"\|{0}\|_{{\mathrm{{all}}}}"),
]  # fmt: skip

_MATRIX = [
    Primitive("odd_polynomial", "matrix", "a x + b (x x^T) x + c (x x^T)^2 x: each singular value s of the tensor "
              "becomes a s + b s^3 + c s^5",
              (X, constant("a", COEFFICIENT, 1.5), constant("b", COEFFICIENT, -0.5), constant("c", COEFFICIENT, 0.0)),
              op="odd_polynomial", source="Bernstein & Newhouse 2024, arXiv:2409.20325, appendix A"),
    Primitive("orthogonalise", "matrix", "x with all singular values near 1 (0.7 to 1.2): five Newton-Schulz steps",
              (X,),
              body="""
              x1 = odd_polynomial(x / (norm(x) + 1e-7), 3.4445, -4.7750, 2.0315)
              x2 = odd_polynomial(x1, 3.4445, -4.7750, 2.0315)
              x3 = odd_polynomial(x2, 3.4445, -4.7750, 2.0315)
              x4 = odd_polynomial(x3, 3.4445, -4.7750, 2.0315)
              odd_polynomial(x4, 3.4445, -4.7750, 2.0315)""",
              latex=r"\mathrm{{orth}}({0})", source="Jordan et al. 2024, Muon: an optimizer for hidden layers"),
    Primitive("whiten", "matrix", "(x x^T)^(-1/2) x by ten cubic Newton-Schulz steps; small singular values lag behind",
              (X,),
              body="\n".join(
                  ["x0 = x / (norm(x) + 1e-7)"]
                  + [f"x{k + 1} = odd_polynomial(x{k}, 1.5, -0.5, 0)" for k in range(9)]
                  + ["odd_polynomial(x9, 1.5, -0.5, 0)"]
              ),
              source="Ma et al. 2024 (SWAN), arXiv:2412.13148, algorithm 1"),
    Primitive("standardise_rows", "matrix", "x less the mean of each row, over its standard deviation; 0 where that "
              "is 0", (X,),
              body="""
              centered = x - mean_row(x)
              centered / sqrt(mean_row(centered * centered))""",
              source="Ma et al. 2024 (SWAN), arXiv:2412.13148, equation 2"),
]  # fmt: skip

_SQUARE = [
    Primitive("outer", "matrix", "x y^T, [rows, rows]: outer(g, g) is Shampoo's statistic of the rows. Of a tensor of "
              "one column its diagonal, x times y", (X, Y), "square", op="outer"),
    Primitive("inner", "matrix", "x^T y, [columns, columns]: inner(g, g) is Shampoo's statistic of the columns", (X, Y),
              "square", op="inner"),
    Primitive("matmul", "matrix", "matrix product of a left value and x, of x and a right value, or of two square "
              "values of one class", (SQUARE_A, X), op="matmul"),
    Primitive("transpose", "matrix", "a^T", (SQUARE_A,), "square", op="transpose", latex=r"({0})^{{\top}}"),
    Primitive("identity", "matrix", "identity matrix of the class of a; all ones for a tensor of one column, where a "
              "is a diagonal", (SQUARE_A,), "square", op="identity", latex="I"),
    Primitive("matrix_trace", "matrix", "sum of the diagonal", (SQUARE_A,), op="matrix_trace",
              latex=r"\mathrm{{tr}}({0})"),
    Primitive("inverse_root", "matrix", "(a + epsilon |a| I)^(-1/p) of a symmetric a without negative eigenvalues, |a| "
              "its Frobenius norm, by a coupled Newton iteration; 0 where a is 0",
              (SQUARE_A, constant("p", ROOT, 2), constant("epsilon", DAMPING, 1e-6)), "square", op="inverse_root",
              latex=r"({0})^{{-1/{1}}}", source="Anil et al. 2020, arXiv:2002.09018; Guo & Higham 2006, A Schur-Newton "
              "method for the matrix pth root and its inverse"),
    Primitive("gram_schmidt", "matrix", "the columns of a made orthonormal, from the first to the last: Q of a QR "
              "decomposition whose R has a positive diagonal", (SQUARE_A,), "square", op="gram_schmidt"),
    Primitive("eigenbasis", "matrix", "orthonormal columns that approach the eigenvectors of a symmetric a, those of "
              "large eigenvalues first: the identity until step `period`, then moved by a step of orthogonal iteration "
              "after every `period` steps; as it was before this step",
              (SQUARE_A, constant("period", PERIOD, 10), constant("epsilon", DAMPING, 1e-6)), "square",
              state=(State("q", "a"),),
              body="""
              basis = where(t > 1, q, identity(a))
              q = where(t % period == 0, gram_schmidt(matmul(a, basis) / matrix_trace(a) + epsilon * basis), basis)
              basis""",
              source="Vyas et al. 2024 (SOAP), arXiv:2409.11321, algorithm 4"),
    Primitive("rotate", "matrix", "a^T x b: x in the bases whose vectors are the columns of a (left) and b (right)",
              (X, SQUARE_A, value("b", "square")), body="matmul(matmul(transpose(a), x), b)"),
    Primitive("rotate_back", "matrix", "a x b^T: what rotate made of x, in the axes of the tensor again",
              (X, SQUARE_A, value("b", "square")), body="matmul(matmul(a, x), transpose(b))"),
    Primitive("shampoo", "matrix", "L^(-1/4) x R^(-1/4) with averages L of x x^T and R of x^T x; the roots are found "
              "anew every `period` steps",
              (X, constant("beta", BETA, 0.95), constant("period", PERIOD, 10), constant("epsilon", DAMPING, 1e-6)),
              body="""
              anew = (t - 1) % period == 0
              left = hold(inverse_root(ema(outer(x, x), beta), 4, epsilon), anew)
              right = hold(inverse_root(ema(inner(x, x), beta), 4, epsilon), anew)
              matmul(matmul(left, x), right)""",
              source="Gupta et al. 2018, arXiv:1802.09568, algorithm 1, with averages as in Anil et al. 2020, "
              "arXiv:2002.09018"),
    Primitive("soap", "matrix", "Adam in the eigenbases of averages of x x^T and x^T x, which are turned every "
              "`period` steps",
              (X, constant("beta1", BETA, 0.95), constant("beta2", BETA, 0.95), constant("period", PERIOD, 10),
               constant("epsilon", EPSILON, 1e-8)),
              body="""
              left = eigenbasis(ema(outer(x, x), beta2), period)
              right = eigenbasis(ema(inner(x, x), beta2), period)
              m = rotate(debias(ema(x, beta1)), left, right)
              v = debias(ema(square(rotate(x, left, right)), beta2))
              rotate_back(m / (sqrt(v) + epsilon), left, right)""",
              source="Vyas et al. 2024, arXiv:2409.11321, algorithm 3; the bases start as the identity"),
]  # fmt: skip

_NOISE = [
    Primitive("uniform", "noise", "pseudo-random numbers in (0, 1], others in every step; equal streams are equal",
              (constant("stream", UNIFORM_STREAM, 0),), op="uniform", latex=r"\mathcal{{U}}_{{{0}}}"),
    Primitive("noise", "noise", "pseudo-random numbers of the standard normal distribution, others in every step; "
              "equal streams are equal", (constant("stream", STREAM, 0),),
              body="sqrt(-2 * log(uniform(2 * stream))) * cos(6.283185307179586 * uniform(2 * stream + 1))",
              latex=r"\mathcal{{N}}_{{{0}}}", source="Box & Muller 1958"),
]  # fmt: skip

_SCHEDULES = [
    Primitive("linear_warmup", "schedule", "rises from 1/epochs in epoch 0 to 1", (constant("epochs", EPOCHS),),
              body="min(1, (epoch + 1) / epochs)", latex=r"\mathrm{{warmup}}({0})"),
    Primitive("linear_warmup_steps", "schedule", "rises from 1/steps at step 1 to 1", (constant("steps", STEPS),),
              body="min(1, t / steps)", latex=r"\mathrm{{warmup}}_t({0})"),
    Primitive("cosine", "schedule", "half a cosine from 1 in epoch 0 to floor at `epochs`, then floor",
              (constant("epochs", EPOCHS), constant("floor", FRACTION, 0.0)),
              body="floor + (1 - floor) * 0.5 * (1 + cos(3.141592653589793 * min(1, epoch / epochs)))",
              latex=r"\cos_{{{0}}}", source="Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5"),
    Primitive("cosine_restarts", "schedule", "a cosine from 1 to floor, begun anew every `epochs`",
              (constant("epochs", EPOCHS), constant("floor", FRACTION, 0.0)),
              body="floor + (1 - floor) * 0.5 * (1 + cos(3.141592653589793 * (epoch % epochs) / epochs))",
              source="Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5"),
    Primitive("linear_decay", "schedule", "a line from 1 in epoch 0 to floor at `epochs`, then floor",
              (constant("epochs", EPOCHS), constant("floor", FRACTION, 0.0)),
              body="1 - (1 - floor) * min(1, epoch / epochs)"),
    Primitive("exponential_decay", "schedule", "factor to the power of the epoch",
              (constant("factor", Domain(0.0, 1.0, (0.9, 0.9999), "one_minus_log", "per epoch")),),
              body="factor ** epoch"),
    Primitive("step_decay", "schedule", "multiplied by factor every `epochs`",
              (constant("epochs", EPOCHS), constant("factor", FRACTION, 0.1)),
              body="factor ** floor(epoch / epochs)"),
    Primitive("inverse_sqrt", "schedule", "1 for `epochs`, then falls with the square root of the epoch",
              (constant("epochs", EPOCHS),), body="sqrt(epochs / max(epochs, epoch + 1))",
              source="Vaswani et al. 2017, arXiv:1706.03762, section 5.3"),
    Primitive("warmup_stable_decay", "schedule", "linear rise, constant 1, linear fall to floor; three lengths",
              (constant("rise", EPOCHS), constant("stable", EPOCHS), constant("fall", EPOCHS),
               constant("floor", FRACTION, 0.0)),
              body="""
              down = min(1, max(0, epoch - rise - stable) / fall)
              min(1, (epoch + 1) / rise) * (1 - (1 - floor) * down)""",
              source="Hu et al. 2024, arXiv:2404.06395, section 4"),
    Primitive("pulse", "schedule", "`height` in every `period`-th epoch (epoch 0 not counted), else 1",
              (constant("period", EPOCHS, 20), constant("height", FACTOR, 3.0)),
              body="where(epoch % period == 0 and epoch > 0, height, 1)"),
    Primitive("rectification", "schedule", "trust in an average of squares over t steps: RAdam's factor in [0, 1], 0 "
              "in the first steps", (constant("beta", BETA, 0.999),),
              body="""
              longest = 2 / (1 - beta) - 1
              length = longest - 2 * t * beta ** t / (1 - beta ** t)
              ratio = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
              where(length > 5, sqrt(ratio), 0)""",
              source="Liu et al. 2020 (RAdam), arXiv:1908.03265, algorithm 2"),
    Primitive("plateau", "schedule",
              "a factor in [floor, 1]: times `grow` on a validation improvement, times `shrink` after each `patience` "
              "stale epochs",
              (constant("patience", EPOCHS), constant("shrink", FRACTION, 0.5),
               constant("floor", FRACTION, 0.01), constant("grow", Domain(1.0, 10.0, (1.0, 1.2)), 1.0)),
              state=(State("s", init=1.0),),
              body="""
              waited = new_epoch and stale_epochs > 0 and stale_epochs % patience == 0
              s = where(improved, min(1, grow * s), where(waited, max(floor, shrink * s), s))
              s"""),
]  # fmt: skip

_GATES = [
    Primitive("cautious", "gate", "x where it agrees with the gradient's sign, else floor times x",
              (X, constant("floor", FRACTION, 0.0)), body="where(x * g > 0, x, floor * x)",
              latex=r"\mathrm{{cautious}}_{{{1}}}({0})", source="Liang et al. 2024, arXiv:2411.16085"),
    Primitive("cautious_rescaled", "gate", "cautious with floor 0, times size / (entries that agree + 1)", (X,),
              body="""
              agrees = where(x * g > 0, 1, 0)
              x * agrees * (rows * columns / (sum_all(agrees) + 1))""",
              source="Liang et al. 2024, arXiv:2411.16085, algorithm 1"),
    Primitive("clip_norm", "gate", "x scaled down to norm `limit` per tensor where it is longer",
              (X, constant("limit", LIMIT, 1.0)), body="x * min(1, limit / norm(x))"),
    Primitive("clip_global_norm", "gate", "x scaled down to norm `limit` over all tensors where it is longer",
              (X, constant("limit", LIMIT, 1.0)), body="x * min(1, limit / global_norm(x))",
              source="Pascanu et al. 2013, arXiv:1211.5063"),
    Primitive("clip_rms", "gate", "x scaled down to root mean square `limit` per tensor where it is larger",
              (X, constant("limit", LIMIT, 1.0)), body="x / max(1, rms(x) / limit)",
              source="Shazeer & Stern 2018, arXiv:1804.04235, section 6"),
    Primitive("clip_deviation", "gate", "x limited to `k` running root mean squares of its entries",
              (X, constant("k", Domain(0.0, 100.0, (1.0, 10.0), "log"), 3.0), constant("beta", BETA, 0.99)),
              body="""
              limit = k * sqrt(debias(ema(x * x, beta)))
              max(min(x, limit), -limit)"""),
    Primitive("trust_ratio", "gate", "x scaled to the norm of the parameters; unscaled where either norm is 0",
              (X,), body="x * where(norm(theta) * norm(x) > 0, norm(theta) / norm(x), 1)",
              source="You et al. 2020 (LAMB), arXiv:1904.00962, algorithm 2"),
    Primitive("relative_cap", "gate", "x limited to `ratio` times the magnitude of each parameter plus 1e-3",
              (X, constant("ratio", Domain(0.0, 100.0, (1e-3, 1.0), "log"), 0.1)),
              body="""
              cap = ratio * (abs(theta) + 1e-3)
              max(min(x, cap), -cap)"""),
    Primitive("centralise", "gate", "x less the mean of each row; tensors of one column stay",
              (X,), body="where(columns > 1, x - mean_row(x), x)", source="Yong et al. 2020, arXiv:2004.01461"),
    Primitive("project_tangent", "gate", "for weights, x without its part along the parameters (each row's, else the "
              "tensor's) where the gradient is nearly orthogonal to them",
              (X, constant("delta", Domain(0.0, 10.0, (0.01, 1.0), "log"), 0.1)),
              body="""
              row_cosine = abs(sum_row(g * theta)) / (max(norm_row(g), 1e-8) * max(norm_row(theta), 1e-8))
              cosine_all = abs(sum_all(g * theta)) / (max(norm(g), 1e-8) * max(norm(theta), 1e-8))
              row_unit = theta / (norm_row(theta) + 1e-8)
              unit = theta / (norm(theta) + 1e-8)
              across_rows = x - row_unit * sum_row(row_unit * x)
              across = where(cosine_all < delta / sqrt(rows * columns), x - unit * sum_all(unit * x), x)
              where(is_weight, where(max_all(row_cosine) < delta / sqrt(columns), across_rows, across), x)""",
              source="Heo et al. 2021 (AdamP), arXiv:2006.08217, equations 11 and 12"),
    Primitive("magnitude_gate", "gate", "x where its magnitude is at least `k` root mean squares of the tensor, else 0",
              (X, constant("k", Domain(0.0, 100.0, (0.1, 3.0), "log"), 1.0)),
              body="where(abs(x) >= k * rms(x), x, 0)"),
    Primitive("flip_gate", "gate", "x where it keeps the sign of the last step, else floor times x",
              (X, constant("floor", FRACTION, 0.0)), body="where(x * prev(x) >= 0, x, floor * x)"),
    Primitive("amplify_slow", "gate", "x plus `amount` times its slow average (of gradients or of updates)",
              (X, constant("beta", BETA, 0.98), constant("amount", FACTOR, 2.0)),
              body="x + amount * ema_from_first(x, beta)",
              source="Lee et al. 2024 (Grokfast), arXiv:2405.20233, algorithm 2"),
    Primitive("scale_rms", "gate", "x scaled to root mean square `target` per tensor",
              (X, constant("target", FACTOR, 1.0)), body="x / rms(x) * target"),
    Primitive("limit_growth", "gate", "x scaled down where its norm per tensor grew by more than `gamma` in a step",
              (X, constant("gamma", GROW, 1.01)), state=(State("before"),),
              body="""
              scale = where(t > 1, gamma / max(norm(x) / (before + 1e-8), gamma), 1)
              before = norm(x) * scale
              x * scale""",
              source="Chen et al. 2024 (Fira), arXiv:2410.01623, equation 9"),
    Primitive("freeze_after", "gate", "x until `epochs` have passed, then 0", (X, constant("epochs", EPOCHS)),
              body="where(epoch < epochs, x, 0)"),
    Primitive("lookahead", "gate", "every `period` steps: the parameters return to slow ones moved by `alpha`",
              (X, constant("period", PERIOD, 5), constant("alpha", FRACTION, 0.5)),
              state=(State("slow", "x", "theta"),), scope=NAMED_IN_POST,
              body="""
              synchronize = t % period == 0
              slow = where(synchronize, slow + alpha * (theta + x - slow), slow)
              where(synchronize, slow - theta, x)""",
              source="Zhang et al. 2019, arXiv:1907.08610, algorithm 1"),
    Primitive("average_iterates", "gate", "theta becomes the mean of fast iterates z that move by x: z = z + x, then "
              "theta moves to z by 1 / max(1, t - start). For gradients at z, query at (max(1, t - start) - 1) * delta",
              (X, constant("start", Domain(0, 10_000_000, (0, 2000), "linear", "steps"), 0)),
              state=(State("z", "x", "theta"),), scope=NAMED_IN_POST,
              body="""
              z = z + x
              (z - theta) / max(1, t - start)""",
              source="Polyak & Juditsky 1992, Acceleration of stochastic approximation by averaging"),
    Primitive("rollback", "gate", "back to the parameters of the lowest validation loss whenever `patience` epochs "
              "have passed without a lower one, else x",
              (X, constant("patience", EPOCHS, 20)), state=(State("best", "x", "theta"),), scope=NAMED_IN_POST,
              body="""
              best = where(improved, theta, best)
              waited = new_epoch and stale_epochs > 0 and stale_epochs % patience == 0
              where(waited, best - theta, x)"""),
]  # fmt: skip

_COMPOSITES = [
    Primitive("momentum", "composite", "heavy ball: a decaying sum", (X, varying("beta", BETA, 0.9)),
              body="trace(x, beta)", latex=r"\mathrm{{momentum}}_{{{1}}}({0})", source="Polyak 1964"),
    Primitive("nesterov", "composite", "x + beta times its decaying sum", (X, varying("beta", BETA, 0.9)),
              body="x + beta * trace(x, beta)", source="Sutskever et al. 2013"),
    Primitive("rms_scaled", "composite", "x over the root of the average of x squared",
              (X, varying("beta", BETA, 0.99), constant("epsilon", EPSILON, 1e-8)),
              body="x / (sqrt(ema(x * x, beta)) + epsilon)", source="Tieleman & Hinton 2012"),
    Primitive("adam", "composite", "bias-corrected mean over the root of the bias-corrected square",
              (X, varying("beta1", BETA, 0.9), varying("beta2", BETA, 0.999), constant("epsilon", EPSILON, 1e-8)),
              body="debias(ema(x, beta1)) / (sqrt(debias(ema(x * x, beta2))) + epsilon)",
              source="Kingma & Ba 2015, arXiv:1412.6980, algorithm 1"),
    Primitive("core", "composite", "Adam's direction, its first beta rising from 0.7375 to 0.8125, times step_sizes of "
              "its mean. After `history` steps the share `frozen` of a tensor's entries stays whose score is highest: "
              "the average, over so many steps, of update times mean. Wants `post: delta - 0.1 * abs(delta) * theta`",
              (X, constant("grow", GROW, 1.2), constant("shrink", SHRINK, 0.7375), constant("low", LOWEST_STEP, 1e-3),
               constant("high", HIGHEST_STEP, 10), constant("frozen", FRACTION, 0.025),
               constant("history", STEPS, 250)),
              state=(State("s", "x", 1.0), State("before", "x"), State("score", "x")),
              body="""
              beta = 0.8125 - 0.075 * exp(-square((t - 1) / 250))
              mean = ema(x, beta)
              count = floor(frozen * rows * columns)
              known = t > history and count > 0
              highest = known and score >= 0.999999 * order_statistic(score, rows * columns - count)
              kept = where(highest, 0, 1)
              agreement = mean * before * kept
              s = max(low, min(high, s * where(agreement > 0, grow, where(agreement < 0, shrink, 1))))
              before = mean
              moved = kept * s * mean / (1 - beta ** t) / (sqrt(debias(ema(x * x, 0.99))) + 1e-8)
              score = where(known, 1 - 1 / history, 1) * score + mean * moved / history
              moved""",
              source="Eckhoff & Reiher 2024, CoRe optimizer, arXiv:2307.15663, equations 1 to 11"),
    Primitive("dadapt_adam", "composite", "Adam that estimates the distance d to the solution, from d0 on; wants lr 1",
              (X, constant("beta1", BETA, 0.9), constant("beta2", BETA, 0.999), constant("epsilon", EPSILON, 1e-8),
               constant("d0", D0, 1e-6)),
              state=(State("d"), State("r"), State("s", "x"), State("m", "x"), State("v", "x")),
              body="""
              rate = lr_t * where(t > 1, d, d0)
              r = sqrt(beta2) * r + (1 - sqrt(beta2)) * rate * sum_model(x * s / (sqrt(v) + epsilon))
              s = sqrt(beta2) * s + (1 - sqrt(beta2)) * rate * x
              d = max(rate / lr_t, r / ((1 - sqrt(beta2)) * sum_model(abs(s))))
              m = beta1 * m + (1 - beta1) * rate * x
              v = beta2 * v + (1 - beta2) * x * x
              m / (sqrt(v) + epsilon) / lr_t""",
              source="Defazio & Mishchenko 2023, arXiv:2301.07733, algorithm 5"),
    Primitive("prodigy", "composite", "Adam that estimates the distance d to the solution, from d0 on; wants lr 1",
              (X, constant("beta1", BETA, 0.9), constant("beta2", BETA, 0.999), constant("epsilon", EPSILON, 1e-8),
               constant("d0", D0, 1e-6)),
              state=(State("d"), State("r"), State("s", "x"), State("m", "x"), State("v", "x")),
              body="""
              before = where(t > 1, d, d0)
              rate = lr_t * before
              r = sqrt(beta2) * r + before / d0 * rate * sum_model(x * (theta_start - theta))
              s = sqrt(beta2) * s + before / d0 * rate * x
              d = max(before, r / sum_model(abs(s)))
              m = beta1 * m + (1 - beta1) * before * x
              v = beta2 * v + (1 - beta2) * before * before * x * x
              before * m / (sqrt(v) + d * epsilon)""",
              source="Mishchenko & Defazio 2024, arXiv:2306.06101, algorithm 4"),
]  # fmt: skip

TABLE: dict[str, Primitive] = {}
for _primitive in (
    *_SOURCES, *_SIGNALS, *_ROLES, *_ELEMENTWISE, *_STATEFUL, *_EVALUATION, *_REDUCTIONS, *_MATRIX, *_SQUARE, *_NOISE,
    *_SCHEDULES, *_GATES, *_COMPOSITES,
):  # fmt: skip
    if _primitive.name in TABLE:
        raise ValueError(f"two primitives are called {_primitive.name}")
    TABLE[_primitive.name] = _primitive
