"""Finds Adam's quotient in a program: two averages, their bias corrections, root and division.

Torch's fused kernel computes it in one pass over memory; as separate operations it takes nine. Source: Kingma & Ba
2015, "Adam: a method for stochastic optimization", algorithm 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from genomes.backends.flat.kernels import Action, Make
from genomes.compiler.program import Program
from genomes.compiler.shapes import ShapeClass

_ONE = 1e-12  # how far two constants' sum may be from 1 to count as the weights of an average


@dataclass(frozen=True)
class Average:
    """Node ``node``: load(slot) * beta + x * (1 - beta), the new content of ``slot``; ``absorbed``: its products."""

    node: int
    slot: int
    beta: float
    x: int
    absorbed: tuple[int, ...]


@dataclass(frozen=True)
class AdamQuotient:
    """Node ``node``: scale * debias(mean) / (sqrt(debias(square)) + eps), where debias divides by 1 - beta^t.

    ``mean`` and ``square``: averages of ``x`` and x * x. ``eps``, ``scale``: clock nodes; ``scale`` None: 1.
    ``absorbed``: nodes that nobody else uses.
    """

    node: int
    x: int
    mean: Average
    square: Average
    eps: int
    scale: int | None
    absorbed: tuple[int, ...]

    @property
    def replaced(self) -> tuple[int, ...]:
        """The nodes that need no operation of their own."""
        return (self.node, self.mean.node, self.square.node, *self.absorbed)


@lru_cache
def has_fused_kernel() -> bool:
    """Whether torch's kernel exists and computes what is expected: as an internal of torch.optim it may change."""
    out, mean, square = torch.zeros(3, 2)
    one, half = (lambda: 1.0), (lambda: 0.5)
    try:
        kernel(one, half, 0.5, 0.75, one)(out, torch.ones(2), mean, square)()
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.allclose(torch.stack([out, mean, square]), torch.tensor([[0.25], [0.5], [0.25]]).expand(3, 2))


def kernel(
    t: Callable[[], float], scale: Callable[[], float] | None, beta1: float, beta2: float, eps: Callable[[], float]
) -> Make:
    """``make(out, x, mean, square)``: an action that moves both averages and writes the quotient to ``out``."""

    def make(out: Tensor, x: Tensor, mean: Tensor, square: Tensor) -> Action:
        step = torch.zeros((), device=out.device)

        def act() -> None:
            torch.ops.aten._fused_adam_(
                [out.zero_()], [x], [mean], [square], [], [step.fill_(t())], lr=-1.0 if scale is None else -scale(),
                beta1=beta1, beta2=beta2, weight_decay=0.0, eps=eps(), amsgrad=False, maximize=False,
            )  # fmt: skip

        return act

    return make


class Finder:
    """Looks for Adam's quotients in ``program``. ``uses``: how often each node's value is used."""

    def __init__(self, program: Program, uses: Counter[int]) -> None:
        self._nodes, self._uses, self._stores = program.nodes, uses, set(program.stores)
        loads = [(node.attribute, i) for i, node in enumerate(program.nodes) if node.op == "load"]
        self._reads = Counter({slot: sum(uses[i] for other, i in loads if other == slot) for slot, _ in loads})

    def all(self) -> list[AdamQuotient]:
        """The quotients of the program; none where torch has no fused kernel."""
        if not has_fused_kernel():
            return []
        found: dict[int, AdamQuotient] = {}
        for i, node in enumerate(self._nodes):
            quotient = self._scaled(i) if node.op == "mul" else self._quotient(i)
            if quotient is not None:
                found[quotient.mean.slot] = quotient  # with the factor, which comes later, rather than without
        return list(found.values())

    def _pairs(self, i: int, op: str) -> Iterator[tuple[int, int]]:
        """The arguments of node ``i`` in both orders, if it is an ``op``."""
        if self._nodes[i].op == op:
            a, b = self._nodes[i].arguments
            yield from ((a, b), (b, a))

    def _constant(self, i: int) -> float | None:
        node = self._nodes[i]
        return float(node.attribute) if node.op == "const" and node.attribute is not None else None

    def _clock(self, i: int) -> bool:
        return self._nodes[i].shape is ShapeClass.CLOCK

    def _scaled(self, i: int) -> AdamQuotient | None:
        for scale, inner in self._pairs(i, "mul"):
            if self._clock(scale) and self._uses[inner] == 1 and (found := self._quotient(inner)):
                return AdamQuotient(i, found.x, found.mean, found.square, found.eps, scale, (*found.absorbed, inner))
        return None

    def _quotient(self, i: int) -> AdamQuotient | None:
        if self._nodes[i].op != "div":
            return None
        above, below = self._nodes[i].arguments
        mean = self._debiased(above)
        for root, eps in self._pairs(below, "add"):
            if mean is None or self._nodes[root].op != "sqrt" or not self._clock(eps):
                continue
            (inside,) = self._nodes[root].arguments
            square = self._debiased(inside)
            if square is None or self._nodes[square.x].op != "mul":
                continue
            once = (above, below, root, inside, square.x)
            if self._nodes[square.x].arguments == (mean.x, mean.x) and all(self._uses[node] == 1 for node in once):
                return AdamQuotient(i, mean.x, mean, square, eps, None, (*once, *mean.absorbed, *square.absorbed))
        return None

    def _debiased(self, i: int) -> Average | None:
        """Node ``i``: average * (1 / (1 - beta^t))"""
        for inner, factor in self._pairs(i, "mul"):
            average = self._average(inner)
            if average is None or self._nodes[factor].op != "div":
                continue
            one, rest = self._nodes[factor].arguments
            if self._constant(one) != 1 or self._nodes[rest].op != "sub":
                continue
            one, power = self._nodes[rest].arguments
            if self._constant(one) != 1 or self._nodes[power].op != "power":
                continue
            base, exponent = self._nodes[power].arguments
            if self._constant(base) == average.beta and self._nodes[exponent].op == "t":
                return average
        return None

    def _average(self, i: int) -> Average | None:
        for old, new in self._pairs(i, "add"):
            for kept, load in self._pairs(old, "mul"):
                for moved, x in self._pairs(new, "mul"):
                    beta, rest, slot = self._constant(kept), self._constant(moved), self._nodes[load].attribute
                    if beta is None or rest is None or self._nodes[load].op != "load" or not 0 <= beta < 1:
                        continue
                    of_elements = self._nodes[x].shape is self._nodes[load].shape is ShapeClass.ELEMENT
                    alone = self._uses[old] == self._uses[new] == self._reads[slot] == 1
                    if of_elements and alone and abs(beta + rest - 1) < _ONE and (slot, i) in self._stores:
                        return Average(i, int(slot or 0), beta, x, (old, new))
        return None
