"""The loop's quirks, one test each, and how runs end."""

import hashlib
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

import harness.train
from harness.data import load_data, sample_orders
from harness.model import forward, network_layout, predict
from harness.result import NUMERICS_VERSION
from harness.task import Instance, seed_bytes
from harness.train import train
from tests.harness import oracle
from tests.harness.optimizers import SGD, Adam, Extrapolating, Recording

TIG = Instance("tig", 2, seed_bytes(3))
SEED = Instance("seed", 2, seed_bytes(3))
TASKS = pytest.mark.parametrize("instance", [TIG, SEED], ids=["tig", "seed"])


def running(params, instance):
    roles = network_layout(instance.task, instance.num_hidden_layers).roles
    return [p for p, role in zip(params, roles, strict=True) if role in ("running_mean", "running_var")]


class Still(SGD):
    """Changes nothing; with ``queries`` the running statistics of the task tig stand still as well."""

    def __init__(self, queries=False):
        super().__init__(0.0)
        self.queries = queries

    def query_at_params(self, state, model_params, *rest):
        return model_params if self.queries else None


# What the optimizer is told


@TASKS
def test_init_state_is_told_all_about_the_tensors(instance):
    optimizer = Recording()
    train(instance, optimizer, epochs=1, dtype=torch.float64)
    layout = network_layout(instance.task, 2)
    assert optimizer.param_sizes == [p.numel() for p in optimizer.steps[0]["params"]]
    assert optimizer.context == {
        "shapes": [tuple(p.shape) for p in optimizer.steps[0]["params"]],
        "roles": list(layout.roles),
        "trainable": list(layout.trainable),
        "layers": list(layout.layers),
        "steps_per_epoch": 8,
        "device": torch.device("cpu"),
        "dtype": torch.float64,
    }


def test_the_optimizers_seed_does_not_tell_the_instances():
    optimizer = Recording()
    train(TIG, optimizer, epochs=1)
    assert optimizer.seed == hashlib.sha256(b"optimizer" + TIG.seed).digest()


def test_losses_are_none_throughout_epoch_0_and_then_the_previous_epochs():
    optimizer = Recording(1e-7)
    result = train(TIG, optimizer, epochs=3)
    expected = [(None, None)] * 8
    for epoch in range(2):
        expected += [(result.train_loss[epoch], result.val_loss[epoch])] * 8
    for calls in (optimizer.queries, optimizer.steps):
        assert [call["losses"] for call in calls] == expected
        assert [call["epoch"] for call in calls] == [0] * 8 + [1] * 8 + [2] * 8


@TASKS
def test_frozen_tensors_and_running_statistics_have_zero_gradients(instance):
    optimizer = Recording()
    train(instance, optimizer, epochs=1)
    trainable = network_layout(instance.task, 2).trainable
    for gradient, flag in zip(optimizer.steps[-1]["gradients"], trainable, strict=True):
        assert bool(gradient.count_nonzero()) == flag


# Batches and gradients


def test_an_epoch_has_eight_batches_the_last_of_104(monkeypatch, golden):
    seen = []

    def watched(layout, params, x):
        seen.append(x)
        return forward(layout, params, x)

    monkeypatch.setattr(harness.train, "forward", watched)
    train(Instance("tig", 2, golden[0].seed), Still(), epochs=2)
    assert [len(x) for x in seen] == ([128] * 7 + [104]) * 2
    x, _, _ = golden[0].data["tig"]
    for epoch in range(2):
        order = golden[0].orders[epoch]
        assert np.array_equal(torch.cat(seen[8 * epoch : 8 * epoch + 8]), x[order])


@TASKS
def test_gradients_are_sums_and_reported_losses_means(instance):
    optimizer = Recording(1e-6)
    result = train(instance, optimizer, epochs=1, dtype=torch.float64)
    data = load_data(instance.task, instance.seed)
    order = sample_orders(instance.seed)[0]
    squares = 0.0
    for i, call in enumerate(optimizer.steps):
        rows = order[128 * i : 128 * (i + 1)]
        x, y = data.x[rows].astype(float), data.y[rows].astype(float)
        prediction, _, gradients = oracle.train_batch([p.numpy() for p in call["params"]], 2, x, y)
        squares += np.sum((prediction - y) ** 2) / y.shape[1]
        trainable = network_layout(instance.task, 2).trainable
        for ours, theirs, flag in zip(call["gradients"], gradients, trainable, strict=True):
            np.testing.assert_allclose(ours, theirs * flag, rtol=1e-8, atol=1e-8)
        if instance.task == "seed":  # the last bias has no chain rule in between: 2 (prediction - y), not divided
            np.testing.assert_allclose(call["gradients"][5], 2 * np.sum(prediction - y, axis=0), rtol=1e-9)
    assert result.train_loss[0] == pytest.approx(squares / 1000, rel=1e-12)


# Queries


def test_an_optimizer_that_queries_every_batch_is_evaluated_with_mean_0_and_variance_1():
    optimizer = Recording()
    optimizer.query_at_params = lambda state, params, *rest: [1.01 * p for p in params]
    result = train(TIG, optimizer, epochs=2, dtype=torch.float64)
    for call in optimizer.steps:
        for value, expected in zip(running(call["params"], TIG), [0.0, 1.0] * 2, strict=True):
            assert torch.all(value == expected)
    data = load_data("tig", TIG.seed)
    x, y = (torch.tensor(a[1000:1200], dtype=torch.float64) for a in (data.x, data.y))
    params = optimizer.steps[-1]["params"]
    loss = float(((predict(network_layout("tig", 2), params, x) - y) ** 2).mean())
    assert result.val_loss[-1] == pytest.approx(loss, rel=1e-12)


def test_in_seed_running_statistics_move_whether_queried_or_not():
    plain, asking = Recording(), Recording()
    asking.query_at_params = lambda state, params, *rest: list(params)
    train(SEED, plain, epochs=1)
    train(SEED, asking, epochs=1)
    moved, same = running(plain.steps[-1]["params"], SEED), running(asking.steps[-1]["params"], SEED)
    assert not torch.all(moved[0] == 0)
    assert all(torch.equal(a, b) for a, b in zip(moved, same, strict=True))


def test_in_tig_a_batch_without_a_query_still_moves_the_statistics():
    optimizer = Recording()
    calls = iter(range(8))
    optimizer.query_at_params = lambda state, params, *rest: list(params) if next(calls) % 2 else None
    train(TIG, optimizer, epochs=1)
    means = [running(call["params"], TIG)[0] for call in optimizer.steps]
    changed = [not torch.equal(a, b) for a, b in pairwise(means)]
    assert changed == [False, True] * 3 + [False]


@TASKS
def test_gradients_are_taken_at_the_query_and_updates_added_to_the_parameters(instance):
    shift, update = 0.01, 0.001

    class Probe(Recording):
        def query_at_params(self, state, model_params, *rest):
            return [p + shift for p in model_params]

        def step(self, state, model_params, gradients, *rest):
            super().step(state, model_params, gradients, *rest)
            return [torch.full_like(p, update) for p in model_params]

    probe, plain = Probe(), Recording()
    train(instance, probe, epochs=1)
    train(instance, plain, epochs=1)
    first, second = (probe.steps[k]["params"] for k in (0, 1))
    layout = network_layout(instance.task, 2)
    for before, after, flag, role in zip(first, second, layout.trainable, layout.roles, strict=True):
        if role not in ("running_mean", "running_var"):
            torch.testing.assert_close(after, before + update if flag else before)
    assert not torch.equal(probe.steps[0]["gradients"][0], plain.steps[0]["gradients"][0])


# Updates


@TASKS
@pytest.mark.parametrize("junk", [1.0, math.nan])
def test_updates_of_frozen_tensors_and_running_statistics_are_ignored(instance, junk):
    trainable = network_layout(instance.task, 2).trainable

    class Junk(SGD):
        def step(self, state, model_params, gradients, *rest):
            updates = super().step(state, model_params, gradients, *rest)
            return [u if flag else torch.full_like(u, junk) for u, flag in zip(updates, trainable, strict=True)]

    clean, dirty = (train(instance, kind(1e-6), epochs=2) for kind in (SGD, Junk))
    assert (dirty.train_loss, dirty.val_loss, dirty.quality) == (
        clean.train_loss,
        clean.val_loss,
        clean.quality,
    )


# Early stopping and the saved model


def test_patience_is_50_misses_exactly():
    result = train(TIG, Still(queries=True))
    assert (result.best_epoch, result.epochs_run, result.status) == (0, 51, "finished")


def test_an_improvement_resets_patience():
    losses = []

    class OneGoodStep(Still):
        """Stands still but in epoch 3."""

        def step(self, state, model_params, gradients, epoch, *rest):
            return [-1e-6 * (epoch == 3) * g for g in gradients]

    result = train(TIG, OneGoodStep(queries=True), patience=5, on_epoch=lambda e, t, v: losses.append(v))
    assert losses[3] < losses[2] == losses[0]
    assert (result.best_epoch, result.epochs_run) == (3, 9)


@pytest.mark.parametrize(
    ("lr", "between", "best_epoch", "epochs_run"),
    [(1e-13, (1e-11, 1e-8), 0, 5), (5e-10, (1.2e-7, 9e-7), 5, 6)],
    ids=["below", "above"],
)
def test_only_improvements_above_1e_7_count(lr, between, best_epoch, epochs_run):
    result = train(TIG, Extrapolating(lr), epochs=6, patience=4, dtype=torch.float64)
    improvements = -np.diff(result.val_loss)
    assert np.all((between[0] < improvements) & (improvements < between[1])), improvements
    assert (result.best_epoch, result.epochs_run) == (best_epoch, epochs_run)


def test_the_test_loss_is_the_mean_over_the_last_250_rows():
    optimizer = Recording()
    optimizer.query_at_params = lambda state, params, *rest: list(params)
    result = train(TIG, optimizer, epochs=1, dtype=torch.float64)
    data = load_data("tig", TIG.seed)
    prediction = oracle.evaluate([p.numpy() for p in optimizer.steps[0]["params"]], 2, data.x[1200:])
    assert result.test_loss == pytest.approx(np.mean((prediction - data.y[1200:]) ** 2), rel=1e-9)


def test_the_saved_model_keeps_its_parameters_and_its_running_statistics():
    class ThenRuin(Recording):
        """Trains for two epochs, then ruins everything."""

        def step(self, state, model_params, gradients, epoch, *rest):
            super().step(state, model_params, gradients, epoch, *rest)
            return [-1e-6 * g if epoch < 2 else torch.ones_like(g) for g in gradients]

    good = train(TIG, ThenRuin(), epochs=2)
    ruined = train(TIG, ThenRuin(), epochs=6)
    assert ruined.val_loss[-1] > 1.5 * ruined.val_loss[1]
    assert (ruined.best_epoch, ruined.test_loss) == (good.best_epoch, good.test_loss)
    assert ruined.quality == good.quality


def test_on_epoch_sees_every_epoch_and_can_stop_the_run():
    seen = []

    def watch(epoch, train_loss, val_loss):
        seen.append((epoch, train_loss, val_loss))
        return epoch == 2

    result = train(TIG, Adam(1e-3), epochs=10, on_epoch=watch)
    assert (result.status, result.epochs_run) == ("stopped", 3)
    assert seen == list(zip(range(3), result.train_loss, result.val_loss, strict=True))
    assert result.quality is not None


# The verdict


def test_tig_is_graded_only():
    result = train(TIG, Still(), epochs=1)
    assert result.passed is None
    assert result.quality == round((result.target_loss - result.test_loss) / result.target_loss, 6)


def test_seed_passes_when_the_accuracy_factor_is_low_enough_and_is_graded_as_well():
    verdicts = {}
    for factor in (0, -30_000):
        instance = Instance("seed", 2, seed_bytes(3), accuracy_factor=factor)
        result = train(instance, Still(), epochs=1)
        verdicts[factor] = result.passed
        assert result.passed == (result.test_loss <= result.target_loss)
        assert result.quality == round((result.target_loss - result.test_loss) / result.target_loss, 6)
    assert verdicts == {0: False, -30_000: True}


# Divergence and determinism


class Poison(SGD):
    """Returns ``value`` as the update of the trainable tensors from epoch ``since`` on."""

    def __init__(self, value, since):
        super().__init__(1e-6)
        self.value, self.since, self.calls = value, since, 0

    def step(self, state, model_params, gradients, epoch, *rest):
        self.calls += 1
        if epoch < self.since:
            return super().step(state, model_params, gradients, epoch, *rest)
        return [torch.full_like(g, self.value) for g in gradients]


@TASKS
def test_a_nan_update_ends_the_run_at_once_and_saves_nothing(instance):
    optimizer = Poison(math.nan, since=0)
    result = train(instance, optimizer)
    assert (result.status, result.epochs_run, optimizer.calls) == ("diverged", 1, 1)
    assert result.message == "epoch 0: weight of layer 0 is NaN"
    assert math.isnan(result.train_loss[0])
    assert math.isnan(result.val_loss[0])
    assert (result.best_epoch, result.test_loss, result.quality) == (None, None, None)
    assert result.passed in (None, False)


@TASKS
def test_a_run_that_diverges_later_is_scored_by_its_saved_model(instance):
    good = train(instance, Poison(math.nan, since=99), epochs=2)
    result = train(instance, Poison(math.nan, since=2))
    assert (result.status, result.epochs_run) == ("diverged", 3)
    assert (result.best_epoch, result.test_loss, result.quality) == (
        good.best_epoch,
        good.test_loss,
        good.quality,
    )


@TASKS
def test_stopping_early_scores_as_going_on_would(instance, monkeypatch):
    stopped = train(instance, Poison(math.nan, since=2), patience=4)
    monkeypatch.setattr(harness.train.Loop, "find_nan", lambda self: "")
    went_on = train(instance, Poison(math.nan, since=2), patience=4)
    assert (stopped.epochs_run, went_on.epochs_run) == (3, 3 + 4 - (2 - stopped.best_epoch))
    for field in ("status", "best_epoch", "test_loss", "quality", "passed"):
        assert getattr(stopped, field) == getattr(went_on, field)


@TASKS
def test_an_overflow_that_cannot_recover_ends_the_run_too(instance):
    result = train(instance, Poison(1e38, since=1))
    assert (result.status, result.epochs_run) == ("diverged", 2)
    assert result.best_epoch == 0


def test_a_huge_but_finite_parameter_may_recover():
    class OneExcursion(SGD):
        """The first norm's shift goes to 1e30 in epoch 1 and back to 0 in epoch 2."""

        def step(self, state, model_params, gradients, epoch, *rest):
            updates = super().step(state, model_params, gradients, epoch, *rest)
            shift = network_layout("tig", 2).roles.index("norm_shift")
            updates[shift] = (1e30 if epoch == 1 else 0.0) - model_params[shift]
            return updates

        def query_at_params(self, state, model_params, *rest):
            return [p.clamp(-1, 1) for p in model_params]

    result = train(TIG, OneExcursion(0.0), epochs=4)
    assert [math.isfinite(loss) for loss in result.val_loss] == [True, False, True, True]
    assert (result.status, result.epochs_run) == ("finished", 4)


def test_a_run_whose_last_loss_is_not_finite_has_diverged_even_if_it_might_recover():
    class Far(Still):
        def step(self, state, model_params, gradients, epoch, *rest):
            return [torch.full_like(g, 1e30 if epoch == 0 else 0.0) for g in gradients]

        def query_at_params(self, state, model_params, *rest):
            return [p.clamp(-1, 1) for p in model_params]

    result = train(TIG, Far(), patience=3)
    assert (result.status, result.epochs_run, result.quality) == ("diverged", 3, None)
    assert result.message == "epoch 2: the validation loss is not finite"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_run_twice_is_bit_equal(dtype):
    one, two = (train(TIG, Adam(1e-3), epochs=3, dtype=dtype) for _ in range(2))
    assert (one.train_loss, one.val_loss, one.test_loss) == (two.train_loss, two.val_loss, two.test_loss)


def test_earlier_parameters_and_gradients_stay_as_they_were_given():
    class Keeper(SGD):
        def __init__(self):
            super().__init__(1e-6)
            self.kept, self.copies = [], []

        def step(self, state, model_params, gradients, *rest):
            self.kept += [*model_params, *gradients]
            self.copies += [t.clone() for t in (*model_params, *gradients)]
            return super().step(state, model_params, gradients, *rest)

    keeper = Keeper()
    train(TIG, keeper, epochs=1)
    assert all(torch.equal(a, b) for a, b in zip(keeper.kept, keeper.copies, strict=True))


def test_adam_learns():
    result = train(Instance("tig", 4, seed_bytes(0)), Adam(1e-3), epochs=40)
    assert result.quality > 0.5
    assert result.train_loss[-1] < 0.2 < 0.4 < result.train_loss[0]


def test_numerics_version_is_an_integer_to_store():
    assert NUMERICS_VERSION == 4
