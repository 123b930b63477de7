"""Trainings that nobody has to wait for."""

from __future__ import annotations

from harness.result import Training


def training(quality: float | None, **fields) -> Training:
    """A finished training of that quality; ``fields`` change what else is to differ."""
    test = None if quality is None else 0.3 * (1 - quality)
    known = {
        "status": "finished", "message": "", "epochs_run": 1, "best_epoch": 0, "train_loss": [1.0], "val_loss": [1.0],
        "test_loss": test, "target_loss": 0.3, "quality": quality, "passed": None, "seconds": 1.0,
    }  # fmt: skip
    return Training(**{**known, **fields})
