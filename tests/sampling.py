"""Which of many similar cases the core suite has, and which `pytest -m slow` alone."""

from collections.abc import Sequence
from typing import Any

import pytest


def some_and_slow(values: Sequence[Any], every: int, also: Sequence[Any] = ()) -> list[Any]:
    """Parameters of a test: all ``values``, but those that are neither every so many nor ``also`` are slow."""
    kept = [*values[::every], *also]
    return [value if value in kept else pytest.param(value, marks=pytest.mark.slow) for value in values]
