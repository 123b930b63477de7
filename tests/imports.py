"""What imports what, read from the sources: imports inside functions and under TYPE_CHECKING count."""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]

# The packages and modules right below each top package, in order: a file imports its own entry and those before it.
ORDER = {
    "harness": [],  # one room
    "genomes": [
        "strict_yaml",
        "language",
        "discovered",
        "catalogue",
        "compiler",
        "backends",
        "analysis",
        "api",
        "__init__",
    ],
    "evo": [
        "errors",
        "randomness",
        "files",
        "events",
        "formatting",
        "records",
        "recipe",
        "search",
        "ledger",
        "training",
        "evaluation",
        "campaign",
        "report",
        "exports",
        "api",
        "serve",
        "__init__",
        "cli",
        "__main__",
    ],
}

Imports = dict[str, set[str]]


def modules(root: Path = ROOT, tops: Iterable[str] = ORDER) -> dict[str, Path]:
    """Every module of the top packages by its dotted name."""
    found = {}
    for path in sorted(path for top in tops for path in (root / top).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imported(path: Path) -> frozenset[str]:
    """Dotted names of all that a file imports; ``from a import b`` gives ``a.b``, be it a module or not."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the import with its full name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def imports(found: Mapping[str, Path]) -> Imports:
    """Which of the modules each of them imports."""

    def module_of(name: str) -> str | None:
        return name if name in found else parent if (parent := name.rpartition(".")[0]) in found else None

    return {m: {n for name in imported(path) if (n := module_of(name))} for m, path in found.items()}


def place(module: str) -> tuple[str, str]:
    """The top package of a module, and the entry of ``ORDER`` that it belongs to."""
    top, _, rest = module.partition(".")
    return top, rest.partition(".")[0] or "__init__"


def violations(graph: Imports) -> list[str]:
    """Imports against ``ORDER``, and modules that have no place in it."""
    found = []
    for module, targets in sorted(graph.items()):
        top, entry = place(module)
        order = ORDER[top]
        if order and entry not in order:
            found.append(f"{module}: give {entry} a place in ORDER")
            continue
        for target in sorted(targets):
            other, below = place(target)
            if other == top and below in order and order.index(below) > order.index(entry):
                found.append(f"{module} imports {target}, and {below} stands after {entry}")
    return found


def circles(graph: Imports) -> list[str]:
    """The shortest circle of imports through each module that is in one, as ``a -> b -> a``; each circle once."""
    found = {}
    for module in sorted(graph):
        path = shortest_circle(graph, module)
        if path:
            found.setdefault(frozenset(path), " -> ".join((*path, module)))
    return list(found.values())


def shortest_circle(graph: Imports, start: str) -> list[str]:
    """The modules of a shortest circle, from ``start`` on; none where there is no circle."""
    paths = deque([[start]])
    seen = set()
    while paths:
        path = paths.popleft()
        for target in sorted(graph[path[-1]]):
            if target == start:
                return path
            if target not in seen:
                seen.add(target)
                paths.append([*path, target])
    return []
