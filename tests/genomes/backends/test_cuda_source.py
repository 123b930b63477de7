"""CUDA kernel texts, executed on the CPU, compute what the reference computes, lane by lane."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shutil
import subprocess
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from genomes.backends.cuda.layout import Launch, Model
from genomes.backends.cuda.products import workspace
from genomes.backends.cuda.source import UnsupportedOperation, bytes_per_lane, constants, render, skeleton, unsupported
from genomes.backends.readout import frozen_end, output_shifts
from genomes.backends.torch_reference import optimizer
from genomes.compiler.lowering import lower
from genomes.compiler.program import Node, Program
from genomes.compiler.shapes import ShapeClass
from genomes.language.genome import GenomeError
from genomes.language.operations import ON_FLOATS, OPERATIONS, of_kind
from genomes.language.primitives import TABLE
from harness import lane_kernels
from tests.genomes import cuda_cases, strategies, trajectory
from tests.genomes.backends.test_backends import AWKWARD
from tests.genomes.cuda_on_cpu import SEED, Lanes, compile_sources, lanes
from tests.genomes.drive import from_expression

CATALOGUE, PRIMITIVES = cuda_cases.catalogue_cases(), cuda_cases.primitive_cases()
PROGRAMS = CATALOGUE.renamed("known ") | PRIMITIVES | cuda_cases.of_expressions(AWKWARD) | cuda_cases.matrix_cases()
# every fourth known optimizer; every eighth, and Muon, in all forms; each primitive on tensors, those with a state on
# tensors and numbers too (tests/genomes/test_special_values.py mixes them for the elementwise ones); slow: all
SAMPLE = sorted({*list(CATALOGUE)[::8], "muon"})
_LEFT_OUT = {f"known {name}" for name in {*CATALOGUE} - {*list(CATALOGUE)[::4], *SAMPLE}}
_LEFT_OUT |= {f"{p.name} mixed" for p in TABLE.values() if p.group == "elementwise"}
QUICK = [name for name in PROGRAMS if name not in _LEFT_OUT and not name.endswith((" host", " role", " swapped"))]
READABLE = [*(f"known {name}" for name in SAMPLE), "names that mean something in code"]
DTYPES = {"float": torch.float32, "double": torch.float64}
# largest difference of an update from the reference's, relative to the tensor's largest update so far
BOUND = {"double": 1e-12, "float": 2e-5}
ILL_CONDITIONED = ("inverse_root", "gram_schmidt")  # condition numbers of 1e6: rounding errors count so much more
SPECIAL = (0.0, -0.0, 1.0, -1.0, 2.0, -0.5, 3.0, 1e-40, 100.0, -1e30, math.inf, -math.inf, math.nan)
ELEMENTWISE = [p.name for p in TABLE.values() if p.group == "elementwise" and p.op]
REDUCING = [p.name for p in TABLE.values() if p.group == "reduction" and p.op]
_NOT_OF_NUMBERS = ("and", "or", "not", "where", "number", "expand", "bfloat16")  # they want masks or tensors
HOST_OPERATIONS = [op for op in of_kind("elementwise") if op not in _NOT_OF_NUMBERS]
MANY_MOMENTS = [now for k, now in enumerate(trajectory.moments()) if k < 4 or k % 6 == 0]
MOMENTS = [now for k, now in enumerate(trajectory.moments()) if k in (0, 1, 2, 24, 72, 120, 168)]
MODEL = Model.from_context(
    trajectory.SHAPES, trajectory.ROLES, trajectory.TRAINABLE, trajectory.LAYERS, trajectory.STEPS_PER_EPOCH
)
END = frozen_end(trajectory.SHAPES, trajectory.ROLES, trajectory.LAYERS, trajectory.TRAINABLE)
TRAINABLE = [i for i, flag in enumerate(trajectory.TRAINABLE) if flag]


@pytest.fixture(scope="module")
def library():
    sources = [render(PROGRAMS[name], "double") for name in QUICK]
    sources += [render(CATALOGUE[name], "float") for name in SAMPLE]
    sources += [render(PROGRAMS[name], "double", literal=True) for name in READABLE]
    sources += [render(PROGRAMS[name], "double", apply=True) for name in READABLE]
    sources += [render(_of_numbers(op), "double") for op in HOST_OPERATIONS]
    return compile_sources(sources)


def flat(tensors: list[Tensor]) -> np.ndarray:
    return torch.cat([tensors[i].flatten() for i in TRAINABLE]).numpy()


def shifts(program: Program, theta: list[Tensor]) -> np.ndarray | None:
    """What the program may read as output_shift; None where it does not."""
    reads = any(node.op == "output_shift" for node in program.nodes)
    return output_shifts(*(theta[i] for i in END[:-1])).numpy() if reads else None


def tell(
    run: Lanes, lane: int, now: trajectory.Moment, theta: list[Tensor], output_shift: np.ndarray | None = None
) -> None:
    """Without ``output_shift`` it stays NaN, for programs that do not read it."""
    a = run.arrays
    if output_shift is not None:
        a["output_shift"][lane] = output_shift
    a["theta"][lane], a["epoch"][lane], a["has_loss"][lane] = flat(theta), now.epoch, now.train_loss is not None
    if now.train_loss is not None:
        a["train_loss"][lane], a["val_loss"][lane] = now.train_loss, now.val_loss


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of a reference: what it was told, and what it answered. ``gradient``, ``update``: `[n_params]`;
    ``output_shift``: `[outputs, n]`."""

    now: trajectory.Moment
    theta: list[Tensor]
    output_shift: np.ndarray | None
    queried: list[Tensor] | None
    gradient: np.ndarray
    update: np.ndarray


def reference(program: Program, real: str, moments: Sequence[trajectory.Moment] = MOMENTS) -> list[Step]:
    """The trajectory of a program's reference."""
    dtype, found = DTYPES[real], []
    functions, theta = optimizer(program), trajectory.start(DTYPES[real])
    state = functions.init_state(SEED, trajectory.sizes(), **trajectory.context(dtype))
    for now in moments:
        signals = (now.epoch, now.train_loss, now.val_loss)
        queried = functions.query_at_params(state, theta, *signals)
        gradients = now.gradient(theta if queried is None else queried)
        updates = functions.step(state, theta, gradients, *signals)
        found.append(Step(now, theta, shifts(program, theta), queried, flat(gradients), flat(updates)))
        theta = [p + torch.tanh(u) for p, u in zip(theta, updates, strict=True)]
    return found


def bound_of(program: Program, real: str) -> float:
    """The largest relative error of an update."""
    return BOUND[real] * (1e3 if any(node.op in ILL_CONDITIONED for node in program.nodes) else 1)


def assert_follows(run: Lanes, references: dict[int, list[Step]], bound: float) -> None:
    """Lanes follow their references along the trajectory of each."""
    largest = {lane: np.full(MODEL.n_params, 1e-300) for lane in references}
    starts = np.cumsum([0, *(rows * columns for rows, columns in MODEL.shapes)])
    for number in range(len(references[0])):
        steps = {lane: steps[number] for lane, steps in references.items()}
        for lane, step in steps.items():
            tell(run, lane, step.now, step.theta, step.output_shift)
        if number == 0:
            run.start()
        run.query()
        for lane, step in steps.items():
            if run.source.query:
                assert bool(run.arrays["active"][lane]) == (step.queried is not None)
                at = step.theta if step.queried is None else step.queried
                np.testing.assert_allclose(run.arrays["queried"][lane], flat(at), rtol=bound, atol=bound)
                added = torch.from_numpy(run.arrays["output_bias"][lane])
                torch.testing.assert_close(step.theta[-1] + added, at[-1])
            run.arrays["g"][lane] = step.gradient
        run.step()
        for lane, step in steps.items():
            found, wanted = run.arrays["update"][lane], step.update
            finite = np.isfinite(wanted)
            np.testing.assert_array_equal(found[~finite], wanted[~finite])
            assert bool(run.arrays["not_finite"][lane]) or finite.all()
            for a, b in pairwise(starts):
                top = np.abs(wanted[a:b][finite[a:b]]).max(initial=0.0)
                largest[lane][a:b] = np.maximum(largest[lane][a:b], top)
            error = (np.abs(found[finite] - wanted[finite]) / largest[lane][finite]).max(initial=0.0)
            assert error <= bound, f"step {number}, lane {lane}: {error:.2g}"


def assert_parity(library, program: Program, real: str, moments: Sequence[trajectory.Moment] = MOMENTS) -> None:
    """Three live lanes with two sets of constants and a dead one in one launch, threads backwards in a second run."""
    other = cuda_cases.varied(program, 0.9)
    source = render(program, real)
    assert source.key == render(other, real).key
    rows = [constants(program), constants(other), constants(program), constants(program)]
    bound = bound_of(program, real)
    first, second = (reference(each, real, moments) for each in (program, other))
    finals = []
    for backwards in (False, True):
        run = lanes(library, source, MODEL, rows, real, backwards)
        run.arrays["alive"][3] = 0
        dead = {name: array[3].copy() for name, array in run.arrays.items() if len(array) == 4}
        assert_follows(run, {0: first, 1: second, 2: first} if not backwards else {0: first}, bound)
        finals.append(run.arrays)
        for name, array in dead.items():
            np.testing.assert_array_equal(run.arrays[name][3], array, err_msg=f"{name} of the dead lane")
    for name in ("update", "state", "host_state"):
        np.testing.assert_array_equal(finals[0][name][0], finals[0][name][2], err_msg=f"{name}: lanes differ")
        np.testing.assert_array_equal(finals[0][name][0], finals[1][name][0], err_msg=f"{name}: thread order shows")


@pytest.mark.parametrize("name", QUICK)
def test_follows_the_reference_in_double(name: str, library):
    assert_parity(library, PROGRAMS[name], "double")


@pytest.mark.parametrize("name", SAMPLE)
def test_follows_the_reference_in_float(name: str, library):
    assert_parity(library, CATALOGUE[name], "float")


@pytest.mark.slow
@pytest.mark.parametrize("real", ["float", "double"])
def test_every_program_follows_the_reference(real: str):
    library = compile_sources([render(program, real) for program in PROGRAMS.values()])
    for program in PROGRAMS.values():
        assert_parity(library, program, real, MANY_MOMENTS)


@pytest.mark.parametrize("name", READABLE)
def test_literal_numbers_and_updates_in_place_mean_the_same(name: str, library):
    program = PROGRAMS[name]
    runs = []
    for options in ({}, {"literal": True}, {"apply": True}):
        run = lanes(library, render(program, "double", **options), MODEL, [constants(program)])
        theta = trajectory.start()
        for now in MOMENTS[:6]:
            tell(run, 0, now, theta, shifts(program, theta))
            if now is MOMENTS[0]:
                run.start()
            run.query()
            run.arrays["g"][0] = flat(now.gradient(theta))
            run.step()
            if "apply" not in options:
                run.arrays["theta"] += run.arrays["update"]
            theta = _tensors(run.arrays["theta"][0])
        runs.append(run.arrays)
    assert np.isfinite(runs[0]["theta"]).all()
    for name in ("theta", "state", "host_state"):
        np.testing.assert_array_equal(runs[0][name], runs[1][name])
        np.testing.assert_array_equal(runs[0][name], runs[2][name])


def _tensors(theta: np.ndarray) -> list[Tensor]:
    tensors = trajectory.start()
    parts = torch.from_numpy(theta.copy()).split([tensors[i].numel() for i in TRAINABLE])
    for i, part in zip(TRAINABLE, parts, strict=True):
        tensors[i] = part.reshape(tensors[i].shape)
    return tensors


@pytest.mark.parametrize("name", [*ELEMENTWISE, *REDUCING])
def test_special_values_mean_what_they_mean_in_the_reference(name: str, library):
    """All pairs of special values as g and theta: NaN, infinities and zeros come out alike (signs of zero aside)."""
    program, pairs = PRIMITIVES[name], [(a, b) for a in SPECIAL for b in SPECIAL]
    shape = (len(pairs), 1) if name in ELEMENTWISE else (len(SPECIAL), len(SPECIAL))
    g, theta = torch.tensor(pairs, dtype=torch.float64).T
    if name in REDUCING:  # a row for each first value; rows without NaN and infinity keep finite results
        g = torch.where(torch.arange(g.numel()) % len(SPECIAL) == torch.arange(g.numel()) // len(SPECIAL), g, 0.5)
    functions = optimizer(program)
    state = functions.init_state(
        b"", [len(pairs)], shapes=[shape], roles=["weight"], trainable=[True], layers=[0],
        device=torch.device("cpu"), dtype=torch.float64,
    )  # fmt: skip
    wanted = functions.step(state, [theta.reshape(shape)], [g.reshape(shape)], 0, None, None)[0].flatten().numpy()
    run = lanes(
        library, render(program, "double"), Model.from_context([shape], ["weight"], [True], [0]), [constants(program)]
    )
    run.arrays["theta"][0], run.arrays["g"][0] = theta.numpy(), g.numpy()
    run.start()
    run.step()
    np.testing.assert_allclose(run.arrays["update"][0], wanted, rtol=1e-12)
    assert bool(run.arrays["not_finite"][0]) == (not np.isfinite(wanted).all())


def _of_numbers(op: str) -> Program:
    """``op`` on numbers, as every update. Made by hand, because lowering would compute the result itself."""
    numbers = [Node("const", (), ShapeClass.CLOCK, float(k)) for k in range(OPERATIONS[op].arity)]
    result = Node(op, tuple(range(len(numbers))), ShapeClass.CLOCK)
    nodes = [*numbers, result]
    if result.is_mask:
        nodes.append(Node("number", (len(nodes) - 1,), ShapeClass.CLOCK))
    nodes.append(Node("expand", (len(nodes) - 1,), ShapeClass.ELEMENT))
    return Program(op, tuple(nodes), (), (), len(nodes) - 1)


@pytest.mark.parametrize("op", HOST_OPERATIONS)
def test_numbers_mean_what_they_mean_on_floats(op: str, library):
    """All pairs of special values, a lane each, in double as clock and role values are; refused values aside."""
    wanted, rows = [], []
    for values in product(SPECIAL, repeat=OPERATIONS[op].arity):
        with contextlib.suppress(ValueError, OverflowError):  # sqrt(-1): lowering keeps arguments in range
            wanted.append(float(ON_FLOATS[op](*values)))
            rows.append(values)
    run = lanes(library, render(_of_numbers(op), "double"), Model(((1, 1),), (1,), (0.0,), (0,), 1), rows)
    run.arrays["theta"][:] = run.arrays["g"][:] = 1.0
    run.start()
    run.step()
    np.testing.assert_allclose(run.arrays["update"][:, 0], wanted, rtol=1e-14)


def drawn(count: int, depth: int) -> list[Program]:
    """Programs of random genomes, the same in every run."""
    found: list[Program] = []

    @settings(
        max_examples=2 * count, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(genome=strategies.genomes(depth=depth))
    def gather(genome):
        try:
            program = lower(genome)
        except GenomeError:
            return
        if len(found) < count and len(program.nodes) < 400:
            found.append(program)

    gather()
    return found


@pytest.mark.slow
def test_random_genomes_follow_the_reference():
    """A sum's last bit depends on the order of its terms, and may decide a comparison (x >= rms(x) where all x are
    equal) or be all that is left of a difference: a few programs with sums may part, those without may not."""
    programs = drawn(300, 4)
    library = compile_sources([render(program, "double") for program in programs])
    assert len(programs) == 300
    parted = []
    for program in programs:
        try:
            run = lanes(library, render(program, "double"), MODEL, [constants(program)])
            assert_follows(run, {0: reference(program, "double", MANY_MOMENTS)}, bound_of(program, "double"))
        except AssertionError:
            parted.append(program)
    assert len(parted) <= 3
    assert all(any(node.op.startswith("sum") for node in program.nodes) for program in parted)


# --- the text --------------------------------------------------------------------------------------------------------


def test_genomes_that_differ_in_numbers_and_names_share_one_text():
    first, second = from_expression("adam(g, 0.9, 0.999)"), from_expression("adam(g, 0.8, 0.99)")
    assert first != second
    assert skeleton(first) == skeleton(second)
    assert render(first).key == render(second).key
    assert constants(first) != constants(second)
    assert render(first, literal=True).key != render(second, literal=True).key
    assert render(first, "double").key != render(first).key


def test_an_elementwise_optimizer_is_one_pass_over_the_elements():
    assert render(from_expression("adam(g)")).step == (
        Launch("clock_values", "lane"),
        Launch("update_elements", "tile"),
    )


def test_each_level_of_reductions_is_one_pass_more():
    source = render(PROGRAMS["levels"])
    units = [launch.unit for launch in source.step if isinstance(launch, Launch)]
    assert [unit for unit in units if unit in ("piece", "tile")] == ["piece"] * 2 + ["tile"]


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in PRIMITIVES])
def test_text_needs_no_header_atomics_or_barriers(name: str):
    for literal in (False, True):
        text = render(PROGRAMS[name], literal=literal).text
        for word in ("#", "atomic", "__sync", "__shared__", "__restrict__", "asm"):
            assert word not in text


def test_every_operation_has_a_kernel_or_a_library_call():
    assert {name: found for name, program in PROGRAMS.items() if (found := unsupported(program))} == {}


def test_an_unknown_operation_is_refused_by_name():
    program = from_expression("sign(g)")
    nodes = tuple(dataclasses.replace(n, op="orthogonalise") if n.op == "sign" else n for n in program.nodes)
    with pytest.raises(UnsupportedOperation, match=r"probe: .* no kernel for the operation orthogonalise"):
        render(dataclasses.replace(program, nodes=nodes))


@pytest.mark.parametrize("real", ["float", "double"])
@pytest.mark.parametrize("name", ["known adamw", "known muon", "levels and states", "row state", "role state", "query"])
def test_memory_of_a_lane_is_what_its_arrays_hold(name: str, real: str):
    program = PROGRAMS[name]
    arrays = lanes({}, render(program, real), MODEL, [constants(program)] * 7, real).arrays
    tables = ("tensors", "tile_tensor", "tile_start", "tensor_of_row", "tensor_of_column")
    unused = tables if program.query else (*tables, "queried")
    for_products = workspace(render(program, real), MODEL) * {"float": 4, "double": 8}[real]
    held = sum(a.nbytes for n, a in arrays.items() if n not in unused)
    assert 7 * (bytes_per_lane(program, MODEL, real) - for_products) == held
    assert bool(for_products) == (name == "known muon")


def test_memory_of_a_known_optimizer_at_depth_4():
    """Adam: parameters, gradients, updates and two buffers, and next to nothing else."""
    shapes = [(256, 1), (256,), (256, 256), (256,), (256, 256), (256,)] + [(256,)] * 6
    roles = ["weight", "bias"] * 3 + ["norm_scale", "norm_shift"] * 3
    depth_4 = Model.from_context(shapes, roles, [True] * 12, [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2])
    size = bytes_per_lane(CATALOGUE["adam"], depth_4)
    assert depth_4.n_params * 4 * 5 <= size <= depth_4.n_params * 4 * 5 + 1000


def test_the_model_table_leaves_out_what_does_not_train():
    found = Model.from_context([(3, 2), (3,), (3,), (2, 3)], ["weight", "bias", "running_mean", "weight"],
                  [True, True, False, True], [0, 0, 0, 1])  # fmt: skip
    assert found == Model(((3, 2), (3, 1), (2, 3)), (1 + 16, 2 + 16, 1 + 32), (0.0, 0.0, 1.0), (0, 1, 3), 2)
    assert [(t.offset, t.row_offset, t.column_offset) for t in found.tensors()] == [(0, 0, 0), (6, 3, 2), (9, 6, 3)]
    assert (found.size(ShapeClass.ROW), found.size(ShapeClass.COLUMN)) == (8, 6)
    assert found.tensor_of(0) == [0, 0, 0, 1, 1, 1, 2, 2]
    assert Model(((50, 50),), (1,), (0.0,), (0,), 1).tiles() == [(0, 0), (0, 1024), (0, 2048)]


# --- the compiler for GPUs --------------------------------------------------------------------------------------------


def _assert_nvcc_compiles(source: str, folder: Path, kind: str = "-cubin") -> None:
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("no nvcc on this machine")
    (folder / "kernels.cu").write_text(source)
    command = [compiler, kind, "-arch=sm_90", "-Werror", "all-warnings", "-o", "kernels.out", "kernels.cu"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("literal", [False, True])
def test_nvcc_compiles_a_text(literal: bool, tmp_path: Path):
    _assert_nvcc_compiles(render(CATALOGUE["cautious_adamw"], literal=literal).text, tmp_path)


@pytest.mark.parametrize("real", DTYPES)
def test_nvcc_compiles_the_passes_of_lanes(real: str, tmp_path: Path):
    _assert_nvcc_compiles(lane_kernels.text(real), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("real", ["float", "double"])
@pytest.mark.parametrize("name", [name for name in PROGRAMS if name in ELEMENTWISE or name not in PRIMITIVES])
def test_nvcc_compiles_every_text(name: str, real: str, tmp_path: Path):
    _assert_nvcc_compiles(render(PROGRAMS[name], real).text, tmp_path, "-ptx")
