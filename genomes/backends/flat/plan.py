"""Plans a program as kernels over flat vectors: which operations share a pass, and which vector holds each value.

The planner knows nothing of sizes. Values are named by keys: ``(node, class)``, where a class other than the node's own
means the value spread out to that class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from genomes.backends.flat import adam, kernels
from genomes.backends.flat.adam import AdamQuotient
from genomes.backends.flat.kernels import KERNELS, Make, Number
from genomes.compiler.branches import Conditions
from genomes.compiler.program import MATRIX, MODEL_REDUCTIONS, REDUCTIONS, SQUARE, VIEWS, Node, Program
from genomes.compiler.shapes import ShapeClass
from genomes.language import operations

Key = tuple[int, ShapeClass]
OPERATIONS = {
    *KERNELS,
    *REDUCTIONS,
    *MODEL_REDUCTIONS,
    *MATRIX,
    *SQUARE,
    *VIEWS,
    "load",
    "where",
    "number",
    "expand",
    "uniform",
    "output_shift",
}
_ONE = 1e-12  # how far two constants' sum may be from 1 to count as the weights of an average


@dataclass(frozen=True)
class Kernel:
    """One entry of a step: ``make(out, *inputs, *scratch)`` gives the action.

    ``by_tensor``: ``make`` takes lists of matrices instead of vectors. ``in_place``: ``out`` may be one of the inputs.
    ``scratch``: how many vectors more it needs. ``when``: whether ``out`` is needed in this step; else it may be
    anything.
    """

    out: Key
    inputs: tuple[Key, ...]
    make: Callable[..., Any]
    by_tensor: bool = False
    in_place: bool = True
    scratch: int = 0
    when: Callable[[], bool] | None = None


class Planner:
    """Plans a program. Afterwards ``kernels`` is what a step does, ``stored`` the key for each device slot that
    changes, ``update`` the key of the update; ``constants`` and ``roles`` are keys of values that the host alone sets,
    ``averages`` those of values that a kernel computes in their slots' vectors, beside its result.
    """

    def __init__(
        self,
        program: Program,
        found: Conditions,
        host: list[Any],
        limit: float,
        random_word: Callable[[int, float], int],
        shifts: kernels.OutputShifts | None = None,
        needed: Callable[[int, int], bool] = lambda node, tensor: True,
    ) -> None:
        """``found``: the program's conditions; ``host``: where the values of clock and role nodes will be; ``limit``:
        the dtype's largest number; ``random_word``: of a tensor and a stream, in the current step; ``shifts``: of the
        network's frozen end; ``needed``: whether a node's value is needed for a tensor."""
        self.program, self.nodes, self.host, self._limit = program, program.nodes, host, limit
        self._random_word, self._shifts, self._needed = random_word, shifts, needed
        self._steps = found.steps
        self.kernels: list[Kernel] = []
        self.constants: dict[Key, float] = {}
        self.roles: list[Key] = []
        self.averages: dict[Key, int] = {}
        self._made: set[Key] = set()
        self._uses = Counter(a for node in program.nodes for a in node.arguments)
        self._uses.update([program.update, *(node for _, node in program.stores)])
        quotients = self._quotients()
        self._whole = {node for quotient in quotients.values() for node in quotient.replaced}
        fused = self._fusions()
        for i, node in enumerate(self.nodes):
            if i in quotients:
                self.kernels.append(self._adam(quotients[i]))  # in every step, for its averages are kept
            if node.shape.on_host or node.op in (*VIEWS, "load", "number", "expand"):
                continue
            if i not in fused:
                self._emit(self._kernel(i, node))
            elif (fusion := fused[i]) is not None:
                make, arguments = fusion
                self._emit(Kernel((i, node.shape), self._inputs(arguments, node.shape), make))
        self.stored = {
            slot: self._kept(node, program.slots[slot].shape)
            for slot, node in reversed(program.stores)  # of a chain of delays the last is written first, in place
            if not program.slots[slot].shape.on_host
            and (self.nodes[node].op, self.nodes[node].attribute) != ("load", slot)
            and self.averages.get((node, ShapeClass.ELEMENT)) != slot
        }
        self.update = self._kept(program.update, ShapeClass.ELEMENT)

    # --- operands ----------------------------------------------------------------------------------------------------

    def _is_number(self, node: int) -> bool:
        return self.nodes[node].shape is ShapeClass.CLOCK

    def _constant(self, node: int) -> float | None:
        inner = self.nodes[node]
        if inner.op == "expand":
            return self._constant(inner.arguments[0])
        return float(inner.attribute) if inner.op == "const" and inner.attribute is not None else None

    def _number(self, node: int) -> Number:
        return Number(self.host, node, self._limit)

    def _host_values(self, nodes: tuple[int, ...], tensor: int) -> list[float]:
        return [self._host_value(node, tensor) for node in nodes]

    def _now(self, node: int) -> bool:
        """Whether a node's value is needed in this step."""
        return all(self.host[mask] == wanted for mask, wanted in self._steps[node])

    def _host_value(self, node: int, tensor: int) -> float:
        value = self.host[node]
        return value[tensor] if self.nodes[node].shape.per_tensor else value

    def _operand(self, node: int, shape: ShapeClass, whole: bool = False) -> Key:
        """The key of a value for use among values of ``shape``; those of the model broadcast unless ``whole``."""
        inner = self.nodes[node]
        if inner.op == "number" and not inner.shape.on_host:
            return self._operand(inner.arguments[0], shape, whole)  # masks are numbers already
        if inner.op == "expand":
            return self._operand(inner.arguments[0], shape, whole)
        if inner.shape is shape or (inner.shape is ShapeClass.MODEL and not whole):
            return node, inner.shape
        key = node, shape
        if key in self._made:
            return key
        self._made.add(key)
        constant = self._constant(node)
        if constant is not None:
            self.constants[key] = constant
        elif inner.shape is ShapeClass.CLOCK:
            self._emit(Kernel(key, (), kernels.fill(self._number(node))))
        elif inner.shape is ShapeClass.ROLE:
            self.roles.append(key)
        elif inner.shape is ShapeClass.MODEL:
            self._emit(Kernel(key, ((node, inner.shape),), kernels.copy))
        else:
            self._emit(Kernel(key, ((node, inner.shape),), kernels.expand, by_tensor=True))
        return key

    def _emit(self, kernel: Kernel) -> None:
        """Add a kernel, for the steps that need its result."""
        node, _ = kernel.out
        sometimes = node >= 0 and self._steps[node]
        self.kernels.append(replace(kernel, when=partial(self._now, node)) if sometimes else kernel)

    def _kept(self, node: int, shape: ShapeClass) -> Key:
        """A key that lasts until the end of the step in a vector of its own: what is not computed is copied."""
        key = self._operand(node, shape, whole=True)
        if any(kernel.out == key for kernel in self.kernels):
            return key
        copied = (-1 - len(self.kernels), shape)
        self._emit(Kernel(copied, (key,), kernels.copy))
        return copied

    # --- kernels -----------------------------------------------------------------------------------------------------

    def _kernel(self, i: int, node: Node) -> Kernel:
        """The kernel of one operation on its own."""
        out = i, node.shape
        if node.op in REDUCTIONS:
            x = self._operand(node.arguments[0], ShapeClass.ELEMENT, whole=True)
            return Kernel(out, (x,), partial(kernels.reduce, node.op), by_tensor=True)
        if node.op in MODEL_REDUCTIONS:
            x = self._operand(node.arguments[0], ShapeClass.TENSOR, whole=True)
            return Kernel(out, (x,), getattr(kernels, node.op))
        if node.op in (*MATRIX, *SQUARE):
            count = operations.OPERATIONS[node.op].matrices
            matrices, rest = node.arguments[:count], node.arguments[count:]
            numbers = partial(self._host_values, rest)
            make = kernels.matrix(node.op, numbers, partial(self._needed, i))
            keys = tuple(self._operand(a, self.nodes[a].shape, whole=True) for a in matrices)
            return Kernel(out, keys, make, by_tensor=True)
        if node.op == "uniform":
            (stream,) = node.arguments
            make = kernels.noise(lambda k: self._random_word(k, self._host_value(stream, k)))
            return Kernel(out, (), make, by_tensor=True)
        if node.op == "output_shift":
            (output,) = node.arguments
            make = kernels.output_shift(self._shifts, lambda k: self._host_value(output, k))
            return Kernel(out, (), make, by_tensor=True)
        if node.op == "where":
            return self._choice(out, *node.arguments)
        given = [self._number(a) if self._is_number(a) else None for a in node.arguments]
        scratch = 1 if node.op == "safe_div" and given[1] is None else 0
        return Kernel(out, self._inputs(node.arguments, node.shape), KERNELS[node.op](*given), scratch=scratch)

    def _inputs(self, arguments: tuple[int, ...], shape: ShapeClass) -> tuple[Key, ...]:
        tensors = [a for a in arguments if not self._is_number(a)]
        keys = [self._operand(a, shape) for a in tensors]
        if shape is not ShapeClass.MODEL and keys and all(key[1] is ShapeClass.MODEL for key in keys):
            keys[0] = self._operand(tensors[0], shape, whole=True)  # one must have the size of the result
        return tuple(keys)

    def _choice(self, out: Key, mask: int, x: int, y: int) -> Kernel:
        shape = out[1]
        if self._is_number(mask):
            values = self._operand(x, shape), self._operand(y, shape)
            return Kernel(out, values, kernels.select_by_host(self._number(mask)))
        if self.nodes[mask].shape is ShapeClass.ROLE:
            values = self._operand(x, shape, whole=True), self._operand(y, shape, whole=True)
            return Kernel(out, values, kernels.select_by_tensor(partial(self._host_value, mask)), by_tensor=True)
        chosen = self._operand(mask, shape, whole=True)
        numbers = [self._unexpanded(a) for a in (x, y)]
        if all(self._is_number(a) for a in numbers):
            return Kernel(out, (chosen,), kernels.select_number(*(self._number(a) for a in numbers)), scratch=1)
        if self._constant(y) == 0:
            return Kernel(out, (chosen, self._operand(x, shape)), kernels.select_or_zero)
        values = self._operand(x, shape), self._operand(y, shape)
        return Kernel(out, (chosen, *values), kernels.select, in_place=False, scratch=1)

    def _unexpanded(self, node: int) -> int:
        return self._unexpanded(self.nodes[node].arguments[0]) if self.nodes[node].op == "expand" else node

    # --- several operations in one pass ----------------------------------------------------------------------------

    def _quotients(self) -> dict[int, AdamQuotient]:
        """Adam's quotients, each where the first of its values is computed."""
        found = adam.Finder(self.program, self._uses).all()
        return {min(quotient.mean.node, quotient.square.node): quotient for quotient in found}

    def _adam(self, quotient: AdamQuotient) -> Kernel:
        mean, square = quotient.mean, quotient.square
        t = next(i for i, node in enumerate(self.nodes) if node.op == "t")
        scale = None if quotient.scale is None else self._number(quotient.scale)
        make = adam.kernel(self._number(t), scale, mean.beta, square.beta, self._number(quotient.eps))
        keys = [(average.node, ShapeClass.ELEMENT) for average in (mean, square)]
        self.averages |= dict(zip(keys, (mean.slot, square.slot), strict=True))
        inputs = (self._operand(quotient.x, ShapeClass.ELEMENT), *keys)
        return Kernel((quotient.node, ShapeClass.ELEMENT), inputs, make, in_place=False)

    def _fusions(self) -> dict[int, tuple[Make, tuple[int, ...]] | None]:
        """For the last node of each group of operations that share a pass: how; for the others of the group, and for
        what Adam's quotients replace: None."""
        fused: dict[int, tuple[Make, tuple[int, ...]] | None] = dict.fromkeys(self._whole)
        for i in reversed(range(len(self.nodes))):
            if i not in fused and self.nodes[i].op in ("add", "sub") and not self.nodes[i].shape.on_host:
                found = self._sum(i)
                if found is not None:
                    make, inputs, absorbed = found
                    fused[i] = make, inputs
                    fused.update(dict.fromkeys(absorbed))
        return fused

    def _factors(self, i: int, outer: int) -> tuple[int | None, tuple[int, ...], list[int]] | None:
        """Node ``i`` as number * vector, vector * vector or number * vector * vector: (number, vectors, absorbed)."""
        node = self.nodes[i]
        if node.op != "mul" or i in self._whole or self._uses[i] != 1 or node.shape is not self.nodes[outer].shape:
            return None
        numbers = [a for a in node.arguments if self._is_number(a)]
        vectors = tuple(a for a in node.arguments if not self._is_number(a))
        if not numbers:
            return None, vectors, [i]
        inner = self._factors(vectors[0], outer)
        if inner is not None and inner[0] is None:
            return numbers[0], inner[1], [i, *inner[2]]
        return numbers[0], vectors, [i]

    def _sum(self, i: int) -> tuple[Make, tuple[int, ...], list[int]] | None:
        a, b = self.nodes[i].arguments
        sign = 1.0 if self.nodes[i].op == "add" else -1.0
        orders = [(a, b), (b, a)] if sign > 0 else [(a, b)]
        orders = [order for order in orders if not self._is_number(order[0]) and not self._is_number(order[1])]
        found = [(p, factors) for p, q in orders if (factors := self._factors(q, i)) is not None]
        for p, (number, vectors, absorbed) in found:
            if len(vectors) == 2:
                scale = None if number is None else self._number(number)
                return kernels.add_product(scale, sign), (p, *vectors), absorbed
        if len(found) == 2:
            (_, (w, y, absorbed)), (_, (v, x, also)) = found
            assert w is not None
            assert v is not None
            kept, moved = self._constant(v), self._constant(w)
            if kept is not None and moved is not None and abs(kept + moved - 1) < _ONE:
                return kernels.lerp(self._number(w)), (*x, *y), [*absorbed, *also]
        for p, (number, vectors, absorbed) in found:
            assert number is not None
            return kernels.add_scaled(self._number(number), sign), (p, *vectors), absorbed
        for p, q in orders:
            if self.nodes[q].op == "safe_div" and self._uses[q] == 1 and self.nodes[q].shape is self.nodes[i].shape:
                x, divisor = self.nodes[q].arguments
                if self._is_number(divisor):
                    return kernels.add_quotient(self._number(divisor), sign), (p, x), [q]
        return None
