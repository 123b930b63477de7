"""init, update and query: pure, equal to the reference, with plain errors; roles and layers from names and shapes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import genomes
from genomes.api.parameters import layers_of, roles_of
from genomes.backends import torch_reference
from genomes.compiler.lowering import lower
from genomes.language.genome import GenomeError
from tests.genomes import trajectory

ROOT = Path(__file__).parents[3]
LOOKS_AHEAD = "genome: 1\nname: ahead\nlr: 0.1\nterms: [{expr: g + prev(g) + 0.1 * noise(1)}]\n" + (
    'query: {offset: "0.9 * delta", when: "t > 0"}\n'
)


def gradients_at(params: dict[str, Tensor], step: int) -> dict[str, Tensor]:
    return {name: torch.sin(tensor + step) for name, tensor in params.items()}


@pytest.fixture
def params() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"0.weight": (3, 2), "0.bias": (3,), "1.weight": (3,), "1.bias": (3,), "1.running_mean": (3,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture
def looks_ahead(tmp_path: Path) -> genomes.Genome:
    path = tmp_path / "ahead.yaml"
    path.write_text(LOOKS_AHEAD)
    return genomes.load(path)


@pytest.mark.parametrize("name", ["adam", "lion", "muon", "prodigy", "sam_last_gradient", "cautious_adanw"])
def test_equals_the_reference(name: str):
    genome = genomes.load(name)
    optimizer, reference = genomes.optimizer(genome), torch_reference.optimizer(lower(genome))
    theta = trajectory.start(torch.float64)
    roles = list(trajectory.ROLES)
    state = optimizer.init(theta, seed=7, roles=roles, layers=list(trajectory.LAYERS))
    context = trajectory.context(torch.float64) | {"trainable": list(state.trained)}
    other = reference.init_state((7).to_bytes(32, "little"), trajectory.sizes(), **context)
    for now in trajectory.moments(8):
        gradients = now.gradient(theta)
        known = {"epoch": now.epoch, "train_loss": now.train_loss, "val_loss": now.val_loss}
        updates, state = optimizer.update(gradients, state, theta, **known)
        wanted = reference.step(other, theta, gradients, *known.values())
        assert all(torch.equal(x, y) for x, y in zip(updates, wanted, strict=True))
        theta = [p + torch.tanh(u) for p, u in zip(theta, updates, strict=True)]


def test_nothing_given_is_changed(params: dict[str, Tensor], looks_ahead: genomes.Genome):
    optimizer = genomes.optimizer(looks_ahead)
    copies = {name: tensor.clone() for name, tensor in params.items()}
    begun = optimizer.init(params, seed=1)
    runs = []
    for _ in range(2):  # the same states again give the same updates
        state, seen = begun, []
        for step in range(4):
            at = optimizer.query(state, params)
            gradients = gradients_at(at, step)
            updates, state = optimizer.update(gradients, state, params)
            seen += [*at.values(), *updates.values()]
            for tensor in gradients.values():
                tensor.zero_()  # a state keeps values, not the caller's tensors
        runs.append(seen)
        assert begun.step == 0
        assert state.step == 4
    assert all(torch.equal(x, y) for x, y in zip(*runs, strict=True))
    assert all(torch.equal(params[name], copies[name]) for name in params)


def test_a_query_looks_ahead_by_the_last_update(params: dict[str, Tensor], looks_ahead: genomes.Genome):
    optimizer = genomes.optimizer(looks_ahead)
    state = optimizer.init(params)
    assert optimizer.query(state, params) is params
    updates, state = optimizer.update(gradients_at(params, 0), state, params)
    at = optimizer.query(state, params)
    torch.testing.assert_close(at["0.weight"], params["0.weight"] + 0.9 * updates["0.weight"])
    assert torch.equal(at["1.running_mean"], params["1.running_mean"])


def test_running_statistics_stay_and_may_be_left_out(params: dict[str, Tensor]):
    optimizer = genomes.optimizer(genomes.load("adam"))
    state = optimizer.init(params)
    gradients = gradients_at(params, 0)
    updates, _ = optimizer.update(gradients, state, params)
    assert not updates["1.running_mean"].any()
    del gradients["1.running_mean"]
    again, _ = optimizer.update(gradients, state, dict(reversed(params.items())))
    assert list(again) == list(reversed(params))
    assert all(torch.equal(again[name], updates[name]) for name in params)


def test_graphs_are_not_kept(params: dict[str, Tensor]):
    optimizer = genomes.optimizer(genomes.load("adam"))
    tracked = {name: tensor.requires_grad_() for name, tensor in params.items()}
    updates, _ = optimizer.update(gradients_at(tracked, 0), optimizer.init(tracked), tracked)
    assert not any(update.requires_grad for update in updates.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g | {"0.bias": torch.zeros(4)}, r"gradients: 0.bias has shape \[4\]; in init it had \[3\]"),
        (lambda g: {n: t for n, t in g.items() if n != "0.bias"}, "gradients: 0.bias is missing"),
        (lambda g: g | {"2.bias": torch.zeros(4)}, "gradients: 2.bias was not among the parameters in init"),
        (lambda g: list(g.values()), "gradients: expected a dict of tensors by name"),
        (lambda g: g | {"0.bias": [0.0] * 3}, "gradients: 0.bias is a value of type list, no tensor"),
        (lambda g: g | {"0.bias": torch.zeros(3).double()}, "gradients: 0.bias is torch.float64 on cpu; in init"),
    ],
)
def test_what_does_not_fit_is_named(params: dict[str, Tensor], change, message: str):
    optimizer = genomes.optimizer(genomes.load("adam"))
    with pytest.raises((ValueError, TypeError), match=message):
        optimizer.update(change(gradients_at(params, 0)), optimizer.init(params), params)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"params": torch.zeros(3)}, "params: expected a dict or a list of tensors"),
        ({"params": []}, "params: there is nothing to train"),
        ({"params": [torch.zeros(3), torch.zeros(3).double()]}, "expected one floating-point dtype and one device"),
        ({"params": [torch.zeros(3, dtype=torch.int64)]}, "expected one floating-point dtype and one device"),
        ({"params": [torch.zeros(3)], "seed": -1}, "seed: expected a whole number from 0 to 2.256 - 1, got -1"),
        ({"params": [torch.zeros(3)], "seed": 1.5}, "got 1.5"),
        ({"params": [torch.zeros(3)], "layers": [-1]}, "layers: expected whole numbers from 0"),
        ({"params": [torch.zeros(3)], "roles": ["wait"]}, "roles: entry 0 is 'wait'; known are weight"),
        ({"params": [torch.zeros(3)], "roles": []}, "roles: expected 1 entries, one per parameter"),
        ({"params": {"a": torch.zeros(3)}, "layers": {"b": 1}}, "layers: a is missing"),
    ],
)
def test_what_init_cannot_take_is_named(arguments: dict, message: str):
    with pytest.raises((ValueError, TypeError), match=message):
        genomes.optimizer(genomes.load("adam")).init(**arguments)


def test_load_takes_names_and_paths(tmp_path: Path):
    assert genomes.load("adam").name == "adam"
    path = tmp_path / "mine.yaml"
    path.write_text(genomes.dump(genomes.load("adam").renamed("mine")))
    assert genomes.load(path) == genomes.load(str(path)) == genomes.load("adam").renamed("mine")
    with pytest.raises(GenomeError, match="did you mean adam"):
        genomes.load("adamm")
    with pytest.raises(GenomeError, match=r"ends in \.yaml"):
        genomes.load(tmp_path / "mine.txt")
    path.write_text("genome: 1\nname: x\nlr: 1\nterms: [{expr: g}]\nschedule: g\n")
    with pytest.raises(GenomeError, match=r"mine\.yaml:5: schedule: g has no value here"):
        genomes.load(path)


def test_loading_needs_no_torch():
    code = "import sys, genomes; genomes.dump(genomes.load('adam')); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_names_say_roles_and_layers():
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.LayerNorm(4),
        torch.nn.Linear(4, 2),
    )  # fmt: skip
    tensors = model.state_dict()
    roles = roles_of(list(tensors), [tuple(tensor.shape) for tensor in tensors.values()])
    norm = ["norm_scale", "norm_shift"]
    statistics = ["running_mean", "running_var", "num_batches_tracked"]
    assert roles == ["weight", "bias", *norm, *statistics, *norm, "weight", "bias"]
    assert layers_of(list(tensors), roles) == [0] * 9 + [1] * 2


def test_a_bias_before_its_weight_is_of_its_layer():
    names, shapes = ["a.bias", "a.kernel", "b.bias", "b.kernel"], [(2,), (3, 2), (1,), (2, 1)]
    roles = roles_of(names, shapes)
    assert roles == ["bias", "weight"] * 2
    assert layers_of(names, roles) == [0, 0, 1, 1]


def test_shapes_alone_say_weight_or_bias():
    roles = roles_of(None, [(3, 2), (3,), (), (1, 3, 2, 2)])
    assert roles == ["weight", "bias", "bias", "weight"]
    assert layers_of(None, roles) == [0, 0, 0, 1]
