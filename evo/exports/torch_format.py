"""The format ``torch``: one file with a `torch.optim.Optimizer` class."""

from __future__ import annotations

import math
import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evo.exports.export import Export
from evo.exports.formats import one_file, stem
from evo.exports.texts import docstring, docstring_line, template

if TYPE_CHECKING:
    from genomes.backends.torch_class import ClassBody
    from genomes.compiler.options import Option
    from genomes.language.genome import Genome

_WIDTH = 108
_OUTSIDE = {
    "output_shift",
    "output_error",
    "output_correction",
    "output_count",
    "output_bias",
    "any_output_bias",
    "calibration",
}  # fmt: skip  words about a frozen end
_FACT_TEXTS = {
    **{f"is_{role}": f'self.role[p] == "{role}"' for role in ("weight", "bias", "norm_scale", "norm_shift")},
    "is_first": "self.layer[p] == 0",
    "is_last": "self.layer[p] == self.layer_count() - 1",
    "depth_fraction": "self.layer[p] / max(self.layer_count() - 1, 1)",
    "rows": "p.shape[0] if p.ndim else 1",
    "columns": "p[0].numel() if p.ndim > 1 else 1",
}


@dataclass(frozen=True)
class _About:
    """What a class has: layers of parameters, epochs, losses, offsets that come and go, states of several ``kinds``
    (one number per row, say), states of each tensor, and of the whole model.
    """

    layers: bool
    epochs: bool
    losses: bool
    moves: bool
    kinds: bool
    state: bool
    of_model: bool


@dataclass(frozen=True)
class _ShownOption:
    name: str
    default: str
    low: str
    high: str
    range: str


def render(export: Export) -> str:
    """One Python file with a class for any model. Raises GenomeError for a genome of no sense."""
    from genomes.analysis.describe import formula
    from genomes.backends import torch_class, torch_tensors
    from genomes.backends.source_text import class_text, collect
    from genomes.compiler.options import lower_open

    opened = lower_open(export.genome, frozen_end=False)
    body = torch_class.class_body(opened)
    text = "\n".join((*body.update, *(body.asks or ())))
    tensors, called = class_text(torch_tensors.Tensors, body.methods)
    kinds = re.search(r'batch\.state\("\w+", "', text) is not None
    more = [torch_tensors.extent] if kinds else []
    more += [torch_class.FUNCTIONS[name] for name in ("_random_word", "_uniform")] if body.noise else []
    imports, helpers = collect([*called, *body.functions, *more])
    needs_math = "import math" in imports or "math." in text or any(math.isinf(o.high) for o in opened.options)
    name = class_name(export.genome.name)
    about = _About(
        layers=bool({"is_last", "depth_fraction"} & {*body.facts} or "layer_count" in body.clock),
        epochs=bool({"epoch", "has_loss", "train_loss", "val_loss", "steps_per_epoch"} & {*body.clock}),
        losses=bool({"has_loss", "train_loss", "val_loss"} & {*body.clock}),
        moves=body.query is not None or body.evaluation is not None,
        kinds=kinds, state="batch.state(" in text, of_model="self._kept(" in text,
    )  # fmt: skip
    quoted = export.quoted(docstring_line)
    return template("torch_optimizer.py.j2").render(
        class_name=name, name=export.genome.name, body=body, about=about,
        options=[_shown(o) for o in opened.options], whole=[o.name for o in opened.options if o.whole],
        imports=["import math", "", "import torch"] if needs_math else ["import torch"],
        helpers="\n\n\n".join([tensors, *helpers]), source=docstring(export.genome.source),
        formula=[line for long in formula(export.genome) for line in _wrapped(long)],
        origin="\n".join(docstring(export.origin)), measured=quoted.measured, earned=quoted.earned,
        fact_texts=_FACT_TEXTS,
        notes=_notes(export.genome, body, about), more_options=_more_options(body, about), use=_use(name, body, about),
    )  # fmt: skip


def class_name(name: str) -> str:
    """What the class of the genome called ``name`` is called."""
    return "".join(part[0].upper() + part[1:] for part in stem(name).split("_") if part)


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, _WIDTH - 8, subsequent_indent="    ", break_long_words=False) or [""]


def _shown(option: Option) -> _ShownOption:
    def number(value: float) -> str:
        if math.isinf(value):
            return "math.inf" if value > 0 else "-math.inf"
        return str(int(value)) if option.whole and value == int(value) else repr(value)

    low, high = number(option.low), number(option.high)
    return _ShownOption(option.name, number(option.value), low, high, f"{option.value:g}; {option.allowed}")


def _notes(genome: Genome, body: ClassBody, about: _About) -> list[str]:
    """What a user has to know of this optimizer."""
    notes = []
    if about.layers or body.facts:
        notes.append("Roles and layers of parameters come from param_groups(model), below, or from shapes alone.")
    words = {node.name for tree in (*(line.expr for line in genome.let), *genome.outside_let) for node in tree.walk()}
    if _OUTSIDE & words or (genome.query and genome.query.outputs):
        notes.append("Nothing is known of a frozen end of the network here: what output_shift, output_error and the")
        notes.append("query's outputs say is 0.")
    if genome.query and genome.query.as_evaluated:
        notes.append("The query's as_evaluated does nothing here: it is about a frozen end of the network.")
    if body.query:
        notes.append("During training the parameters stand where the next gradient is taken; eval() puts them back.")
    if body.evaluation:
        notes.append("eval() adds what evaluation sees to the parameters, train() takes it away.")
    return notes


def _more_options(body: ClassBody, about: _About) -> list[str]:
    lines = [("maximize", "whether gradients are of something to be made large")]
    lines.append(("foreach", "whether tensors that are treated alike change at a time, or one after the other"))
    if not body.uncapturable:
        lines.append(("capturable", "whether steps are counted on the device, for CUDA graphs and torch.compile"))
    if about.epochs:
        lines.append(("steps_per_epoch", "steps of an epoch; 0: epochs end where observe() is called"))
    if body.noise:
        lines.append(("seed", "of pseudo-random numbers"))
    return [f"{name:24} {text}" for name, text in lines]


def _use(name: str, body: ClassBody, about: _About) -> list[str]:
    params = "param_groups(model)" if body.facts or about.layers else "model.parameters()"
    lines = [f"optimizer = {name}({params})", "for epoch in range(epochs):"]
    inner = ["optimizer.train()"] if about.moves else []
    inner += ["for x, y in batches:", "    optimizer.zero_grad()", "    loss(model(x), y).backward()"]
    inner += ["    optimizer.step()"]
    if about.moves:
        inner.append("optimizer.eval()  # before the model is evaluated or saved")
    if about.losses:
        inner.append("optimizer.observe(val_loss)  # the mean of the epoch; also train_loss, where it is known")
    elif about.epochs:
        inner.append("optimizer.observe()  # the end of an epoch")
    return [*lines, *(f"    {line}" for line in inner)]


FORMAT = one_file("torch", "one file with a torch.optim.Optimizer for any model", "_torch.py", render)
