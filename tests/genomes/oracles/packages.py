"""Oracles from published packages: torch.optim, pytorch_optimizer, lion_pytorch, and a few of one optimizer each."""

from __future__ import annotations

import importlib
from typing import Any

import core_optimizer
import dog
import lion_pytorch
import prodigyopt
import schedulefree
import torch
from torch import Tensor, optim
from torch.nn import utils
from torch.optim.swa_utils import AveragedModel

from tests.genomes.oracles.base import Gradient, MakeOracle, PackageOracle, packaged
from tests.genomes.trajectory import Moment


def _zoo_module(name: str = "") -> Any:
    """pytorch_optimizer or a module of it, imported where it is used: it takes a second to load."""
    return importlib.import_module(f"pytorch_optimizer{name}")


def _zoo(name: str, **options: Any) -> MakeOracle:
    """An optimizer of pytorch_optimizer, in its loop over single tensors (the others use float32 scalars)."""
    return packaged(lambda p: getattr(_zoo_module(), name)(p, **{"foreach": False, **options}))


def _clip_value(limit: float) -> Any:
    return lambda p, optimizer, now: utils.clip_grad_value_(p, limit)


def _clip_each_norm(parameters: list, optimizer: Any, now: Moment) -> None:
    for p in parameters:
        utils.clip_grad_norm_([p], 1.0)


def _centralise(parameters: list, optimizer: Any, now: Moment) -> None:
    for p in parameters:
        if p.ndim == 2 and p.shape[1] > 1:
            _zoo_module(".optimizer.gradient_centralization").centralize_gradient(p.grad, gc_conv_only=False)


def _grokfast(gradfilter: str, **options: Any) -> MakeOracle:
    def make(theta: list[Tensor], roles: list[str]) -> PackageOracle:
        memory = None

        def before(parameters: list, optimizer: Any, now: Moment) -> None:
            nonlocal memory
            apply = getattr(_zoo_module(".optimizer.grokfast"), gradfilter)
            memory = apply(torch.nn.ParameterList(parameters), memory, **options)

        return PackageOracle(theta, lambda p: optim.Adam(p, lr=1e-4), before)

    return make


def _zoo_by_role(name: str, lr: float, scales: dict[str, float], **options: Any) -> MakeOracle:
    """An optimizer of pytorch_optimizer with a parameter group for each tensor; ``scales``: multipliers of lr."""

    def make(theta: list[Tensor], roles: list[str]) -> PackageOracle:
        def groups(parameters: list) -> list[dict]:
            pairs = zip(parameters, roles, strict=True)
            return [{"params": [p], "lr": lr * scales.get(role, 1.0)} for p, role in pairs]

        return PackageOracle(theta, lambda p: getattr(_zoo_module(), name)(groups(p), foreach=False, **options))

    return make


class _Asgd(PackageOracle):
    """torch's ASGD, whose averages are ours: it moves the fast iterates and keeps the averages aside."""

    def step(self, gradient: Gradient, now: Moment) -> list[Tensor]:
        super().step(gradient, now)
        return [self.optimizer.state[p]["ax"].clone() for p in self.parameters]


class _Polyak(PackageOracle):
    """SGD, and torch's own running mean of its iterates (its count starts with the parameters after step 1)."""

    def __init__(self, theta: list[Tensor]):
        super().__init__(theta, lambda p: optim.SGD(p, lr=3e-5))
        self.model = torch.nn.ParameterList(self.parameters)
        self.average = AveragedModel(self.model)

    def step(self, gradient: Gradient, now: Moment) -> list[Tensor]:
        super().step(gradient, now)
        self.average.update_parameters(self.model)
        return [p.detach().clone() for p in self.average.module.parameters()]


class _ScheduleFree(PackageOracle):
    """A schedulefree optimizer: its parameters are y while it trains; ``eval`` turns them into the average x."""

    def step(self, gradient: Gradient, now: Moment) -> list[Tensor]:
        self.optimizer.train()
        super().step(gradient, now)
        self.optimizer.eval()
        averages = [p.detach().clone() for p in self.parameters]
        self.optimizer.train()
        return averages


ORACLES: dict[str, MakeOracle] = {
    # torch
    "sgd": packaged(lambda p: optim.SGD(p, lr=3e-5)),
    "heavy_ball": packaged(lambda p: optim.SGD(p, lr=1e-5, momentum=0.9)),
    "nesterov": packaged(lambda p: optim.SGD(p, lr=1e-5, momentum=0.9, nesterov=True)),
    "adagrad": packaged(lambda p: optim.Adagrad(p, lr=1e-2)),
    "adadelta": packaged(lambda p: optim.Adadelta(p, lr=1.0, rho=0.9, eps=1e-6)),
    "rmsprop": packaged(lambda p: optim.RMSprop(p, lr=1e-3)),
    "rmsprop_centred": packaged(lambda p: optim.RMSprop(p, lr=1e-3, centered=True)),
    "rmsprop_momentum": packaged(lambda p: optim.RMSprop(p, lr=1e-4, momentum=0.9)),
    "rprop": packaged(lambda p: optim.Rprop(p, lr=1e-3, etas=(0.5, 1.2), step_sizes=(1e-6, 3e-3))),
    "asgd": lambda theta, roles: _Asgd(theta, lambda p: optim.ASGD(p, lr=3e-5, lambd=1e-4, alpha=0.75, t0=40)),
    "polyak_averaging": lambda theta, roles: _Polyak(theta),
    "adam": packaged(lambda p: optim.Adam(p, lr=1e-3)),
    "adamw": packaged(lambda p: optim.AdamW(p, lr=1e-3, weight_decay=1e-2)),
    "amsgrad": packaged(lambda p: optim.Adam(p, lr=1e-3, amsgrad=True)),
    "adamax": packaged(lambda p: optim.Adamax(p, lr=2e-3)),
    "nadam": packaged(lambda p: optim.NAdam(p, lr=1e-3)),
    "nadamw": packaged(lambda p: optim.NAdam(p, lr=1e-3, weight_decay=1e-2, decoupled_weight_decay=True)),
    "radam": packaged(lambda p: optim.RAdam(p, lr=1e-3)),
    "adafactor": packaged(lambda p: optim.Adafactor(p, lr=0.1, eps=(1e-15, 1e-3), d=1.0, weight_decay=0.0)),
    "sgd_clip_value": packaged(lambda p: optim.SGD(p, lr=1e-3), _clip_value(1.0)),
    "sgd_clip_norm": packaged(lambda p: optim.SGD(p, lr=1e-2), _clip_each_norm),
    "sgd_clip_global_norm": packaged(
        lambda p: optim.SGD(p, lr=3e-3), lambda p, optimizer, now: utils.clip_grad_norm_(p, 10.0)
    ),
    "adam_clip_depth4": packaged(lambda p: optim.Adam(p, lr=3.69e-4, betas=(0.972, 0.951)), _clip_value(0.078)),
    "adam_clip_07": packaged(lambda p: optim.Adam(p, lr=1.1e-3, betas=(0.91, 0.9985), eps=3e-8), _clip_value(0.7)),
    "adam_clip_1": packaged(lambda p: optim.Adam(p, lr=3e-4, betas=(0.95, 0.999)), _clip_value(1.0)),
    # pytorch_optimizer
    "adabelief": _zoo("AdaBelief", lr=1e-3, rectify=False, eps=1e-8),
    "yogi": _zoo("Yogi", lr=1e-2, initial_accumulator=0.0, eps=1e-3),
    "adabound": _zoo("AdaBound", lr=1e-3, final_lr=3e-4, gamma=1e-2),
    "adamp": _zoo("AdamP", lr=1e-3, delta=0.1),
    "sgdp": _zoo("SGDP", lr=1e-5, momentum=0.9, nesterov=True, delta=0.1),
    "diffgrad": _zoo("DiffGrad", lr=1e-3),
    "laprop": _zoo("LaProp", lr=1e-3, betas=(0.9, 0.999), eps=1e-15),
    "adopt": _zoo("ADOPT", lr=1e-3, betas=(0.9, 0.9999), eps=1e-6),
    "stable_adamw": _zoo("StableAdamW", lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-2, eps=1e-8),
    "adan": _zoo("Adan", lr=1e-3, betas=(0.98, 0.92, 0.99), eps=1e-8, weight_decay=0.0),
    "ademamix": _zoo("AdEMAMix", lr=2e-4, betas=(0.9, 0.999, 0.9999), alpha=5.0, t_alpha_beta3=100),
    "novograd": _zoo("NovoGrad", lr=1e-2, betas=(0.95, 0.98), weight_decay=1e-3),
    "mars": _zoo("MARS", lr=3e-3, betas=(0.95, 0.99), gamma=0.025, optimize_1d=True),
    "adashift": _zoo("AdaShift", lr=1e-3, betas=(0.9, 0.999), keep_num=4),
    "signsgd": _zoo("SignSGD", lr=1e-4, momentum=0.0),
    "signum": _zoo("SignSGD", lr=1e-4, momentum=0.9),
    "lars": _zoo_by_role(
        "LARS", 5.0, {"bias": 2e-6, "norm_scale": 2e-6, "norm_shift": 2e-6}, weight_decay=1e-4, momentum=0.9
    ),
    "fromage": _zoo_by_role("Fromage", 1e-2, {"bias": 1e-3, "norm_shift": 1e-3}),
    "sm3": _zoo("SM3", lr=1e-2, momentum=0.9),
    "racs": _zoo("RACS", lr=5e-3, beta=0.9, alpha=0.05, gamma=1.01),
    "grams": _zoo("Grams", lr=1e-3),
    "gravity": _zoo("Gravity", lr=1e-1, alpha=0.0, beta=0.9),
    "dadapt_adam": _zoo("DAdaptAdam", lr=1.0),
    "lookahead": packaged(lambda p: _zoo_module().Lookahead(optim.Adam(p, lr=1e-3), k=5, alpha=0.5)),
    "gradient_centralisation": packaged(lambda p: optim.Adam(p, lr=1e-3), _centralise),
    "grokfast": _grokfast("gradfilter_ema", alpha=0.98, lamb=2.0),
    "grokfast_ma": _grokfast("gradfilter_ma", window_size=100, lamb=5.0),
    "apollo": _zoo("ApolloDQN", lr=1e-3, init_lr=1e-5, warmup_steps=20),
    "adalite": packaged(lambda p: _zoo_module().Adalite(p, lr=1e-3, betas=(0.9, 0.999), weight_decay=1e-2)),
    "came": _zoo("CAME", lr=2e-4, betas=(0.9, 0.999, 0.9999), weight_decay=0.0),
    "spam": _zoo("SPAM", lr=1e-3, update_proj_gap=50, warmup_epoch=20, threshold=50, grad_accu_steps=10),
    # packages of one optimizer
    "lion": packaged(lambda p: lion_pytorch.Lion(p, lr=1e-4, betas=(0.9, 0.99), weight_decay=1e-2)),
    "prodigy": packaged(lambda p: prodigyopt.Prodigy(p, lr=1.0)),
    "dog": packaged(lambda p: dog.DoG(p, reps_rel=1e-4)),
    "core": packaged(lambda p: core_optimizer.CoRe(p, lr=1e-3, step_sizes=(5e-4, 1e-2), foreach=False)),
    "core_frozen": packaged(
        lambda p: core_optimizer.CoRe(p, lr=1e-3, step_sizes=(5e-4, 1e-2), score_history=50, frozen=0.1, foreach=False)
    ),
    "schedule_free_sgd": lambda theta, roles: _ScheduleFree(
        theta, lambda p: schedulefree.SGDScheduleFree(p, lr=1e-4, momentum=0.9, weight_decay=1e-2, foreach=False)
    ),
    "schedule_free_adamw": lambda theta, roles: _ScheduleFree(
        theta, lambda p: schedulefree.AdamWScheduleFree(p, lr=2.5e-3, weight_decay=1e-2, foreach=False)
    ),
}
