"""The pages about the language are true: the reference is what the table says, the worked example works."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evo.cli.app import app
from genomes import catalogue
from genomes.analysis import reference
from genomes.compiler.lowering import lower
from genomes.compiler.shapes import ShapeClass
from genomes.language import genome
from genomes.language.genome import MAX_TERMS
from genomes.language.parser import MAX_CHARACTERS, MAX_DEPTH, MAX_NODES, parse_expression
from genomes.language.primitives import TABLE
from tests.genomes.compare import TOLERANCE

DOCS = Path(__file__).parents[3] / "docs"
GUIDE = (DOCS / "writing-an-optimizer.md").read_text(encoding="utf-8")
READOUT = (DOCS / "frozen-readout.md").read_text(encoding="utf-8")


def test_reference_page_is_fresh():
    written = (DOCS / "primitives.md").read_text(encoding="utf-8")
    assert written == reference.page(), "stale: run python -m genomes.analysis.reference > docs/primitives.md"


page = cache(reference.page)


@pytest.mark.parametrize("name", TABLE)
def test_reference_page_has_every_primitive(name: str):
    written = page()
    primitive = TABLE[name]
    infix = primitive.infix and re.search(rf"^### `.*{re.escape(primitive.infix[0])}", written, re.MULTILINE)
    assert infix or re.search(rf"^### `{name}[(`]", written, re.MULTILINE)


def blocks(language: str, page: str = GUIDE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("fragment", blocks("yaml", READOUT))
def test_fragments_of_the_frozen_readout_page_are_parts_of_genomes(fragment: str, tmp_path: Path):
    path = tmp_path / "fragment.yaml"
    path.write_text(f'genome: 1\nname: fragment\nlr: 1e-3\nterms: [{{expr: "adam(g)"}}]\n{fragment}', encoding="utf-8")
    result = CliRunner().invoke(app, ["genome", "check", str(path)])
    assert result.exit_code == 0, result.output


@pytest.fixture
def guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the guide, as a reader would have written them."""
    (tmp_path / "adamod.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    (tmp_path / "adamod_check.py").write_text(blocks("python")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines()]


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("evo genome")])
def test_guide_commands_work(command: str, guide: Path):
    result = CliRunner().invoke(app, command.split()[1:])
    assert result.exit_code == 0, result.output


def test_guide_check_passes(guide: Path):
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "adamod_check.py"]
    assert "python adamod_check.py" in commands()
    done = subprocess.run(command, env={"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("evo evaluate")])
def test_guide_evaluation_works(command: str, guide: Path):
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-m", *command.split()], env={"PYTHONPATH": root}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_pages_state_the_limits():
    assert f"{MAX_TERMS} terms, and {MAX_CHARACTERS} characters and {MAX_DEPTH} levels per expression" in GUIDE
    assert f"{MAX_CHARACTERS}\ncharacters, {MAX_NODES} nodes" in reference.page()
    parse_expression(" + ".join(["g"] * MAX_DEPTH))
    half = f"({' + '.join(['g'] * 30)})"
    parse_expression(f"{half} + {half}")


def test_guide_says_what_the_genome_costs():
    assert len(lower(genome.parse(blocks("yaml")[0])).slots) == 3


def test_guide_is_about_an_optimizer_outside_the_catalogue():
    assert genome.parse(blocks("yaml")[0]).name not in catalogue.names()


def test_every_entry_was_verified():
    notes = catalogue.verified()
    assert sorted(notes) == catalogue.names(), "run python -m tests.genomes.verify"
    assert all(note["largest_error"] < TOLERANCE and note["steps"] >= 100 for note in notes.values())


def test_the_page_says_that_the_offset_of_an_evaluation_is_an_element_value():
    assert reference.result_class(TABLE["evaluation_offset"]) is ShapeClass.ELEMENT


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("adam", []),
        ("ema", ["element"]),
        ("new_epoch", ["clock"]),
        ("sm3_square", ["row", "column"]),
        ("limit_growth", ["tensor"]),
        ("prodigy", ["model", "model", "element", "element", "element"]),
    ],
)
def test_the_page_names_the_class_of_each_state(name: str, classes: list[str]):
    assert [str(shape) for shape in reference.state_classes(TABLE[name])] == classes
