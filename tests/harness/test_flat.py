"""The flat training agrees with the literal loop: over the catalogue, with queries, when it stops early or diverges."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from genomes import catalogue
from genomes.backends import torch_reference
from genomes.backends.flat.optimizer import FlatProgram, serves
from genomes.compiler.lowering import lower
from genomes.compiler.program import Program
from harness import flat
from harness.flat_network import FlatNetwork
from harness.model import backward, forward, initial_parameters, move_running_stats, network_layout, predict
from harness.optimizer import GuardedOptimizer
from harness.result import Training
from harness.task import Instance, seed_bytes
from harness.train import LiteralLoop, run, train
from tests.genomes.drive import from_expression

ROOT = Path(__file__).parents[2]
SEED = seed_bytes(3)
FLOAT64_BOUND = 1e-9
JUMP = {2: 0.03, 4: 0.05}  # by depth: what a unit whose gradient is rounding alone may change in float32, see below
ORDERS = 8  # of samples: one alone may miss the event that the flat path met, and which one does depends on the CPU
SPREADS = 100  # reordering moves the sums over samples alone, the flat path every rounding


class Reordered(LiteralLoop):
    """Another correct implementation: the samples of each batch in another order, so that sums round differently."""

    def __init__(self, order: int, *loop: Any) -> None:
        super().__init__(*loop)
        self.order = torch.Generator().manual_seed(order)

    def train_batch(self, x: Tensor, y: Tensor, epoch: int, *known: float | None) -> float:
        order = torch.randperm(len(x), generator=self.order)
        return super().train_batch(x[order], y[order], epoch, *known)


def both(program: Program, instance: Instance, dtype: torch.dtype = torch.float64, **options) -> list[Training]:
    """The flat training, and the literal one."""
    options = {"epochs": 3, "dtype": dtype} | options
    literal = train(instance, torch_reference.optimizer(program), **options)
    return [flat.train(instance, FlatProgram(program), **options), literal]


def reordered(order: int, program: Program, instance: Instance, dtype: torch.dtype, epochs: int) -> Training:
    optimizer = GuardedOptimizer(torch_reference.optimizer(program))
    return run(Reordered(order, instance, optimizer, dtype, torch.device("cpu")), epochs=epochs, patience=50)


def distance(a: Training, b: Training) -> float:
    """The largest relative difference of two trainings' losses: training and validation of all epochs, test where both
    saved the same epoch's model."""
    assert (a.status, a.epochs_run) == (b.status, b.epochs_run)
    same = a.best_epoch == b.best_epoch
    x, y = (torch.tensor(t.train_loss + t.val_loss + [t.test_loss] * same, dtype=torch.float64) for t in (a, b))
    return ((x - y).abs() / y.abs()).max().item()


def check_parity(name: str, depth: int, dtype: torch.dtype, epochs: int = 3) -> None:
    """Losses of all epochs, flat against literal.

    In float64 they agree to 1e-9, but for entries where the literal loop parts from itself when samples are reordered:
    a bias of a unit that is active on a whole batch has gradient 0 before BatchNorm, in floating point its rounding,
    and methods that look at signs alone (cautious ones, Lion) turn any rounding into a full step. There, and in
    float32 everywhere, the bound is SPREADS times that spread of two correct implementations plus, in float32, JUMP:
    the spread is lumpy, since whether such a unit falls this or that way is one event. Measured over the catalogue
    (tig, seed 3, three epochs, three orders): spread and distance 1e-8 ... 3e-1 at depth 2, 1e-4 ... 1e-1 at depth 4.
    """
    program, instance = lower(catalogue.load(name)), Instance("tig", depth, SEED)
    ours, literal = both(program, instance, dtype, epochs=epochs)
    assert agree(ours, literal, program, instance, dtype, epochs)


def agree(
    ours: Training, literal: Training, program: Program, instance: Instance, dtype: torch.dtype, epochs: int
) -> bool:
    """Whether a training is as near to the literal one as `check_parity` says."""
    found = distance(ours, literal)
    jump = JUMP[instance.num_hidden_layers] if dtype is torch.float32 else 0.0
    spreads = (distance(reordered(order, program, instance, dtype, epochs), literal) for order in range(ORDERS))
    return found <= FLOAT64_BOUND or any(found <= SPREADS * spread + jump for spread in spreads)


@pytest.mark.parametrize("name", catalogue.names())
def test_losses_agree_with_the_literal_loop(name: str):
    check_parity(name, 2, torch.float64, epochs=2)


@pytest.mark.parametrize("name", ["adam", "adamw", "cautious_adanw", "lion", "muon", "nesterov"])
def test_losses_agree_in_single_precision(name: str):
    check_parity(name, 2, torch.float32, epochs=2)


@pytest.mark.parametrize("name", ["adam", "cautious_adanw"])
def test_losses_agree_in_a_deeper_network(name: str):
    check_parity(name, 4, torch.float64, epochs=2)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("depth", [2, 4])
@pytest.mark.parametrize("name", catalogue.names())
def test_losses_agree_in_every_way(name: str, depth: int, dtype: torch.dtype):
    check_parity(name, depth, dtype)


def test_the_whole_catalogue_takes_the_flat_path():
    assert all(serves(lower(catalogue.load(name))) for name in catalogue.names())


@pytest.mark.parametrize("task", ["tig", "seed"])
def test_queries_move_the_gradient_and_revert_what_the_task_reverts(task: str):
    program = from_expression("softsign(g) * 1e-3", query=("0.9 * delta", "t % 3 > 0"))
    assert distance(*both(program, Instance(task, 2, SEED), epochs=2)) < FLOAT64_BOUND


@pytest.mark.parametrize("instance", [Instance("seed", 1, SEED), Instance("tig", 3, SEED, "shared")], ids=str)
def test_other_shapes(instance: Instance):
    assert distance(*both(lower(catalogue.load("adam")), instance, epochs=1)) < FLOAT64_BOUND


def test_a_network_without_anything_to_train():
    ours, literal = both(lower(catalogue.load("adam")), Instance("tig", 1, SEED), epochs=2)
    assert distance(ours, literal) < FLOAT64_BOUND


def test_patience_and_the_caller_end_both_at_the_same_epoch():
    still = from_expression("g * 0", post=["delta * 0"])
    ours, literal = both(still, Instance("tig", 2, SEED), epochs=20, patience=2)
    assert distance(ours, literal) < FLOAT64_BOUND
    assert ours.epochs_run < 20
    stopped = flat.train(Instance("tig", 2, SEED), FlatProgram(still), on_epoch=lambda epoch, *_: epoch == 1)
    assert (stopped.status, stopped.epochs_run) == ("stopped", 2)


@pytest.mark.parametrize("text", ["g * 1e30 * 1e30", "where(t > 10, exp(80) * exp(80) * (g - g), 1e-3 * g)"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_both_diverge_alike(text: str, dtype: torch.dtype):
    ours, literal = both(from_expression(text), Instance("tig", 2, SEED), dtype)
    assert (ours.status, ours.epochs_run, ours.best_epoch) == (literal.status, literal.epochs_run, literal.best_epoch)
    assert ours.message == literal.message


def test_not_a_number_stays_so_through_the_network():
    network, x = _network(torch.float32), torch.ones(4, 1)
    network.params[2][7, 3] = float("nan")  # a weight of the second layer
    layers = network.layers(network.params)
    assert network.forward(layers, x, move_running_stats=True).isnan().any()
    assert network.predict(layers, x).isnan().any()


def _network(dtype: torch.dtype) -> FlatNetwork:
    instance = Instance("tig", 4, SEED)
    return FlatNetwork(network_layout("tig", 4), [torch.tensor(v, dtype=dtype) for v in initial_parameters(instance)])


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-4)], ids=str)
def test_passes_are_those_of_the_model(dtype: torch.dtype, bound: float):
    network, layout = _network(dtype), network_layout("tig", 4)
    x = torch.linspace(-1, 1, 104, dtype=dtype).reshape(-1, 1)
    before = [p.clone() for p in network.params]
    passed = forward(layout, before, x)
    layers = network.layers(network.params)
    prediction = network.forward(layers, x, move_running_stats=True)
    assert torch.allclose(prediction, passed.prediction, rtol=0, atol=bound)
    for ours, expected in zip(network.params, move_running_stats(layout, before, passed), strict=True):
        assert torch.allclose(ours, expected, rtol=bound, atol=bound)
    network.backward(layers, passed.prediction * 2)
    expected = [
        g for g, t in zip(backward(layout, before, passed, passed.prediction * 2), layout.trainable, strict=True) if t
    ]
    for ours, theirs in zip(network.gradient.split([g.numel() for g in expected]), expected, strict=True):
        assert (ours - theirs.flatten()).abs().max() <= bound * expected[0].abs().max()
    assert torch.allclose(network.predict(layers, x), predict(layout, network.params, x), atol=bound)


def _outcome(name: str, depth: int) -> dict:
    program = lower(catalogue.load(name))
    training = flat.train(Instance("tig", depth, SEED), FlatProgram(program), epochs=2)
    return dataclasses.asdict(dataclasses.replace(training, seconds=0.0))


def test_a_lane_is_bit_equal_whatever_ran_before_it():
    first = _outcome("cautious_adanw", 2)
    flat.train(Instance("tig", 2, SEED), FlatProgram(from_expression("g * 1e30 * 1e30")), epochs=2)  # full of NaN
    _outcome("adam", 3)
    assert _outcome("cautious_adanw", 2) == first
    code = (
        "import torch; torch.set_num_threads(1); from tests.harness.test_flat import _outcome;"
        "print(repr(_outcome('cautious_adanw', 2)))"
    )
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == repr(first)
