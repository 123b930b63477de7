"""Evo discovers neural-network optimizers by evolution; this is its Python interface.

``evo.launch``, ``evo.resume``, ``evo.add``, ``evo.drive``, ``evo.evaluate``, ``evo.compare``, ``evo.calibrate``,
``evo.export``, ``evo.export_all``: see `evo.api`, which is imported when one of them is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evo.api import add, calibrate, compare, drive, evaluate, export, export_all, launch, resume

__all__ = ["add", "calibrate", "compare", "drive", "evaluate", "export", "export_all", "launch", "resume"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'evo' has no attribute {name!r}")
    from evo import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
