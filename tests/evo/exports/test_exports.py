"""Exported files: they stand alone, compute bit for bit what the genome computes, and harm nobody."""

import ast
import importlib.util
import os
from pathlib import Path

import pytest
import torch

from evo.errors import EvoError, UsageError
from evo.evaluation.question import parse_question
from evo.evaluation.trainings import evaluate_targets
from evo.exports.export import Export, Measured
from evo.exports.formats import find_format, formats, stem
from evo.exports.source import find
from evo.exports.submission import LICENSE, Submission
from evo.files import write
from genomes import catalogue
from genomes.backends.torch_reference import optimizer
from genomes.compiler.lowering import lower
from genomes.language.genome import MAX_NAME, parse
from harness.task import Instance, seed_bytes
from harness.train import train
from tests.evo.fake_campaign import folder, run

CASES = Path(__file__).parents[2] / "cases"
UNPRINTED = "\x00 \x1b \x7f \x80 \x85 \xa0 \u2028 \ufeff \uffff"
MEASURED = Measured(
    "tig, depth 3, 5 epochs, 2 instances",
    (("this", "0.500 ± 0.020 from 9 instances"), ("adam", "0.400 ± 0.010 from 40 instances")),
    "Expect less elsewhere.",
)


def rendered(name, export):
    """The text of a format of one file."""
    (text,) = find_format(name).files(export).values()
    return text


def as_python(export):
    return rendered("python", export)


def as_yaml(export):
    return rendered("yaml", export)


class Functions:
    """The three functions of an exported file, as the harness calls them."""

    def __init__(self, path):
        spec = importlib.util.spec_from_file_location("exported", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.init_state = module.optimizer_init_state
        self.query_at_params = module.optimizer_query_at_params
        self.step = module.optimizer_step


def text_of(name):
    return as_python(Export(catalogue.load(name), "the catalogue", MEASURED))


@pytest.mark.parametrize("name", ["adam", "cautious_adanw"])
def test_an_exported_file_trains_bit_for_bit_as_its_genome(tmp_path, name):
    path = tmp_path / "exported.py"
    path.write_text(text_of(name))
    instance = Instance("tig", 3, seed_bytes(5))
    theirs = train(instance, Functions(path), epochs=3)
    ours = train(instance, optimizer(lower(catalogue.load(name))), epochs=3)
    assert theirs.train_loss == ours.train_loss
    assert theirs.val_loss == ours.val_loss
    assert theirs.test_loss == ours.test_loss


def test_evo_evaluate_gives_the_file_and_its_genome_the_same_numbers(tmp_path, train_here):
    export = Export(catalogue.load("cautious_adanw"))
    (tmp_path / "best.py").write_text(as_python(export))
    (tmp_path / "best.yaml").write_text(as_yaml(export))
    names = [str(tmp_path / "best.py"), str(tmp_path / "best.yaml")]
    file, genome = evaluate_targets(parse_question(names, depths="4", seeds="7", epochs=3), workers=1).results
    assert file.training.status == genome.training.status == "finished"
    assert file.training.val_loss == genome.training.val_loss
    assert file.training.train_loss == genome.training.train_loss
    assert file.training.quality == genome.training.quality


@pytest.mark.parametrize("name", catalogue.all_names())
def test_an_exported_file_imports_torch_alone(name):
    tree = ast.parse(text_of(name))
    names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    assert names <= {"torch", "math"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def test_the_header_tells_formula_origin_and_results():
    header = ast.get_docstring(ast.parse(text_of("adam")))
    for expected in (
        "debias(ema(g, 0.9))",
        "the catalogue",
        "this                     0.500 ± 0.020 from 9 instances",
        "adam                     0.400 ± 0.010 from 40 instances",
        "2 instances",
        "Expect less elsewhere.",
    ):
        assert expected in header


def test_yaml_reads_back_as_the_same_genome():
    genome = catalogue.load("lion")
    text = as_yaml(Export(genome, "found by a campaign " * 20, MEASURED))
    assert parse(text) == genome


@pytest.mark.parametrize("text", ['"""; import os #', "*/ int x; /*", "{{ 7 * 7 }}", "line\nbreak", "\\", UNPRINTED])
def test_what_is_quoted_is_text(text):
    adam, said = catalogue.load("adam"), Submission("mine", "2026 A", "A", "B")
    quoted = Measured(text, ((text, text),), text)
    plain = {name: format.files(Export(adam, submission=said)) for name, format in formats().items()}
    for name, format in formats().items():
        for path, found in format.files(Export(adam, text, quoted, quoted, said)).items():
            if path.endswith(".py"):
                assert [type(node) for node in ast.parse(found).body] == [
                    type(node) for node in ast.parse(plain[name][path]).body
                ]
            if path.endswith((".rs", ".cu")):
                assert found == plain[name][path]
            if path.endswith(".yaml"):
                assert parse(found) == adam
            assert not any(c in found for c in "\x00\x1b\u2028\ufeff")


@pytest.mark.parametrize(
    "source", ['"""; import os; os._exit(3) #', "back\\slash \\", "line\nbreak", "'''", '"' * 7, UNPRINTED]
)
def test_texts_of_a_genome_cannot_break_out_of_the_header(source):
    genome = catalogue.load("adam").renamed("adam", source)
    for text in (as_python(Export(genome, source)), as_python(Export(genome, "x", MEASURED))):
        tree = ast.parse(text)
        kinds = {type(node) for node in tree.body[1:]}
        assert kinds <= {ast.Import, ast.FunctionDef}
    for export in (Export(genome), Export(genome, source)):
        assert parse(as_yaml(export)) == genome


def test_a_long_name_of_a_campaign_leaves_a_name_that_is_read(tmp_path):
    path = folder(tmp_path / "run", (CASES / "long_name_recipe.yaml").read_text())
    run("launch", path)
    found = find(str(path)).genome
    assert len(found.name) == MAX_NAME
    assert found.name.startswith("nnnn")
    assert parse(as_yaml(find(str(path)))) == found


@pytest.mark.parametrize("name", formats())
def test_every_format_renders_every_kind_of_export(name):
    found = formats()[name]
    assert found.name == name
    assert found.description
    adam, said = catalogue.load("adam"), Submission("mine", "2026 A", "A", "B")
    bare, full = (found.files(Export(adam, *rest, submission=said)) for rest in ((), ("the catalogue", MEASURED)))
    assert found.is_folder or len(bare) == 1
    assert set(bare) == set(full)
    assert all(text.endswith("\n") for text in bare.values())
    assert any("Expect less elsewhere." in text for text in full.values())


def test_formats_of_one_file_have_files_of_their_own():
    export = Export(catalogue.load("adam"))
    names = [name for format in formats().values() if not format.is_folder for name in format.files(export)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adam", "adam"),
        ("run-12.5+x", "run_12_5_x"),
        ("8bit", "optimizer_8bit"),
        ("lambda", "lambda_"),
        ("..", "optimizer"),
    ],
)
def test_files_have_names_that_python_imports(name, expected):
    assert stem(name) == expected


def test_a_format_that_is_none_is_refused():
    with pytest.raises(UsageError, match=f"--format c: not one of {', '.join(formats())}"):
        find_format("c")


def test_what_is_no_genome_is_a_mistake_of_the_user(tmp_path):
    (tmp_path / "broken.yaml").write_text("genome: 1\nname: broken\nlr: fast\n")
    for target, message in (
        ("adm", "did you mean adam"),
        (str(tmp_path / "nowhere.yaml"), "no such file"),
        (str(tmp_path / "broken.yaml"), "broken.yaml:3: lr:"),
    ):
        with pytest.raises(UsageError, match=message):
            find(target)


def test_writing_is_complete_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "out" / "x.py"
    write(path, "first")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(EvoError, match="No space left"):
        write(path, "second")
    assert path.read_text() == "first"
    assert [p.name for p in path.parent.iterdir()] == ["x.py"]


def test_an_exported_file_works_with_shapes_alone(tmp_path):
    path = tmp_path / "exported.py"
    path.write_text(text_of("adamw"))
    functions = Functions(path)
    params = [torch.ones(3, 2), torch.ones(3)]
    state = functions.init_state(bytes(32), [6, 3], shapes=[(3, 2), (3,)])
    updates = functions.step(state, params, [torch.ones(3, 2), torch.ones(3)], 0, None, None)
    assert [u.shape for u in updates] == [p.shape for p in params]
    assert all((u < 0).all() for u in updates)


def test_all_formats_go_to_one_folder(tmp_path, evo):
    out = tmp_path / "all"
    code, printed, err = evo("export", "muon", "--all", "--out", out)
    assert code == 0, err
    written = sorted(str(path) for path in out.rglob("*") if path.is_file())
    assert sorted(printed.split()) == written
    page = (out / "README.md").read_text()
    for name, format in formats().items():
        assert format.description in page or f"`--format {name}`" in page
    assert {"muon.py", "muon.yaml", "muon_torch.py"} <= {path.name for path in out.iterdir()}
    code, _, err = evo("export", "muon", "--all", "--out", out)
    assert code == 2
    assert "--force" in err
    code, _, err = evo("export", "muon", "--all")
    assert code == 2
    assert "name a folder" in err


def test_all_formats_have_a_submission_where_its_details_are_given(tmp_path, evo):
    details = [f"--field={key}=mine" for key in ("algorithm", "copyright", "submitter", "creator")]
    code, _, err = evo("export", "adam", "--all", "--out", tmp_path / "all", *details)
    assert code == 0, err
    assert LICENSE in " ".join(err.split())
    assert {path.name for path in (tmp_path / "all" / "tig").iterdir()} == {"README.md", "mod.rs", "mine.cu"}


def test_all_formats_of_a_campaign_come_with_its_report(tmp_path, evo):
    path = folder(tmp_path / "run")
    run("launch", path)
    code, printed, err = evo("export", path, "--all", "--out", tmp_path / "all")
    assert code == 0, err
    assert printed.split()[-1] == str(tmp_path / "all" / "report.html")
    assert "<html" in (tmp_path / "all" / "report.html").read_text()
    assert "`report.html`" in (tmp_path / "all" / "README.md").read_text()
