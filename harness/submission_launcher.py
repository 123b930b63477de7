"""The process that starts submissions, and the supervisor that each of them gets.

    the user's process ── launcher ── supervisor ── worker (the submission)

The launcher imports torch once and then forks, so that a submission starts within milliseconds. It never runs foreign
code. The supervisor watches one worker, and sees to it that nothing of it is left in the end.
"""

from __future__ import annotations

import os
import resource
import select
import shutil
import signal
import socket
import sys
import sysconfig
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from harness import confinement, submission_worker, wire
from harness.running_time import resume

_INSTALLED = sysconfig.get_paths()
_OURS = ("harness", "evo", "genomes")
_TICK = 20  # milliseconds between two looks at the worker
_SAMPLE = 0.1  # seconds between two looks at what it uses
_TAIL = 2000  # bytes of output that are kept for the report


def main(channel: socket.socket, project: str) -> NoReturn:
    """Serve requests from ``channel`` until its other end, or the process that opened it, is gone."""
    parent = os.getppid()
    confinement.attempt(_do_not_stay_suspended)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors need no waiting for
    readable = _python_paths(project)
    _hide_project(project)
    submission_worker.prepare()
    wire.send(channel, {"ready": True})
    frames = wire.Frames(1 << 16)
    while os.getppid() == parent:
        if not select.select([channel], [], [], 1.0)[0]:
            continue
        try:
            request, (worker_end, supervisor_end) = wire.receive(channel, frames, 2)
        except (EOFError, OSError):
            break
        if os.fork() == 0:
            channel.close()
            _supervise(
                {**request, "readable": readable},
                socket.socket(fileno=worker_end),
                socket.socket(fileno=supervisor_end),
            )
        os.close(worker_end)
        os.close(supervisor_end)
    os._exit(0)


def _python_paths(project: str) -> list[str]:
    """What a submission has to read: the interpreter, packages, libraries and facts of the machine."""
    paths = {*_INSTALLED.values(), sys.prefix, sys.base_prefix, *sys.path}
    system = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/urandom"]
    hardware = ["/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu", "/usr/share/zoneinfo"]
    if project not in _INSTALLED.values():
        paths = {path for path in paths if path and not Path(project).is_relative_to(path)}
    return sorted(path for path in {*paths, *system, *hardware} if os.path.exists(path))


def _hide_project(project: str) -> None:
    if project not in _INSTALLED.values():
        sys.path[:] = [path for path in sys.path if path != project]
    for name in [n for n in sys.modules if n.partition(".")[0] in _OURS]:
        del sys.modules[name]
    sys.meta_path.insert(0, submission_worker.Refuser(_OURS))


def _supervise(request: dict[str, Any], channel: socket.socket, control: socket.socket) -> NoReturn:
    """Start a worker; when it ends, breaks a limit, or ``control`` is closed: kill all, and report why."""
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        layers: dict[str, str] = {}
        confinement.attempt(confinement.adopt_orphans)
        if "namespaces" in request["layers"]:
            layers["namespaces"] = confinement.attempt(confinement.enter_namespaces)
        confinement.attempt(_do_not_stay_suspended)  # a change of rights resets it
        output, worker_output = os.pipe()
        user = confinement.FIRST_USER + os.getpid()
        worker = os.fork()
        if worker == 0:
            control.close()
            os.close(output)
            submission_worker.main(request, channel, worker_output, user, layers)
        channel.close()
        os.close(worker_output)
        report = _watch(worker, output, control, request["limits"])
        shutil.rmtree(request["scratch"], ignore_errors=True)  # our user may have been killed, and cannot do it
        wire.send(control, report)
        if sys.platform != "linux":
            os.killpg(0, signal.SIGKILL)  # nothing better finds descendants there
    except BaseException as error:
        wire.send(control, {"cause": "failed", "code": 0, "output": f"{type(error).__name__}: {error}"})
    finally:
        os._exit(0)


def _do_not_stay_suspended() -> None:
    """Let the parent's end wake this process, for it to see that."""
    confinement.signal_at_parent_end(signal.SIGCONT)


def _watch(worker: int, output: int, control: socket.socket, limits: dict[str, Any]) -> dict[str, Any]:
    poll = select.poll()
    poll.register(output, select.POLLIN)
    poll.register(control, select.POLLIN)
    launcher = os.getppid()
    written, tail, cause, status, sampled = 0, b"", "", 0, time.monotonic()
    while not cause:
        for descriptor, _ in poll.poll(_TICK):
            if descriptor == control.fileno():
                cause = "closed"
                continue
            data = os.read(output, 1 << 16)
            if not data:
                poll.unregister(output)
            written, tail = written + len(data), (tail + data)[-_TAIL:]
            if written > limits["output_bytes"]:
                cause = "too_much_output"
        resume(worker)  # what stops itself is ended by the limits, like all that waits
        ended, status = os.waitpid(worker, os.WNOHANG)
        if ended:
            cause = "ended"
        elif os.getppid() != launcher:
            cause = "closed"
        elif not cause and time.monotonic() - sampled > _SAMPLE:
            sampled = time.monotonic()
            cause = _excess(worker, limits)
    if cause != "ended":
        os.kill(worker, signal.SIGKILL)  # with a process namespace, the end of all that lives in it
        _, status = os.waitpid(worker, 0)
    _kill_descendants()
    os.set_blocking(output, False)
    with suppress(BlockingIOError):
        tail = (tail + os.read(output, 1 << 16))[-_TAIL:]
    return {
        "cause": cause,
        "code": os.waitstatus_to_exitcode(status),
        "output": tail.decode(errors="replace"),
    }


def _excess(worker: int, limits: dict[str, Any]) -> str:
    """Which limit the worker and its descendants are over, or the empty text."""
    own = _facts(worker)
    alone = own.get("Seccomp") == "2"  # the filter refuses further processes
    used = {worker: own} if alone else _descendants(os.getpid())
    if sum(int(fields.get("Threads", 0)) for fields in used.values()) > limits["tasks"]:
        return "too_many_tasks"
    if not alone:  # then the limit on its address space, which each process has to itself, says too little
        memory = sum(_kilobytes(_facts(pid, "smaps_rollup"), "Pss") or _kilobytes(used[pid], "VmRSS") for pid in used)
        torch_alone = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if memory * 1024 > limits["memory_bytes"] + torch_alone * 1024:
            return "out_of_memory"
    return ""


def _kilobytes(fields: dict[str, str], key: str) -> int:
    return int(fields.get(key, "0 kB").split()[0])


def _facts(pid: int, kind: str = "status") -> dict[str, str]:
    """What the system's process table says about ``pid``; empty where there is none."""
    try:
        with open(f"/proc/{pid}/{kind}") as file:
            lines = file.read().splitlines()
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _descendants(ancestor: int) -> dict[int, dict[str, str]]:
    """The process table's entries for all processes below ``ancestor``."""
    children: dict[str, list[int]] = {}
    table = {}
    names = os.listdir("/proc") if os.path.isdir("/proc") else []
    for pid in (int(name) for name in names if name.isdigit()):
        if fields := _facts(pid):
            table[pid] = fields
            children.setdefault(fields["PPid"], []).append(pid)
    found: dict[int, dict[str, str]] = {}
    level = children.get(str(ancestor), [])
    while level:
        found.update((pid, table[pid]) for pid in level)
        level = [child for pid in level for child in children.get(str(pid), [])]
    return found


def _kill_descendants() -> None:
    """Kill until none is left. Orphans become children of this process, so that a new session does not escape."""
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        for pid in _descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.001)
