"""Dependencies point one way: evo -> harness, evo -> genomes, and inside each in the order that imports.py states."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.imports import ORDER, ROOT, Imports, circles, imported, imports, modules, place, violations

ALLOWED = {"genomes": {"genomes"}, "harness": {"harness"}, "evo": {"evo", "genomes", "harness"}}
LIBRARIES = {"genomes": {"torch", "numpy", "yaml"}, "harness": {"torch", "numpy", "yaml"}}
MODULES = modules()


@pytest.fixture(scope="module")
def graph() -> Imports:
    """What imports what."""
    return imports(MODULES)


def tops(path: Path) -> set[str]:
    """Top-level names of all that a file imports."""
    return {name.partition(".")[0] for name in imported(path)}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    package, names = place(module)[0], tops(MODULES[module])
    assert names & set(ALLOWED) <= ALLOWED[package]
    if package != "evo":
        foreign = names - set(sys.stdlib_module_names) - set(ALLOWED)
        assert foreign <= LIBRARIES[package], f"{module} may import {LIBRARIES[package]} alone"


def test_packages_keep_their_order(graph):
    assert violations(graph) == []


def test_no_files_import_one_another_in_a_circle(graph):
    assert circles(graph) == []


def test_every_entry_of_the_order_is_there():
    for top, entries in ORDER.items():
        there = {place(module)[1] for module in MODULES if place(module)[0] == top}
        assert set(entries) <= there, "remove the entry"


def test_violations_would_be_seen(tmp_path):
    files = {
        "evo/__init__.py": "",
        "evo/records.py": "def f():\n    from evo.search.genetic import generation\n    import deap.gp\n",
        "evo/search/__init__.py": "",
        "evo/search/genetic.py": "if TYPE_CHECKING:\n    from evo.search import screening\n",
        "evo/search/screening.py": "import evo.records\n",
        "evo/stray.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    graph = imports(modules(tmp_path))
    assert tops(tmp_path / "evo/records.py") == {"evo", "deap"}
    assert circles(graph) == ["evo.records -> evo.search.genetic -> evo.search.screening -> evo.records"]
    assert violations(graph) == [
        "evo.records imports evo.search.genetic, and search stands after records",
        "evo.stray: give stray a place in ORDER",
    ]


@pytest.mark.slow
def test_the_picture_of_the_imports_can_be_drawn(tmp_path):
    path = tmp_path / "graph.png"
    subprocess.run([sys.executable, "-m", "docs.import_graph", str(path)], cwd=ROOT, check=True)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("forbidden", ["pickle", "marshal", "shelve", "dill", "cloudpickle"])
def test_nothing_is_pickled_by_us(forbidden):
    assert not [module for module, path in MODULES.items() if forbidden in tops(path)]


def test_nothing_is_evaluated_by_us():
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                # the sandbox's own child is the one place that runs a foreign file
                assert node.func.id not in ("eval", "exec") or path.name == "submission_worker.py", path


def test_genomes_and_harness_need_no_other_package():
    code = "import sys; import genomes.analysis.probe, genomes.catalogue, harness.train; print('deap' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def public_definitions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Functions, classes and methods that others may use, by name; nothing that is nested in a function."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body, f"{prefix}{node.name}.")


def room(module: str) -> str:
    """The package that a module's definitions are counted in; the harness is one."""
    top, entry = place(module)
    return f"{top}.{entry}" if ORDER[top] else top


@pytest.mark.parametrize("package", sorted({room(module) for module in MODULES}))
def test_public_definitions_say_what_they_are(package):
    documented, missing = 0, []
    for module in (m for m in MODULES if room(m) == package):
        for name, node in public_definitions(ast.parse(MODULES[module].read_text()).body):
            if ast.get_docstring(node):
                documented += 1
            else:
                missing.append(f"{module}: {name}")
    assert not missing, f"{len(missing)} of {documented + len(missing)} have no docstring:\n" + "\n".join(missing)
