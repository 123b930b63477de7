"""A process of its own for foreign code: started, asked, held to its limits, ended with all that it began."""

from __future__ import annotations

import atexit
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch

from harness import wire
from harness.confinement import LAYERS
from harness.endings import ending
from harness.optimizer import OptimizerFault
from harness.running_time import TICK, Stopwatch, resume
from harness.submission_worker import ABORTED, CUT_OFF, OUT_OF_MEMORY

STATUSES = {
    "not_started": "the system refused a process, which is not the file's fault",
    "error": "an exception",
    "syntax_error": "the file is not Python",
    "import_error": "an import failed",
    "missing_function": "a function is missing",
    "invalid_update": "wrong type, count, shape or dtype of tensors",
    "timeout": "too slow: loading, one call, or all calls together",
    "out_of_memory": "more memory than allowed",
    "too_much_output": "more output than allowed",
    "too_many_tasks": "more threads and processes than allowed",
    "exited": "the process left by itself",
    "killed": "the process was ended by a signal: see `harness.endings`",
    "protocol_error": "the process sent something else than answers",
}


@dataclass(frozen=True)
class Limits:
    """What a submission may use. ``total_seconds``: all calls of the three functions together (loading is apart).
    Seconds count while the caller's process runs (see `harness.running_time`).

    ``memory_bytes``: beyond what Python and torch take by themselves. ``tasks``: threads and processes.
    ``output_bytes``: what it prints. ``folder_bytes``: the size of its temporary folder, which it has where the layer
    `folder` is active; elsewhere it writes nothing.
    """

    load_seconds: float = 30.0
    call_seconds: float = 10.0
    total_seconds: float = 3600.0
    memory_bytes: int = 2 << 30
    output_bytes: int = 1 << 20
    tasks: int = 32
    open_files: int = 64
    folder_bytes: int = 16 << 20


@dataclass(frozen=True)
class Isolation:
    """The layers of `harness.confinement.LAYERS` on this system: empty text, or why one is not active."""

    layers: dict[str, str]

    @property
    def active(self) -> tuple[str, ...]:
        """The names of the active layers."""
        return tuple(name for name, reason in self.layers.items() if not reason)

    def __str__(self) -> str:
        lines = ["active    process: own session, limits on time, memory, output and files, empty environment"]
        for name, reason in self.layers.items():
            if reason:
                lines.append(f"missing   {name}: {reason} (would be: {LAYERS[name]})")
            else:
                lines.append(f"active    {name}: {LAYERS[name]}")
        return "\n".join(lines)


DEFAULT_LIMITS = Limits()
_MAX_REPLY = 1 << 16
_START_SECONDS = 120.0  # for our own part of a start: importing torch on a busy machine
_LEAVE_SECONDS = 1.0  # from a closed connection to the end of its process
_END_SECONDS = 10.0  # from the order to end everything to its end: milliseconds, unless the machine is stuck


def isolation_level() -> Isolation:
    """Try every layer once, and say which are active. Raises OptimizerFault if no process can be started."""
    with Sandbox(DEFAULT_LIMITS, LAYERS) as sandbox:
        return sandbox.isolation


@dataclass(frozen=True)
class _Limit:
    """How long the process may take for ``what``, from now on."""

    what: str
    seconds: float
    watch: Stopwatch = field(default_factory=Stopwatch)


class Sandbox:
    """One worker process with its supervisor, its scratch folder and its deadlines. Use it as a context.

    ``isolation``: the layers that hold it. Every method raises OptimizerFault once the process has broken a limit or
    its contract; all that it started is dead by then.
    """

    def __init__(self, limits: Limits, layers: Iterable[str]) -> None:
        self.limits = limits
        self._remaining = limits.total_seconds
        self._asked = 0
        self._replies = wire.Frames(_MAX_REPLY)
        self._fault: tuple[str, str] | None = None
        self._end: dict[str, Any] | None = None
        self._scratch = tempfile.mkdtemp(prefix="evo-submission-")
        os.chmod(self._scratch, 0o755)  # for the user that the process may change to; it stays empty on disk
        self._channel, worker_end = socket.socketpair()
        self._channel.setblocking(False)
        self._control, supervisor_end = socket.socketpair()
        try:
            with worker_end, supervisor_end:
                request = {"limits": asdict(limits), "layers": list(layers), "scratch": self._scratch}
                self._launcher = _launcher()
                self._launcher.start_sandbox(request, worker_end, supervisor_end)
            self.isolation = Isolation(self._receive(_Limit("starting", _START_SECONDS))["layers"])
        except OptimizerFault as fault:
            self.close()
            raise OptimizerFault("not_started", fault.message) from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, request: dict[str, Any], what: str, *descriptors: int) -> str:
        """`ask`, within the limits for a call and for all calls."""
        watch = Stopwatch()
        try:
            return self.ask(request, what, min(self.limits.call_seconds, self._remaining), *descriptors)
        finally:
            self._remaining -= watch.seconds()

    def ask(self, request: dict[str, Any], what: str, seconds: float, *descriptors: int) -> str:
        """Send ``request`` and open file ``descriptors``; the kind of answer. Messages name it ``what``."""
        if self._fault is not None:
            raise OptimizerFault(*self._fault)
        self._asked += 1
        limit = _Limit(what, seconds)
        self._send({"id": self._asked, **request}, descriptors, limit)
        reply = self._receive(limit)
        if reply.get("id") != self._asked:
            self._fail("protocol_error", f"{what}: an answer without a request")
        kind, status = reply.get("reply"), reply.get("status")
        if kind == "fault":
            known = isinstance(status, str) and status in STATUSES and status != "not_started"
            self._fail(str(status) if known else "protocol_error", _one_line(reply.get("message")))
        return str(kind)

    def close(self) -> None:
        """End the process and all that it started, and remove its scratch folder."""
        self._ended(0.0)
        self._channel.close()
        self._control.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _send(self, message: dict[str, Any], descriptors: tuple[int, ...], limit: _Limit) -> None:
        data = wire.packed(message)
        try:
            while data:
                self._wait(select.POLLOUT, limit)
                with suppress(BlockingIOError):
                    sent = (
                        socket.send_fds(self._channel, [data], descriptors) if descriptors else self._channel.send(data)
                    )
                    data, descriptors = data[sent:], ()
        except OSError:
            self._fail_by_end(limit.what)

    def _receive(self, limit: _Limit) -> dict[str, Any]:
        while True:
            try:
                reply = self._replies.take()
            except wire.WireError as error:
                self._fail("protocol_error", f"{limit.what}: sent {error}")
            if reply is not None:
                return reply
            self._wait(select.POLLIN, limit)
            try:
                data = self._channel.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                self._fail_by_end(limit.what)
            self._replies.feed(data)

    def _wait(self, event: int, limit: _Limit) -> None:
        """Wait until the connection is ready for ``event``, but no longer than ``limit``."""
        if not _ready(self._channel, event, limit.seconds, limit.watch, self._launcher.keep_running):
            self._fail("timeout", f"{limit.what}: took more than {self._allowed(limit.seconds)}")

    def _allowed(self, seconds: float) -> str:
        if seconds == self._remaining:
            return f"what was left of the {self.limits.total_seconds:g} s for all calls"
        return f"{seconds:g} s"

    def _fail(self, status: str, message: str) -> NoReturn:
        self._fault = status, message
        self.close()
        raise OptimizerFault(status, message)

    def _fail_by_end(self, what: str) -> NoReturn:
        """Raise what the supervisor reports of a process that no longer answers."""
        end = self._ended(_LEAVE_SECONDS)
        cause, code = end.get("cause"), end.get("code", 0)
        said = _one_line(end.get("output", "").strip().rpartition("\n")[2])
        said = f"; its last output: {said}" if said else ""
        allowed = {
            "too_much_output": f"{self.limits.output_bytes} bytes of output",
            "out_of_memory": f"{self.limits.memory_bytes} bytes of memory",
            "too_many_tasks": f"{self.limits.tasks} threads and processes",
        }
        if cause == "ended" and code == OUT_OF_MEMORY:
            cause = "out_of_memory"
        if cause in allowed:
            self._fail(cause, f"{what}: more than {allowed[cause]}")
        if code == ABORTED:
            code = -signal.SIGABRT
        if cause != "ended" or code == CUT_OFF:
            self._fail("protocol_error", f"{what}: closed its connection{said}")
        if code == -signal.SIGXCPU:
            self._fail("timeout", f"{what}: took more processor time than all limits of time together")
        if code < 0:
            self._fail("killed", f"{what}: ended by {ending(code)}{said}")
        self._fail("exited", f"{what}: the process left with exit code {code}{said}")

    def _ended(self, grace: float) -> dict[str, Any]:
        """The supervisor's report after the end of everything, which is ordered after ``grace`` seconds."""
        if self._end is None:
            self._end = self._last_word(grace)
        if self._end is None:
            _shut(self._control)
            self._end = self._last_word(_END_SECONDS)
        if self._end is None:
            self._launcher.stop()  # a supervisor that does not end its worker for us may do so for itself
            self._end = {}
        return self._end

    def _last_word(self, seconds: float) -> dict[str, Any] | None:
        """What the supervisor says before it is gone, or None while it is not."""
        reports = wire.Frames(_MAX_REPLY)
        watch = Stopwatch()
        while _ready(self._control, select.POLLIN, seconds, watch):
            data = self._control.recv(1 << 16)
            if not data:
                return reports.take() or {}
            reports.feed(data)
        return None


def _ready(
    end: socket.socket, event: int, seconds: float, watch: Stopwatch, meanwhile: Callable[[], None] = lambda: None
) -> bool:
    """Whether ``end`` is ready for ``event`` before ``watch`` is beyond ``seconds``; calls ``meanwhile`` every TICK."""
    poll = select.poll()
    poll.register(end, event)
    while True:
        left = max(seconds - watch.seconds(), 0.0)
        if poll.poll(1000 * min(left, TICK)):
            return True
        if not left:
            return False
        meanwhile()


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_WR)
    except OSError:
        return  # its other end is closed already


def _one_line(text: object) -> str:
    """``text`` from a foreign process, fit for a terminal."""
    line = " ".join(str(text).split())
    return "".join(c if c.isprintable() else "?" for c in line)[:500]


class _Launcher:
    """Our end of the process that starts sandboxes (`harness.submission_launcher`): one for this process."""

    def __init__(self) -> None:
        project = str(Path(__file__).resolve().parents[1])
        start = (
            "import socket, sys; project = sys.argv[2]; sys.path.insert(0, project); "
            "from harness.submission_launcher import main; "
            "main(socket.socket(fileno=int(sys.argv[1])), project)"
        )
        self._lock = threading.Lock()
        self._channel, other = socket.socketpair()
        with other, tempfile.TemporaryFile() as log:
            self._process = subprocess.Popen(
                # -s -P: no imports from the user's or the working folder; -B: writes no byte code
                [sys.executable, "-s", "-P", "-B", "-c", start, str(other.fileno()), project],
                pass_fds=[other.fileno()],
                env=_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            other.close()
            started = _ready(self._channel, select.POLLIN, _START_SECONDS, Stopwatch())
            if not (started and self._channel.recv(1 << 16)):
                self.stop()
                log.seek(0)
                said = _one_line(log.read().decode(errors="replace").strip().rpartition("\n")[2])
                raise OptimizerFault("not_started", f"the process for submissions did not start: {said}")

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def keep_running(self) -> None:
        """Resume the process if it alone is suspended: a start would wait for it."""
        resume(self._process.pid)

    def start_sandbox(self, request: dict[str, Any], *ends: socket.socket) -> None:
        """Have a worker and its supervisor started, each with its end of a connection to us."""
        with self._lock:
            try:
                wire.send(self._channel, request, [end.fileno() for end in ends])
            except OSError as error:
                raise OptimizerFault("not_started", f"the process for submissions is gone: {error}") from None

    def stop(self) -> None:
        """End the process; supervisors see that, and end what they watch."""
        self._channel.close()
        self._process.kill()
        self._process.wait()


_launchers: dict[int, _Launcher] = {}  # by process: a fork of ours needs its own
_launchers_lock = threading.Lock()


def _launcher() -> _Launcher:
    with _launchers_lock:
        launcher = _launchers.get(os.getpid())
        if launcher is None or not launcher.alive:
            launcher = _launchers[os.getpid()] = _Launcher()
        return launcher


@atexit.register
def _stop_launcher() -> None:
    launcher = _launchers.pop(os.getpid(), None)
    if launcher is not None:
        launcher.stop()


def _environment() -> dict[str, str]:
    """All that a submission finds in its environment, but for HOME and TMPDIR: nothing of ours."""
    one_thread = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB")}
    found = {key: os.environ[key] for key in ("LD_LIBRARY_PATH",) if key in os.environ}  # Python may need it
    packages = str(Path(torch.__file__).parents[1])
    if packages not in sysconfig.get_paths().values():
        found["PYTHONPATH"] = packages
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "LOGNAME": "submission",  # some modules ask, and the user id need not have a name
        "PYTHONHASHSEED": "0",  # so that the order of a set is the same in every run
        "CUDA_VISIBLE_DEVICES": "",
        **one_thread,
        **found,
    }
