"""The device's whole path, kernels and all, run on a CPU: it trains as the literal loop does, over the catalogue."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from evo.errors import EvoError
from evo.training import batches
from evo.training.batches import Backend, backend, bytes_of, train_batch
from evo.training.gpu import launch
from evo.training.gpu.lanes import CudaLanes, text_key
from genomes.backends import torch_reference
from genomes.compiler.program import Program
from harness import lane_kernels, lanes
from harness.lane_kernels import KernelPasses, Launcher
from harness.lane_passes import TorchPasses
from harness.result import Training
from harness.task import Instance, seed_bytes
from harness.train import train
from tests.evo import device_on_cpu
from tests.genomes import cuda_cases
from tests.genomes.drive import from_expression
from tests.harness.test_flat import JUMP, agree, distance
from tests.harness.test_lanes import MIXED, SEEING, alone, compare_orders, compare_passes, instance, without_time

KNOWN = cuda_cases.catalogue_cases()
SAMPLE = (*list(KNOWN)[::9], "muon")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def on_device(request: pytest.FixtureRequest) -> Backend:
    """The device's path: on the CPU as `on_cpu`, and on a GPU as it is."""
    return backend("cuda") if request.param == "cuda" else request.getfixturevalue("on_cpu")


@pytest.fixture(scope="module")
def on_cpu() -> Backend:
    return device_on_cpu.backend()


def together(batch: Sequence[tuple[Program, Instance]], device: Backend, **options) -> list[Training]:
    options = {"epochs": 3, "dtype": "float64"} | options
    found = dict(train_batch(batch, device=device, **options))
    assert sorted(found) == list(range(len(batch)))
    return [found[place] for place in range(len(batch))]


def check_parity(programs: Mapping[str, Program], device: Backend, depth: int, dtype: str, epochs: int = 3) -> None:
    """The bounds of `tests.harness.test_flat.check_parity`, with all programs in one batch."""
    of, real = Instance("tig", depth, seed_bytes(3)), getattr(torch, dtype)
    far = {}
    batch = [(program, of) for program in programs.values()]
    for (name, program), ours in zip(
        programs.items(), together(batch, device, dtype=dtype, epochs=epochs), strict=True
    ):
        literal = train(of, torch_reference.optimizer(program), epochs=epochs, dtype=real)
        if not agree(ours, literal, program, of, real, epochs):
            far[name] = distance(ours, literal)
    assert far == {}


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", lane_kernels.REALS, ids=str)
def test_the_networks_kernels_on_a_gpu(dtype: torch.dtype):
    passes = backend("cuda").passes(dtype)
    with torch.device("cuda"):
        for rows, nan in ((128, False), (104, False), (104, True)):
            compare_passes(passes, rows, dtype, nan)


@pytest.mark.gpu
def test_samples_are_shuffled_on_a_gpu():
    compare_orders(backend("cuda").passes(torch.float32), torch.device("cuda"))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_recorded_epoch_is_an_epoch(monkeypatch: pytest.MonkeyPatch, dtype: str):
    """The same kernels in the same order: with CUDA graphs and without, results are equal to the bit."""
    batch = [(KNOWN[name], instance(place)) for place, name in enumerate(("adam", "lion", "muon", "muon", "sgd"))]
    recorded = together(batch, backend("cuda"), dtype=dtype, epochs=6)
    monkeypatch.setattr(lanes.LaneLoop, "_recorded", lambda loop: loop._run_epoch)
    plain = together(batch, backend("cuda"), dtype=dtype, epochs=6)
    assert [without_time(training) for training in recorded] == [without_time(training) for training in plain]


def test_known_optimizers_train_as_in_the_literal_loop(on_device: Backend):
    check_parity({name: KNOWN[name] for name in SAMPLE}, on_device, 2, "float64", epochs=2)


def test_queries_see_a_frozen_end_as_evaluation_does(on_device: Backend, monkeypatch: pytest.MonkeyPatch):
    check_parity(SEEING, on_device, 3, "float64", epochs=4)
    monkeypatch.setattr(lanes, "LOOK_EPOCHS", 2)  # lanes before the last one leave
    options = {"epochs": 6, "patience": 2}
    batch = [(program, instance(0, 3)) for program in (MIXED["still"], MIXED["still later"], *SEEING.values())]
    for ours, (program, of) in zip(together(batch, on_device, **options), batch, strict=True):
        assert ours.val_loss == pytest.approx(alone(program, of, **options).val_loss, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("depth", [2, 4])
def test_the_whole_catalogue_trains_so_in_every_way(on_device: Backend, depth: int, dtype: str):
    check_parity(KNOWN, on_device, depth, dtype)


def test_lanes_leave_and_the_others_go_on(on_device: Backend, monkeypatch: pytest.MonkeyPatch):
    """Groups of several lanes, with different numbers, of which some lanes end early and one group altogether."""
    monkeypatch.setattr(lanes, "LOOK_EPOCHS", 2)
    options = {"epochs": 7, "patience": 2}
    programs = [*MIXED.values(), *(cuda_cases.varied(MIXED["adam"], factor) for factor in (0.9, 0.8))]
    assert len({text_key(program) for program in programs}) < len(programs)
    batch = [(program, instance(place % 2)) for place, program in enumerate(programs)]
    for ours, (program, of) in zip(together(batch, on_device, **options), batch, strict=True):
        expected = alone(program, of, **options)
        assert (ours.status, ours.epochs_run, ours.message) == (expected.status, expected.epochs_run, expected.message)
        assert ours.val_loss == pytest.approx(expected.val_loss, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_result_depends_neither_on_the_other_lanes_nor_on_their_order(on_cpu: Backend, dtype: str):
    """To the last bit on the CPU."""
    options = {"dtype": dtype, "epochs": 2}
    batch = [(KNOWN[name], instance(place)) for place, name in enumerate(("adam", "lion", "adafactor", "adam"))]
    bad = (MIXED["infinite"], instance(1))
    found = together(batch, on_cpu, **options)
    turned = together([bad, *batch[::-1]], on_cpu, **options)[:0:-1]
    for lane, (a, b) in enumerate(zip(found, turned, strict=True)):
        assert without_time(a) == without_time(b) == without_time(together([batch[lane]], on_cpu, **options)[0])


def test_those_that_query_go_apart(on_device: Backend, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(
        batches,
        "lanes",
        SimpleNamespace(**vars(lanes) | {"train": lambda *a, **k: asked.append(a[1]) or lanes.train(*a, **k)}),
    )
    asking = from_expression("g * 1e-5", query=("0.9 * delta", "t % 3 > 0"))
    batch = [(asking, instance(0)), (MIXED["adam"], instance(0)), (asking, instance(1, 2))]
    for ours, (program, of) in zip(together(batch, on_device, epochs=2), batch, strict=True):
        assert distance(ours, alone(program, of, epochs=2)) < 1e-9
    assert [(optimizer.queries, len(optimizer.programs)) for optimizer in asked] == [(False, 1), (True, 2)]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_on_a_gpu_a_result_depends_little_on_the_other_lanes(dtype: str):
    """A library may choose another product for another number of matrices; see docs/gpu.md for the bound."""
    device = backend("cuda")
    batch = [(KNOWN[name], instance(place % 4)) for place, name in enumerate(["adam", "nadam", "adamw"] * 20)]
    many, few = together(batch, device, dtype=dtype), together(batch[:3], device, dtype=dtype)
    assert max(distance(a, b) for a, b in zip(many, few, strict=False)) < (1e-9 if dtype == "float64" else JUMP[2])


@pytest.mark.gpu
@pytest.mark.slow
def test_every_primitive_on_a_gpu():
    """Programs that the literal loop itself cannot follow when sums are reordered are held to that spread."""
    check_parity(cuda_cases.primitive_cases(), backend("cuda"), 2, "float64")


class Stream:
    """Stands in for a stream of torch: notes what it is asked."""

    def __init__(self, name: str, asked: list[tuple[str, str]]) -> None:
        self.name, self.asked = name, asked

    def wait_stream(self, other: Stream) -> None:
        self.asked.append((self.name, f"waits for {other.name}"))

    def __enter__(self) -> None:
        self.asked.append((self.name, "works"))

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("fails", [False, True])
def test_groups_run_side_by_side(on_cpu: Backend, monkeypatch: pytest.MonkeyPatch, fails: bool):
    """No stream waits for another one's work, and all are waited for, whatever happens: a CUDA graph demands it."""
    optimizer = on_cpu.optimizer([KNOWN["adam"], KNOWN["lion"], KNOWN["nadam"]])
    with torch.inference_mode():
        loop = lanes.LaneLoop(
            [instance()] * 3, optimizer, 1, 5, torch.float32, torch.device("cpu"), on_cpu.passes(torch.float32)
        )
        asked: list[tuple[str, str]] = []
        loop._run._streams = [Stream(name, asked) for name in "ab"]
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("main", asked))
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
        if fails:
            monkeypatch.setattr(loop._run._groups[0], "_launch", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError) if fails else nullcontext():
            loop._run.step()
    works = [("a", "works")] if fails else [("a", "works"), ("b", "works")]
    begin, end = [(name, "waits for main") for name in "ab"], [("main", f"waits for {name}") for name in "ab"]
    assert asked == [*begin, *works, *end]


# --- memory -----------------------------------------------------------------------------------------------------------


def held(loop: lanes.LaneLoop) -> int:
    """Bytes of all tensors that a loop and its optimizer hold."""
    seen: dict[int, int] = {}
    stack: list[object] = [loop]
    visited: set[int] = set()
    while stack:
        thing = stack.pop()
        if id(thing) in visited:
            continue
        visited.add(id(thing))
        if isinstance(thing, torch.Tensor):
            storage = thing.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
        elif isinstance(thing, dict):
            stack += thing.values()
        elif isinstance(thing, list | tuple):
            stack += thing
        elif type(thing).__module__.startswith(("harness", "evo", "tests")) and hasattr(thing, "__dict__"):
            stack += vars(thing).values()
    return sum(seen.values())


@pytest.mark.parametrize(("name", "depth"), [("adam", 2), ("adafactor", 4), ("nesterov", 2), ("lion", 4), ("muon", 4)])
def test_memory_is_forecast(on_cpu: Backend, name: str, depth: int):
    programs, many = [KNOWN[name]] * 6, [instance(lane, depth) for lane in range(6)]
    with torch.inference_mode():
        loop = lanes.LaneLoop(
            many, on_cpu.optimizer(programs), 20, 5, torch.float32, torch.device("cpu"), on_cpu.passes(torch.float32)
        )
        loop.run(1)
        found, forecast = held(loop), bytes_of(programs, many[0], on_cpu, torch.float32, 20)
    assert found <= forecast <= 1.3 * found


@pytest.mark.parametrize("lanes_that_fit", [1, 2, 3])
def test_a_batch_that_is_too_large_is_split(on_cpu: Backend, monkeypatch: pytest.MonkeyPatch, lanes_that_fit: int):
    batch = [(KNOWN[name], instance(place)) for place, name in enumerate(("adam", "lion", "adam", "nadam", "sgd"))]
    sizes = []
    monkeypatch.setattr(
        batches,
        "lanes",
        SimpleNamespace(**vars(lanes) | {"train": lambda *a, **k: sizes.append(len(a[0])) or lanes.train(*a, **k)}),
    )
    of_lane = max(bytes_of([program], of, on_cpu, torch.float64, 3) for program, of in batch)
    found = together(batch, on_cpu, memory=lanes_that_fit * of_lane, epochs=2)
    assert sum(sizes) == len(batch)
    assert max(sizes) == lanes_that_fit
    assert [without_time(t) for t in found] == [without_time(t) for t in together(batch, on_cpu, epochs=2)]


def test_where_the_forecast_fails_the_batch_goes_on_in_halves(on_cpu: Backend, monkeypatch: pytest.MonkeyPatch):
    batch = [(MIXED["adam"], instance(lane)) for lane in range(5)]
    sizes = []

    def short_of_memory(many, *rest, **options):
        sizes.append(len(many))
        for count, found in enumerate(lanes.train(many, *rest, **options)):
            if len(many) > 2 and count == 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            yield found

    monkeypatch.setattr(batches, "lanes", SimpleNamespace(**vars(lanes) | {"train": short_of_memory}))
    found = together(batch, on_cpu)
    assert sizes == [5, 2, 2]
    assert [t.status for t in found] == ["finished"] * 5


# --- the driver -------------------------------------------------------------------------------------------------------


class Driver:
    """Stands in for cuda.bindings.driver: notes what it is asked."""

    CUresult = SimpleNamespace(CUDA_SUCCESS=0)
    CUstream = int

    def __init__(self) -> None:
        self.launched: list[tuple] = []
        self.unloaded: list[str] = []

    def cuModuleLoadData(self, code: bytes) -> tuple:
        return (0, "module") if code == b"code" else (200,)

    def cuModuleUnload(self, module: str) -> tuple:
        self.unloaded.append(module)
        return (0,)

    def cuModuleGetFunction(self, module: str, name: bytes) -> tuple:
        return (0, f"{module}.{name.decode()}") if name != b"missing" else (500,)

    def cuLaunchKernel(self, *given) -> tuple:
        *shape, parameters, extra = given
        (first,) = (ctypes.c_void_p * 1).from_address(parameters)
        self.launched.append((*shape, lane_kernels.Arguments.from_address(first).rows, extra))
        return (0,)


def test_a_module_launches_on_torchs_stream_and_goes_with_its_object(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=77))
    driver = Driver()
    module = launch.Module(driver, b"code", torch.device("cuda"))
    module("normalize", (4, 1000), 64, lane_kernels.Arguments(rows=104))
    assert driver.launched == [("module.normalize", 4, 1000, 1, 64, 1, 1, 0, 77, 104, 0)]
    with pytest.raises(EvoError, match="refuses a kernel"):
        module("missing", (1, 1), 1, lane_kernels.Arguments())
    del module
    assert driver.unloaded == ["module"]
    with pytest.raises(EvoError):
        launch.Module(driver, b"no code", torch.device("cuda"))


def test_old_codes_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(launch, "KEPT_CODES", 3)
    for age in range(4):
        code = tmp_path / f"{age}.cubin"
        code.write_bytes(b"")
        os.utime(code, (100 - age, 100 - age))
    launch._forget_old(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.cubin", "1.cubin"]


# --- what a CUDA graph can record -------------------------------------------------------------------------------------


class AsksNothing(TorchDispatchMode):
    """Refuses what would make the host wait for the device, or bring a tensor from one to the other."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, found)) if isinstance(t, torch.Tensor)]
        assert {t.device.type for t in tensors} <= {"meta"}, function
        assert "local_scalar" not in str(function), function
        return found


@pytest.mark.parametrize("names", [("adam", "muon", "adafactor"), ("nesterov", "sam_last_gradient")], ids="+".join)
@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "torch"])
def test_an_epoch_asks_the_device_nothing(names: Sequence[str], kernels: bool):
    """Tensors without content have no answers, and kernels that do nothing ask for none."""

    def load(texts: Sequence[str]) -> list[Launcher]:
        return [lambda *_: None for _ in texts]

    passes = KernelPasses(load([""])[0]) if kernels else TorchPasses()
    optimizer = CudaLanes([KNOWN[name] for name in names], load)
    with torch.inference_mode():
        many = [instance(lane, 3) for lane in range(len(names))]
        loop = lanes.LaneLoop(many, optimizer, 20, 5, torch.float32, torch.device("meta"), passes)
        with AsksNothing():
            loop._run_epoch()
