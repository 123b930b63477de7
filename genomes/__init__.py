"""What an optimizer is: the genome language, its typed program, and the back ends that run or print it.

The packages, lowest first: `language` < `compiler` < `backends` < `analysis`; `catalogue` needs `language` alone, and
`api` holds what this module offers by name. Names are imported when they are first used, so ``import genomes`` is
light, and only `optimizer` needs torch.
"""

from importlib import import_module
from typing import Any

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
