"""The readable definition of every operation in torch, and an interpreter that runs a program step by step.

This is the reference that faster back ends are held to. Tensors are seen as ``[out, in]`` (vectors as ``[n, 1]``);
model and tensor scalars are ``[1, 1]``. Values on the host (clock, role) are Python floats whatever the dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from genomes.backends.readout import feature_gains, frozen_end, output_shifts
from genomes.compiler.branches import Condition, conditions, needed
from genomes.compiler.graph import before
from genomes.compiler.program import (
    CLOCK_SOURCES,
    MODEL_REDUCTIONS,
    ROLE_SOURCES,
    VIEWS,
    Node,
    Program,
    Query,
    random_word,
    scramble,
)
from genomes.compiler.shapes import ShapeClass
from genomes.language.operations import ON_FLOATS

_NO_LOSS = 1.0  # what train_loss and val_loss are while unknown


def _larger(a: Any, b: Any) -> Tensor:
    """The larger one, elementwise; NaN where either is NaN. One of the two may be a number."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.maximum(a, b)
    return a.clamp(min=b) if isinstance(a, Tensor) else b.clamp(min=a)


def _smaller(a: Any, b: Any) -> Tensor:
    """The smaller one, elementwise; NaN where either is NaN. One of the two may be a number."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.minimum(a, b)
    return a.clamp(max=b) if isinstance(a, Tensor) else b.clamp(max=a)


def _beside(value: Any, tensor: Any) -> Any:
    """A number as a tensor ``[]`` like ``tensor``, infinite where it is too large; a tensor as it is."""
    return value if isinstance(value, Tensor) else tensor.new_full((), fit(value, tensor.dtype))


def _safe_div(a: Any, b: Any) -> Tensor:
    """a / b; 0 where b is 0, whatever a is. Torch takes the inverse of one beside a number, unless that overflows."""
    divisor = _beside(b, a)
    quotient = _beside(a, divisor) / divisor
    if not isinstance(a, Tensor):
        quotient = torch.where(b.reciprocal().isinf(), quotient, a / b)
    if not isinstance(b, Tensor) and b and abs(1 / fit(b, a.dtype)) <= torch.finfo(a.dtype).max:
        quotient = a * (1 / fit(b, a.dtype))
    return torch.where(divisor == 0, torch.zeros_like(quotient), quotient)


def _mod(a: Any, b: Any) -> Tensor:
    """Remainder of a / b with the sign of b; 0 where b is 0, whatever a is, else NaN where a is infinite."""
    a, b = torch.broadcast_tensors(_beside(a, b), _beside(b, a))
    rest = torch.remainder(a, b)
    far = a.isfinite() & (b != 0) & ((a / b).abs() > torch.finfo(a.dtype).max ** 0.9)  # there torch's is not defined
    if far.any():
        rest[far] = rest.new_tensor([x % y for x, y in zip(a[far].tolist(), b[far].tolist(), strict=True)])
    return torch.where(b == 0, torch.zeros_like(rest), rest)


def _power(a: Any, b: Any) -> Tensor:
    """a ** b for whole b, max(a, 0) ** b for others; 1 where b is 0, whatever a is, else NaN where either is NaN.

    For b < 0 it is _safe_div(1, a ** -b). An infinite b counts as even.
    """
    exponent = _beside(b, a)
    base = _beside(a, exponent)
    base = torch.where(exponent == exponent.floor(), base, base.clamp(min=0.0))
    raised = torch.pow(base, exponent.abs() if isinstance(b, Tensor) else exponent.abs().item())
    raised = torch.where(exponent < 0, _safe_div(1.0, raised), raised)
    return torch.where(exponent.isnan(), exponent, raised)


def _where(mask: Any, a: Any, b: Any) -> Any:
    if isinstance(mask, Tensor):
        return torch.where(mask, a, b)
    return a if mask else b


def _odd_polynomial(x: Tensor, a: float, b: float, c: float) -> Tensor:
    """Each singular value s of the matrix x ``[rows, columns]`` becomes a s + b s^3 + c s^5."""
    if x.shape[0] <= x.shape[1]:
        square = x @ x.T
        return a * x + (b * square + c * (square @ square)) @ x
    square = x.T @ x
    return a * x + x @ (b * square + c * (square @ square))


def _order_statistic(x: Tensor, k: float) -> Tensor:
    """``[1, 1]``: entry floor(k) of ``x`` in ascending order, k held to 0 ... size - 1; NaN where any entry is NaN."""
    ordered = x.flatten().sort().values  # NaN comes last
    place = int(min(max(k, 0.0), ordered.numel() - 1.0)) if k == k else 0
    return (ordered[-1] if ordered[-1].isnan() else ordered[place]).reshape(1, 1)


def _outer(x: Tensor, y: Tensor) -> Tensor:
    """x y^T of ``[..., rows, columns]``; its diagonal ``[..., rows, 1]`` where there is one column."""
    return x @ y.mT if x.shape[-1] > 1 else x * y


def _inner(x: Tensor, y: Tensor) -> Tensor:
    """x^T y ``[..., columns, columns]``."""
    return x.mT @ y


def _matmul(x: Tensor, y: Tensor) -> Tensor:
    """x y; entry by entry where x is a diagonal ``[..., rows, 1]``."""
    return x @ y if x.shape[-1] == y.shape[-2] else x * y


def _transpose(x: Tensor) -> Tensor:
    """x^T ``[..., n, n]``; a diagonal ``[..., n, 1]`` as it is."""
    return (x.mT if x.shape[-1] == x.shape[-2] else x).clone(memory_format=torch.contiguous_format)


def _identity(x: Tensor) -> Tensor:
    """The identity of the shape of x ``[..., n, n]``; ones for a diagonal ``[..., n, 1]``."""
    if x.shape[-1] != x.shape[-2]:
        return torch.ones_like(x)
    return torch.eye(x.shape[-1], dtype=x.dtype, device=x.device).expand(x.shape).contiguous()


def _matrix_trace(x: Tensor) -> Tensor:
    """``[..., 1, 1]``: sum of the diagonal of x ``[..., n, n]``, or of a diagonal ``[..., n, 1]``."""
    diagonal = x.diagonal(dim1=-2, dim2=-1) if x.shape[-1] == x.shape[-2] else x.squeeze(-1)
    return diagonal.sum(dim=-1)[..., None, None]


def _gram_schmidt(x: Tensor) -> Tensor:
    """The columns of x ``[..., n, n]``, each less its parts along those before, over its norm; 0 where that is 0.

    The parts are taken away twice, after which what is left is orthogonal to working precision (Giraud et al. 2005,
    Rounding error analysis of the classical Gram-Schmidt orthogonalization process). Of a diagonal ``[..., n, 1]``
    the signs.
    """
    if x.shape[-1] != x.shape[-2]:
        return x.sign()
    columns = x.mT.contiguous()
    for k in range(x.shape[-1]):
        rest, before = columns[..., k, :, None], columns[..., :k, :]
        for _ in range(2):
            rest = rest - before.mT @ (before @ rest)
        norm = (rest * rest).sum(dim=-2, keepdim=True).sqrt()
        columns[..., k, :] = torch.where(norm == 0, torch.zeros_like(rest), rest / norm).squeeze(-1)
    return columns.mT.contiguous()


def _inverse_root(x: Tensor, p: float, epsilon: float) -> Tensor:
    """(x + epsilon |x| I)^(-1/floor(p)) of a symmetric x ``[n, n]``; entry by entry of a diagonal ``[n, 1]``.

    With A = x / |x| + epsilon I and z = (p + 1) / 2, M goes from z A to I and X from z^(1/p) I to A^(-1/p)::

        T = ((p + 1) I - M) / p;  X = X T;  M = T^p M

    Ends after the step behind the one at which M is as near to I as the root of the rounding error, at the latest
    after 32. Source: Guo & Higham 2006, A Schur-Newton method for the matrix pth root and its inverse, equation 3.1.
    """
    norm = (x * x).sum().sqrt()
    if norm == 0:
        return torch.zeros_like(x)
    p = math.floor(p)
    factor = norm ** (-1 / p)
    if x.shape[-1] != x.shape[-2]:
        return factor * (x / norm + epsilon) ** (-1 / p)
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    z = (p + 1) / 2
    m, root = z * (x / norm + epsilon * eye), z ** (1 / p) * eye
    close = torch.finfo(x.dtype).eps ** 0.5
    for _ in range(32):
        last = bool((m - eye).abs().max() <= close)
        t = ((p + 1) * eye - m) / p
        root = root @ t
        if last:
            break
        square = t @ t if p > 1 else t
        m = (square @ (square if p > 3 else t) if p > 2 else square) @ m
    return factor * root


def _sum_model(parts: list[Tensor]) -> Tensor:
    """Sum of one value per tensor, in order."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _max_model(parts: list[Tensor]) -> Tensor:
    """Largest of one value per tensor."""
    largest = parts[0]
    for part in parts[1:]:
        largest = torch.maximum(largest, part)
    return largest


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "safe_div": _safe_div,
    "mod": _mod,
    "power": _power,
    "neg": lambda a: -a,
    "abs": torch.abs,
    "sign": torch.sign,
    "sqrt": torch.sqrt,
    "exp": torch.exp,
    "log": torch.log,
    "tanh": torch.tanh,
    "sin": torch.sin,
    "cos": torch.cos,
    "atan2": torch.atan2,
    "floor": torch.floor,
    "bfloat16": lambda a: a.to(torch.bfloat16).to(a.dtype),
    "max": _larger,
    "min": _smaller,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "not": lambda a: ~a,
    "where": _where,
    "sum_tensor": lambda a: a.sum(dim=(0, 1), keepdim=True),
    "max_tensor": lambda a: a.amax(dim=(0, 1), keepdim=True),
    "sum_row": lambda a: a.sum(dim=1, keepdim=True),
    "max_row": lambda a: a.amax(dim=1, keepdim=True),
    "sum_column": lambda a: a.sum(dim=0, keepdim=True),
    "max_column": lambda a: a.amax(dim=0, keepdim=True),
    "odd_polynomial": _odd_polynomial,
    "order_statistic": _order_statistic,
    "outer": _outer,
    "inner": _inner,
    "matmul": _matmul,
    "transpose": _transpose,
    "identity": _identity,
    "matrix_trace": _matrix_trace,
    "gram_schmidt": _gram_schmidt,
    "inverse_root": _inverse_root,
    "sum_model": _sum_model,
    "max_model": _max_model,
}


FITTED = ("max", "min", "where", "expand")  # torch refuses numbers beyond the dtype here, elsewhere they become inf


def fit(value: float, dtype: torch.dtype) -> float:
    """A host value as ``dtype`` can hold it: infinite where it is too large."""
    return math.copysign(math.inf, value) if abs(value) > torch.finfo(dtype).max else value


@dataclass
class State:
    """What lasts between steps. ``slots``: one entry per slot of the program; a list over tensors, or one value.

    ``needed``: for each node of the program and each tensor whether its value is computed; ``steps``: for each node
    in which steps; ``kept``: as ``needed``, of slots. None stands for the others.
    """

    trainable: list[int]
    roles: dict[str, list[Any]]
    known: dict[str, float]  # clock values that never change
    end: list[int]  # the tensors of the network's frozen end
    seed: bytes
    dtype: torch.dtype
    device: torch.device
    needed: list[list[bool]]
    steps: tuple[Condition, ...]
    kept: list[list[bool]]
    t: int = 0
    slots: list[Any] = field(default_factory=list)
    scale: Tensor | None = None  # of the frozen BatchNorm in queries that see it as evaluation does


@dataclass(frozen=True)
class TorchOptimizer:
    """The three functions of a program, in torch. They change no tensor of the caller.

    Shapes and arguments are those of `harness.optimizer.Optimizer`.
    """

    program: Program

    def init_state(self, seed: bytes, param_sizes: list[int], **context: Any) -> State:
        """Fresh state. ``context``: shapes, roles, trainable, layers (one entry per tensor), device, dtype."""
        trainable = [i for i, flag in enumerate(context["trainable"]) if flag]
        shapes = [matrix_shape(context["shapes"][i]) for i in trainable]
        end = frozen_end(context["shapes"], context["roles"], context["layers"], context["trainable"])
        roles = role_values(shapes, [context["roles"][i] for i in trainable], [context["layers"][i] for i in trainable])
        found = conditions(self.program)
        state = State(
            end=end,
            trainable=trainable,
            roles=roles,
            needed=needed(self.program, found.nodes, roles),
            steps=found.steps,
            kept=needed(self.program, found.slots, roles),
            known=known_values(
                shapes,
                [context["layers"][i] for i in trainable],
                context.get("steps_per_epoch", 0),
                context["shapes"][end[-1]][0] if end else 0,
            ),
            seed=seed,
            dtype=context["dtype"],
            device=context["device"],
        )
        for slot, kept in zip(self.program.slots, state.kept, strict=True):
            if slot.init == "theta":
                state.slots.append(None)  # copied from theta at the first step
            elif slot.shape is ShapeClass.CLOCK:
                state.slots.append(slot.init)
            elif slot.shape is ShapeClass.ROLE:
                state.slots.append([slot.init] * len(trainable))
            elif slot.shape is ShapeClass.MODEL:
                state.slots.append(torch.full((1, 1), float(slot.init), dtype=state.dtype, device=state.device))
            else:
                state.slots.append([
                    torch.full(extent(slot.shape, shape), float(slot.init), dtype=state.dtype, device=state.device)
                    if flag
                    else None
                    for shape, flag in zip(shapes, kept, strict=True)
                ])  # fmt: skip
        return state

    def query_at_params(
        self,
        state: State,
        model_params: list[Tensor],
        epoch: int,
        train_loss: float | None,
        val_loss: float | None,
    ) -> list[Tensor] | None:
        """Parameters at which to take the gradient, or None for the parameters as they are."""
        query, evaluation = self.program.query, self.program.evaluation
        clock = clock_values(state.t + 1, epoch, train_loss, val_loss) | state.known
        asked, biases = asks(query, clock)
        takes_back = evaluation is not None and bool(state.slots[evaluation.applied])
        asked = asked and state.t > 0
        if not (asked or takes_back or any(biases)):
            return None
        queried = list(model_params)
        for k, i in enumerate(state.trainable):
            if takes_back:
                assert evaluation is not None
                queried[i] = queried[i] - state.slots[evaluation.offset][k].reshape(queried[i].shape)
            if asked:
                assert query is not None
                queried[i] = queried[i] + state.slots[query.offset][k].reshape(queried[i].shape)
        if state.end and any(biases):
            last = queried[state.end[-1]]
            queried[state.end[-1]] = last + bias_row(biases, last)
        if asked and self.program.as_evaluated and state.scale is not None:
            queried[state.end[3]] = state.scale
        return queried

    def step(
        self,
        state: State,
        model_params: list[Tensor],
        gradients: list[Tensor],
        epoch: int,
        train_loss: float | None,
        val_loss: float | None,
    ) -> list[Tensor]:
        """Updates to be added to the parameters: one per tensor, zero for those that are not trainable."""
        state.t += 1
        clock = clock_values(state.t, epoch, train_loss, val_loss) | state.known
        sources: dict[str, Any] = {
            "theta": [_matrix(model_params[i]) for i in state.trainable],
            "g": [_matrix(gradients[i]) for i in state.trainable],
        }
        if state.end and is_last_step(state.t, state.known):
            sources["shifts"] = output_shifts(*(model_params[i] for i in state.end[:-1]))
        for k, slot in enumerate(self.program.slots):
            if state.slots[k] is None:
                assert slot.init == "theta"
                pairs = zip(sources["theta"], state.kept[k], strict=True)
                state.slots[k] = [theta.clone() if kept else None for theta, kept in pairs]
        nodes, tensors = self.program.nodes, range(len(state.trainable))
        values: list[Any] = [[None] * len(tensors) if node.shape.per_tensor else None for node in nodes]
        for i, node in enumerate(nodes):
            if node.shape is ShapeClass.CLOCK:
                held = node.op == "load"
                values[i] = state.slots[int(node.attribute or 0)] if held else host_value(node, values, clock)
        now = [all(values[mask] == taken for mask, taken in steps) for steps in state.steps]
        for of_model, of_tensor in self._order:
            for i in of_model:
                values[i] = self._of_model(nodes[i], values, state)
            for k in tensors:
                for i, read in of_tensor:
                    if now[i] and state.needed[i][k]:
                        values[i][k] = self._of_tensor(nodes[i], k, values, sources, state)
                    for done in read:
                        values[done][k] = None
        state.slots = [self._kept(node, values[node]) for _, node in sorted(self.program.stores)]
        if self.program.as_evaluated and state.end and is_last_step(state.t, state.known):
            assert self.program.query is not None
            moved = state.slots[self.program.query.offset][state.trainable.index(state.end[0])]
            state.scale = feature_gains(*(model_params[i] for i in state.end[:-2]), moved=moved.flatten())
        updates = [torch.zeros_like(p) for p in model_params]
        for k, i in enumerate(state.trainable):
            update = values[self.program.update][k].reshape(model_params[i].shape)
            updates[i] = update.clone() if self.program.update_is_shared else update
        return updates

    def _kept(self, node: int, value: Any) -> Any:
        """A value to be stored: copied where it may be a view of a tensor that the caller may write to."""
        if not self.program.is_borrowed(node):
            return value
        return [tensor if tensor is None else tensor.clone() for tensor in value]

    @cached_property
    def _order(self) -> list[tuple[list[int], list[tuple[int, list[int]]]]]:
        """By level: the values of the whole model, then those of each tensor, with what nobody reads after each.

        One tensor's values after another's, and none for longer than needed: so they stay in a processor's cache.
        """
        nodes, levels = self.program.nodes, self.program.levels
        kept = {self.program.update, *(node for _, node in self.program.stores)}
        live = before(self.program, kept)
        last: dict[int, int] = {}
        for i in sorted(live):
            for a in nodes[i].arguments:
                last[a] = i
                if not nodes[i].shape.per_tensor or levels[a] != levels[i]:
                    kept.add(a)
        read: dict[int, list[int]] = {}
        for a, i in last.items():
            if nodes[a].shape.per_tensor and a not in kept:
                read.setdefault(i, []).append(a)
        order = []
        for level in range(max(levels) + 1):
            here = [i for i in sorted(live) if levels[i] == level]
            of_model = [i for i in here if nodes[i].shape is ShapeClass.MODEL]
            order.append((of_model, [(i, read.get(i, [])) for i in here if nodes[i].shape.per_tensor]))
        return order

    def _of_model(self, node: Node, values: list[Any], state: State) -> Tensor:
        """The value of a node that is the same for all tensors, on the device."""
        if node.op == "load":
            return state.slots[int(node.attribute or 0)]
        if node.op in MODEL_REDUCTIONS:
            return OPERATIONS[node.op](values[node.arguments[0]])
        return self._device(node, [values[a] for a in node.arguments], (1, 1), state)

    def _of_tensor(self, node: Node, k: int, values: list[Any], sources: dict, state: State) -> Any:
        """The value of a node for trainable tensor ``k``."""
        if node.op == "load":
            return state.slots[int(node.attribute or 0)][k]
        if node.op in VIEWS:
            return sources[node.op][k]
        if node.op in ROLE_SOURCES:
            return state.roles[node.op][k]
        given = [values[a][k] if self.program.nodes[a].shape.per_tensor else values[a] for a in node.arguments]
        if node.shape is ShapeClass.ROLE:
            return ON_FLOATS[node.op](*given)
        theta = sources["theta"][k]
        if node.op == "uniform":
            return uniform(random_word(state.seed, state.t, state.trainable[k], given[0]), theta)
        if node.op == "output_shift":
            here = state.end and state.trainable[k] == state.end[0]
            return chosen_shift(sources.get("shifts") if here else None, given[0], theta)
        return self._device(node, given, extent(node.shape, (theta.shape[0], theta.shape[1])), state)

    def _device(self, node: Node, given: list[Any], shape: tuple[int, int], state: State) -> Tensor:
        if node.op in FITTED:
            given = [fit(value, state.dtype) if isinstance(value, float) else value for value in given]
        if node.op == "expand":
            if isinstance(given[0], Tensor):
                return given[0].expand(shape)
            return torch.full(shape, given[0], dtype=state.dtype, device=state.device)
        if node.op == "number":
            return given[0].to(state.dtype)
        return OPERATIONS[node.op](*given)


def optimizer(program: Program) -> TorchOptimizer:
    """The three functions of a program, in torch."""
    return TorchOptimizer(program)


def uniform(word: int, like: Tensor) -> Tensor:
    """Pseudo-random numbers in (0, 1], one per entry of ``like``, from the word of its step, tensor and stream."""
    entries = torch.arange(like.numel(), dtype=torch.int64, device=like.device).reshape(like.shape)
    return ((scramble(scramble(entries) ^ word) >> 8) + 1).to(like.dtype) * 2.0**-24


def clock_values(t: int, epoch: int, train_loss: float | None, val_loss: float | None) -> dict[str, float | bool]:
    """The clock sources that change; losses are 1 and ``has_loss`` is false while they are unknown."""
    clock: dict[str, float | bool] = {"t": float(t), "epoch": float(epoch)}
    if train_loss is None or val_loss is None:
        return clock | {"has_loss": False, "train_loss": _NO_LOSS, "val_loss": _NO_LOSS}
    return clock | {"has_loss": True, "train_loss": float(train_loss), "val_loss": float(val_loss)}


def role_values(shapes: list[tuple[int, int]], roles: list[str], layers: list[int]) -> dict[str, list[Any]]:
    """The role sources: for each a list over the trainable tensors."""
    last = max(layers, default=0)
    values: dict[str, list[Any]] = {
        f"is_{role}": [r == role for r in roles] for role in ("weight", "bias", "norm_scale", "norm_shift")
    }
    values["is_first"] = [layer == 0 for layer in layers]
    values["is_last"] = [layer == last for layer in layers]
    values["depth_fraction"] = [layer / last if last else 0.0 for layer in layers]
    values["rows"] = [float(rows) for rows, _ in shapes]
    values["columns"] = [float(columns) for _, columns in shapes]
    return values


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """``[out, in]`` of a tensor's shape; a vector of n entries is ``[n, 1]``."""
    rows = int(shape[0]) if shape else 1
    columns = 1
    for size in shape[1:]:
        columns *= int(size)
    return rows, columns


def extent(shape: ShapeClass, matrix: tuple[int, int]) -> tuple[int, int]:
    """Size of a device value of class ``shape`` for a tensor ``[out, in]``."""
    rows, columns = matrix
    if shape.is_square:
        return (columns, columns) if shape is ShapeClass.RIGHT else (rows, rows if columns > 1 else 1)
    _, per_row, per_column, _ = shape.value
    return (rows if per_row else 1, columns if per_column else 1)


def _matrix(tensor: Tensor) -> Tensor:
    return tensor.reshape(matrix_shape(tensor.shape))


def known_values(
    shapes: Sequence[tuple[int, int]], layers: Sequence[int], steps_per_epoch: int, output_count: int
) -> dict[str, float]:
    """The clock sources that never change. ``shapes``, ``layers``: of the trainable tensors."""
    return {
        "model_size": float(sum(rows * columns for rows, columns in shapes)),
        "layer_count": 1.0 + max(layers, default=0),
        "steps_per_epoch": float(steps_per_epoch),
        "output_count": float(output_count),
    }


def is_last_step(t: int, known: dict[str, float]) -> bool:
    """Whether step ``t`` is the last of its epoch."""
    return bool(known["steps_per_epoch"]) and t % known["steps_per_epoch"] == 0


def asks(query: Query | None, clock: dict[str, float | bool]) -> tuple[bool, list[float]]:
    """Whether a program queries in the step of these clock values, and what it adds to each output.

    ``clock``: by the names of CLOCK_SOURCES. Outputs that the network has not are left out.
    """
    if query is None:
        return False, []
    values: list[Any] = []
    for node in query.nodes:
        values.append(host_value(node, values, clock))
    biases = [float(values[i]) for i in query.outputs[: int(clock["output_count"])]]
    return bool(values[query.when]), biases


def bias_row(biases: list[float], like: Tensor) -> Tensor:
    """``biases`` as ``[outputs]``, like the bias of the last layer; 0 where none is given."""
    row = torch.zeros_like(like)
    row[: len(biases)] = torch.tensor([fit(bias, like.dtype) for bias in biases], dtype=like.dtype, device=like.device)
    return row


def chosen_shift(shifts: Tensor | None, k: float, theta: Tensor) -> Tensor:
    """Row ``k`` of ``shifts`` ``[outputs, n]`` for the tensor ``theta`` ``[n, 1]``; 0 where there is none."""
    if shifts is None or not 0 <= k < len(shifts):
        return torch.zeros_like(theta)
    return shifts[int(k)].reshape(theta.shape)


def host_value(node: Node, values: list[Any], clock: dict[str, float | bool]) -> float | bool:
    """A clock node's value, given those of the nodes before it."""
    if node.op == "const":
        assert node.attribute is not None
        return node.attribute
    if node.op in CLOCK_SOURCES:
        return clock[node.op]
    return ON_FLOATS[node.op](*(values[a] for a in node.arguments))
