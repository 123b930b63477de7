"""Branches of choices by role: for which tensors a program needs a value or a state at all.

``where(is_weight, a, b)`` is a for the weights and b for all others, in every step. What a alone is made of, states
included, is needed for weights alone. Masks that may change from step to step divide no states: one must be
kept while its branch is not taken. But products of matrices that a branch alone needs are left out in the steps that do
not take it, where the step's clock decides: ``hold(inverse_root(a), t % 10 == 0)`` finds a root in every tenth step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genomes.compiler.program import MATRIX, MODEL_REDUCTIONS, ROLE_SOURCES, SQUARE, Program
from genomes.compiler.shapes import ShapeClass
from genomes.language.operations import ON_FLOATS

Condition = frozenset[tuple[int, bool]]  # nodes of fixed masks, and what each must be; empty: for all tensors
ALL: Condition = frozenset()


@dataclass(frozen=True)
class Conditions:
    """``nodes``, ``slots``: for each a condition that all tensors fulfill for which its value is needed.

    ``steps``: for each node a condition, of masks of the clock, that all steps fulfill in which its value is needed.
    ``moments``: the same, but empty for all but products of matrices and what is made of them: where a back end writes
    text, a question costs more than the rest.
    """

    nodes: tuple[Condition, ...]
    slots: tuple[Condition, ...]
    steps: tuple[Condition, ...]
    moments: tuple[Condition, ...]


def opposite(a: Condition, b: Condition) -> bool:
    """Whether one of two conditions holds wherever the other does not."""
    return len(a) == len(b) == 1 and a != b and {mask for mask, _ in a} == {mask for mask, _ in b}


def conditions(program: Program) -> Conditions:
    """The conditions of all values that vary with the tensor and are held on the device; all others are needed.

    A value that several others need has those masks in common that all of them have.
    """
    fixed = fixed_nodes(program)

    def by_role(mask: int, value: bool) -> Condition:
        return meaning(program, mask, value) if fixed[mask] else ALL

    slots: list[Condition | None] = [None] * len(program.slots)
    for own in (program.query and [program.query.offset], program.evaluation and [program.evaluation.offset]):
        for slot in own or []:
            slots[slot] = ALL
    while True:
        nodes = _nodes(program, by_role, slots)
        before = list(slots)
        for node, condition in zip(program.nodes, nodes, strict=True):
            if node.op == "load":
                slot = int(node.attribute or 0)
                slots[slot] = _common(slots[slot], condition)
        if slots == before:
            steps = _steps(program)
            moments = _of_products(program, steps)
            return Conditions(tuple(c or ALL for c in nodes), tuple(c or ALL for c in slots), steps, moments)


def _steps(program: Program) -> tuple[Condition, ...]:
    """`Conditions.steps`."""
    of_clock = [node.is_mask and node.shape is ShapeClass.CLOCK for node in program.nodes]

    def by_step(mask: int, value: bool) -> Condition:
        if not program.nodes[mask].shape.on_host:
            return ALL
        return frozenset(part for part in meaning(program, mask, value) if of_clock[part[0]])

    return tuple(found or ALL for found in _nodes(program, by_step, [ALL] * len(program.slots)))


def _of_products(program: Program, steps: Sequence[Condition]) -> tuple[Condition, ...]:
    """`Conditions.moments`."""
    kept: list[Condition] = []
    for node, here in zip(program.nodes, steps, strict=True):
        costly = node.op in (*MATRIX, *SQUARE) or any(kept[a] for a in node.arguments)
        kept.append(here if costly else ALL)
    return tuple(kept)


def _nodes(
    program: Program, decided: Callable[[int, bool], Condition], slots: Sequence[Condition | None]
) -> list[Condition | None]:
    """The condition of each node, given those of the slots; None where nothing needs it.

    ``decided``: what is known where the mask of a choice has a value.
    """
    found: list[Condition | None] = [None] * len(program.nodes)
    found[program.update] = ALL
    for slot, node in program.stores:
        found[node] = _common(found[node], slots[slot])
    for i in reversed(range(len(program.nodes))):
        node = program.nodes[i]
        if node.shape.on_host or not node.shape.per_tensor:
            found[i] = ALL
        here = found[i]
        if here is None:
            continue
        whole = node.op in MODEL_REDUCTIONS or not node.shape.per_tensor
        for k, argument in enumerate(node.arguments):
            wanted = ALL if whole else here
            if node.op == "where" and k:
                wanted |= decided(node.arguments[0], k == 1)
            found[argument] = _common(found[argument], wanted)
    return found


def _common(a: Condition | None, b: Condition | None) -> Condition | None:
    if a is None or b is None:
        return b if a is None else a
    return a & b


def fixed_nodes(program: Program) -> list[bool]:
    """For each node whether it is a value of each tensor that never changes: made of role sources and numbers."""
    fixed: list[bool] = []
    for node in program.nodes:
        source = node.op in ROLE_SOURCES or node.op == "const"
        fixed.append(source or (node.shape is ShapeClass.ROLE and node.op != "load" and _all(fixed, node.arguments)))
    return fixed


def _all(flags: Sequence[bool], places: Sequence[int]) -> bool:
    return all(flags[i] for i in places)


def meaning(program: Program, mask: int, value: bool) -> Condition:
    """The condition that a mask has a value, taken apart where it is made of others."""
    node = program.nodes[mask]
    if node.op == "not":
        return meaning(program, node.arguments[0], not value)
    if node.op == ("and" if value else "or"):
        return ALL.union(*(meaning(program, a, value) for a in node.arguments))
    return frozenset({(mask, value)})


def fixed_value(program: Program, node: int, role_value: Callable[[str], Any]) -> Any:
    """The value of a fixed node for a tensor. ``role_value``: of a role source."""
    value = program.nodes[node]
    if value.op == "const":
        return value.attribute
    if value.op in ROLE_SOURCES:
        return role_value(value.op)
    return ON_FLOATS[value.op](*(fixed_value(program, a, role_value) for a in value.arguments))


def holds(program: Program, condition: Condition, role_value: Callable[[str], Any]) -> bool:
    """Whether a tensor fulfills a condition. ``role_value``: its value of a role source."""
    return all(bool(fixed_value(program, mask, role_value)) == wanted for mask, wanted in condition)


def needed(program: Program, found: Sequence[Condition], roles: Mapping[str, Sequence[Any]]) -> list[list[bool]]:
    """For each condition and tensor whether it holds. ``roles``: the role sources, a list over the tensors each."""
    tensors = range(len(roles["rows"]))
    known = {c: [holds(program, c, lambda name, k=k: roles[name][k]) for k in tensors] for c in set(found)}
    return [known[condition] for condition in found]


def role_patterns(program: Program, condition: Condition, bits: Mapping[str, int]) -> frozenset[int]:
    """The sets of roles, as sums of ``bits``, that may fulfill a condition. Masks of more than roles may be either.

    ``bits``: a power of two for each mask of a role.
    """
    known = frozenset((mask, wanted) for mask, wanted in condition if _of_roles_alone(program, mask, bits))
    patterns = range(2 * max(bits.values()))
    return frozenset(p for p in patterns if holds(program, known, lambda name, p=p: bool(p & bits[name])))


def _of_roles_alone(program: Program, node: int, bits: Mapping[str, int]) -> bool:
    value = program.nodes[node]
    if not value.arguments:
        return value.op in bits
    return all(_of_roles_alone(program, a, bits) for a in value.arguments)
