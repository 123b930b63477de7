"""What happens to optimizers that break the contract: a status and a message, never a traceback."""

import math

import pytest
import torch

from harness.optimizer import OptimizerFault
from harness.task import Instance, seed_bytes
from harness.train import train
from tests.harness.optimizers import SGD

TIG = Instance("tig", 2, seed_bytes(4))


def replaced(index, make):
    """What returns its list with one tensor replaced by ``make`` of it."""
    return lambda tensors: [make(t) if i == index else t for i, t in enumerate(tensors)]


BREACHES = {
    "a tensor too few": (lambda ts: ts[:-1], "expected 14 tensors, got 13"),
    "a tensor too many": (lambda ts: [*ts, ts[0]], "expected 14 tensors, got 15"),
    "no list": (lambda ts: ts[0], "expected a list of 14 tensors, got Tensor"),
    "a generator": (lambda ts: (t for t in ts), "expected a list of 14 tensors, got generator"),
    "a number": (replaced(3, lambda t: 0.5), "tensor 3: expected a torch.Tensor, got float"),
    "an array": (replaced(3, lambda t: t.numpy()), "tensor 3: expected a torch.Tensor, got ndarray"),
    "no tensor": (replaced(13, lambda t: None), "tensor 13: expected a torch.Tensor, got NoneType"),
    "wrong shape": (replaced(2, lambda t: t[:1]), "tensor 2: expected shape [256, 256], got [1, 256]"),
    "transposed": (replaced(4, lambda t: t.T), "tensor 4: expected shape [2, 256], got [256, 2]"),
    "scalar": (replaced(1, lambda t: t.sum()), "tensor 1: expected shape [256], got []"),
    "double": (replaced(0, lambda t: t.double()), "tensor 0: expected torch.float32, got torch.float64"),
    "half": (replaced(0, lambda t: t.half()), "tensor 0: expected torch.float32, got torch.float16"),
    "integer": (replaced(0, lambda t: t.int()), "tensor 0: expected torch.float32, got torch.int32"),
    "complex": (replaced(5, lambda t: t + 1j), "tensor 5: expected torch.float32, got torch.complex64"),
    "not contiguous": (
        replaced(2, lambda t: t.T),
        "tensor 2: expected contiguous memory, got strides (1, 256)",
    ),
    "expanded": (
        replaced(2, lambda t: t[:1].expand(256, 256)),
        "tensor 2: expected contiguous memory, got strides (0, 1)",
    ),
    "sparse": (
        replaced(2, lambda t: t.to_sparse()),
        "tensor 2: expected contiguous memory, got torch.sparse_coo",
    ),
    "meta": (replaced(2, lambda t: t.to("meta")), "tensor 2: expected device cpu, got meta"),
}


@pytest.mark.parametrize(("breach", "message"), BREACHES.values(), ids=BREACHES)
@pytest.mark.parametrize("function", ["query_at_params", "step"])
def test_a_wrong_return_value_ends_the_run_with_a_message(function, breach, message):
    class Wrong(SGD):
        def query_at_params(self, state, model_params, epoch, *rest):
            if function == "query_at_params" and epoch == 1:
                return breach(model_params)

        def step(self, state, model_params, gradients, epoch, *rest):
            updates = super().step(state, model_params, gradients, epoch, *rest)
            return breach(updates) if function == "step" and epoch == 1 else updates

    result = train(TIG, Wrong(1e-7), epochs=3)
    assert (result.status, result.message) == ("invalid_update", f"{function}: {message}")
    assert result.epochs_run == len(result.train_loss) == len(result.val_loss) == 1
    assert (result.best_epoch, result.test_loss, result.quality) == (None, None, None)
    assert result.target_loss > 0


def test_step_must_return_something_but_a_query_need_not():
    class Silent(SGD):
        def step(self, *args):
            return None

    assert (train(TIG, Silent(0.0), epochs=1).message) == "step: expected a list of 14 tensors, got NoneType"


@pytest.mark.parametrize("function", ["init_state", "query_at_params", "step"])
def test_an_exception_becomes_a_one_line_message(function):
    def fail(*args, **context):
        raise RuntimeError("first line\n  second line")

    optimizer = SGD(1e-7)
    setattr(optimizer, function, fail)
    result = train(TIG, optimizer, epochs=3)
    assert (result.status, result.epochs_run) == ("error", 0)
    assert result.message == f"{function} raised RuntimeError: first line second line"


def test_a_fault_of_the_optimizers_own_keeps_its_status():
    optimizer = SGD(1e-7)

    def time_out(*args):
        raise OptimizerFault("timeout", "step took longer than 10 s")

    optimizer.step = time_out
    result = train(TIG, optimizer, epochs=3)
    assert (result.status, result.message) == ("timeout", "step took longer than 10 s")


@pytest.mark.parametrize("function", ["query_at_params", "step"])
def test_parameters_must_not_be_changed_in_place(function):
    class Meddler(SGD):
        def query_at_params(self, state, model_params, *rest):
            if function == "query_at_params":
                model_params[3].add_(1.0)

        def step(self, state, model_params, gradients, *rest):
            if function == "step":
                model_params[3].add_(1.0)
            return super().step(state, model_params, gradients, *rest)

    result = train(TIG, Meddler(1e-7), epochs=1)
    assert result.status == "invalid_update"
    assert result.message == f"{function}: changed model_params[3] in place; return the change instead"


def test_gradients_and_lists_are_the_optimizers_own():
    class Reuses(SGD):
        def step(self, state, model_params, gradients, *rest):
            model_params.clear()
            for gradient in gradients:
                gradient.mul_(-self.lr)
            return gradients

    plain, reuses = (train(TIG, kind(1e-7), epochs=2) for kind in (SGD, Reuses))
    assert (reuses.status, reuses.train_loss) == ("finished", plain.train_loss)


def test_a_tuple_is_as_good_as_a_list():
    class Tuples(SGD):
        def step(self, *args):
            return tuple(super().step(*args))

    assert train(TIG, Tuples(1e-7), epochs=1).status == "finished"


def test_a_query_of_nan_does_not_end_a_run_that_can_recover():
    class Blind(SGD):
        """Asks at NaN in epoch 0 and ignores the gradients then."""

        def query_at_params(self, state, model_params, epoch, *rest):
            return [torch.full_like(p, math.nan) for p in model_params] if epoch == 0 else None

        def step(self, state, model_params, gradients, epoch, *rest):
            return [torch.zeros_like(g) if epoch == 0 else -self.lr * g for g in gradients]

    result = train(TIG, Blind(1e-7), epochs=3)
    assert result.status == "finished"
    assert [math.isfinite(loss) for loss in result.train_loss] == [False, True, True]


def test_the_optimizer_runs_without_autograd():
    class Curious(SGD):
        def step(self, state, model_params, gradients, *rest):
            assert not torch.is_grad_enabled()
            assert not any(t.requires_grad for t in (*model_params, *gradients))
            return super().step(state, model_params, gradients, *rest)

    assert train(TIG, Curious(1e-7), epochs=1).status == "finished"
    assert torch.is_grad_enabled()
