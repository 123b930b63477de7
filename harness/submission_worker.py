"""Inside the sandbox: give up all rights that an optimizer has no use for, then run a submission's three functions.

Everything here can be subverted by the submission once that is loaded; so nothing here is relied upon afterwards. The
other side checks messages and takes exactly the bytes that it expects.
"""

from __future__ import annotations

import base64
import codecs
import ctypes
import gc
import importlib.abc
import inspect
import io
import linecache
import math
import mmap
import os
import random
import resource
import signal
import socket
import sys
import tempfile
import tokenize
import traceback
import types
from collections.abc import Callable
from typing import Any, NoReturn

import numpy
import torch
from torch import Tensor

from harness import confinement, wire
from harness.optimizer import OptimizerFault, checked

INIT, QUERY, STEP = "optimizer_init_state", "optimizer_query_at_params", "optimizer_step"
AREAS = 3  # parameters, gradients, answers
OUT_OF_MEMORY, CUT_OFF = 250, 251  # exit codes of a worker: no memory for a message, no connection for it
ABORTED = int(signal.SIGABRT)  # another one
_MAX_REQUEST = 1 << 24
_HOW_TO_SAVE = "; save it as UTF-8, or declare its encoding (PEP 263)"


class Refuser(importlib.abc.MetaPathFinder):
    """Refuses to import the packages ``names``."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        """Refuse the packages, and leave all others to the next finder. Raises ImportError."""
        if fullname.partition(".")[0] in self.names:
            raise ImportError(f"a submission cannot import {fullname!r}", name=fullname)


def tensors_in(shared: mmap.mmap, shapes: list[tuple[int, ...]], dtype: torch.dtype) -> list[list[Tensor]]:
    """Parameters, gradients, answers: a tensor for each of ``shapes``, all in ``shared`` memory."""
    sizes = [math.prod(shape) for shape in shapes]
    flat = torch.frombuffer(shared, dtype=dtype, count=AREAS * sum(sizes)).split(AREAS * sizes)
    tensors = [part.view(shape) for part, shape in zip(flat, AREAS * shapes, strict=True)]
    return [tensors[k * len(shapes) : (k + 1) * len(shapes)] for k in range(AREAS)]


def prepare() -> None:
    """What all workers of a launcher share, done before they fork and are confined."""
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    _load_lazy_modules()
    seed_global_generators(0)
    gc.collect()
    gc.freeze()


def _load_lazy_modules() -> None:
    """Have torch import what its optimizers import at their first use: 1.7 s of work, which a call may not have."""
    tempfile.tempdir = "/tmp"  # some modules ask for its name; to find one, Python would try to write there
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    torch.optim.SGD([parameter]).step()


def seed_global_generators(seed: int) -> None:
    """Make a submission repeatable that draws random numbers without the seed that it is given."""
    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


def main(request: dict[str, Any], channel: socket.socket, output: int, user: int, layers: dict[str, str]) -> NoReturn:
    """Confine this process, say which ``layers`` are active, then answer ``channel`` until it is closed.

    ``layers``: those applied so far, with the reason where one could not be.
    """
    code = 1
    try:
        _redirect(output)
        _exit_on_abort()
        _confine(request, user, layers)
        wire.send(channel, {"id": 0, "reply": "ready", "layers": layers})
        code = CUT_OFF
        Worker(channel).serve()
    except MemoryError:
        code = OUT_OF_MEMORY
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    finally:
        os._exit(code)


def _redirect(output: int) -> None:
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.argv = ["submission"]


def _exit_on_abort() -> None:
    """Exit with the code ABORTED on SIGABRT.

    The first process of a namespace is not ended by it; the C library would go on to a fault that ends in SIGSEGV.
    """
    c = ctypes.CDLL(None)
    c.signal.argtypes, c.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    c.signal(ABORTED, ctypes.cast(c._exit, ctypes.c_void_p))  # called with the signal's number


def _confine(request: dict[str, Any], user: int, layers: dict[str, str]) -> None:
    limits, wanted, scratch = request["limits"], request["layers"], request["scratch"]
    os.environ.update(HOME=scratch, TMPDIR=scratch)
    tempfile.tempdir = scratch
    writable = []
    if "folder" in wanted:
        layers["folder"] = confinement.attempt(lambda: confinement.private_folder(scratch, limits["folder_bytes"]))
        writable = [] if layers["folder"] else [scratch]
    os.chdir(scratch)  # only now, or it would be the folder beneath
    allowance = limits["memory_bytes"] + _address_space()
    if "user" in wanted:
        layers["user"] = confinement.attempt(lambda: confinement.change_user(user, request["readable"]))
    confinement.attempt(lambda: confinement.signal_at_parent_end(signal.SIGKILL))  # a change of user resets it
    confinement.attempt(confinement.drop_capabilities)
    counted_alone = layers.get("user") == "" or (os.getuid() != 0 and layers.get("namespaces") == "")
    seconds = math.ceil(limits["load_seconds"] + limits["total_seconds"])
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, limits["folder_bytes"] if writable else 0),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_AS, allowance),
    ):
        resource.setrlimit(limit, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds + 1, seconds + 2))  # a signal that says so, then the end
    if counted_alone:  # the limit is one for all processes of a user
        resource.setrlimit(resource.RLIMIT_NPROC, (limits["tasks"], limits["tasks"]))
    if "files" in wanted:
        layers["files"] = confinement.attempt(lambda: confinement.restrict_files(request["readable"], writable))
    if "syscalls" in wanted:
        writes = bool(writable) and layers.get("files") == ""  # two layers see to it that it does so there alone
        layers["syscalls"] = confinement.attempt(lambda: confinement.refuse_syscalls(writes))


def _address_space() -> int:
    """Bytes of address space that Python and torch take by themselves."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 1 << 34


class Worker:
    """Answers requests on ``channel`` with the functions of one submission."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.frames = wire.Frames(_MAX_REQUEST)
        self.name = ""
        self.functions: dict[str, Callable] = {}
        self.state: Any = None

    def serve(self) -> NoReturn:
        """Answer requests until the connection closes. Raises EOFError then."""
        while True:
            request, descriptors = wire.receive(self.channel, self.frames, 1)
            reply: dict[str, Any] = {"id": request["id"]}
            try:
                reply["reply"] = self.answer(request, descriptors)
            except BaseException as error:
                reply.update(self.describe(error))
            wire.send(self.channel, reply)

    def answer(self, request: dict[str, Any], descriptors: list[int]) -> str:
        """Do what a request asks; returns the kind of answer."""
        call = request["call"]
        if call == "load":
            return self.load(request["name"], base64.b64decode(request["source"]))
        if call == "init":
            return self.init(request, descriptors[0])
        arguments = request["epoch"], request["train_loss"], request["val_loss"]
        # clones are the submission's own: it may change or keep them
        params = [tensor.clone() for tensor in self.params]
        if call == "query":
            return self.give(QUERY, self.functions[QUERY](self.state, params, *arguments))
        gradients = [tensor.clone() for tensor in self.gradients]
        return self.give(STEP, self.functions[STEP](self.state, params, gradients, *arguments))

    def load(self, name: str, data: bytes) -> str:
        """Run the submission's file, given as ``data``, and find its functions. Raises OptimizerFault."""
        self.name = name
        source = decoded(name, data)
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        module = types.ModuleType("submission")
        module.__file__ = name
        sys.modules["submission"] = module
        try:
            code = compile(source, name, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            raise OptimizerFault("syntax_error", f"{name}:{line}: {error.args[0]}") from None
        exec(code, module.__dict__)  # noqa: S102  the purpose of this process
        for function in (INIT, QUERY, STEP):
            value = getattr(module, function, None)
            if callable(value):
                self.functions[function] = value
            elif value is not None or function != QUERY:
                raise OptimizerFault("missing_function", f"{name}: there is no function {function}(...)")
        return "queries" if QUERY in self.functions else "never_queries"

    def init(self, request: dict[str, Any], memory: int) -> str:
        """Map the shared ``memory`` (a file descriptor) and call the submission's init function."""
        context = request["context"]
        self.dtype = getattr(torch, context["dtype"])
        self.shapes = [tuple(shape) for shape in context["shapes"]]
        shared = mmap.mmap(memory, 0)
        os.close(memory)
        self.params, self.gradients, self.answers = tensors_in(shared, self.shapes, self.dtype)
        context |= {"shapes": list(self.shapes), "device": torch.device("cpu"), "dtype": self.dtype}
        seed = bytes.fromhex(request["seed"])
        seed_global_generators(int.from_bytes(seed[:4], "little"))
        function = self.functions[INIT]
        self.state = function(seed, request["param_sizes"], **accepted(function, context))
        return "done"

    def give(self, function: str, result: Any) -> str:
        """Pass on the tensors that ``function`` returned. Raises OptimizerFault where they are not as agreed."""
        if result is None and function == QUERY:
            return "none"
        tensors = checked(function, result, self.answers)
        with torch.no_grad():
            for answer, tensor in zip(self.answers, tensors, strict=True):
                answer.copy_(tensor)
        return "tensors"

    def describe(self, error: BaseException) -> dict[str, Any]:
        """Status and one-line message of what the submission raised."""
        if isinstance(error, OptimizerFault):
            return {"reply": "fault", "status": error.status, "message": error.message}
        walk = traceback.walk_tb(error.__traceback__)
        lines = [line for frame, line in walk if frame.f_code.co_filename == self.name]
        where = f"{self.name}:{lines[-1]}" if lines else self.name
        text = traceback.format_exception_only(error)[-1].strip()[:500]
        if isinstance(error, SystemExit):
            status, text = "exited", "sys.exit was called"
        elif isinstance(error, MemoryError) or "can't allocate memory" in text:
            status, text = "out_of_memory", f"more memory than allowed ({text})"
        elif isinstance(error, BlockingIOError) or "can't start new thread" in text:
            status, text = "too_many_tasks", f"more threads or processes than allowed ({text})"
        else:
            status = "import_error" if isinstance(error, ImportError) else "error"
        return {"reply": "fault", "status": status, "message": f"{where}: {text}"}


def decoded(name: str, data: bytes) -> str:
    """The text of the Python file ``data``, by its byte order mark, its declared encoding, else UTF-8 (PEP 263).

    Raises OptimizerFault with the line, where ``data`` are no text.
    """
    file = io.BytesIO(data)
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            position, reason = 0, "UTF-16 or UTF-32 text, which Python does not read; save it as UTF-8"
        elif b"\0" in data:
            position, reason = data.index(b"\0"), "a null byte, which Python does not read; save the file as UTF-8 text"
        else:
            encoding, _ = tokenize.detect_encoding(file.readline)
            return data.decode(encoding)
    except UnicodeDecodeError as error:
        position, reason = error.start, f"not {error.encoding} text: {error.reason}{_HOW_TO_SAVE}"
    except (SyntaxError, LookupError, UnicodeError) as error:  # the last line read is the one that declares, or should
        position, reason = file.tell() - 1, f"{error}{_HOW_TO_SAVE}"
    line = data.count(b"\n", 0, position) + 1
    raise OptimizerFault("syntax_error", f"{name}:{line}: {reason}")


def accepted(function: Callable, context: dict[str, Any]) -> dict[str, Any]:
    """The part of ``context`` that ``function`` takes: all of it with ``**context``, else what it names."""
    parameters = list(inspect.signature(function).parameters.values())
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return context
    names = {p.name for p in parameters[2:] if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return {name: value for name, value in context.items() if name in names}
