"""Names of a program's values and states for people who read its text.

States have the names that the field has for them where there are such, as `torch.optim` does: ``exp_avg`` is the
average of gradients, ``exp_avg_sq`` that of their squares. Values are called after `let` lines, the states that keep
them, the words of the language that they are the meaning of, and else after their operation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from genomes.compiler.program import Node, Program

_NOUNS = {
    "add": "combined", "sub": "difference", "mul": "product", "div": "ratio", "safe_div": "ratio", "neg": "negative",
    "sqrt": "root", "abs": "magnitude", "sign": "signs", "where": "choice", "max": "larger", "min": "smaller",
    "number": "flag", "expand": "expanded",
    "gt": "above", "ge": "at_least", "eq": "equal", "and": "both", "or": "either", "not": "other",
    "sum_tensor": "total", "sum_row": "row_sum", "sum_column": "column_sum", "max_tensor": "largest",
    "max_row": "row_largest", "max_column": "column_largest", "sum_model": "model_total", "max_model": "model_largest",
}  # fmt: skip
_NUMBERED = re.compile(r"(.+)_\d+")


def with_field_names(program: Program) -> Program:
    """The program whose slots are called as the field calls them."""
    names: list[str] = []
    stems = Counter(_stem(slot.name) for slot in program.slots)
    known = _known_names(program)
    for k, slot in enumerate(program.slots):
        stem = _stem(slot.name)
        wanted = known.get(k) or (stem if stems[stem] == 1 else slot.name)
        names.append(wanted if wanted not in names else slot.name)
    return replace(
        program, slots=tuple(replace(slot, name=name) for slot, name in zip(program.slots, names, strict=True))
    )


def value_names(program: Program) -> list[str]:
    """A name for each node, all different."""
    names: dict[int, str] = {}
    stored = {node: program.slots[slot].name for slot, node in program.stores}
    taken = {slot.name for slot in program.slots}

    def give(i: int, wanted: str) -> None:
        name, count = wanted, 1
        while name in taken:
            count += 1
            name = f"{wanted}_{count}"
        names[i] = name
        taken.add(name)

    genes = ("u", "learning_rate", "schedule", "delta")
    labels = dict(program.labels)
    lines = {i: label for i, label in labels.items() if label not in genes}
    for i, wanted in lines.items():
        give(i, wanted)
    names = {**{i: name for i, name in stored.items() if i not in lines}, **names}
    for source in (labels, dict(program.words)):
        for i, wanted in source.items():
            if i not in names:
                give(i, wanted)
    for i, node in enumerate(program.nodes):
        if i not in names:
            give(i, "debias" if _debiases(program, node) else _NOUNS.get(node.op, f"{node.op}_value"))
    return [names[i] for i in range(len(program.nodes))]


def _stem(name: str) -> str:
    match = _NUMBERED.fullmatch(name)
    return match[1] if match else name


def _known_names(program: Program) -> Mapping[int, str]:
    """The field's names of slots, by slot: each of the first slot that is what it says."""
    found: dict[str, int] = {}
    stored = {node: slot for slot, node in program.stores}
    for slot, node in sorted(program.stores):
        name = _known_name(program, slot, program.nodes[node], stored, found)
        if name:
            found.setdefault(name, slot)
    return {slot: name for name, slot in found.items()}


def _known_name(
    program: Program, slot: int, node: Node, stored: Mapping[int, int], found: Mapping[str, int]
) -> str | None:
    nodes = program.nodes
    if program.slots[slot].init != 0.0 or node.op not in ("add", "max"):
        return None
    for own, other in (node.arguments, node.arguments[::-1]):
        if nodes[own].op == "load" and nodes[own].attribute == slot:
            if node.op == "max":
                squares = found.get("exp_avg_sq")
                return "max_exp_avg_sq" if squares is not None and stored.get(other) == squares else None
            return "sum_of_squares" if _is_square(program, other) else None
        if node.op == "max" or nodes[own].op != "mul" or slot not in _loads(program, nodes[own]):
            continue
        if nodes[other].op == "g":
            return "momentum_buffer"
        if nodes[other].op == "mul":
            averaged = [a for a in nodes[other].arguments if not nodes[a].shape.on_host]
            if len(averaged) == 1 and nodes[averaged[0]].op == "g":
                return "exp_avg"
            if len(averaged) == 1 and _is_square(program, averaged[0]):
                return "exp_avg_sq"
    return None


def _loads(program: Program, node: Node) -> list[int]:
    loads = [program.nodes[a] for a in node.arguments if program.nodes[a].op == "load"]
    return [int(load.attribute or 0) for load in loads]


def _is_square(program: Program, i: int) -> bool:
    node = program.nodes[i]
    return node.op == "mul" and all(program.nodes[a].op == "g" for a in node.arguments)


def _debiases(program: Program, node: Node) -> bool:
    """Whether a value is 1 / (1 - beta^t)."""
    if node.op not in ("div", "safe_div") or program.nodes[node.arguments[0]].attribute != 1:
        return False
    gathered = program.nodes[node.arguments[1]]
    return gathered.op == "sub" and program.nodes[gathered.arguments[1]].op == "power" and gathered.shape.on_host
