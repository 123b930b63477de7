"""The paths that the benchmark compares train alike: otherwise their times would not be comparable."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import throughput_paths

CPU = torch.device("cpu")


def test_paths_of_the_benchmark_train_alike():
    chosen = throughput_paths.instances(2, 2)
    paths = {
        "literal": throughput_paths.literal(chosen[0]),
        "ours": throughput_paths.ours(chosen[0]),
        "eager": throughput_paths.eager(chosen[0], CPU),
        "vmap": throughput_paths.ensemble(chosen, CPU),
    }
    losses = {name: [epoch() for _ in range(3)] for name, epoch in paths.items()}
    for name, found in losses.items():
        for epoch, expected in zip(found, losses["literal"], strict=True):
            assert epoch == pytest.approx(expected, rel=1e-4), name


def test_many_lanes_at_once_train_alike():
    """A call goes through several epochs, and so did the one that made it ready."""
    chosen = throughput_paths.instances(2, 2)
    alone = throughput_paths.literal(chosen[0])
    expected = [alone() for _ in range(2 * throughput_paths.CALL_EPOCHS)][-1]
    assert throughput_paths.batched("ours", chosen, CPU).epoch() == pytest.approx(expected, rel=0.05)


@pytest.mark.gpu
def test_graphs_train_alike():
    (instance,) = throughput_paths.instances(2, 1)
    device = torch.device("cuda")
    eager, graphs = throughput_paths.eager(instance, device), throughput_paths.graphs(instance, device)
    for _ in range(3):
        assert graphs() == pytest.approx(eager(), rel=1e-3)
