"""What an oracle is, and how a rule for one tensor or a packaged optimizer becomes one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tests.genomes.trajectory import Moment

Gradient = Callable[[list[Tensor]], list[Tensor]]  # parameters -> gradients, trainable tensors alone


class Oracle(Protocol):
    """An independent implementation in the middle of its run."""

    def step(self, gradient: Gradient, now: Moment) -> list[Tensor]:
        """Take one step. Returns the parameters after it."""
        ...


MakeOracle = Callable[[list[Tensor], list[str]], Oracle]


@contextmanager
def float64_scalars() -> Iterator[None]:
    """Packages keep step counts and products of betas as tensors of the default type: make that float64 too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class PackageOracle:
    """A ``torch.optim.Optimizer``. ``before(parameters, optimizer, now)`` runs between gradient and step."""

    def __init__(self, theta: list[Tensor], make: Callable[[list[Any]], Any], before: Callable | None = None):
        self.parameters = [torch.nn.Parameter(p.clone()) for p in theta]
        with float64_scalars():
            self.optimizer = make(self.parameters)
        self.before = before

    def step(self, gradient: Gradient, now: Moment) -> list[Tensor]:
        for p, g in zip(self.parameters, gradient([p.detach().clone() for p in self.parameters]), strict=True):
            p.grad = g.clone()
        with float64_scalars():
            if self.before:
                self.before(self.parameters, self.optimizer, now)
            self.optimizer.step()
        return [p.detach().clone() for p in self.parameters]


def packaged(make: Callable[[list[Any]], Any], before: Callable | None = None) -> MakeOracle:
    """An oracle from ``make(parameters)``, an optimizer of a package."""
    return lambda theta, roles: PackageOracle(theta, make, before)


class RuleOracle:
    """A rule for one tensor: ``rule(s, theta, g, now)`` returns the update; ``s`` keeps what lasts between steps.

    ``s`` starts with ``role`` (text) and ``start`` (the first parameters); absent numbers read as 0.
    """

    def __init__(self, theta: list[Tensor], roles: list[str], rule: Callable):
        self.theta = [p.numpy().copy() for p in theta]
        self.memory = [Memory(role=role, start=p.copy()) for role, p in zip(roles, self.theta, strict=True)]
        self.rule = rule

    def step(self, gradient: Gradient, now: Moment) -> list[Tensor]:
        gradients = [g.numpy() for g in gradient([torch.from_numpy(p.copy()) for p in self.theta])]
        with np.errstate(all="ignore"):
            updates = [self.rule(s, p, g, now) for s, p, g in zip(self.memory, self.theta, gradients, strict=True)]
        self.theta = [p + u for p, u in zip(self.theta, updates, strict=True)]
        return [torch.from_numpy(p.copy()) for p in self.theta]


class Memory(SimpleNamespace):
    """A namespace whose unset names are 0: a paper's "initialise m to 0"."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return 0.0


def ruled(rule: Callable) -> MakeOracle:
    """An oracle from a rule for one tensor."""
    return lambda theta, roles: RuleOracle(theta, roles, rule)
