"""Oracles from published packages: torch.optim, pytorch_optimizer, lion_pytorch, and a few of one optimizer each."""

from __future__ import annotations

import lion_pytorch
import pytorch_optimizer as zoo
from torch import optim

from tests.genomes.oracles.base import MakeOracle, packaged

ORACLES: dict[str, MakeOracle] = {
    "sgd": packaged(lambda p: optim.SGD(p, lr=3e-5)),
    "heavy_ball": packaged(lambda p: optim.SGD(p, lr=1e-5, momentum=0.9)),
    "nesterov": packaged(lambda p: optim.SGD(p, lr=1e-5, momentum=0.9, nesterov=True)),
    "adam": packaged(lambda p: optim.Adam(p, lr=1e-3)),
    "adamw": packaged(lambda p: optim.AdamW(p, lr=1e-3, weight_decay=1e-2)),
    "nadam": packaged(lambda p: optim.NAdam(p, lr=1e-3)),
    "rmsprop": packaged(lambda p: optim.RMSprop(p, lr=1e-3)),
    "lion": packaged(lambda p: lion_pytorch.Lion(p, lr=1e-4, betas=(0.9, 0.99), weight_decay=1e-2)),
    "adabelief": packaged(lambda p: zoo.AdaBelief(p, lr=1e-3, rectify=False, eps=1e-8)),
    "adan": packaged(lambda p: zoo.Adan(p, lr=1e-3, betas=(0.98, 0.92, 0.99), eps=1e-8, weight_decay=0.0)),
}
