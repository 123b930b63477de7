"""Submissions that nobody should send, with what has to become of each. Plain Python text, never imported."""

from __future__ import annotations

from dataclasses import dataclass

BENIGN = """
import torch

def optimizer_init_state(seed, param_sizes, **context):
    return {"momentum": [torch.zeros(shape, dtype=context["dtype"]) for shape in context["shapes"]]}

def optimizer_query_at_params(state, model_params, epoch, train_loss, val_loss):
    return None

def optimizer_step(state, model_params, gradients, epoch, train_loss, val_loss):
    for m, g in zip(state["momentum"], gradients):
        m.mul_(0.9).add_(g)
    return [-1e-4 * m for m in state["momentum"]]
"""


@dataclass(frozen=True)
class Hostile:
    """``source``: the file. ``status``: what the run ends with; None where the file is harmless in the end.

    ``message``: part of the message. ``limits``: which fields of Limits to change.
    """

    name: str
    source: str
    status: str | None
    message: str = ""
    limits: tuple[tuple[str, float], ...] = ()


def step(body: str, before: str = "") -> str:
    """A submission whose step runs ``body``, then returns good updates."""
    indented = "\n".join("    " + line for line in body.strip().splitlines())
    return f"""{before}
import torch

def optimizer_init_state(seed, param_sizes, **context):
    return {{"shapes": context["shapes"]}}

def optimizer_step(state, model_params, gradients, epoch, train_loss, val_loss):
    updates = [-1e-4 * g for g in gradients]
{indented}
    return updates
"""


REFUSED = "not permitted|Permission denied|Read-only"
MOUNTS = step(
    """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(None, b"/", None, 32 | 4096, None) or libc.umount2(os.getcwd().encode(), 2):  # writable again; gone
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
"""
)
SHORT = (("call_seconds", 0.3),)
LITTLE = (("memory_bytes", 200 << 20),)

HOSTILE = [
    # time
    Hostile("endless_loop", step("while True: pass"), "timeout", "took more than 0.3 s", SHORT),
    Hostile("sleep", step("import time; time.sleep(3600)"), "timeout", "took more than 0.3 s", SHORT),
    Hostile(
        "ignores_signals",
        step(
            """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True:
    try: signal.pause()
    except BaseException: pass
"""
        ),
        "timeout",
        limits=SHORT,
    ),
    Hostile("endless_import", "while True: pass", "timeout", "loading", (("load_seconds", 0.3),)),
    Hostile(
        "slow_in_every_call",
        step("import time; time.sleep(0.15)"),
        "timeout",
        "for all calls",
        (("total_seconds", 0.3),),
    ),
    Hostile("c_loop_holding_the_lock", step("sum(range(10 ** 12))"), "timeout", limits=SHORT),
    # processes and threads
    Hostile("fork_bomb", step("import os\nwhile True: os.fork()"), "error", "not permitted", SHORT),
    Hostile(
        "orphan_in_a_new_session",
        step(
            """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True: time.sleep(1)
"""
        ),
        "error",
        "not permitted",
    ),
    Hostile("starts_a_program", step("import subprocess; subprocess.run(['id'])"), "error", "not permitted"),
    Hostile(
        "thread_bomb",
        step(
            """
import threading, time
for _ in range(100): threading.Thread(target=time.sleep, args=(3600,)).start()
time.sleep(2)
"""
        ),
        "too_many_tasks",
        limits=(("tasks", 20),),
    ),
    Hostile(
        "thread_left_behind",
        step("import threading, time; threading.Thread(target=time.sleep, args=(3600,)).start()"),
        None,
    ),
    Hostile("kills_its_parent", step("import os, signal; os.kill(os.getppid() or 1, 9); os.kill(-1, 9)"), "error"),
    Hostile(
        "kills_everything",
        step(
            """
import os, signal
for pid in [-1, 0, *range(1, 30000)]:
    try:
        if pid != os.getpid(): os.kill(pid, 9)
    except OSError: pass
"""
        ),
        None,
    ),
    # memory and output
    Hostile("memory_hog", step("x = bytearray(10 ** 12)"), "out_of_memory", "line|:"),
    Hostile("tensor_hog", step("x = torch.ones(10 ** 11)"), "out_of_memory"),
    Hostile("memory_leak", step("x = []\nwhile True: x.append([0] * 10 ** 5)"), "out_of_memory", limits=LITTLE),
    Hostile("prints_a_gigabyte", step("for _ in range(1024): print('x' * (1 << 20))"), "too_much_output"),
    Hostile("prints_without_end", step("while True: print('spam' * 100)"), "too_much_output", "1048576 bytes"),
    Hostile(
        "prints_slowly_forever",
        step("import time\nwhile True: print('still here'); time.sleep(0.01)"),
        "timeout",
        limits=SHORT,
    ),
    # ends
    Hostile("os_exit", step("import os; os._exit(7)"), "exited", "exit code 7"),
    Hostile("sys_exit", step("import sys; sys.exit(0)"), "exited", "submission.py:9: sys.exit was called"),
    Hostile("sys_exit_on_import", "raise SystemExit", "exited"),
    Hostile("raises", step("raise ValueError('boo')"), "error", "submission.py:9: ValueError: boo"),
    Hostile("raises_interrupt", step("raise KeyboardInterrupt"), "error", "KeyboardInterrupt"),
    Hostile(
        "raises_the_unprintable",
        step("raise Evil()", "class Evil(Exception):\n    def __str__(self): raise SystemExit\n"),
        "error|exited|protocol_error",
    ),
    Hostile("recursion", step("def f(): f()\nf()"), "error", "RecursionError"),
    Hostile("segfault", step("import ctypes; ctypes.string_at(8)"), "killed", "SIGSEGV"),
    Hostile("abort", step("import os; os.abort()"), "killed", "SIGABRT (abort: "),
    # updates
    Hostile("wrong_count", step("updates = updates[:-1]"), "invalid_update", "expected 2 tensors, got 1"),
    Hostile("wrong_shape", step("updates[0] = updates[0].t()"), "invalid_update", "expected shape [3, 5], got [5, 3]"),
    Hostile("float64", step("updates[1] = updates[1].double()"), "invalid_update", "tensor 1: expected torch.float32"),
    Hostile("complex", step("updates[0] = updates[0] * 1j"), "invalid_update", "torch.complex64"),
    Hostile("no_tensors", step("updates = [0.1, 0.2]"), "invalid_update", "expected a torch.Tensor, got float"),
    Hostile("returns_none", step("return None"), "invalid_update", "got NoneType"),
    Hostile(
        "nested",
        step("updates = [[[u] * 1000] * 1000 for u in updates]"),
        "invalid_update",
        "got list",
    ),
    Hostile("meta_tensors", step("updates = [u.to('meta') for u in updates]"), "invalid_update", "meta"),
    Hostile("sparse", step("updates = [u.to_sparse() for u in updates]"), "invalid_update", "sparse"),
    Hostile("changes_in_place", step("[p.fill_(7e7) for p in model_params]; [g.zero_() for g in gradients]"), None),
    # looking around
    Hostile(
        "reads_the_environment",
        step(
            """
import os
text = str(os.environ)
for path in ['/proc/self/environ', f'/proc/{os.getppid()}/environ', '/proc/1/environ', '/etc/passwd']:
    try: text += open(path).read()
    except OSError: pass
assert 'hunter2' not in text and 'root:' not in text and 'MY_SECRET' not in text, 'found a secret'
"""
        ),
        None,
    ),
    Hostile("reads_a_private_file", step("open({private!r}).read()"), "error", "Permission denied"),
    Hostile("writes_outside", step("open({private!r}, 'w').write('pwned')"), "error", REFUSED),
    Hostile("writes_beside", step("open({private!r} + '.new', 'w').write('pwned')"), "error", REFUSED),
    Hostile("makes_a_folder_outside", step("import os; os.mkdir({private!r} + '.new')"), "error", REFUSED),
    Hostile("truncates_a_file", step("import os; os.truncate({private!r}, 0)"), "error", REFUSED),
    Hostile("moves_a_file_in", step("import os; os.rename({private!r}, 'mine')"), "error", f"{REFUSED}|cross-device"),
    Hostile("deletes_a_file", step("import os; os.unlink({private!r})"), "error", REFUSED),
    Hostile("links_outside", step("import os; os.symlink({private!r}, 'link')"), "error", "not permitted"),
    Hostile("mounts", MOUNTS, "error", "not permitted"),
    Hostile("opens_permissions", step("import os; os.chmod({private!r}, 0o777)"), "error", "not permitted"),
    Hostile("deletes_itself", step("import os; os.unlink(__file__)"), "error", f"{REFUSED}|No such file"),
    Hostile(
        "opens_a_socket",
        step("import socket; socket.create_connection(('127.0.0.1', 80))"),
        "error",
        "not permitted",
    ),
    Hostile("imports_the_harness", step("import harness.data"), "import_error", "cannot import 'harness'"),
    Hostile(
        "imports_the_harness_by_force",
        step("import sys; sys.meta_path.pop(0); sys.path.insert(0, {project!r}); import harness.data"),
        "import_error|error",
    ),
    Hostile("imports_what_is_not_there", "import no_such_package_anywhere", "import_error", "submission.py:1"),
    # the connection
    Hostile(
        "prints_junk_to_every_file",
        step(
            """
import os
for fd in range(3, 64):
    try: os.write(fd, b'{"id": 1, "reply": "tensors"}' * 100)
    except OSError: pass
"""
        ),
        "protocol_error",
    ),
    Hostile(
        "announces_a_huge_message",
        step(
            """
import os
for fd in range(3, 64):
    try: os.write(fd, b'\\xff\\xff\\xff\\xff')
    except OSError: pass
"""
        ),
        "protocol_error",
        "at most 65536",
    ),
    Hostile(
        "deep_json",
        step(
            """
import os, struct
for fd in range(3, 64):
    try: os.write(fd, struct.pack('!I', 60000) + b'[' * 60000)
    except OSError: pass
"""
        ),
        "protocol_error",
        "not JSON",
    ),
    Hostile(
        "answers_twice",
        step(
            """
import os, struct
body = b'{"id": 3, "reply": "tensors"}'
for fd in range(3, 64):
    try: os.write(fd, (struct.pack('!I', len(body)) + body) * 2)
    except OSError: pass
"""
        ),
        "protocol_error",
        "without a request",
    ),
    Hostile("closes_all_files", step("import os; os.closerange(0, 64)"), "protocol_error", "closed its connection"),
    Hostile(
        "closes_all_files_and_stays",
        step("import os; os.closerange(0, 64)\nwhile True: pass"),
        "protocol_error",
        "closed its connection",
    ),
    Hostile(
        "shrinks_the_shared_memory",
        step(
            """
import os
for fd in range(3, 64):
    try: os.ftruncate(fd, 0)
    except OSError: pass
"""
        ),
        None,
    ),
    Hostile(
        "sends_a_pickle",
        step(
            """
import os, pickle
class Trick:
    def __reduce__(self): return os.system, ('touch {private}.pwned',)
data = pickle.dumps(Trick())
for fd in range(3, 64):
    try: os.write(fd, data)
    except OSError: pass
"""
        ),
        "protocol_error",
    ),
    Hostile(
        "escapes_the_terminal",
        step("raise ValueError('\\x1b[2J\\x1b]0;pwned\\x07' + 'A' * 10 ** 6)"),
        "error",
        "?[2J",
    ),
    # not even a submission
    Hostile("syntax_error", BENIGN + "\ndef broken(:\n", "syntax_error", "submission.py:15: invalid syntax"),
    Hostile("null_bytes", "x = 1\0", "syntax_error", "submission.py:1: a null byte"),
    Hostile("deep_source", "x = " + "(" * 10_000 + ")" * 10_000, "syntax_error"),
    Hostile("no_step", "def optimizer_init_state(seed, param_sizes): pass", "missing_function", "optimizer_step"),
    Hostile("functions_are_numbers", BENIGN + "\noptimizer_step = 3", "missing_function", "optimizer_step"),
    Hostile("init_wants_more", BENIGN.replace("**context", "shapes, data"), "error", "'data'"),
]
