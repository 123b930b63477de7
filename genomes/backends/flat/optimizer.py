"""Programs over one flat vector of all trainable parameters: the fast back end for one thread of a CPU.

Its results are those of `torch_reference` within rounding, in a fraction of the time: one call of torch per pass over
the whole model instead of one per operation and tensor, several operations per pass, buffers that are used again. A
run owns all its buffers, so that no run can see another's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genomes.backends.flat.kernels import OutputShifts
from genomes.backends.flat.memory import Space, allocate
from genomes.backends.flat.plan import OPERATIONS, Planner
from genomes.backends.readout import feature_gains, frozen_end, output_shifts
from genomes.backends.torch_reference import (
    asks,
    bias_row,
    clock_values,
    fit,
    is_last_step,
    known_values,
    matrix_shape,
    role_values,
)
from genomes.compiler.branches import conditions, needed
from genomes.compiler.program import CLOCK_SOURCES, ROLE_SOURCES, VIEWS, Program, random_word
from genomes.compiler.shapes import ShapeClass
from genomes.language.operations import ON_FLOATS


@dataclass(frozen=True)
class FlatProgram:
    """A program that can be bound to the vectors of a model."""

    program: Program

    def bind(
        self,
        theta: Tensor,
        gradient: Tensor,
        *,
        seed: bytes,
        shapes: Sequence[tuple[int, ...]],
        roles: Sequence[str],
        layers: Sequence[int],
        indices: Sequence[int],
        network: Any = None,
    ) -> FlatRun:
        """Begin a run on ``theta`` and ``gradient``, ``[n]``: the trainable tensors one after another.

        The caller may change both between calls. ``shapes``, ``roles``, ``layers``, ``indices`` (in the list of all
        parameters): one entry per tensor. ``seed``: 32 bytes. ``network``: all tensors, a `harness.flat.Network`; None
        where nothing is known of a frozen end or of the length of an epoch.
        """
        matrices = [matrix_shape(shape) for shape in shapes]
        end = frozen_end(network.shapes, network.roles, network.layers, network.trainable) if network else []
        steps = network.steps_per_epoch if network else 0
        known = known_values(matrices, layers, steps, network.shapes[end[-1]][0] if end else 0)
        about = role_values(matrices, list(roles), list(layers))
        return FlatRun(
            self.program,
            theta,
            gradient,
            matrices,
            about,
            known,
            _FrozenEnd(list(indices).index(end[0]), network.params, end) if end else None,
            lambda t, tensor, stream: random_word(seed, t, indices[tensor], stream),
        )


def serves(program: Program) -> bool:
    """Whether this back end knows all of a program's operations."""
    return all(node.shape.on_host or node.op in OPERATIONS for node in program.nodes)


@dataclass(frozen=True)
class _FrozenEnd:
    """``tensor``: which trainable tensor stands before it; ``params``: all tensors; ``indices``: its own among them."""

    tensor: int
    params: Sequence[Tensor]
    indices: list[int]

    def output_shifts(self) -> Tensor:
        return output_shifts(*(self.params[i] for i in self.indices[:-1]))

    def feature_gains(self, moved: Tensor) -> Tensor:
        return feature_gains(*(self.params[i] for i in self.indices[:-2]), moved=moved)


class FlatRun:
    """A program on the vectors that it was bound to, which it only reads."""

    def __init__(
        self,
        program: Program,
        theta: Tensor,
        gradient: Tensor,
        matrices: list[tuple[int, int]],
        roles: dict[str, list[Any]],
        known: dict[str, float],
        end: _FrozenEnd | None,
        word: Callable[[int, int, float], int],
    ) -> None:
        """``known``: clock values that never change; ``word``: random bits for step, tensor and stream."""
        self.program = program
        self.output_bias: Tensor | None = None
        self.frozen_scale: Tensor | None = None
        self.t = 0
        self._end, self._as_evaluated = end, theta.new_empty(0)
        self._theta = theta
        self._known = known
        limit = torch.finfo(theta.dtype).max
        space = Space(theta, matrices)
        self._host = _Host(program, roles, len(matrices))
        found = conditions(program)
        wanted = needed(program, found.nodes, roles)
        plan = Planner(
            program,
            found,
            self._host.values,
            limit,
            random_word=lambda tensor, stream: word(self.t, tensor, stream),
            shifts=end and OutputShifts(end.tensor, end.output_shifts, lambda: is_last_step(self.t, known)),
            needed=lambda node, tensor: wanted[node][tensor],
        )
        self._slots = {
            slot: space.vector(kept.shape, 0.0 if kept.init == "theta" else fit(float(kept.init), theta.dtype))
            for slot, kept in enumerate(program.slots)
            if not kept.shape.on_host
        }
        vectors = {key: space.vector(key[1], fit(value, theta.dtype)) for key, value in plan.constants.items()}
        for key in plan.roles:
            vectors[key] = space.vector(key[1])
            self._host.keep_filled(key[0], space.matrices(vectors[key], key[1]))
        for i, node in enumerate(program.nodes):
            if node.op in VIEWS:
                vectors[i, node.shape] = theta if node.op == "theta" else gradient
            elif node.op == "load" and not node.shape.on_host:
                vectors[i, node.shape] = self._slots[int(node.attribute or 0)]
        vectors |= {key: self._slots[slot] for key, slot in plan.averages.items()}
        self._actions = allocate(plan, program, space, vectors, self._slots)
        self._update = vectors[plan.update]
        self._queried = torch.empty_like(theta)
        self._moved = theta.new_empty(0)  # what the query adds to the tensor before the frozen end
        if end and program.query:
            self._moved = space.matrices(self._slots[program.query.offset], ShapeClass.ELEMENT)[end.tensor].flatten()

    def query(self, epoch: int, train_loss: float | None, val_loss: float | None) -> Tensor | None:
        """The parameters ``[n]`` at which to take the gradient, always in the same vector; None for theta."""
        query, evaluation = self.program.query, self.program.evaluation
        if not self.program.queries:
            return None
        asked, biases = asks(query, clock_values(self.t + 1, epoch, train_loss, val_loss) | self._known)
        point, self.frozen_scale = self._theta, None
        if evaluation and self._host.slot(evaluation.applied):
            point = torch.sub(point, self._slots[evaluation.offset], out=self._queried)
        if query and asked and self.t > 0:
            point = torch.add(point, self._slots[query.offset], out=self._queried)
            if len(self._as_evaluated):
                self.frozen_scale = self._as_evaluated
        self.output_bias = None
        if any(biases):
            self.output_bias = bias_row(biases, self._theta.new_empty(int(self._known["output_count"])))
            point = self._queried.copy_(point)
        return None if point is self._theta else point

    def step(self, epoch: int, train_loss: float | None, val_loss: float | None) -> Tensor:
        """The update ``[n]``, to be added to theta; valid until the next call."""
        self.t += 1
        if self.t == 1:
            for slot, kept in enumerate(self.program.slots):
                if kept.init == "theta":
                    self._slots[slot].copy_(self._theta)
        self._host.step(clock_values(self.t, epoch, train_loss, val_loss) | self._known)
        for act in self._actions:
            act()
        if self._end and self.program.as_evaluated and is_last_step(self.t, self._known):
            scale = self._end.feature_gains(self._moved)
            self._as_evaluated.resize_(scale.shape).copy_(scale)
        return self._update


class _Host:
    """The clock and role values of a program: ``values[i]`` is node i's, a list over the tensors for role nodes."""

    def __init__(self, program: Program, roles: dict[str, list[Any]], tensors: int) -> None:
        self._program, self._tensors = program, tensors
        self.values: list[Any] = [None] * len(program.nodes)
        self._slots = {
            slot: [kept.init] * tensors if kept.shape is ShapeClass.ROLE else kept.init
            for slot, kept in enumerate(program.slots)
            if kept.shape.on_host
        }
        self._stores = [(slot, node) for slot, node in program.stores if slot in self._slots]
        self._filled: list[tuple[int, list[Tensor], list[Any]]] = []
        self._sources: list[tuple[int, str]] = []
        self._changing: list[int] = []
        for i, node in enumerate(program.nodes):
            if not node.shape.on_host:
                continue
            if node.op == "const":
                self.values[i] = node.attribute
            elif node.op in ROLE_SOURCES:
                self.values[i] = roles[node.op]
            elif node.op in CLOCK_SOURCES:
                self._sources.append((i, node.op))
            elif node.op == "load" or any(self.values[a] is None for a in node.arguments):
                self._changing.append(i)
            else:
                self._compute(i)

    def slot(self, number: int) -> Any:
        """What a slot of a clock or role value holds."""
        return self._slots[number]

    def keep_filled(self, node: int, parts: list[Tensor]) -> None:
        """Keep the parts of a vector filled with a role node's values, one per tensor."""
        self._filled.append((node, parts, [None] * self._tensors))

    def step(self, clock: dict[str, float | bool]) -> None:
        """Compute all values of a step."""
        for i, name in self._sources:
            self.values[i] = clock[name]
        for i in self._changing:
            self._compute(i)
        for node, parts, held in self._filled:
            for k, value in enumerate(self.values[node]):
                if held[k] != value:
                    held[k] = value
                    parts[k].fill_(fit(value, parts[k].dtype))
        self._slots.update([(slot, self.values[node]) for slot, node in self._stores])

    def _compute(self, i: int) -> None:
        node = self._program.nodes[i]
        values, given = self.values, node.arguments
        if node.op == "load":
            values[i] = self._slots[int(node.attribute or 0)]
        elif node.shape is ShapeClass.CLOCK:
            values[i] = ON_FLOATS[node.op](*[values[a] for a in given])
        else:
            varies = [self._program.nodes[a].shape.per_tensor for a in given]
            values[i] = [
                ON_FLOATS[node.op](
                    *(values[a][k] if each else values[a] for a, each in zip(given, varies, strict=True))
                )
                for k in range(self._tensors)
            ]
