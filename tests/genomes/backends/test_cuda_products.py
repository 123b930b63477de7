"""Products of matrices between kernels: what the library is asked to do, and that it does it for each lane alone."""

from __future__ import annotations

import pytest
import torch

from genomes import catalogue
from genomes.backends.cuda.layout import Model, Product, Source
from genomes.backends.cuda.products import PRODUCTS, carry_out, workspace
from genomes.backends.cuda.source import bytes_per_lane, render
from genomes.backends.torch_reference import OPERATIONS
from genomes.compiler.lowering import lower
from genomes.compiler.program import MATRIX, SQUARE
from tests.genomes import cuda_cases

# vectors that lie equally far apart and others, matrices of both orientations, a tensor of one entry
SHAPES = ((8, 1), (8,), (8,), (5, 8), (5,), (8, 5), (8,), (1, 1), (6, 6), (1, 4), (8,))
MODEL = Model.from_context(SHAPES, ["weight"] * len(SHAPES), [True] * len(SHAPES), [0] * len(SHAPES))
COUNTS = {
    "product used twice": [1, 1],
    "two products of one matrix": [1, 1],
    "products and reductions in turn": [10, 10],
}


def products(source: Source) -> list[Product]:
    return [entry for entry in source.step if isinstance(entry, Product)]


def test_the_product_is_that_of_the_reference_for_each_lane_and_tensor_and_dead_lanes_stay():
    source = render(cuda_cases.primitive_cases()["orthogonalise"], "double")
    (product,) = products(source)
    generator = torch.Generator().manual_seed(0)
    size = source.sizes(MODEL)["scratch"]
    # scratch is a part of a larger array; its coefficients are drawn too, small enough that no result overflows
    whole = 0.3 * torch.randn(3 * size + 7, dtype=torch.float64, generator=generator)
    scratch, before = whole[7:].view(3, size), whole.clone()
    carry_out(product, source, MODEL, scratch, torch.tensor([1, 0, 1], dtype=torch.int32))
    wanted = before.clone()
    for lane in (0, 2):
        row, changed = before[7:].view(3, size)[lane], wanted[7:].view(3, size)[lane]
        start = source.scratch.offset(product.matrices[0], MODEL)
        for k, (rows, columns) in enumerate(MODEL.shapes):
            x = row[start : start + rows * columns].view(rows, columns)
            for link in product.numbers:
                x = OPERATIONS[product.op](x, *(float(row[source.scratch.offset(i, MODEL) + k]) for i in link))
            changed[start : start + rows * columns] = x.flatten()
            start += rows * columns
    torch.testing.assert_close(whole, wanted, rtol=1e-9, atol=1e-300)
    torch.testing.assert_close(whole[:7], before[:7], rtol=0, atol=0)
    torch.testing.assert_close(scratch[1], before[7:].view(3, size)[1], rtol=0, atol=0)


@pytest.mark.slow
def test_nothing_depends_on_values_so_that_a_step_can_be_captured():
    """On the meta device there are no values: reading one raises."""
    known = [lower(catalogue.load(name)) for name in ("muon", "shampoo", "kl_shampoo", "soap")]
    for program in (*known, cuda_cases.matrix_cases()["quantile of quantiles"]):
        source = render(program)
        scratch = torch.empty(4, source.sizes(MODEL)["scratch"], device="meta")
        for product in products(source):
            carry_out(product, source, MODEL, scratch, torch.ones(4, dtype=torch.int32, device="meta"))


def test_square_values_lie_tensor_after_tensor_and_diagonals_where_there_is_one_column():
    """Of outer(g, theta) alone: what the library writes is x y^T of each tensor, in lanes that are alive."""
    source = render(cuda_cases.primitive_cases()["outer"], "double")
    outer = next(product for product in products(source) if product.op == "outer")
    scratch = torch.rand(2, source.sizes(MODEL)["scratch"], dtype=torch.float64)
    before = scratch.clone()
    carry_out(outer, source, MODEL, scratch, torch.tensor([1, 0], dtype=torch.int32))
    x, y = (before[0, source.scratch.offset(i, MODEL) :][: MODEL.n_params] for i in outer.matrices)
    wanted, offset = [], 0
    for rows, columns in MODEL.shapes:
        a, b = (part[offset : offset + rows * columns].view(rows, columns) for part in (x, y))
        wanted.append((a * b if columns == 1 else a @ b.T).flatten())
        offset += rows * columns
    start = source.scratch.offset(outer.result, MODEL)
    found = scratch[0, start : start + MODEL.n_left]
    torch.testing.assert_close(found, torch.cat(wanted))
    scratch[0, start : start + MODEL.n_left] = before[0, start : start + MODEL.n_left]
    torch.testing.assert_close(scratch, before, rtol=0, atol=0)


def test_memory_of_square_values_is_counted():
    """SOAP at one matrix: parameters, gradients, updates; averages, statistics and bases; what products leave."""
    one = Model(((256, 256),), (1,), (0.0,), (0,), 1)
    program = lower(catalogue.load("soap"))
    source = render(program)
    assert one.n_left == one.n_right == 256 * 256
    assert source.sizes(one)["state"] == 6 * 256 * 256
    assert bytes_per_lane(program, one) >= 4 * (source.sizes(one)["scratch"] + workspace(source, one) + 9 * 256 * 256)


def test_tensors_that_do_not_need_a_product_are_left_out():
    roles = ["weight" if len(shape) == 2 else "bias" for shape in SHAPES]
    model = Model.from_context(SHAPES, roles, [True] * len(SHAPES), [0] * len(SHAPES))
    source = render(cuda_cases.matrix_cases()["product for weights"], "double")
    (product,) = products(source)
    scratch = torch.rand(2, source.sizes(model)["scratch"], dtype=torch.float64)
    before = scratch.clone()
    carry_out(product, source, model, scratch, torch.ones(2, dtype=torch.int32))
    start = source.scratch.offset(product.matrices[0], model)
    sizes = [rows * columns for rows, columns in model.shapes]
    changed = (scratch != before)[:, start : start + model.n_params].split(sizes, dim=1)
    assert [bool(part.any()) for part in changed] == [role == "weight" for role in roles]


def test_quantiles_of_one_value_share_its_slab():
    source = render(cuda_cases.primitive_cases()["quantile"])
    below, above = products(source)
    assert below.matrices == above.matrices
    assert below.result != above.result
    assert source.scratch.size(MODEL) == MODEL.n_params + 4 * MODEL.n_tensors


def test_every_matrix_operation_has_a_library_call():
    assert set(PRODUCTS) == {*MATRIX, *SQUARE}


def test_products_that_follow_one_another_are_one_library_call_and_one_slab():
    source = render(lower(catalogue.load("muon")))
    assert [len(product.numbers) for product in products(source)] == [5]
    found = {name: [len(p.numbers) for p in products(render(program))]
             for name, program in cuda_cases.matrix_cases().items() if name in COUNTS}  # fmt: skip
    assert found == COUNTS


def test_the_text_says_where_a_library_works_and_with_what():
    text = render(lower(catalogue.load("muon")), literal=True).text
    before, after = text.split("// Here a library computes odd_polynomial")
    assert "void matrices_1(" in before
    assert "scratch[n_params + n_tensors + index] = 3.4445;" in before
    assert "scratch[n_params + n_tensors + index], " in after.split("\n\n")[0]
    assert "; 5 times" in after.split("\n\n")[0]
    assert "void update_elements(" in after


def test_memory_of_products_is_that_of_the_largest_matrix_alone():
    """Muon: gradients and so on, its slots, a slab for the matrices, two copies each of a tensor and its square."""
    one = Model(((256, 256),) * 4, (1,) * 4, (0.0,) * 4, (0, 1, 2, 3), 4)
    program = lower(catalogue.load("muon"))
    assert workspace(render(program), one) == 4 * 256 * 256
    slabs = 3 + len(program.slots) + 1 + 1
    assert slabs * one.n_params * 4 <= bytes_per_lane(program, one) <= slabs * one.n_params * 4 + 10_000
