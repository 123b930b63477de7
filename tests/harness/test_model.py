"""The network: layout, initial values, forward and backward against the oracle and against autograd."""

import numpy as np
import pytest
import torch

from harness.chacha import StdRng
from harness.model import backward, forward, initial_parameters, move_running_stats, network_layout, predict
from harness.task import TASKS, Instance, seed_bytes
from tests.harness import oracle


def layer_seeds(seed, count):
    rng = StdRng(seed)
    return [int.from_bytes(rng.gen_bytes(32)[:8], "little") for _ in range(count)]


def random_network(task, hidden, dtype=torch.float64, n=37):
    """A network whose every tensor is away from its initial value, and a batch."""
    generator = torch.Generator().manual_seed(hidden)
    params = []
    for value, role in zip(
        initial_parameters(Instance(task, hidden, seed_bytes(7))),
        network_layout(task, hidden).roles,
        strict=True,
    ):
        noise = torch.rand(value.shape, generator=generator, dtype=torch.float64) - 0.5
        params.append((torch.tensor(value) + (0.2 if role != "weight" else 0.02) * noise).to(dtype))
    x = torch.rand(n, TASKS[task].input_dims, generator=generator, dtype=torch.float64) * 2 - 1
    y = torch.randn(n, TASKS[task].output_dims, generator=generator, dtype=torch.float64)
    return params, x.to(dtype), y.to(dtype)


def test_parameter_order_is_linears_then_norms_with_running_statistics():
    layout = network_layout("tig", 2)
    assert layout.shapes == (
        *((256, 1), (256,), (256, 256), (256,), (2, 256), (2,)),
        *[(256,)] * 8,
    )
    norm = ("norm_scale", "norm_shift", "running_mean", "running_var")
    assert layout.roles == (*("weight", "bias") * 3, *norm * 2)
    assert layout.layers == (0, 0, 1, 1, 2, 2, 0, 0, 0, 0, 1, 1, 1, 1)
    assert layout.sizes == [256, 256, 65536, 256, 512, 2, *[256] * 8]


@pytest.mark.parametrize("hidden", [1, 2, 4])
def test_tig_freezes_the_last_two_linears_and_the_last_norm(hidden):
    layout = network_layout("tig", hidden)
    trained = {
        (role, layer) for role, layer, flag in zip(layout.roles, layout.layers, layout.trainable, strict=True) if flag
    }
    first = range(hidden - 1)
    roles = ("weight", "bias", "norm_scale", "norm_shift")
    assert trained == {(role, layer) for role in roles for layer in first}


def test_seed_trains_everything_but_running_statistics():
    layout = network_layout("seed", 3)
    expected = [role not in ("running_mean", "running_var") for role in layout.roles]
    assert list(layout.trainable) == expected


@pytest.mark.parametrize("task", ["tig", "seed"])
def test_initial_values_equal_the_oracle(golden, task):
    seed = golden[1].seed
    ours = initial_parameters(Instance(task, 3, seed))
    theirs = oracle.initial_parameters(task, 3, golden[1].layer_seeds)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, other, atol=2e-9, rtol=0)


def test_weights_fill_their_range():
    weight = initial_parameters(Instance("tig", 4, seed_bytes(0)))[2]
    limit = 0.5 * (2 / 512) ** 0.5
    assert limit * 0.999 < weight.max() <= limit
    assert -limit <= weight.min() < -limit * 0.999


def test_shared_init_gives_layers_of_equal_shape_equal_weights():
    per_layer = initial_parameters(Instance("tig", 4, seed_bytes(0)))
    shared = initial_parameters(Instance("tig", 4, seed_bytes(0), init="shared"))
    assert np.array_equal(shared[2], shared[4])
    assert not np.array_equal(per_layer[2], per_layer[4])
    assert np.array_equal(shared[0], per_layer[0])  # the one seed is the first layer's


@pytest.mark.parametrize("task", ["tig", "seed"])
@pytest.mark.parametrize("hidden", [2, 4])
def test_forward_and_gradients_equal_the_oracle(task, hidden):
    layout = network_layout(task, hidden)
    params, x, y = random_network(task, hidden)
    passed = forward(layout, params, x)
    gradients = backward(layout, params, passed, 2 * (passed.prediction - y))
    prediction, moved, expected = oracle.train_batch([p.numpy() for p in params], hidden, x.numpy(), y.numpy())
    np.testing.assert_allclose(passed.prediction, prediction, rtol=1e-10, atol=1e-12)
    for gradient, other, flag in zip(gradients, expected, layout.trainable, strict=True):
        np.testing.assert_allclose(gradient, other if flag else 0 * other, rtol=1e-9, atol=1e-11)
    stats = [
        p
        for p, role in zip(move_running_stats(layout, params, passed), layout.roles, strict=True)
        if role in ("running_mean", "running_var")
    ]
    for mine, other in zip(stats, moved, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-12)
    np.testing.assert_allclose(
        predict(layout, params, x),
        oracle.evaluate([p.numpy() for p in params], hidden, x.numpy()),
        rtol=1e-10,
    )


@pytest.mark.parametrize("task", ["tig", "seed"])
def test_the_oracle_itself_agrees_with_autograd(task):
    hidden = 3
    params, x, y = random_network(task, hidden)
    leaves = [p.clone().requires_grad_() for p in params]
    signal = x
    for i in range(hidden):
        signal = torch.relu(torch.nn.functional.linear(signal, leaves[2 * i], leaves[2 * i + 1]))
        scale, shift, mean, var = leaves[2 * hidden + 2 + 4 * i :][:4]
        signal = torch.nn.functional.batch_norm(
            signal, mean.detach().clone(), var.detach().clone(), scale, shift, training=True, momentum=0.1
        )
    prediction = torch.nn.functional.linear(signal, leaves[2 * hidden], leaves[2 * hidden + 1])
    ((prediction - y) ** 2).sum().backward()
    _, _, expected = oracle.train_batch([p.numpy() for p in params], hidden, x.numpy(), y.numpy())
    for leaf, other in zip(leaves, expected, strict=True):
        if leaf.grad is not None:
            np.testing.assert_allclose(leaf.grad, other, rtol=1e-9, atol=1e-11)


def test_running_variance_takes_the_unbiased_estimate_and_normalization_the_biased():
    params, x, _ = random_network("seed", 1, n=8)
    layout = network_layout("seed", 1)
    passed = forward(layout, params, x)
    active = np.maximum(x.numpy() @ params[0].numpy().T + params[1].numpy(), 0)
    moved = move_running_stats(layout, params, passed)
    np.testing.assert_allclose(moved[6], 0.9 * params[6].numpy() + 0.1 * active.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moved[7], 0.9 * params[7].numpy() + 0.1 * active.var(0, ddof=1), rtol=1e-12)
    normalized = (active - active.mean(0)) / np.sqrt(active.var(0, ddof=0) + 1e-5)
    np.testing.assert_allclose(passed.hidden[0].normalized, normalized, rtol=1e-9, atol=1e-12)


def test_running_statistics_of_the_frozen_norm_move_too():
    params, x, _ = random_network("tig", 2)
    layout = network_layout("tig", 2)
    moved = move_running_stats(layout, params, forward(layout, params, x))
    changed = [not torch.equal(a, b) for a, b in zip(params, moved, strict=True)]
    assert changed == [role in ("running_mean", "running_var") for role in layout.roles]


def test_nothing_changes_its_arguments():
    params, x, y = random_network("tig", 3, torch.float32)
    layout = network_layout("tig", 3)
    before = [t.clone() for t in (*params, x, y)]
    passed = forward(layout, params, x)
    grad = 2 * (passed.prediction - y)
    grad_before = grad.clone()
    backward(layout, params, passed, grad)
    move_running_stats(layout, params, passed)
    predict(layout, params, x)
    assert all(torch.equal(a, b) for a, b in zip((*params, x, y, grad), (*before, grad_before), strict=True))
