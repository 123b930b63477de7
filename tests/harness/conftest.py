"""Golden data: what Rust's StdRng and curand give for three seeds."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parent.parent / "golden"
PREFIX = {"tig": "", "seed": "8_"}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def golden():
    """For each seed: ``seed, first_u32, layer_seeds, orders, late_u64`` and ``data[task] = (x, f, y)``."""
    arrays = np.load(GOLDEN / "instances.npz")
    return [
        SimpleNamespace(
            seed=bytes(entry["seed"]),
            first_u32=entry["first_u32"],
            layer_seeds=entry["layer_seed_u64"],
            orders=entry["epoch_orders"],
            late_u64=entry["next_u64_after_200_epochs"],
            data={task: tuple(arrays[f"{name}{prefix}{i}"] for name in "xfy") for task, prefix in PREFIX.items()},
        )
        for i, entry in enumerate(json.loads((GOLDEN / "rng.json").read_text()))
    ]
