"""Products of matrices of many lanes, by torch's library calls between two kernels of a program's text.

A program's step holds them as `layout.Product`. Nothing here waits for the device, asks it for a value or depends on
values on the host, so that a step can be captured in a CUDA graph; what it allocates depends on sizes alone. It runs on
any device of torch, in the dtype of ``scratch``; on a GPU float products follow torch's TF32 switch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from genomes.backends.cuda.layout import Model, Product, Source
from genomes.backends.torch_reference import OPERATIONS, extent
from genomes.compiler.program import SQUARE


def _odd_polynomial(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """a x + (b s + c s s) x with s = x x^T, or from the other side where that is smaller.

    ``x``: ``[batch, rows, columns]``; ``a``, ``b``, ``c``: ``[batch, 1, 1]``. Source: as `torch_reference`'s."""
    wide = x.shape[1] <= x.shape[2]
    square = x @ x.mT if wide else x.mT @ x
    factor = (square @ square).mul_(c).addcmul_(square, b)
    return (factor @ x if wide else x @ factor).addcmul_(x, a)


def _order_statistic(x: Tensor, k: Tensor) -> Tensor:
    """``[batch, 1, 1]``: entry floor(k) of each of ``x`` in ascending order. Source: as `torch_reference`'s."""
    ordered = x.flatten(1).sort(dim=1).values  # NaN comes last
    last = ordered[:, -1:]
    place = k.reshape(-1, 1).nan_to_num(nan=0.0).clamp(0, ordered.shape[1] - 1).long()
    return torch.where(last.isnan(), last, ordered.gather(1, place)).unsqueeze(2)


def _inverse_root(x: Tensor, p: Tensor, epsilon: Tensor) -> Tensor:
    """(x + epsilon |x| I)^(-1/floor(p)) of each of ``x`` ``[batch, n, n]``, or of diagonals ``[batch, n, 1]``; ``p``,
    ``epsilon``: ``[batch, 1, 1]``. All 32 steps, which change nothing once they are done. Source: as
    `torch_reference`'s."""
    norm, p = (x * x).sum(dim=(1, 2), keepdim=True).sqrt(), p.floor()
    factor = norm ** (-1 / p)
    scaled = x / norm
    if x.shape[1] != x.shape[2]:
        found = (scaled + epsilon) ** (-1 / p)
    else:
        eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        z = (p + 1) / 2
        m, found = z * (scaled + epsilon * eye), z ** (1 / p) * eye
        for _ in range(32):
            t = ((p + 1) * eye - m) / p
            found = found @ t
            square = torch.where(p > 1, t @ t, t)
            m = torch.where(p > 2, square @ torch.where(p > 3, square, t), square) @ m
    return torch.where(norm == 0, torch.zeros_like(x), factor * found)


PRODUCTS: dict[str, Callable[..., Tensor]] = {
    "odd_polynomial": _odd_polynomial,
    "order_statistic": _order_statistic,
    **{op: OPERATIONS[op] for op in SQUARE},
    "inverse_root": _inverse_root,
}
_SQUARES = 9  # matrices as large as the larger side's square that an operation on square values holds
_SORTED = 6  # numbers per entry that sorting takes: the copy, the sorted ones, their places, the library's own


def carry_out(product: Product, source: Source, model: Model, scratch: Tensor, alive: Tensor) -> None:
    """Do one `Product` of ``source.step``, for all lanes and all tensors that need it.

    ``scratch``: the array of that name, ``[lanes, source.sizes(model)["scratch"]]``, contiguous, as the kernels before
    have left it; the results are written into it. ``alive``: int32 ``[lanes]``; lanes where it is 0 stay as they are.

    Equal lanes come out equal to the bit where the library multiplies the matrices of a batch alike, as one does in one
    call; how it multiplies may change with the number of lanes.
    """
    if product.op in SQUARE:
        _carry_out_square(product, source, model, scratch, alive)
        return
    lanes, size = scratch.shape
    matrix, result = (source.scratch.offset(i, model) for i in (*product.matrices, product.result))
    numbers = [[source.scratch.offset(i, model) for i in link] for link in product.numbers]
    start = scratch.storage_offset()
    for run in _runs(model, product.roles):
        matrices = scratch.as_strided(
            (lanes, run.count, run.rows, run.columns), (size, run.spacing, run.columns, 1), start + matrix + run.offset
        )
        x = matrices.clone(memory_format=torch.contiguous_format).view(-1, run.rows, run.columns)
        for link in numbers:
            given = [
                scratch.as_strided((lanes, run.count), (size, run.step), start + offset + run.index) for offset in link
            ]
            x = PRODUCTS[product.op](x, *(number.reshape(-1, 1, 1) for number in given))
        if (product.result,) == product.matrices:
            results = matrices
        else:
            results = scratch.as_strided((lanes, run.count, 1, 1), (size, run.step, 1, 1), start + result + run.index)
        torch.where(alive[:, None, None, None] != 0, x.view(results.shape), results, out=results)


def _carry_out_square(product: Product, source: Source, model: Model, scratch: Tensor, alive: Tensor) -> None:
    """`carry_out` for an operation on square values: tensor by tensor."""
    (numbers,) = product.numbers
    for k, matrix in enumerate(model.shapes):
        if model.roles[k] not in product.roles:
            continue

        def view(value: int, k: int = k, matrix: tuple[int, int] = matrix) -> Tensor:
            shape = source.scratch.shape(value)
            rows, columns = extent(shape, matrix)
            start = scratch.storage_offset() + source.scratch.offset(value, model) + model.offset(shape, k)
            return scratch.as_strided((len(scratch), rows, columns), (scratch.shape[1], columns, 1), start)

        found = PRODUCTS[product.op](*(view(i) for i in (*product.matrices, *numbers)))
        result = view(product.result)
        torch.where(alive[:, None, None] != 0, found, result, out=result)


def workspace(source: Source, model: Model) -> int:
    """Numbers per lane that `carry_out` holds at most, besides ``scratch``, for any product of the source."""
    products = [entry for entry in source.step if isinstance(entry, Product)]
    square = [p for p in products if p.op in SQUARE]
    of_square = (_SQUARES * max(s) ** 2 for p in square for s, role in zip(model.shapes, model.roles, strict=True)
                 if role in p.roles and min(s) > 1)  # fmt: skip
    others = (_held(p, run) for p in products if p not in square for run in _runs(model, p.roles))
    return max((*of_square, *others, model.n_rows if square else 0), default=0)


def _held(product: Product, run: _Run) -> int:
    entries, side = run.rows * run.columns, min(run.rows, run.columns)
    of_each = _SORTED * entries if product.op == "order_statistic" else 2 * (entries + side * side)
    return run.count * of_each


@dataclass(frozen=True)
class _Run:
    """Tensors of one shape that lie equally far apart. ``offset``, ``index``: of the first tensor's elements and its
    number; ``spacing``, ``step``: from one to the next."""

    rows: int
    columns: int
    offset: int
    index: int
    count: int = 1
    spacing: int = 0
    step: int = 0


def _runs(model: Model, roles: frozenset[int]) -> Iterator[_Run]:
    """The tensors of these roles, in runs: a matrix alone, because it keeps the device busy; vectors together, because
    they do not."""
    vectors: dict[tuple[int, int], list[tuple[int, int]]] = {}
    offset = 0
    for index, (rows, columns) in enumerate(model.shapes):
        if model.roles[index] not in roles:
            pass
        elif min(rows, columns) > 1:
            yield _Run(rows, columns, offset, index)
        else:
            vectors.setdefault((rows, columns), []).append((offset, index))
        offset += rows * columns
    for shape, starts in vectors.items():
        while starts:
            count = _equally_spaced(starts)
            spacing, step = (b - a for a, b in zip(starts[0], starts[1], strict=True)) if count > 1 else (0, 0)
            yield _Run(*shape, *starts[0], count, spacing, step)
            starts = starts[count:]


def _equally_spaced(starts: list[tuple[int, int]]) -> int:
    """How many of the first starts (offset, index) are equally far apart."""
    gaps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(starts)]
    return 1 + next((k for k, gap in enumerate(gaps) if gap != gaps[0]), len(gaps))
