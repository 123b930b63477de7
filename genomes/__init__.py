"""What an optimizer is: the genome language, its typed program, and the back ends that run or print it.

The packages, lowest first: `language` < `compiler` < `backends` < `analysis`; `catalogue` needs `language` alone, and
`api` holds what this module offers by name. Names are imported when they are first used, so ``import genomes`` is
light, and only `optimizer` needs torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genomes.api.functional import optimizer
    from genomes.api.loading import load
    from genomes.catalogue import names
    from genomes.language.genome import Genome, GenomeError, dump

__all__ = ["Genome", "GenomeError", "dump", "load", "names", "optimizer"]
_HOMES = {
    "Genome": "genomes.language.genome",
    "GenomeError": "genomes.language.genome",
    "load": "genomes.api.loading",
    "dump": "genomes.language.genome",
    "names": "genomes.catalogue",
    "optimizer": "genomes.api.functional",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'genomes' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
