"""Allocates the vectors that hold a program's values, tensor after tensor, and reuses them within a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from genomes.backends.flat import kernels
from genomes.backends.flat.kernels import Action
from genomes.backends.flat.plan import Kernel, Key, Planner
from genomes.backends.torch_reference import extent
from genomes.compiler.program import Program
from genomes.compiler.shapes import ShapeClass


class Space:
    """The sizes of a model, for vectors like ``theta``. ``matrices``: ``[out, in]`` of each tensor."""

    def __init__(self, theta: Tensor, matrices: Sequence[tuple[int, int]]) -> None:
        self._like = theta
        self._extents = {
            shape: [extent(shape, matrix) for matrix in (matrices if shape.per_tensor else [(1, 1)])]
            for shape in ShapeClass
        }
        self._sizes = {shape: [rows * columns for rows, columns in pairs] for shape, pairs in self._extents.items()}

    def vector(self, shape: ShapeClass, fill: float = 0.0) -> Tensor:
        """A new vector for a value of class ``shape``."""
        return self._like.new_full((sum(self._sizes[shape]),), fill)

    def matrices(self, vector: Tensor, shape: ShapeClass) -> list[Tensor]:
        """Views of a vector: the part of each tensor as ``[rows, columns]``."""
        parts = vector.split(self._sizes[shape]) if self._sizes[shape] else ()
        return [part.view(pair) for part, pair in zip(parts, self._extents[shape], strict=True)]


def allocate(
    plan: Planner, program: Program, space: Space, vectors: dict[Key, Tensor], slots: dict[int, Tensor]
) -> list[Action]:
    """Give every kernel its vectors, entered in ``vectors``; returns the actions of a step, in order.

    A vector is handed on once what it held has been read for the last time, and what a slot gets is written straight
    into it where nobody reads the old content later. ``vectors``: at first, those that no kernel writes.
    """
    last = {key: i for i, kernel in enumerate(plan.kernels) for key in kernel.inputs}
    last |= dict.fromkeys([plan.update, *plan.stored.values()], len(plan.kernels))
    home = _written_in_place(plan, program, last)
    spare: dict[ShapeClass, list[Tensor]] = {shape: [] for shape in ShapeClass}
    borrowed: set[Key] = set()
    actions: list[Action] = []
    for i, kernel in enumerate(plan.kernels):
        shape = kernel.out[1]

        def take(shape: ShapeClass = shape) -> Tensor:
            return spare[shape].pop() if spare[shape] else space.vector(shape)

        scratch = [take() for _ in range(kernel.scratch)]
        read = [key for key in dict.fromkeys(kernel.inputs) if key in borrowed and last[key] == i]
        if kernel.in_place:
            _hand_on(read, vectors, spare)
        if kernel.out in home:
            vectors[kernel.out] = slots[home[kernel.out]]
        else:
            vectors[kernel.out] = take()
            borrowed.add(kernel.out)
        if not kernel.in_place:
            _hand_on(read, vectors, spare)
        spare[shape] += scratch
        act = _action(kernel, [vectors[key] for key in kernel.inputs], vectors[kernel.out], scratch, space)
        actions.append(act if kernel.when is None else _only(kernel.when, act))
    copied = [(slots[slot], vectors[key]) for slot, key in plan.stored.items() if home.get(key) != slot]
    return [*actions, *(kernels.copy(out, x) for out, x in copied)]


def _written_in_place(plan: Planner, program: Program, last: dict[Key, int]) -> dict[Key, int]:
    """The keys that are computed in a slot's own vector, and the slot."""
    made_by = {kernel.out: i for i, kernel in enumerate(plan.kernels)}
    home: dict[Key, int] = {}
    for slot, key in plan.stored.items():
        loads = [
            (i, node.shape) for i, node in enumerate(program.nodes) if node.op == "load" and node.attribute == slot
        ]
        read = max((last.get(load, -1) for load in loads), default=-1)
        written = made_by[key]
        if key not in home and (read < written or (read == written and plan.kernels[written].in_place)):
            home[key] = slot
    return home


def _hand_on(keys: list[Key], vectors: dict[Key, Tensor], spare: dict[ShapeClass, list[Tensor]]) -> None:
    for key in keys:
        spare[key[1]].append(vectors[key])


def _action(kernel: Kernel, inputs: list[Tensor], out: Tensor, scratch: list[Tensor], space: Space) -> Action:
    if not kernel.by_tensor:
        return kernel.make(out, *inputs, *scratch)
    matrices = [space.matrices(x, key[1]) for key, x in zip(kernel.inputs, inputs, strict=True)]
    return kernel.make(*matrices, space.matrices(out, kernel.out[1]))


def _only(when: Callable[[], bool], act: Action) -> Action:
    """The action in the steps that need it."""
    return lambda: act() if when() else None
