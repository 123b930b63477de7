"""CUDA kernel texts, executed on the CPU, compute what the reference computes, lane by lane."""

from __future__ import annotations

import dataclasses
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from genomes.backends.cuda_layout import Model, model
from genomes.backends.cuda_source import UnsupportedOperation, bytes_per_lane, constants, render, skeleton
from genomes.backends.torch_reference import optimizer
from genomes.genome import GenomeError
from genomes.lowering import lower
from genomes.primitives import TABLE
from genomes.program import Program
from genomes.shapes import ShapeClass
from tests.genomes import cuda_cases, strategies, trajectory
from tests.genomes.cuda_on_cpu import Lanes, compile_texts, lanes
from tests.genomes.drive import from_expression
from tests.genomes.test_backends import AWKWARD

CATALOGUE = cuda_cases.catalogue_cases()
PRIMITIVES = cuda_cases.primitive_cases()
AWKWARD_PROGRAMS = {name: from_expression(**case) for name, case in AWKWARD.items()}
PROGRAMS = {**CATALOGUE, **PRIMITIVES, **AWKWARD_PROGRAMS}
DTYPES = {"float": torch.float32, "double": torch.float64}
# largest difference of an update from the reference's, relative to the tensor's largest update so far
BOUND = {"double": 1e-12, "float": 2e-5}
MOMENTS = [now for k, now in enumerate(trajectory.moments()) if k < 4 or k % 6 == 0]
MODEL = model(trajectory.SHAPES, trajectory.ROLES, trajectory.TRAINABLE, trajectory.LAYERS)
TRAINABLE = [i for i, flag in enumerate(trajectory.TRAINABLE) if flag]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory):
    sources = [render(program, "double") for program in PROGRAMS.values()]
    sources += [render(program, "float") for program in CATALOGUE.values()]
    return compile_texts(sources, tmp_path_factory.mktemp("cuda"))


def flat(tensors: list[Tensor]) -> np.ndarray:
    return torch.cat([tensors[i].flatten() for i in TRAINABLE]).numpy()


def tell(run: Lanes, lane: int, now: trajectory.Moment, theta: list[Tensor]) -> None:
    a = run.arrays
    a["theta"][lane], a["epoch"][lane], a["has_loss"][lane] = flat(theta), now.epoch, now.train_loss is not None
    if now.train_loss is not None:
        a["train_loss"][lane], a["val_loss"][lane] = now.train_loss, now.val_loss


def assert_follows(run: Lanes, programs: dict[int, Program], real: str) -> None:
    """Lanes follow the references of their programs along the trajectory of each reference."""
    dtype = DTYPES[real]
    functions = {lane: optimizer(program) for lane, program in programs.items()}
    states = {
        lane: f.init_state(bytes(32), trajectory.sizes(), **trajectory.context(dtype)) for lane, f in functions.items()
    }
    thetas = {lane: trajectory.start(dtype) for lane in programs}
    largest = {lane: np.full(MODEL.n_params, 1e-300) for lane in programs}
    starts = np.cumsum([0, *(rows * columns for rows, columns in MODEL.shapes)])
    for number, now in enumerate(MOMENTS):
        signals = (now.epoch, now.train_loss, now.val_loss)
        expected = {}
        for lane, f in functions.items():
            tell(run, lane, now, thetas[lane])
        if number == 0:
            run.start()
        run.query()
        for lane, f in functions.items():
            queried = f.query_at_params(states[lane], thetas[lane], *signals)
            if run.source.query:
                assert bool(run.arrays["active"][lane]) == (queried is not None)
                at = flat(thetas[lane] if queried is None else queried)
                np.testing.assert_allclose(run.arrays["queried"][lane], at, rtol=BOUND[real], atol=BOUND[real])
            gradients = now.gradient(thetas[lane] if queried is None else queried)
            run.arrays["g"][lane] = flat(gradients)
            updates = f.step(states[lane], thetas[lane], gradients, *signals)
            expected[lane] = flat(updates)
            thetas[lane] = [p + torch.tanh(u) for p, u in zip(thetas[lane], updates, strict=True)]
        run.step()
        for lane, wanted in expected.items():
            found = run.arrays["update"][lane]
            finite = np.isfinite(wanted)
            np.testing.assert_array_equal(found[~finite], wanted[~finite])
            assert bool(run.arrays["not_finite"][lane]) or finite.all()
            for a, b in zip(starts, starts[1:], strict=False):
                top = np.abs(wanted[a:b][finite[a:b]]).max(initial=0.0)
                largest[lane][a:b] = np.maximum(largest[lane][a:b], top)
            error = (np.abs(found[finite] - wanted[finite]) / largest[lane][finite]).max(initial=0.0)
            assert error <= BOUND[real], f"step {number}, lane {lane}: {error:.2g}"


def assert_parity(library, program: Program, real: str) -> None:
    """Three live lanes with two sets of constants and a dead one in one launch, threads backwards in a second run."""
    other = cuda_cases.varied(program, 0.9)
    source = render(program, real)
    assert source.key == render(other, real).key
    rows = [constants(program), constants(other), constants(program), constants(program)]
    finals = []
    for backwards in (False, True):
        run = lanes(library, source, MODEL, rows, real, backwards)
        run.arrays["alive"][3] = 0
        dead = {name: array[3].copy() for name, array in run.arrays.items() if len(array) == 4}
        assert_follows(run, {0: program, 1: other, 2: program} if not backwards else {0: program}, real)
        finals.append(run.arrays)
        for name, array in dead.items():
            np.testing.assert_array_equal(run.arrays[name][3], array, err_msg=f"{name} of the dead lane")
    for name in ("update", "state", "host_state"):
        np.testing.assert_array_equal(finals[0][name][0], finals[0][name][2], err_msg=f"{name}: lanes differ")
        np.testing.assert_array_equal(finals[0][name][0], finals[1][name][0], err_msg=f"{name}: thread order shows")


@pytest.mark.parametrize("name", PROGRAMS)
def test_follows_the_reference_in_double(name: str, library):
    assert_parity(library, PROGRAMS[name], "double")


@pytest.mark.parametrize("name", CATALOGUE)
def test_follows_the_reference_in_float(name: str, library):
    assert_parity(library, CATALOGUE[name], "float")


@pytest.mark.slow
def test_every_program_follows_the_reference_in_float(tmp_path: Path):
    library = compile_texts([render(program, "float") for program in PROGRAMS.values()], tmp_path)
    for program in PROGRAMS.values():
        assert_parity(library, program, "float")


SPECIAL = (0.0, -0.0, 1.0, -1.0, 2.0, -0.5, 3.0, 1e-40, 100.0, -1e30, math.inf, -math.inf, math.nan)
ELEMENTWISE = [p.name for p in TABLE.values() if p.group == "elementwise" and p.op]
REDUCING = [p.name for p in TABLE.values() if p.group == "reduction" and p.op]


@pytest.mark.parametrize("name", [*ELEMENTWISE, *REDUCING])
def test_special_values_mean_what_they_mean_in_the_reference(name: str, library):
    """All pairs of special values as g and theta; NaN, infinities and zeros come out alike. Signs of zero may differ."""
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
    run = lanes(library, render(program, "double"), model([shape], ["weight"], [True], [0]), [constants(program)])
    run.arrays["theta"][0], run.arrays["g"][0] = theta.numpy(), g.numpy()
    run.start()
    run.step()
    np.testing.assert_allclose(run.arrays["update"][0], wanted, rtol=1e-12)
    assert bool(run.arrays["not_finite"][0]) == (not np.isfinite(wanted).all())


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
        except (GenomeError, KeyError):
            return
        if len(found) < count and len(program.nodes) < 400:
            found.append(program)

    gather()
    return found


@pytest.mark.slow
def test_random_genomes_follow_the_reference(tmp_path: Path):
    programs = drawn(300, 4)
    library = compile_texts([render(program, "double") for program in programs], tmp_path)
    assert len(programs) == 300
    for program in programs:
        assert_follows(lanes(library, render(program, "double"), MODEL, [constants(program)]), {0: program}, "double")
