"""Time per step of exported torch classes beside torch's own foreach Adam: ``python -m benchmarks.torch_export``.

One process times all of them in turn, on one model of 10 million parameters, and prints medians of rounds: each round
gives every optimizer a few steps, so that a busy machine slows all of them alike. ``ratio``: to torch's foreach Adam in
the same rounds.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evo.exports import torch_format
from evo.exports.export import Export
from genomes import catalogue

SHAPES = [(1024, 1024), (1024,)] * 9 + [(512, 1024), (512,)] * 1 + [(256, 256), (256,)] * 8  # 10.5 million
NAMES = ("adam", "adamw", "lion", "cautious_adanw")


def exported(name: str, params: list[nn.Parameter], **options: Any) -> torch.optim.Optimizer:
    """The exported class of a known optimizer, over ``params``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exported.py"
        path.write_text(torch_format.render(Export(catalogue.load(name))))
        spec = importlib.util.spec_from_file_location(f"exported_{name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return getattr(module, torch_format.class_name(name))(params, **options)


def parameters(device: str) -> list[nn.Parameter]:
    """Parameters of 10 million entries with gradients, as of a network of many layers."""
    params = [nn.Parameter(0.02 * torch.randn(shape, device=device)) for shape in SHAPES]
    for p in params:
        p.grad = 1e-3 * torch.randn_like(p)
    return params


def measure(device: str, rounds: int, steps: int) -> dict[str, float]:
    """Median milliseconds per step, by optimizer."""
    made = {
        "torch Adam foreach": torch.optim.Adam(parameters(device), foreach=True),
        "torch Adam single": torch.optim.Adam(parameters(device), foreach=False),
        **{f"exported {name}": exported(name, parameters(device)) for name in NAMES},
        "exported adam, foreach=False": exported("adam", parameters(device), foreach=False),
    }
    times: dict[str, list[float]] = {name: [] for name in made}
    for k in range(rounds + 1):
        for name, optimizer in made.items():
            began = _now(device)
            for _ in range(steps):
                optimizer.step()
            if k:  # the first round makes states
                times[name].append((_now(device) - began) / steps)
    return {name: 1e3 * statistics.median(found) for name, found in times.items()}


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="of torch on a CPU; 0: as torch chooses")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    found = measure(options.device, options.rounds, options.steps)
    count = sum(torch.Size(shape).numel() for shape in SHAPES)
    print(f"{count / 1e6:.1f} million parameters in {len(SHAPES)} tensors on {options.device}")
    for name, milliseconds in found.items():
        print(f"  {name:30} {milliseconds:8.2f} ms  {milliseconds / found['torch Adam foreach']:5.2f} x")


if __name__ == "__main__":
    main()
