"""Dependencies point one way: evo -> harness, evo -> genomes. Nothing else imports what is ours, or deap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {"genomes": {"genomes"}, "harness": {"harness"}, "evo": {"evo", "genomes", "harness"}}
LIBRARIES = {"genomes": {"torch", "numpy", "yaml"}, "harness": {"torch", "numpy", "yaml"}}
MODULES = [path for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Top-level names of all that a module imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    names = imported(path)
    assert names & set(ALLOWED) <= ALLOWED[package]
    if package != "evo":
        foreign = names - set(sys.stdlib_module_names) - set(ALLOWED)
        assert foreign <= LIBRARIES[package], f"{path} may import {LIBRARIES[package]} alone"


def test_a_violation_would_be_seen(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from evo.search.genetic import generation\n    import deap.gp\n")
    assert imported(bad) == {"evo", "deap"}


@pytest.mark.parametrize("forbidden", ["pickle", "marshal", "shelve", "dill", "cloudpickle"])
def test_nothing_is_pickled_by_us(forbidden):
    assert not [path for path in MODULES if forbidden in imported(path)]


def test_nothing_is_evaluated_by_us():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                # the sandbox's own child is the one place that runs a foreign file
                assert node.func.id not in ("eval", "exec") or path.name == "submission_worker.py", path


def test_genomes_and_harness_need_no_other_package():
    code = (
        "import sys; import genomes.analysis.identity, genomes.catalogue, harness.train; print('deap' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
