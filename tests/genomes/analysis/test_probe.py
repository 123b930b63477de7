"""What the probe tells apart and what it does not, judged on another trajectory; equal states are kept once."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor

from genomes import catalogue
from genomes.analysis.probe import probe, probe_hash
from genomes.backends.torch_reference import optimizer
from genomes.compiler.lowering import lower
from genomes.compiler.program import Program
from genomes.language import genome
from genomes.language.genome import Genome, GenomeError
from tests.genomes import strategies, trajectory
from tests.genomes.drive import drive
from tests.sampling import some_and_slow


def make(*terms: str, **genes: object) -> Genome:
    """A genome from YAML values given as Python ones; ``terms`` are expressions of weight 1."""
    data = {"genome": 1, "name": "n", "lr": 1e-3, "terms": [{"expr": text} for text in terms], **genes}
    return genome.parse(json.dumps(data))


def hash_of(*terms: str, **genes: object) -> str:
    return probe_hash(make(*terms, **genes))


ADAM = "debias(ema(g, 0.9)) / (sqrt(debias(ema(g * g, 0.999))) + 1e-8)"

SAME = [
    ("g * 2", "2 * g"),
    ("g + theta", "theta + g"),
    ("g + g", "2 * g"),
    ("g - theta", "-(theta - g)"),
    ("g * (1 + 1)", "g * 2"),
    ("g * theta + g", "g * (theta + 1)"),
    ("ema(g + theta, 0.9)", "ema(g, 0.9) + ema(theta, 0.9)"),
    ("ema(2 * g, 0.9)", "2 * ema(g, 0.9)"),
    (ADAM, "adam(g)"),
    (ADAM, ADAM.replace("g * g", "square(g)")),
    (ADAM, ADAM.replace("g * g", "g ** 2")),
    (ADAM, ADAM.replace("g * g", "abs(g) * abs(g)")),
    (ADAM, "where(t > 0, " + ADAM + ", g)"),
    ("momentum(g, 0.9)", "trace(g, 0.9)"),
    ("nesterov(g, 0.9)", "g + 0.9 * trace(g, 0.9)"),
    ("0.1 * trace(g, 0.9)", "ema(g, 0.9)"),
    ("sign(g)", "sign(5 * g)"),
    ("sign(g)", "where(g > 0, 1, where(g < 0, -1, 0))"),
    ("g / sqrt(g * g)", "sign(g)"),
    ("abs(g)", "max(g, -g)"),
    ("clip(g, 2)", "min(max(g, -2), 2)"),
    ("prev(g)", "g - (g - prev(g))"),
    ("change(g)", "where(t == 1, 0, g - prev(g))"),
    ("norm(g)", "sum_all(g * g) ** 0.5"),
    ("mean_all(g)", "sum_all(g) / (rows * columns)"),
    ("g + 0 * theta", "g"),
    ("g + 0 * ema(g, 0.5)", "g"),
    ("where(rows > 0, g, ema(g, 0.9))", "g"),
    ("cautious(g)", "where(g * g > 0, g, 0)"),
    ("where(not (g > 0), 0, g)", "max(g, 0)"),
    ("where(g > 0 and theta > 0, g, 0)", "where(g > 0, where(theta > 0, g, 0), 0)"),
    ("g - theta_start + theta_start", "g"),
    ("log(exp(0.1)) * g", "0.1 * g"),
    ("tanh(g)", "(exp(g) - exp(-g)) / (exp(g) + exp(-g))"),
    ("g * step_decay(10, 0.5)", "g * exp(floor(epoch / 10) * log(0.5))"),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_rewritings_share_the_hash(a: str, b: str):
    assert hash_of(a) == hash_of(b)


@pytest.mark.parametrize(("a", "b"), SAME)
def test_rewritings_act_alike(a: str, b: str):
    """Not on the probe: on the trajectory of the tests, in the reference."""
    first, second = (drive(optimizer(lower(make(text))), 12) for text in (a, b))
    for x, y in zip(first, second, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-8, atol=1e-12)


def test_genes_that_say_the_same_share_the_hash():
    adam = hash_of("adam(g)")
    assert hash_of("adam(g)", name="other", source="elsewhere") == adam
    assert hash_of("2 * adam(g)", lr=5e-4) == adam
    assert hash_of("adam(g)", lr=2e-3, schedule="0.5") == adam
    assert hash_of("0.3 * adam(g)", "0.7 * adam(g)") == adam
    assert hash_of("adam(g)", "0 * ema(g, 0.5)") == adam
    assert hash_of("adam(g)", gates=["u", "2 * u", "u / 2"]) == adam
    assert hash_of("adam(g)", post=["delta"]) == adam
    assert hash_of("adam(g)", decay={"kind": "decoupled", "rate": 0}) == adam
    assert hash_of("adam(g)", roles={"weight": 1}) == adam
    assert hash_of("adam(g)", roles=dict.fromkeys(("weight", "bias", "norm_scale", "norm_shift"), 2), lr=5e-4) == adam
    assert hash_of("g + 0.1 * theta") == hash_of(
        "g", decay={"kind": "decoupled", "rate": 0.1, "roles": ["weight", "bias", "norm_scale", "norm_shift"]}
    )
    assert hash_of("g + 0.1 * where(is_weight, theta, 0)") == hash_of("g", decay={"kind": "coupled", "rate": 0.1})


DIFFERENT = {
    "adam": make("adam(g)"),
    "adam, lr": make("adam(g)", lr=1.0001e-3),
    "adam, beta1": make("adam(g, 0.9001)"),
    "adam, beta2": make("adam(g, 0.9, 0.9991)"),
    "adam, epsilon": make("adam(g, 0.9, 0.999, 1e-7)"),
    "adam without debias": make("ema(g, 0.9) / (sqrt(ema(g * g, 0.999)) + 1e-8)"),
    "adam, clipped": make("adam(clip(g, 1))"),
    "adam, clipped wider": make("adam(clip(g, 1.1))"),
    "adam, decayed": make("adam(g)", decay={"kind": "decoupled", "rate": 1e-2}),
    "adam, decayed otherwise": make("adam(g)", decay={"kind": "coupled", "rate": 1e-2}),
    "adam, decayed with care": make("adam(g)", decay={"kind": "cautious", "rate": 1e-2}),
    "adam, pulled back": make("adam(g)", decay={"kind": "start", "rate": 1e-2}),
    "adam, biases decayed": make("adam(g)", decay={"kind": "decoupled", "rate": 1e-2, "roles": ["bias"]}),
    "adam, scales decayed": make("adam(g)", decay={"kind": "decoupled", "rate": 1e-2, "roles": ["norm_scale"]}),
    "adam, warm-up 5": make("adam(g)", schedule="linear_warmup(5)"),
    "adam, warm-up 6": make("adam(g)", schedule="linear_warmup(6)"),
    "adam, warm-up in steps": make("adam(g)", schedule="linear_warmup_steps(40)"),
    "adam, cosine 100": make("adam(g)", schedule="cosine(100)"),
    "adam, cosine 300": make("adam(g)", schedule="cosine(300)"),
    "adam, cosine 301": make("adam(g)", schedule="cosine(301)"),
    "adam, cosine 1000": make("adam(g)", schedule="cosine(1000)"),
    "adam, cosine 300 with a floor": make("adam(g)", schedule="cosine(300, 0.01)"),
    "adam, restarts": make("adam(g)", schedule="cosine_restarts(100)"),
    "adam, linear": make("adam(g)", schedule="linear_decay(300)"),
    "adam, plateau 2": make("adam(g)", schedule="plateau(2)"),
    "adam, plateau 3": make("adam(g)", schedule="plateau(3)"),
    "adam, weights scaled": make("adam(g)", roles={"weight": 1.1}),
    "adam, biases scaled": make("adam(g)", roles={"bias": 1.1}),
    "adam, norm scales scaled": make("adam(g)", roles={"norm_scale": 1.1}),
    "adam, norm shifts scaled": make("adam(g)", roles={"norm_shift": 1.1}),
    "adam, first layer scaled": make("adam(g)", roles={"first": 1.1}),
    "adam, last layer scaled": make("adam(g)", roles={"last": 1.1}),
    "adam, queried": make("adam(g)", query={"offset": "delta", "when": "t > 0"}),
    "adam, queried half as far": make("adam(g)", query={"offset": "0.5 * delta", "when": "t > 0"}),
    "adam, queried at times": make("adam(g)", query={"offset": "delta", "when": "t % 2 == 0"}),
    "adam, lookahead 5": make("adam(g)", post=["lookahead(delta, 5)"]),
    "adam, lookahead 6": make("adam(g)", post=["lookahead(delta, 6)"]),
    "adam, frozen after 10": make("adam(g)", gates=["freeze_after(u, 10)"]),
    "adam, frozen after 16": make("adam(g)", gates=["freeze_after(u, 16)"]),
    "adam, frozen after 40": make("adam(g)", gates=["freeze_after(u, 40)"]),
    "adam, pulse 13": make("adam(g)", schedule="pulse(13)"),
    "adam, pulse 14": make("adam(g)", schedule="pulse(14)"),
    "adam, fall of 3": make("adam(g)", schedule="warmup_stable_decay(2, 4, 3)"),
    "adam, fall of 2": make("adam(g)", schedule="warmup_stable_decay(2, 4, 2)"),
    "adam, rollback 20": make("adam(g)", post=["rollback(delta, 20)"]),
    "adam, rollback 21": make("adam(g)", post=["rollback(delta, 21)"]),
    "adam, queried every 13": make("adam(g)", query={"offset": "delta", "when": "t % 13 == 0"}),
    "adam, queried every 17": make("adam(g)", query={"offset": "delta", "when": "t % 17 == 0"}),
    "adam, noise": make("adam(g) + 0.1 * noise(0)"),
    "adam, other noise": make("adam(g) + 0.1 * noise(1)"),
    "adam, half precision": make("adam(bfloat16(g))"),
    "adam, few layers": make("adam(g) / layer_count"),
    "adam, frozen after 50": make("adam(g)", gates=["freeze_after(u, 50)"]),
    "adam, frozen after 200": make("adam(g)", gates=["freeze_after(u, 200)"]),
    "adam, by train loss": make("adam(g) * train_loss"),
    "adam, by validation loss": make("adam(g) * val_loss"),
    "adam, by best loss": make("adam(g) * best_loss"),
    "adam, global norm": make("adam(clip_global_norm(g, 1))"),
    "adam, tensor norm": make("adam(clip_norm(g, 1))"),
    "atan2": make("atan2(debias(ema(g, 0.9)), sqrt(debias(ema(g * g, 0.999))))"),
    "rows": make("g / rows"),
    "columns": make("g / columns"),
    "sgd": make("g"),
    "sign": make("sign(g)"),
}


def test_different_behavior_has_different_hashes():
    hashes: dict[str, str] = {}
    for name, different in DIFFERENT.items():
        value = probe_hash(different)
        assert value not in hashes, f"{name} has the hash of {hashes[value]}"
        hashes[value] = name


def test_all_known_optimizers_differ():
    """But for two: the probe's tensors have too few entries to freeze a tenth of them, and its gradients no spike."""
    hashes = {name: probe_hash(catalogue.load(name)) for name in catalogue.names()}
    assert hashes.pop("core_frozen") == hashes["core"]
    assert hashes.pop("zclip_adam") == hashes["adam"]
    assert len(set(hashes.values())) == len(hashes)


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(drawn=strategies.genomes(depth=3))
def test_text_does_not_matter(drawn: Genome):
    """A schedule that does nothing: the same optimizer."""
    try:
        expected = probe(lower(drawn))
    except GenomeError:
        assume(False)
        raise
    assume(expected.finite)
    padded = genome.parse(genome.dump(drawn).replace("lr:", 'schedule: "1 + 0 * t"\nlr:'))
    assert padded != drawn
    assert probe_hash(padded) == probe_hash(drawn)


# --- states ----------------------------------------------------------------------------------------------------------


def slots(*terms: str, **genes: object) -> list[str]:
    return [str(slot.shape) for slot in lower(make(*terms, **genes)).slots]


def test_equal_states_are_kept_once():
    assert slots("sign(0.9 * prev(ema(g, 0.99)) + 0.1 * g)") == ["element"], "Lion keeps one buffer"
    assert slots("adam(g)", "2 * adam(g)") == ["element"] * 2
    assert slots("ema(g, 0.9) + ema(g, 0.9)") == ["element"]
    assert slots("ema(g, 0.9)", gates=["u + ema(g, 0.9)"]) == ["element"]
    assert slots("prev(g) + change(g)") == ["element"]
    assert slots("ema(g, 0.9) + ema(g, 0.99)") == ["element"] * 2
    assert slots("g") == []


def test_dead_states_vanish():
    assert slots("g + 0 * ema(g, 0.9)") == []
    assert slots("where(1 > 0, g, ema(g, 0.9))") == []
    assert slots("theta_start - theta_start + g") == []


def test_states_are_no_larger_than_what_they_hold():
    assert slots("g * ema(norm(g), 0.9)") == ["tensor"]
    assert slots("g * ema(norm_row(g), 0.9)") == ["row"]
    assert slots("g * ema(sum_column(g), 0.9)") == ["column"]
    assert slots("g * ema(global_norm(g), 0.9)") == ["model"]
    assert slots("g * ema(epoch, 0.9)") == ["clock"]
    assert slots("g * ema(depth_fraction + t, 0.9)") == ["role"]


@pytest.mark.parametrize("name", ["adam", "cautious_adanw", "lion"])
def test_frozen_tensors_do_not_matter(name: str):
    """Updates of the trainable tensors are the same whether the frozen ones are there or not."""
    program = lower(catalogue.load(name))
    kept = [i for i, flag in enumerate(trajectory.TRAINABLE) if flag]
    everything = trajectory.context()
    alone = everything | {k: [everything[k][i] for i in kept] for k in ("shapes", "roles", "trainable", "layers")}
    with_frozen, without = optimizer(program), optimizer(program)
    state = with_frozen.init_state(bytes(32), trajectory.sizes(), **everything)
    other = without.init_state(bytes(32), [trajectory.sizes()[i] for i in kept], **alone)
    theta = trajectory.start()
    for now in trajectory.moments(20):
        g = now.gradient(theta)
        known = (now.epoch, now.train_loss, now.val_loss)
        updates = with_frozen.step(state, theta, g, *known)
        fewer = without.step(other, [theta[i] for i in kept], [g[i] for i in kept], *known)
        assert all(torch.equal(updates[i], u) for i, u in zip(kept, fewer, strict=True))
        theta = [p + u for p, u in zip(theta, updates, strict=True)]


def test_probe_sees_divergence():
    assert probe(lower(make("adam(g)"))).finite
    assert not probe(lower(make("g * exp(g * g) * exp(g * g) * 1e300"))).finite


class Reference:
    """The reference behind the flat back end's face."""

    def __init__(self, program: Program) -> None:
        self.functions = optimizer(program)

    def bind(
        self, theta: Tensor, gradient: Tensor, *, seed: bytes, shapes, roles, layers, indices, network
    ) -> Reference:
        self.trained = len(shapes)
        zeros = [torch.zeros_like(param) for param in network.params[len(shapes) :]]
        parts = gradient.split([math.prod(shape) for shape in shapes])
        gradients = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
        self.given = [network.params, [*gradients, *zeros]]
        about = {name: list(getattr(network, name)) for name in ("shapes", "roles", "layers", "trainable")}
        self.state = self.functions.init_state(
            seed, [param.numel() for param in network.params], **about, steps_per_epoch=network.steps_per_epoch,
            device=theta.device, dtype=theta.dtype,
        )  # fmt: skip
        return self

    @property
    def t(self) -> int:
        return self.state.t

    @t.setter
    def t(self, step: int) -> None:
        self.state.t = step

    def query(self, *known) -> Tensor | None:
        queried = self.functions.query_at_params(self.state, self.given[0], *known)
        return None if queried is None else torch.cat([part.flatten() for part in queried[: self.trained]])

    def step(self, *known) -> Tensor:
        updates = self.functions.step(self.state, *self.given, *known)
        return torch.cat([part.flatten() for part in updates[: self.trained]])


@pytest.mark.parametrize("name", some_and_slow(catalogue.names(), 4))
def test_the_probe_sees_what_the_reference_does(name: str):
    program = lower(catalogue.load(name))
    np.testing.assert_allclose(probe(program).trace, probe(program, Reference).trace, rtol=1e-8, atol=1e-14)
