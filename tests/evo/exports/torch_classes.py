"""Exported torch classes: loaded from their files, and driven beside the reference."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from evo.exports import torch_format
from evo.exports.export import Export
from genomes import catalogue
from genomes.backends.torch_reference import optimizer
from genomes.compiler.lowering import lower
from genomes.language.genome import Genome
from tests.genomes import trajectory

FILE = "exported_torch.py"
KEPT = tuple(i for i, flag in enumerate(trajectory.TRAINABLE) if flag)


def module_of(genome: Genome, folder: Path) -> ModuleType:
    """The exported file of a genome, imported as a user would."""
    path = folder / FILE
    path.write_text(torch_format.render(Export(genome)))
    spec = importlib.util.spec_from_file_location("exported_torch", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["exported_torch"] = module  # as after an import; torch.compile looks there
    spec.loader.exec_module(module)
    return module


def class_of(name: str, folder: Path) -> type[torch.optim.Optimizer]:
    """The class of a known optimizer."""
    return getattr(module_of(catalogue.load(name), folder), torch_format.class_name(name))


def largest_difference(genome: Genome, folder: Path, moments: list[trajectory.Moment], **options: Any) -> float:
    """Of parameters in all steps and evaluations, relative, between a class and its genome's reference in float64."""
    module = module_of(genome, folder)
    functions = optimizer(lower(genome))
    context = trajectory.context()
    for name in ("shapes", "roles", "layers", "trainable"):
        context[name] = [context[name][i] for i in KEPT]
    sizes = [math.prod(shape) for shape in context["shapes"]]
    state = functions.init_state(bytes(32), sizes, **context)
    theta = [trajectory.start()[i] for i in KEPT]
    params = [nn.Parameter(p.clone()) for p in theta]
    group = {"params": params, "roles": context["roles"], "layers": context["layers"]}
    mine = getattr(module, torch_format.class_name(genome.name))([group], **options)
    if "steps_per_epoch" in mine.defaults:
        mine.param_groups[0]["steps_per_epoch"] = trajectory.STEPS_PER_EPOCH
    error, epoch = 0.0, 0
    for now in moments:
        known = (now.epoch, now.train_loss, now.val_loss)
        if now.epoch != epoch:
            epoch = now.epoch
            if hasattr(mine, "eval"):
                mine.eval()
                error = max(error, _difference(params, theta))
            if hasattr(mine, "observe"):
                for each in mine.param_groups:
                    each["epoch"] = now.epoch - 1
                mine.observe(now.val_loss, now.train_loss)
            if hasattr(mine, "train"):
                mine.train()
        queried = functions.query_at_params(state, theta, *known)
        at = theta if queried is None else queried
        error = max(error, _difference(params, at))
        whole = trajectory.start()
        for i, p in zip(KEPT, at, strict=True):
            whole[i] = p
        gradients = [now.gradient(whole)[i] for i in KEPT]
        updates = functions.step(state, theta, gradients, *known)
        theta = [p + u for p, u in zip(theta, updates, strict=True)]
        for p, g in zip(params, gradients, strict=True):
            p.grad = g.clone()
        mine.step()
    return error


def _difference(params: list[nn.Parameter], expected: list[Tensor]) -> float:
    worst = 0.0
    for p, q in zip(params, expected, strict=True):
        worst = max(worst, ((p.detach() - q).abs() / (q.abs().max() + 1e-3)).max().item())
        if not torch.equal(p.detach().isnan(), q.isnan()):
            return math.nan
    return worst
