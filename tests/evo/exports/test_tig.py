"""Bundles for the challenge: they train the network as their genomes do, compile, and harm nobody.

Slow tests train the whole catalogue. Nothing here needs the challenge's code or a GPU.
"""

import math
import re
from dataclasses import replace

import pytest
import torch

from evo import api
from evo.cli.exports import write_export
from evo.errors import UsageError
from evo.exports.export import Export, Measured
from evo.exports.formats import find_format
from evo.exports.submission import Submission, name_problem
from evo.exports.tig import check
from evo.exports.tig.hyperparameters import tunable
from genomes import catalogue
from genomes.backends.torch_reference import optimizer
from genomes.compiler.lowering import lower
from genomes.compiler.options import lower_open
from genomes.language.genome import Genome, dump, parse
from harness.result import Training
from harness.task import Instance, seed_bytes
from harness.train import train
from tests.evo.exports.standin_bundles import (
    AS_EVALUATED,
    NOISY,
    UPDATE_BOUND,
    Beside,
    Bundle,
    Functions,
    build,
    update_bound,
)
from tests.genomes import cuda_cases
from tests.genomes.drive import drive, expression_genome

DETAILS = {"algorithm": "mine", "copyright": "2026 A", "submitter": "A", "creator": "B"}
# elementwise; queries, evaluation and readout; reductions over tensors and the model; over rows and columns
QUICK = ("adam", "calibrated_adam", "dadapt_adam", "sm3")
OWN = {genome.name: genome for genome in (NOISY, AS_EVALUATED)}
# one rounding changes their losses as much: they decide by the signs of values that are 0 but for rounding
CHAOTIC = (
    "adalite", "as_evaluated_adam", "calibrated_cautious_adanw", "cautious_adamw", "cautious_adanw", "evolved_2025",
    "grams", "open_adam",
)  # fmt: skip
EPOCHS = 2
LONGER = {"calibrated_adam": 6, "as_evaluated": 6}  # they measure in epochs 1 and 2, and shift later
INSTANCE = Instance("tig", 4, seed_bytes(5))


def bundle(genome: Genome, name: str = "mine", tracks=()) -> dict[str, str]:
    submission = Submission(name, "2026 A", "A", "B")
    return dict(find_format("tig").files(Export(genome, submission=submission, tracks=tracks)))


def trained(genomes: dict[str, Genome], precision: str) -> dict[str, tuple[Training, float]]:
    """The trainings of bundles, and how far from the reference's their updates were."""
    names = {name: f"b{k:02}" for k, name in enumerate(genomes)}
    files = {names[n]: bundle(genome, names[n]) for n, genome in genomes.items()}
    built = build({**files, "tracks": bundle_of_tracks()}, double=precision == "double")
    return {name: beside(built[names[name]], genome) for name, genome in genomes.items()}


def epochs(genome: Genome) -> int:
    return LONGER.get(genome.name, EPOCHS)


def bundle_of_tracks() -> dict[str, str]:
    return bundle(catalogue.load("adam"), "tracks", (((3,), catalogue.load("sgd")),))


def beside(own: Bundle, genome: Genome) -> tuple[Training, float]:
    """A bundle's training, and how far its updates were from those of its genome for the same tensors."""
    compared = Beside(Functions(own), optimizer(lower(genome)))
    found: list[Training] = []
    own.run(4, lambda: found.append(train(INSTANCE, compared, epochs=epochs(genome), dtype=own.dtype)))
    return found[0], compared.difference


def losses(training: Training) -> list[float]:
    return [*training.train_loss, *training.val_loss]


@pytest.fixture(scope="module")
def built():
    bundles = {f"b{k}": bundle(genome, f"b{k}") for k, genome in enumerate(quick().values())}
    return build({**bundles, "tracks": bundle_of_tracks()}, double=True)


def quick() -> dict[str, Genome]:
    return {name: catalogue.load(name) for name in QUICK} | OWN


@pytest.mark.parametrize("name", [*QUICK, *OWN])
def test_a_bundle_trains_the_network_as_its_genome_does(built, name):
    genome = quick()[name]
    training, difference = beside(built[f"b{list(quick()).index(name)}"], genome)
    expected = train(INSTANCE, optimizer(lower(genome)), epochs=epochs(genome), dtype=torch.float64)
    assert training.status == expected.status
    assert losses(training) == pytest.approx(losses(expected), rel=1e-9, abs=0)
    assert difference < UPDATE_BOUND[torch.float64]


def shipped() -> dict[str, Genome]:
    return {name: catalogue.load(name) for name in catalogue.all_names()}


@pytest.mark.slow
def test_every_shipped_optimizer_trains_the_network_as_its_genome_does():
    genomes = shipped()
    wrong = {}
    for name, (training, difference) in trained(genomes, "double").items():
        genome = genomes[name]
        expected = train(INSTANCE, optimizer(lower(genome)), epochs=epochs(genome), dtype=torch.float64)
        bound = (
            1e-9 if name in catalogue.names() else 1e-6
        )  # large shifts: the last bit moves discovered ones' own by 7e-8
        same = losses(training) == pytest.approx(losses(expected), rel=bound, abs=0)
        if training.status != expected.status or difference > UPDATE_BOUND[torch.float64] or same == (name in CHAOTIC):
            wrong[name] = (training.status, difference, losses(training), losses(expected))
    assert not wrong


@pytest.mark.slow
def test_every_shipped_optimizer_keeps_to_its_genome_in_single_precision():
    genomes = shipped()
    differences = {name: difference for name, (_, difference) in trained(genomes, "single").items()}
    assert not {
        name: value for name, value in differences.items() if value > update_bound(genomes[name], torch.float32)
    }


@pytest.mark.slow
def test_every_primitive_is_exported_as_it_is_meant(monkeypatch):
    monkeypatch.setitem(globals(), "EPOCHS", 1)
    variants = (" host", " role", " mixed", " swapped")
    genomes = {
        name: replace(expression_genome(**case), lr=1e-6)
        for name, case in cuda_cases.primitive_expressions().items()
        if not name.endswith(variants)
    }
    found = trained(genomes, "double")
    # where inputs are huge or ill-conditioned, the reference itself is no better
    assert not {name: d for name, (_, d) in found.items() if not d < 1e-7}


# --- hyperparameters and tracks


def test_hyperparameters_and_tracks_choose_what_trains(built):
    shallow = replace(INSTANCE, num_hidden_layers=3)
    faster, other = replace(catalogue.load("adam"), lr=0.003), catalogue.load("sgd")
    expected = train(INSTANCE, optimizer(lower(faster)), epochs=1, dtype=torch.float64)
    assert losses(built["tracks"].train(INSTANCE, 1, {"lr": 0.003, "unknown": 1.0})) == pytest.approx(
        losses(expected), rel=1e-9
    )
    expected = train(shallow, optimizer(lower(other)), epochs=1, dtype=torch.float64)
    assert losses(built["tracks"].train(shallow, 1)) == pytest.approx(losses(expected), rel=1e-9)


@pytest.mark.parametrize(("key", "value"), [("lr", -1.0), ("lr", math.nan), ("beta1", 1.0), ("eps", 0.0)])
def test_hyperparameters_out_of_range_are_refused(built, key, value):
    training = built["tracks"].train(INSTANCE, 1, {key: value})
    assert f"{key} is " in training.message
    assert "are allowed" in training.message


def test_equal_numbers_of_two_lines_are_two_hyperparameters():
    text = "genome: 1\nname: x\nlr: 1e-3\nlet: ['a = 0.35 * g', 'k = 0.35', 'b = k + hold(a, t % 7 == 0)']\n"
    genome = parse(text + "terms: [{expr: b * 0.35}]")
    options = tunable(genome).options
    assert list(options) == ["lr", "a_constant", "k", "b_constant", "constant"]
    assert [option.value for option in options.values()] == [1e-3, 0.35, 0.35, 7, 0.35]
    assert set(options) == {option.name for option in lower_open(genome, frozen_end=False).options}


@pytest.mark.parametrize("name", ["adamw", "dadapt_adam", "muon"])
def test_hyperparameters_leave_the_program_what_it_is(name):
    genome = catalogue.load(name)
    tuned = tunable(genome)
    assert tuned.options
    for mine, own in zip(drive(optimizer(tuned.program), 24), drive(optimizer(lower(genome)), 24), strict=True):
        torch.testing.assert_close(mine, own, rtol=1e-9, atol=1e-12)


# --- compilers


def widths(cuda: str) -> dict[str, tuple[int, ...]]:
    """Bytes of the parameters of the kernels of a text."""
    found = re.findall(r"__global__ void (\w+)\(([^)]*)\)", cuda)
    return {name: tuple(8 if "*" in part else 4 for part in given.split(",")) for name, given in found}


@pytest.mark.parametrize("name", ["adam", "sm3", "soap", "core_frozen", "calibrated_adam", "as_evaluated"])
def test_launches_pass_what_kernels_take(name):
    files = bundle(OWN.get(name) or catalogue.load(name))
    check.compare(files["mod.rs"], widths(files["mine.cu"]))


def test_a_launch_with_other_arguments_is_found():
    files = bundle(catalogue.load("adam"))
    for old, new in (
        (".arg(&self.seed)", ""), (".arg(&n_rows)", ".arg(tiles)"), ("mine_update", "mine_updated"),
    ):  # fmt: skip
        with pytest.raises(check.CheckError):
            check.compare(files["mod.rs"].replace(old, new), widths(files["mine.cu"]))


def compiler_or_skip() -> None:
    try:
        check.nvrtc()
    except check.CheckError as error:
        pytest.skip(str(error))


def checked(name: str, folder) -> None:
    for path, text in bundle(OWN.get(name) or catalogue.load(name)).items():
        (folder / path).write_text(text)
    check.check(folder)


@pytest.mark.parametrize("name", ["adam", "calibrated_adam", "as_evaluated"])
def test_the_challenges_compiler_takes_it(tmp_path, name):
    compiler_or_skip()
    checked(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue.all_names())
def test_the_challenges_compiler_takes_every_shipped_optimizer(tmp_path, name):
    compiler_or_skip()
    checked(name, tmp_path)


# --- what a submitter says


@pytest.mark.parametrize(
    "name",
    [
        "", " ", "Mine", "my-optimizer", "9lives", "a" * 21, "fn", "self", "double", "relu", "copy_tensor", "gbl_mine",
        "zebra", "mine; rm -rf /", "mine\n", "ｍine", "../mine", "std", 'x"',
    ],
)  # fmt: skip
def test_names_that_are_no_names_are_refused(name):
    assert name_problem(name)
    with pytest.raises(UsageError, match="algorithm"):
        api.export("adam", "tig", fields={**DETAILS, "algorithm": name})


@pytest.mark.parametrize("key", DETAILS)
@pytest.mark.parametrize("value", ["", "  ", "a\nb", "\x1b[31m", "a\u202eb", "x" * 301, None])
def test_details_that_are_none_are_refused(key, value):
    given = {**DETAILS, key: value} if value is not None else {k: v for k, v in DETAILS.items() if k != key}
    with pytest.raises(UsageError, match=key) as caught:
        api.export("adam", "tig", fields=given)
    assert str(caught.value).isprintable()


def test_a_readme_shows_text_as_text():
    files = api.export("adam", "tig", fields={**DETAILS, "submitter": "<script>[x](y)`*_ #"}).files
    assert r"\<script\>\[x\](y)\`\*\_ \#" in files["README.md"]
    assert "* **Challenge name:** neuralnet_optimizer\n" in files["README.md"]
    assert "exclusive license" in files["README.md"]
    assert "script" not in files["mod.rs"] + files["mine.cu"]


def test_the_readme_says_what_each_part_earns():
    earned = Measured("tig, depth 4", (("weight decay|", "0.010 ± 0.004"),), "Expect less elsewhere.")
    export = Export(catalogue.load("adam"), earned=earned, submission=Submission(**DETAILS))
    text = find_format("tig").files(export)["README.md"]
    assert "What each part earns (tig, depth 4):" in text
    assert r"| weight decay\| | 0.010 ± 0.004 |" in text
    assert "Expect less elsewhere." in text


def test_words_of_genomes_are_no_code():
    genome = parse(
        "genome: 1\nname: odd\nlr: 1e-3\nlet:\n"
        + "".join(f"  - {name} = ema(g, 0.{k + 1})\n" for k, name in enumerate(("fn", "self_", "tile", "real", "impl")))
        + "terms:\n  - expr: 'fn + self_ + tile + real + impl'\n"
    )
    files = bundle(genome)
    check.compare(files["mod.rs"], widths(files["mine.cu"]))
    assert not re.search(r"\b(let|const real) (fn|tile|real|impl)\b", files["mod.rs"] + files["mine.cu"])


def test_details_and_tracks_come_from_a_file(tmp_path, capsys):
    config, out = tmp_path / "evo.toml", tmp_path / "out"
    (tmp_path / "deep.yaml").write_text(dump(catalogue.load("lion")))
    rows = [f'{key} = "{value}"' for key, value in DETAILS.items()]
    config.write_text("\n".join(["[export.tig]", *rows, "[export.tig.tracks]", '"14,18" = "deep.yaml"', '"7" = "sgd"']))
    write_export("adam", "tig", rank=1, out=out, force=False, config=config)
    assert "exclusive license" in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "mine.cu", "mod.rs"]
    text = (out / "mod.rs").read_text()
    assert "14 | 18 => training_loop(" in text
    assert "_ => training_loop(" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "export.tig: no such table"),
        ("[export.tig]\nalgorithm = 3", "expected text, got 3"),
        ("[export.tig]\nname = 'x'", "name: not one of"),
        ("[export.tig", "evo.toml: "),
        ("[export.tig]\ntracks = 3", "tracks"),
    ],
)
def test_mistakes_in_a_file_are_told(tmp_path, text, message):
    (tmp_path / "evo.toml").write_text(text)
    with pytest.raises(UsageError, match=re.escape(message)):
        api.export("adam", "tig", config=tmp_path / "evo.toml")


@pytest.mark.parametrize("tracks", [{"x": "adam"}, {"1": "adam"}, {"4": "none"}, {"4": "adam", "4,7": "lion"}])
def test_tracks_that_are_none_are_refused(tracks):
    with pytest.raises(UsageError):
        api.export("adam", "tig", fields=DETAILS, tracks=tracks)


def test_other_formats_have_no_submission():
    with pytest.raises(UsageError, match="no submission"):
        api.export("adam", "python", fields=DETAILS)
