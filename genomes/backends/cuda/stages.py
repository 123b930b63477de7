"""The values that are stored between the passes of a step: of reductions and products of matrices, by stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from genomes.compiler.program import MATRIX, MODEL_REDUCTIONS, REDUCTIONS, SQUARE, Program


def chains(program: Program) -> dict[int, tuple[int, ...]]:
    """Chains of matrix products, each under the node of its last one.

    All but the last of a chain are used by the next alone, so one library call does all and stores the last result.
    Operations on square values stand alone.
    """
    nodes = program.nodes
    uses = Counter(a for node in nodes for a in node.arguments)
    uses.update([program.update, *(node for _, node in program.stores)])
    found: dict[int, tuple[int, ...]] = {}
    for i, node in enumerate(nodes):
        if node.op in MATRIX:
            first = node.arguments[0]
            follows = first in found and uses[first] == 1 and nodes[first].op == node.op
            found[i] = (*(found.pop(first) if follows else ()), i)
        elif node.op in SQUARE:
            found[i] = (i,)
    return found


def stages(program: Program, products: Mapping[int, tuple[int, ...]]) -> list[list[int]]:
    """The nodes whose values are stored, grouped by the number of others before them along the longest path.

    ``products``: the chains of the program.
    """
    stages: list[list[int]] = []
    ready: list[int] = []
    for i, node in enumerate(program.nodes):
        stage = max((ready[a] for a in node.arguments), default=0)
        is_stored = node.op in REDUCTIONS or node.op in MODEL_REDUCTIONS or i in products
        ready.append(stage + is_stored)
        if is_stored:
            stages += [[] for _ in range(stage + 1 - len(stages))]
            stages[stage].append(i)
    return stages
