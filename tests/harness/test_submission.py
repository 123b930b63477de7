"""Foreign submissions: what they compute, what they cannot do, and that nothing of them is left."""

from __future__ import annotations

import dataclasses
import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from harness import sandbox
from harness.confinement import LAYERS, filter_program
from harness.optimizer import OptimizerFault
from harness.sandbox import DEFAULT_LIMITS, Limits, isolation_level
from harness.submission import open_submission
from harness.task import Instance, seed_bytes
from harness.train import train
from tests.harness.hostile import BENIGN, HOSTILE, Hostile, step
from tests.suspension import family, suspend

PROJECT = str(Path(__file__).resolve().parents[2])
SHAPES = [(3, 5), (4,)]
CONTEXT = {
    "shapes": SHAPES,
    "roles": ["weight", "bias"],
    "trainable": [True, True],
    "layers": [0, 0],
    "device": torch.device("cpu"),
    "dtype": torch.float32,
}
SEED = bytes(range(32))
linux = pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's")


def tensors(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def run(path: Path, limits: Limits = DEFAULT_LIMITS, steps: int = 3, **options) -> list[torch.Tensor]:
    """The updates of the last of ``steps`` steps."""
    updates: list[torch.Tensor] = []
    with open_submission(path, limits, **options) as optimizer:
        state = optimizer.init_state(SEED, [15, 4], **CONTEXT)
        for batch in range(steps):
            params, gradients = tensors(1), tensors(2 + batch)
            optimizer.query_at_params(state, params, 0, None, None)
            updates = optimizer.step(state, params, gradients, 0, None, None)
            assert torch.equal(params[0], tensors(1)[0])
            assert torch.equal(gradients[0], tensors(2 + batch)[0])
    return updates


def processes() -> set[int]:
    """The launcher of sandboxes and everything that was forked from it and is alive."""
    found = set()
    for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if PROJECT.encode() in words and any(b"submission_launcher" in word for word in words):
            found.add(int(entry.name))
    return found


@pytest.fixture
def write(tmp_path):
    """Writes a submission and a private file beside it; returns the submission's path."""
    private = tmp_path / "private.txt"
    private.write_text("hunter2")
    private.chmod(0o600)

    def write(source: str) -> Path:
        path = tmp_path / "submission.py"
        path.write_text(source.replace("{private!r}", repr(str(private))).replace("{project!r}", repr(PROJECT)))
        return path

    yield write
    assert private.read_text() == "hunter2"
    assert private.stat().st_mode & 0o777 == 0o600
    assert {p.name for p in tmp_path.iterdir()} <= {"private.txt", "submission.py"}


@pytest.fixture(scope="module")
def expected() -> list[torch.Tensor]:
    """What BENIGN gives in this process."""
    momentum = [torch.zeros(shape) for shape in SHAPES]
    for batch in range(3):
        for m, g in zip(momentum, tensors(2 + batch), strict=True):
            m.mul_(0.9).add_(g)
    return [-1e-4 * m for m in momentum]


@linux
@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_hostile_submission_ends_in_time_and_harms_nobody(case: Hostile, write, expected, monkeypatch):
    monkeypatch.setenv("MY_SECRET", "hunter2")
    limits = dataclasses.replace(DEFAULT_LIMITS, **{"call_seconds": 20.0, **dict(case.limits)})
    path = write(case.source)
    isolation_level()  # starts the launcher, which stays
    before = processes()
    started = time.monotonic()
    status = message = None
    try:
        run(path, limits)
    except OptimizerFault as fault:
        status, message = fault.status, fault.message
    seconds = time.monotonic() - started
    assert (status in case.status.split("|")) if case.status else status is None, f"{status}: {message}"
    if case.message and case.status:
        assert any(part in (message or "") for part in case.message.split("|")), message
    assert message is None or (message.isprintable() and len(message) <= 500)
    allowed = dict(case.limits)
    assert seconds < allowed.get("call_seconds", allowed.get("total_seconds", allowed.get("load_seconds", 8))) + 2
    assert processes() <= before, "a process was left behind"
    updates = run(write(BENIGN))
    assert all(torch.equal(a, b) for a, b in zip(updates, expected, strict=True)), "the next run was harmed"


FORKS = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True: time.sleep(1)
"""
FORK_BOMB = """
import os, time
for _ in range(4): os.fork()
time.sleep(60)
"""
HOGS_IN_CHILDREN = """
import os, time
for _ in range(3):
    if os.fork() == 0: break
x = bytearray(150 << 20)
time.sleep(60)
"""
KILLS = """
import os
for pid in (-1, os.getppid() or 1, *range(2, 20000)):
    try:
        if pid != os.getpid(): os.kill(pid, 9)
    except OSError: pass
"""


@linux
@pytest.mark.parametrize("layers", [(), ("namespaces",), ("files",)], ids=str)
@pytest.mark.parametrize(
    ("body", "status"),
    [(FORKS, None), (FORK_BOMB, "too_many_tasks"), (HOGS_IN_CHILDREN, "out_of_memory")],
    ids=["orphan in a new session", "fork bomb", "memory in children"],
)
def test_processes_of_a_submission_are_counted_and_killed_where_they_are_not_refused(layers, body, status, write):
    limits = dataclasses.replace(DEFAULT_LIMITS, tasks=8, memory_bytes=250 << 20)
    isolation_level()
    before = processes()
    ended = None
    try:
        run(write(step(body)), limits, steps=1, layers=layers)
    except OptimizerFault as fault:
        ended = fault.status
    assert ended == status
    assert processes() <= before


@linux
@pytest.mark.parametrize("layer", ["namespaces", "syscalls"])
def test_either_of_two_layers_keeps_a_submission_from_killing_others(layer, write, expected):
    with open_submission(write(BENIGN), layers=(layer,)) as optimizer:
        if optimizer.isolation.active != (layer,):
            pytest.skip(f"this system has no {layer}")
    run(write(step(KILLS)), layers=(layer,))
    assert all(torch.equal(a, b) for a, b in zip(run(write(BENIGN)), expected, strict=True))


@linux
@pytest.mark.parametrize("layer", ["files", "syscalls"])
def test_either_of_two_layers_keeps_a_submission_from_writing(layer, write, tmp_path):
    source = step(f"open({str(tmp_path / 'new')!r}, 'w')")
    with open_submission(write(BENIGN), layers=(layer,)) as optimizer:
        if optimizer.isolation.active != (layer,):
            pytest.skip(f"this system has no {layer}")
    with pytest.raises(OptimizerFault, match="PermissionError"):
        run(write(source), layers=(layer,))


@linux
@pytest.mark.parametrize("layer", ["folder", "files"])
def test_either_of_two_layers_keeps_a_submission_with_a_folder_in_it(layer, write, tmp_path):
    source = step(
        f"open('mine', 'w').write('x') if {layer == 'folder'} else None\nopen({str(tmp_path / 'new')!r}, 'w')"
    )
    with open_submission(write(BENIGN), layers=(layer,)) as optimizer:
        if optimizer.isolation.active != (layer,):
            pytest.skip(f"this system has no {layer}")
    with pytest.raises(OptimizerFault, match=r"submission.py:10: (PermissionError|OSError: .* Read-only)"):
        run(write(source), layers=(layer,))


TEMPORARY = """
import os, shutil, tempfile
with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile("w+") as file:
    assert os.path.dirname(folder) == os.path.dirname(file.name) == os.getcwd() == os.environ["TMPDIR"]
    file.write("x")
    os.makedirs(folder + "/deep/deeper")
    open(folder + "/new", "w").write("x")
    os.replace(folder + "/new", folder + "/deep/old")
    assert open(folder + "/deep/old").read() == "x"
assert os.listdir() == []
open("left behind", "w").write("x")
"""
FILLS = "for k in range(100): open(f'{k}', 'wb').write(bytes(1 << 18))"
MANY_FILES = "for k in range(10 ** 6): open(f'{k}', 'wb')"
LARGE_FILE = "with open('x', 'wb') as file:\n    for _ in range(100): file.write(bytes(1 << 18))"


@linux
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (TEMPORARY, ""),
        (FILLS, "No space left"),
        (MANY_FILES, "No space left"),
        (LARGE_FILE, "No space left|File too large"),
    ],
    ids=["temporary", "fills", "many files", "large file"],
)
def test_a_submission_has_a_temporary_folder_within_its_limit_which_goes_with_it(body, message, write, monkeypatch):
    if "folder" not in isolation_level().active:
        pytest.skip("this system has no folder")
    scratch = write(step(body)).parent / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    limits = dataclasses.replace(DEFAULT_LIMITS, folder_bytes=1 << 20)
    try:
        if message:
            with pytest.raises(OptimizerFault, match=message):
                run(scratch.parent / "submission.py", limits)
        else:
            run(scratch.parent / "submission.py", limits, steps=1)
        assert not list(scratch.iterdir())
    finally:
        shutil.rmtree(scratch)


OPTIMIZERS = """
import torch
SKIPPED = {"Optimizer", "SparseAdam", "LBFGS", "Muon"}  # they want other gradients, a closure, matrices alone
CLASSES = [getattr(torch.optim, name) for name in torch.optim.__all__ if name not in SKIPPED]
CLASSES = [c for c in CLASSES if isinstance(c, type)]

def optimizer_init_state(seed, param_sizes, *, shapes):
    params = [[torch.nn.Parameter(torch.zeros(shape)) for shape in shapes] for _ in CLASSES]
    return params, [c(p) for c, p in zip(CLASSES, params)]

def optimizer_step(state, model_params, gradients, epoch, train_loss, val_loss):
    assert len(CLASSES) > 9
    for params, optimizer in zip(*state):
        for p, g in zip(params, gradients):
            p.grad = g.clone()
        optimizer.step()
        assert all(torch.isfinite(p).all() and p.abs().sum() > 0 for p in params)
    return [p.detach() for p in params]
"""


@pytest.mark.parametrize("layers", [tuple(LAYERS), ("namespaces", "files", "syscalls"), ()], ids=str)
def test_every_optimizer_of_torch_runs_confined_with_a_temporary_folder_and_without(layers, write):
    run(write(OPTIMIZERS), dataclasses.replace(DEFAULT_LIMITS, call_seconds=2.0), layers=layers)


def test_what_torch_optim_imports_is_there_before_the_file_is_loaded(write):
    source = step("assert set(sys.modules) == before, set(sys.modules) - before", "import sys, torch")
    source = source.replace("    updates =", "    before = set(sys.modules); updates =")
    source = source.replace(
        "    assert", "    torch.optim.AdamW([torch.nn.Parameter(gradients[0])]).step()\n    assert"
    )
    run(write(source))


@linux
def test_everything_dies_with_the_process_that_opened_it(write, tmp_path_factory):
    scratch = tmp_path_factory.mktemp("scratch")
    isolation_level()
    before = processes()
    path = write(step("try: open('left', 'w')\nexcept OSError: pass\nwhile True: pass"))
    source = f"""
import sys; sys.path.insert(0, {PROJECT!r})
from tests.harness.test_submission import *
print("started", flush=True)
run(Path({str(path)!r}), dataclasses.replace(DEFAULT_LIMITS, call_seconds=100.0))
"""
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, env=environment) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == b"started\n"
        deadline = time.monotonic() + 30
        while len(processes() - before) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(processes() - before) >= 3, "launcher, supervisor and worker"
        assert len(list(scratch.iterdir())) == 1
        caller.kill()
    deadline = time.monotonic() + 3
    while processes() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes() <= before
    assert not list(scratch.iterdir())


@linux
def test_suspension_of_everything_is_no_timeout(write):
    path = write(step("import time; time.sleep(1.2)"))
    source = f"""
import sys; sys.path.insert(0, {PROJECT!r})
from tests.harness.test_submission import *
with open_submission({str(path)!r}, dataclasses.replace(DEFAULT_LIMITS, call_seconds=2.0)) as optimizer:
    state = optimizer.init_state(SEED, [15, 4], **CONTEXT)
    print("started", flush=True)
    optimizer.step(state, tensors(1), tensors(2), 0, None, None)
    print("finished", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as caller:
        try:
            assert caller.stdout is not None
            assert caller.stdout.readline() == "started\n"
            pids = family(caller.pid)
            assert len(pids) == 4, "caller, launcher, supervisor, worker"
            suspend(pids, 2.5)
            suspend(pids[::-1], 2.5)
            assert caller.communicate(timeout=60) == ("finished\n", None)
        finally:
            caller.kill()


@linux
@pytest.mark.parametrize("suspended", ["launcher", "supervisor", "worker"])
def test_whoever_is_suspended_alone_is_resumed_or_ended(suspended, write, monkeypatch):
    monkeypatch.setattr(sandbox, "_END_SECONDS", 0.5)
    limits = dataclasses.replace(DEFAULT_LIMITS, call_seconds=5.0)
    isolation_level()
    launcher = sandbox._launchers[os.getpid()]._process.pid
    if suspended == "launcher":
        os.kill(launcher, signal.SIGSTOP)
    with open_submission(write(step("import time; time.sleep(0.2)")), limits) as optimizer:
        pids = dict(zip(("launcher", "supervisor", "worker"), family(launcher), strict=True))
        state = optimizer.init_state(SEED, [15, 4], **CONTEXT)
        os.kill(pids[suspended], signal.SIGSTOP)
        optimizer.step(state, tensors(1), tensors(2), 0, None, None)
    deadline = time.monotonic() + 10
    while (left := processes() & {pids["supervisor"], pids["worker"]}) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left
    run(write(BENIGN))


@linux
@pytest.mark.parametrize("layers", [tuple(LAYERS), ("syscalls",), ()], ids=str)
def test_a_submission_that_suspends_itself_is_ended_by_its_limit(layers, write):
    suspends = "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"
    run(write(step(suspends)), layers=layers)
    endless = step(suspends + "\nwhile True: os.kill(os.getpid(), signal.SIGSTOP)")
    with pytest.raises(OptimizerFault) as caught:
        run(write(endless), dataclasses.replace(DEFAULT_LIMITS, call_seconds=0.5), layers=layers)
    assert caught.value.status == "timeout"


def test_updates_equal_those_in_this_process_bit_by_bit(write, expected):
    assert all(torch.equal(a, b) for a, b in zip(run(write(BENIGN)), expected, strict=True))


def functions(source: str) -> SimpleNamespace:
    """The three functions of a file of ours, in this process."""
    module: dict = {}
    exec(source, module)  # noqa: S102
    names = ("init_state", "query_at_params", "step")
    return SimpleNamespace(**{name: module[f"optimizer_{name}"] for name in names})


MOMENTUM_AND_MATRICES = BENIGN.replace(
    "return None",
    "return [p + 0.01 * m / (m.norm() + 1) for p, m in zip(model_params, state['momentum'])] if epoch else None",
).replace(
    "-1e-4 * m for m in state",
    "-1e-3 * (m @ (m.T @ m) / (m.norm() ** 3 + 1e-9) if m.ndim == 2 else m / (m.norm() + 1e-9)) for m in state",
)


@pytest.mark.parametrize(("task", "dtype"), [("tig", torch.float32), ("seed", torch.float32), ("tig", torch.float64)])
def test_a_training_in_the_sandbox_equals_one_in_this_process_bit_by_bit(task, dtype, write):
    instance = Instance(task, 3, seed_bytes(5))
    with open_submission(write(MOMENTUM_AND_MATRICES)) as optimizer:
        outside = train(instance, optimizer, epochs=2, dtype=dtype)
    inside = train(instance, functions(MOMENTUM_AND_MATRICES), epochs=2, dtype=dtype)
    assert inside.status == "finished"
    assert dataclasses.replace(outside, seconds=0) == dataclasses.replace(inside, seconds=0)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("updates[0][0] = float('nan')", "diverged"),
        ("updates = [u * float('inf') for u in updates]", "diverged"),
        ("updates = [1e38 * u.sign() for u in updates]", "diverged"),
        ("if epoch == 1: raise ValueError('boo')", "error"),
        ("if train_loss is not None: updates.pop()", "invalid_update"),
        ("if epoch == 1: import os; os._exit(0)", "exited"),
    ],
)
def test_a_training_ends_with_the_status_of_its_submission(body, status, write):
    with open_submission(write(step(body))) as optimizer:
        training = train(Instance("tig", 2, seed_bytes(1)), optimizer, epochs=2)
    assert training.status == status
    assert training.message
    assert training.epochs_run == 1


@pytest.mark.parametrize(
    "parameters", ["seed, param_sizes", "seed, param_sizes, shapes", "a, b, *, device, dtype", "*a, **k"]
)
def test_init_is_given_the_context_that_it_names(parameters, write):
    run(write(step("").replace("seed, param_sizes, **context", parameters).replace('context["shapes"]', "0")))


def test_context_has_the_types_of_a_call_in_process(write):
    source = """
import torch
def optimizer_init_state(seed, param_sizes, *, shapes, roles, trainable, layers, device, dtype):
    assert seed == bytes(range(32)) and param_sizes == [15, 4], (seed, param_sizes)
    assert shapes == [(3, 5), (4,)] and roles == ["weight", "bias"], (shapes, roles)
    assert trainable == [True, True] and layers == [0, 0]
    assert device == torch.device("cpu") and dtype is torch.float32
def optimizer_step(state, model_params, gradients, epoch, train_loss, val_loss):
    assert state is None and epoch == 0 and train_loss is None and val_loss is None
    assert [p.shape for p in model_params] == [(3, 5), (4,)]
    return gradients
"""
    assert torch.equal(run(write(source))[0], tensors(4)[0])


def test_query_gives_tensors_none_or_is_missing(write):
    source = BENIGN.replace("return None", "return None if epoch == 0 else [p + 1 for p in model_params]")
    params = tensors(1)
    with open_submission(write(source)) as optimizer:
        state = optimizer.init_state(SEED, [15, 4], **CONTEXT)
        assert optimizer.query_at_params(state, params, 0, None, None) is None
        moved = optimizer.query_at_params(state, params, 1, 0.1, float("inf"))
        assert moved is not None
        assert torch.equal(moved[1], params[1] + 1)
    with open_submission(write(step(""))) as optimizer:
        state = optimizer.init_state(SEED, [15, 4], **CONTEXT)
        assert optimizer.query_at_params(state, params, 0, None, None) is None


def test_losses_arrive_exactly_and_non_finite_updates_are_handed_on(write):
    body = "updates[0].fill_(train_loss); updates[1].fill_(val_loss); return updates"
    with open_submission(write(step(body))) as optimizer:
        state = optimizer.init_state(SEED, [15, 4], **CONTEXT)
        first, second = optimizer.step(state, tensors(1), tensors(2), 3, 1 / 3, float("nan"))
    assert torch.equal(first, torch.full((3, 5), 1 / 3))
    assert second.isnan().all()


def test_unseeded_random_numbers_repeat(write):
    source = step("import random, numpy; updates[0].fill_(random.random() + numpy.random.rand()).add_(torch.rand(5))")
    first, second = run(write(source)), run(write(source))
    assert torch.equal(first[0], second[0])


def test_a_state_belongs_to_the_latest_init(write):
    with open_submission(write(BENIGN)) as optimizer:
        old = optimizer.init_state(SEED, [15, 4], **CONTEXT)
        new = optimizer.init_state(SEED, [15, 4], **CONTEXT)
        optimizer.step(new, tensors(1), tensors(2), 0, None, None)
        with pytest.raises(ValueError, match="latest init_state"):
            optimizer.step(old, tensors(1), tensors(2), 0, None, None)


def test_a_broken_submission_stays_broken(write):
    with open_submission(write(step("raise ValueError('once')"))) as optimizer:
        state = optimizer.init_state(SEED, [15, 4], **CONTEXT)
        for _ in range(2):
            with pytest.raises(OptimizerFault, match="once"):
                optimizer.step(state, tensors(1), tensors(2), 0, None, None)


@pytest.mark.parametrize(
    ("content", "status"),
    [(None, "error"), (b"#" * (1 << 21), "syntax_error")],
)
def test_files_that_cannot_be_read_are_refused_before_anything_starts(content, status, tmp_path):
    path = tmp_path / "submission.py"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OptimizerFault, match="submission") as caught, open_submission(path):
        pass
    assert caught.value.status == status


TEXT = BENIGN + "\nNAME = 'größer'\nassert len(NAME) == 6\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode("utf-8-sig"),
        b"# -*- coding: latin-1 -*-\n" + TEXT.encode("latin-1"),
        b"#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\n" + TEXT.encode("cp1252"),
        b"\xef\xbb\xbf# coding: utf-8\n" + TEXT.encode(),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        b"\f# coding: koi8-r\n" + TEXT.replace("größer", "привет").encode("koi8-r"),
    ],
)
def test_a_file_is_read_as_python_reads_it(data, expected, tmp_path):
    path = tmp_path / "submission.py"
    path.write_bytes(data)
    subprocess.run([sys.executable, "-c", f"compile(open({str(path)!r}, 'rb').read(), 'x', 'exec')"], check=True)
    assert all(torch.equal(a, b) for a, b in zip(run(path), expected, strict=True))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (TEXT.encode("utf-16"), "1: UTF-16 or UTF-32 text"),
        (TEXT.encode("utf-16-le"), "2: a null byte"),
        (b"x = 1\n\ny = '\0'", "3: a null byte"),
        (b"\xff", "1: invalid or missing encoding declaration"),
        (b"x = 1\ny = 2\nz = '\xe9'\n", "3: not utf-8 text"),
        (b"# coding: ascii\n\n\nz = '\xe9'\n", "4: not ascii text"),
        (b"#\n# -*- coding: nonsense -*-\n", "2: unknown encoding: nonsense"),
        (b"\xef\xbb\xbf# -*- coding: latin-1 -*-\n", "1: encoding problem"),
        (b"# coding: zlib\n", "1: 'zlib' is not a text encoding"),
        (b"# coding: utf-7\n+AAA-", ""),
    ],
)
def test_a_file_that_is_no_text_is_refused_with_the_line(data, message, tmp_path):
    path = tmp_path / "submission.py"
    path.write_bytes(data)
    with pytest.raises(OptimizerFault) as caught, open_submission(path):
        pass
    assert caught.value.status == "syntax_error"
    assert caught.value.message.startswith(f"submission.py:{message}"), caught.value.message


def test_a_process_that_cannot_be_started_is_told_at_once_and_not_blamed_on_the_file(write, monkeypatch):
    monkeypatch.setattr(sandbox, "_launchers", {})
    monkeypatch.setattr(sys, "executable", "/bin/false")
    started = time.monotonic()
    with pytest.raises(OptimizerFault, match="did not start") as caught:
        run(write(BENIGN))
    assert caught.value.status == "not_started"
    assert time.monotonic() - started < 3


def test_two_submissions_at_once_do_not_meet(write, tmp_path):
    slow = tmp_path / "slow.py"
    try:
        slow.write_text(step("import os; os._exit(1)"))
        with open_submission(slow) as first, open_submission(write(BENIGN)) as second:
            states = [optimizer.init_state(SEED, [15, 4], **CONTEXT) for optimizer in (first, second)]
            with pytest.raises(OptimizerFault):
                first.step(states[0], tensors(1), tensors(2), 0, None, None)
            second.step(states[1], tensors(1), tensors(2), 0, None, None)
    finally:
        slow.unlink()


def test_isolation_is_told_in_words():
    isolation = isolation_level()
    assert set(isolation.layers) == set(LAYERS)
    lines = str(isolation).splitlines()
    assert len(lines) == 1 + len(LAYERS)
    for name, line in zip(LAYERS, lines[1:], strict=True):
        assert f" {name}: " in line
        assert line.startswith("active" if name in isolation.active else "missing")


def test_filters_exist_for_known_machines_only():
    assert filter_program("x86_64", 7) != filter_program("x86_64", 8)
    assert filter_program("aarch64", 7)
    with pytest.raises(OSError, match="vax"):
        filter_program("vax", 7)


@linux
@pytest.mark.slow
def test_a_thousand_hostile_submissions_in_a_row_leave_nothing_behind(write, expected):
    isolation_level()
    before = processes()
    files = len(os.listdir("/proc/self/fd"))
    cases = [case for case in HOSTILE if case.limits != ()] + [case for case in HOSTILE if case.status == "error"]
    for count in range(1000):
        case = cases[count % len(cases)]
        limits = dataclasses.replace(DEFAULT_LIMITS, **{"call_seconds": 20.0, **dict(case.limits)})
        with pytest.raises(OptimizerFault) as caught:
            run(write(case.source), limits)
        assert caught.value.status in (case.status or "").split("|")
        if count % 50 == 0:
            assert all(torch.equal(a, b) for a, b in zip(run(write(BENIGN)), expected, strict=True))
    gc.collect()
    assert processes() <= before
    assert len(os.listdir("/proc/self/fd")) <= files + 2
