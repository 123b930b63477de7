"""Every operator of variation by name: the mutations, then the crossovers, each in the order of its module."""

from __future__ import annotations

from evo.search.variation import crossover, mutation
from evo.search.variation.operator import Operator

OPERATORS: dict[str, Operator] = {
    found.name: found
    for module in (mutation, crossover)
    for found in vars(module).values()
    if isinstance(found, Operator)
}
