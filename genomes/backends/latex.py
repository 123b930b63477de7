"""Prints a genome as mathematics: lines of LaTeX that TeX and matplotlib's mathtext both set."""

from __future__ import annotations

import re

from genomes.language.decay import DECAY_KINDS
from genomes.language.expressions import Expression
from genomes.language.genome import ALWAYS, ONE, Decay, Genome
from genomes.language.let import Line
from genomes.language.primitives import TABLE

_ATOM, _UNARY = 9, 7
_GREEK = """
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega
Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"""


def render(genome: Genome) -> list[str]:
    """The genome's update, one formula per line, without dollar signs, in the order in which a step applies them."""
    lines = []
    lines += _decay(genome.decay, "g")
    lines += [_named(line) for line in genome.let]
    terms = [_term(t.weight, t.expr) for t in genome.terms]
    lines.append("u = " + " + ".join(terms).replace("+ -", "- "))
    lines += [rf"u \leftarrow {expression(gate)}" for gate in genome.gates]
    lines += _decay(genome.decay, "u")
    named = {symbol(line.name) for line in genome.let}
    factor, multiplier = _free("s", named), _free(r"\rho", named)
    scheduled = rf"\,{factor}" if genome.schedule != ONE else ""
    scaled = rf"\,{multiplier}" if genome.roles else ""
    lines.append(rf"\Delta = -{_number(genome.lr)}{scheduled}{scaled}\,u")
    if genome.schedule != ONE:
        lines.append(f"{factor} = {expression(genome.schedule)}")
    if genome.roles:
        scales = r",\; ".join(rf"{_number(scale)}\;\mathrm{{({_word(role)})}}" for role, scale in genome.roles)
        lines.append(rf"{multiplier} = {scales}")
    lines += [rf"\Delta \leftarrow {expression(gate)}" for gate in genome.post]
    if genome.query:
        offset, when = expression(genome.query.offset), expression(genome.query.when)
        lines.append(rf"g = \nabla f(\theta + {offset}) \;\mathrm{{where}}\; {when}")
        for k, bias in enumerate(genome.query.outputs):
            lines.append(rf"f_{{{k}}} \leftarrow f_{{{k}}} + {expression(bias)} \;\mathrm{{in\ its\ gradient}}")
        if genome.query.as_evaluated:
            lines.append(r"\mathrm{frozen\ features\ there\ as\ in\ evaluation}")
    lines.append(r"\theta \leftarrow \theta + \Delta")
    if genome.evaluation:
        start = rf"\;\mathrm{{from}}\; e = {genome.evaluation.start}" if genome.evaluation.start else ""
        when = rf"\;\mathrm{{where}}\; {expression(genome.evaluation.when)}" if genome.evaluation.when != ALWAYS else ""
        lines.append(rf"\theta_{{\mathrm{{eval}}}} = \theta + {expression(genome.evaluation.offset)}{start}{when}")
    return lines


def symbol(name: str) -> str:
    """The LaTeX of a name: Greek letters by their names; what follows a _ or a letter's digits is an index."""
    stem, index = re.fullmatch(r"([A-Za-z]+?)_?((?:\d|(?<=_)).*)?", name).groups()  # type: ignore[union-attr]
    text = stem if len(stem) == 1 else rf"\{stem}" if stem in _GREEK.split() else rf"\mathrm{{{stem}}}"
    return rf"{text}_{{\mathrm{{{_word(index)}}}}}" if index else text


def _free(letter: str, named: set[str]) -> str:
    """The symbol of a gene, with an index where a genome uses the letter itself."""
    return letter if letter not in named else rf"{letter}_{{\eta}}"


def _named(line: Line) -> str:
    """A value as an equation, a state as what it becomes."""
    name = symbol(line.name)
    if line.start is None:
        return f"{name} = {expression(line.expr)}"
    start = r"\theta_0" if line.start == "theta" else _number(float(line.start))
    return rf"{name} \leftarrow {expression(line.expr)} \;\mathrm{{from}}\; {start}"


def expression(tree: Expression) -> str:
    """The LaTeX of one expression, without dollar signs."""
    return _render(tree)[0]


def _render(tree: Expression) -> tuple[str, int]:
    """Text and precedence."""
    if tree.value is not None:
        return _number(tree.value), _ATOM if tree.value >= 0 else _UNARY
    if tree.name == "mul" and tree.arguments[0] == tree.arguments[1]:
        tree = Expression("square", tree.arguments[:1])
    if tree.name not in TABLE:
        return symbol(tree.name), _ATOM
    primitive = TABLE[tree.name]
    parts = [_render(a) for a in tree.arguments]
    if primitive.infix is None or tree.name in ("div", "pow"):
        if tree.name == "pow" and parts[0][1] < _ATOM:
            parts[0] = rf"\left({parts[0][0]}\right)", _ATOM
        if tree.name == "square" and parts[0][1] < _ATOM:
            parts[0] = rf"\left({parts[0][0]}\right)", _ATOM
        level = 8 if tree.name in ("pow", "square") else _ATOM
        return _filled(primitive.name, primitive.latex, [text for text, _ in parts]), level
    level = primitive.infix[1]
    texts = []
    for i, (text, inner) in enumerate(parts):
        bare = inner > level or (inner == level and i == 0)
        texts.append(text if bare else rf"\left({text}\right)")
    if tree.name == "mul" and texts[1][0].isdigit():
        return rf"{texts[0]} \cdot {texts[1]}", level
    return _filled(primitive.name, primitive.latex, texts), level


def _filled(name: str, template: str | None, texts: list[str]) -> str:
    if template is not None:
        return template.format(*texts) if texts else template
    arguments = rf"({', '.join(texts)})" if texts else ""
    return rf"\mathrm{{{_word(name)}}}{arguments}"


def _term(weight: float, tree: Expression) -> str:
    text, precedence = _render(tree)
    if weight == 1:
        return text
    return rf"{_number(weight)}\,{text}" if precedence >= 6 else rf"{_number(weight)}\,\left({text}\right)"


def _decay(decay: Decay, name: str) -> list[str]:
    """The line that adds the decay to ``name``, where it joins that."""
    kind = DECAY_KINDS[decay.kind]
    if kind.joins != name:
        return []
    roles = rf"\;\mathrm{{({_word(', '.join(decay.roles))})}}"
    return [rf"{name} \leftarrow {name} + {_number(decay.rate)}\,{kind.latex}" + roles]


def _word(name: str) -> str:
    return name.replace("_", r"\_")


def _number(value: float) -> str:
    text = f"{value:.6g}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    power = rf"10^{{{int(exponent)}}}"
    return power if mantissa == "1" else rf"{mantissa} \cdot {power}"
