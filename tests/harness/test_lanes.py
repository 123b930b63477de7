"""Many lanes at once train as each does alone in the literal loop: passes, early stopping, divergence, queries."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from evo.training.flat_lanes import FlatLanes
from genomes import catalogue
from genomes.backends import torch_reference
from genomes.compiler.lowering import lower
from genomes.compiler.program import Program
from genomes.language.genome import parse
from harness import lane_kernels, lane_optimizer, lanes
from harness.data import TRAIN_SIZE, SampleOrders
from harness.lane_kernels import KernelPasses
from harness.lane_network import Gradients, Kinds, LaneNetwork, Norm, Passes
from harness.lane_passes import TorchPasses
from harness.model import backward, forward, initial_parameters, move_running_stats, network_layout, predict
from harness.result import Training
from harness.task import Instance, seed_bytes
from harness.train import train
from tests.genomes.cuda_on_cpu import compile_kernels
from tests.genomes.drive import from_expression
from tests.harness.test_flat import distance

BOUND = {torch.float64: 1e-12, torch.float32: 1e-5}
REALS = list(lane_kernels.REALS)


@pytest.fixture(scope="module")
def kernels() -> dict[torch.dtype, KernelPasses]:
    texts = {real: lane_kernels.text(real) for real in lane_kernels.REALS.values()}
    compiled = compile_kernels(texts)
    return {dtype: KernelPasses(compiled[real]) for dtype, real in lane_kernels.REALS.items()}


def instance(lane: int = 0, depth: int = 2, task: str = "tig", init: str = "per_layer") -> Instance:
    return Instance(task, depth, seed_bytes(3 + 10_000 * lane), init)


def together(programs: list[Program], instances: list[Instance], **options) -> list[Training]:
    options = {"epochs": 3, "dtype": torch.float64} | options
    found = dict(lanes.train(instances, FlatLanes(programs), **options))
    assert sorted(found) == list(range(len(programs)))
    return [found[lane] for lane in range(len(programs))]


def alone(program: Program, instance: Instance, **options) -> Training:
    options = {"epochs": 3, "dtype": torch.float64} | options
    return train(instance, torch_reference.optimizer(program), **options)


def without_time(training: Training) -> Training:
    return dataclasses.replace(training, seconds=0.0)


# --- passes ---------------------------------------------------------------------------------------------------------


def values(seed: int, *shape: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(seed)
    found = torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu")
    return found.to(torch.get_default_device(), dtype)


def every_pass(passes: Passes, rows: int, dtype: torch.dtype, nan: bool) -> list[Tensor]:
    """What all passes make of the same values: three lanes, the second without flag, parameters spread over slabs."""
    width, flags = 256, torch.tensor([1, 0, 1], dtype=torch.int32)
    slab = values(1, 3, 9 * width, dtype=dtype)
    slab[:, 3 * width : 5 * width].abs_()
    bias, scale, shift, _, running_var, mean, inverse_std, *_ = slab.split(width, 1)
    norm = Norm(scale, shift, slab[:, 7 * width : 8 * width], running_var, mean.contiguous(), inverse_std.contiguous())
    block, output, grad, predicted = (values(k, 3, 128, width, dtype=dtype)[:, :rows] for k in range(2, 6))
    if nan:
        block[2, 1, 7] = math.nan
    passes.normalize(block, output, bias, norm, flags)
    gradient = torch.zeros(3, 4 * width, dtype=dtype)
    parts = gradient.split(width, 1)
    passes.normalize_backward(grad, block, norm, Gradients(parts[1], None, parts[3]))
    passes.normalize_by_running(predicted, bias, norm)
    target, lost = values(6, 3, 5000, dtype=dtype), torch.zeros(3, dtype=torch.int32)
    passes.copy_lanes(target, values(7, 3, 5000, dtype=dtype), flags)
    for lane in (0, 1):
        target[lane, 4321] = math.nan
    passes.mark_nan(lost, target, flags)
    return [block, output, norm.mean, norm.inverse_std, slab, grad, gradient, predicted, target, lost]


@pytest.mark.parametrize("nan", [False, True], ids=["finite", "nan"])
@pytest.mark.parametrize("rows", [128, 104, 2])
@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_kernels_do_what_torch_operations_do(kernels, dtype: torch.dtype, rows: int, nan: bool):
    compare_passes(kernels[dtype], rows, dtype, nan)


def compare_passes(passes: Passes, rows: int, dtype: torch.dtype, nan: bool) -> None:
    """With the torch operations, on torch's default device."""
    found, expected = every_pass(passes, rows, dtype, nan), every_pass(TorchPasses(), rows, dtype, nan)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=BOUND[dtype], atol=BOUND[dtype] * 10, equal_nan=True)
    assert found[-1].tolist() == [1, 0, 0]


def compare_orders(passes: Passes, device: torch.device) -> None:
    """With SampleOrders, of some seeds over 320 epochs in uneven parts."""
    seeds = [*(seed_bytes(3 + 10_000 * k) for k in range(4)), bytes(range(32)), bytes([255] * 32)]
    expected = [SampleOrders(seed) for seed in seeds]
    shuffle, first = passes.shuffler(seeds, device), 0
    for epochs in (1, 10, 2, 7, 130, 1, 29, 140):
        orders = torch.full((epochs, len(seeds), TRAIN_SIZE), -1, dtype=torch.int64, device=device)
        shuffle(orders)
        wanted = [[of_seed[epoch] for of_seed in expected] for epoch in range(first, first + epochs)]
        assert np.array_equal(orders.cpu().numpy(), wanted)
        first += epochs


@pytest.mark.parametrize("which", ["torch", "kernels"])
def test_samples_are_shuffled_as_in_the_literal_loop(kernels, which: str):
    passes = TorchPasses() if which == "torch" else kernels[torch.float32]
    compare_orders(passes, torch.device("cpu"))


@pytest.mark.parametrize("which", ["torch", "kernels"])
@pytest.mark.parametrize(("task", "depth"), [("tig", 3), ("seed", 2), ("tig", 1)])
def test_passes_of_the_network_are_those_of_the_model(kernels, which: str, task: str, depth: int):
    dtype, layout = torch.float64, network_layout(task, depth)
    passes = TorchPasses() if which == "torch" else kernels[dtype]
    kinds, many = Kinds.of(layout), [instance(lane, depth, task) for lane in range(3)]
    theta, frozen, running = kinds.initial(many, torch.zeros(0, dtype=dtype))
    theta += 0.1 * values(7, *theta.shape, dtype=dtype)
    gradient = torch.zeros_like(theta)
    network, params = LaneNetwork(kinds, gradient, running, passes), kinds.views(theta, frozen, running)
    x, grad = values(8, 3, 104, layout.shapes[0][1], dtype=dtype), values(9, 3, 104, layout.shapes[-5][0], dtype=dtype)
    before = [[p[lane].clone() for p in params] for lane in range(3)]
    grad = grad[:, :, : layout.shapes[layout.linear(depth).start][0]]
    predicted = network.forward(params, x, torch.tensor([1, 1, 0], dtype=torch.int32))
    network.backward(params, grad)
    for lane in range(3):
        passed = forward(layout, before[lane], x[lane])
        torch.testing.assert_close(predicted[lane], passed.prediction, rtol=1e-10, atol=1e-10)
        moved = move_running_stats(layout, before[lane], passed) if lane < 2 else before[lane]
        for ours, theirs in zip(params, moved, strict=True):
            torch.testing.assert_close(ours[lane], theirs, rtol=1e-10, atol=1e-10)
        theirs = backward(layout, before[lane], passed, grad[lane])
        expected = torch.cat([theta[lane, :0], *(theirs[i].flatten() for i in kinds.trainable)])
        torch.testing.assert_close(gradient[lane], expected, rtol=1e-9, atol=1e-9)
        error = predict(layout, moved, x[lane]) - predicted[lane]
        found = network.squared_errors(params, x, predicted)[lane].item()
        assert found == pytest.approx((error * error).sum().item(), rel=1e-9)


def test_slabs_begin_with_each_instances_own_parameters():
    many, layout = [instance(1), instance(0), instance(1)], network_layout("tig", 2)
    kinds = Kinds.of(layout)
    params = kinds.views(*kinds.initial(many, torch.zeros(0)))
    for lane, of in enumerate(many):
        for ours, expected in zip(params, initial_parameters(of), strict=True):
            assert torch.equal(ours[lane], torch.from_numpy(expected.copy()))


@pytest.mark.parametrize("kept", [[], [0], [4], [1, 2, 4], [0, 1, 2, 3, 4]], ids=str)
def test_lanes_move_within_their_slab(monkeypatch: pytest.MonkeyPatch, kept: list[int]):
    monkeypatch.setattr(lane_optimizer, "_MOVED_LANES", 2)
    slab = torch.arange(15.0).reshape(5, 3)
    expected = slab[kept].clone()
    found = lane_optimizer.keep_lanes(slab, torch.tensor(kept, dtype=torch.int64))
    assert torch.equal(found, expected)
    assert found.untyped_storage().data_ptr() == slab.untyped_storage().data_ptr()
    assert found.is_contiguous()


# --- the loop -------------------------------------------------------------------------------------------------------


def test_lanes_train_as_each_does_alone():
    names = ["adam", "lion", "sam_last_gradient", "nadam", "heavy_ball"]
    programs, many = [lower(catalogue.load(name)) for name in names], [instance(lane) for lane in range(5)]
    for ours, program, of in zip(together(programs, many), programs, many, strict=True):
        assert distance(ours, alone(program, of)) < 1e-9


@pytest.mark.parametrize(
    "of", [instance(0, 2, "seed"), instance(0, 3, "tig", "shared"), instance(0, 1, "seed"), instance(0, 1)], ids=str
)
def test_other_networks(of: Instance):
    program = lower(catalogue.load("adam"))
    for ours in together([program, program], [of, of], epochs=2):
        assert distance(ours, alone(program, of, epochs=2)) < 1e-9


@pytest.mark.parametrize("task", ["tig", "seed"])
def test_queries_move_the_gradient_and_revert_what_the_task_reverts(task: str):
    asking = from_expression("g * 1e-5", query=("0.9 * delta", "t % 3 > 0"))
    quiet, of = lower(catalogue.load("adam")), instance(0, 2, task)
    for ours, program in zip(together([asking, quiet], [of, of], epochs=2), (asking, quiet), strict=True):
        assert distance(ours, alone(program, of, epochs=2)) < 1e-9


MOVED = """
genome: 1
name: moved
lr: 1e-3
terms: [{expr: "adam(g)"}]
query: {offset: "hold(output_shift(0), last_step_of_epoch) * 0.3", when: "t % 2 == 0", as_evaluated: false}
evaluation: {offset: "output_shift(0) * 0.3"}
"""
SEEING = {  # how queries see a frozen end
    "as it trains": lower(parse(MOVED)),
    "not at all": lower(catalogue.load("adam")),
    "as evaluation does": lower(parse(MOVED.replace("false", "true"))),
}


def test_queries_see_a_frozen_end_as_evaluation_does():
    of = instance(0, 3)
    expected = [alone(program, of, epochs=4) for program in SEEING.values()]
    for ours, wanted in zip(together(list(SEEING.values()), [of] * 3, epochs=4), expected, strict=True):
        assert distance(ours, wanted) < 1e-9
    assert distance(expected[0], expected[2]) > 1e-5


@pytest.fixture
def frequent_looks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lanes, "LOOK_EPOCHS", 2)


STILL = from_expression("g * 0", post=["delta * 0"])
MIXED = {
    "adam": lower(catalogue.load("adam")),
    "still": STILL,
    "still later": from_expression("where(t > 24, 0, 1e-6 * g)"),
    "infinite": from_expression("exp(abs(g) * 1e9) ** 40"),
    "lost in the third epoch": from_expression("where(t > 20, exp(abs(g) * 1e9) ** 40, 1e-6 * g)"),
    "slow": from_expression("1e-6 * g"),
}


@pytest.mark.usefixtures("frequent_looks")
def test_every_lane_ends_when_and_how_it_would_alone():
    options = {"epochs": 9, "patience": 3}
    programs = [*MIXED.values(), lower(catalogue.load("nadam"))]
    many = [instance(lane % 2) for lane in range(len(programs))]
    found = together(programs, many, **options)
    assert {training.status for training in found} == {"finished", "diverged"}
    assert len({training.epochs_run for training in found}) >= 4
    for ours, program, of in zip(found, programs, many, strict=True):
        expected = alone(program, of, **options)
        for field in ("status", "message", "epochs_run", "best_epoch", "passed", "target_loss"):
            assert getattr(ours, field) == getattr(expected, field)
        assert (ours.quality is None) == (expected.quality is None)
        assert (ours.quality or 0) == pytest.approx(expected.quality or 0, rel=1e-5)
        for a, b in zip(ours.train_loss + ours.val_loss, expected.train_loss + expected.val_loss, strict=True):
            assert a == pytest.approx(b, rel=1e-6, nan_ok=True)


@pytest.mark.usefixtures("frequent_looks")
@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_a_diverging_lane_leaves_the_others_bit_equal(dtype: torch.dtype):
    good, options = [MIXED["adam"], MIXED["slow"]], {"epochs": 5, "dtype": dtype}
    calm = together([good[0], STILL, good[1]], [instance(0), instance(1), instance(0)], **options)
    for bad in ("infinite", "lost in the third epoch"):
        mixed = together([good[0], MIXED[bad], good[1]], [instance(0), instance(1), instance(0)], **options)
        for lane in (0, 2):
            assert without_time(mixed[lane]) == without_time(calm[lane])


@pytest.mark.parametrize("dtype", REALS, ids=str)
def test_order_and_number_of_lanes_do_not_matter(dtype: torch.dtype):
    """To the last bit on the CPU, whose batched products go matrix by matrix."""
    programs = [lower(catalogue.load(name)) for name in ("adam", "lion", "nadam")]
    many = [instance(lane) for lane in range(3)]
    found = together(programs, many, dtype=dtype)
    turned = together(programs[::-1], many[::-1], dtype=dtype)[::-1]
    single = [together([program], [of], dtype=dtype)[0] for program, of in zip(programs, many, strict=True)]
    for a, b, c in zip(found, turned, single, strict=True):
        assert without_time(a) == without_time(b) == without_time(c)


def test_a_batch_has_one_shape_and_some_epochs():
    program = MIXED["adam"]
    with pytest.raises(ValueError, match="one depth"):
        together([program, program], [instance(0, 2), instance(0, 3)])
    with pytest.raises(ValueError, match="epochs"):
        together([program], [instance()], epochs=0)
