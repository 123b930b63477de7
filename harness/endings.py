"""How a process ended, in words for messages."""

from __future__ import annotations

import signal

_MEANINGS = {
    signal.SIGABRT: "abort: a library found an error that it could not go on with",
    signal.SIGKILL: "killed from outside, most likely because memory ran out",
    signal.SIGSEGV: "segmentation fault: memory that is not its own",
    signal.SIGBUS: "bus error: memory that is gone, for example of a file cut short, or of a full /dev/shm",
    signal.SIGILL: "illegal instruction: compiled for another CPU",
    signal.SIGFPE: "arithmetic error, such as a division of integers by 0",
    signal.SIGTERM: "asked to end, by a person or the system",
    signal.SIGXCPU: "more processor time than allowed",
    signal.SIGXFSZ: "a larger file than allowed",
    signal.SIGSYS: "a system call that is refused here",
}


def ending(code: int) -> str:
    """What ended a process: ``code`` as `subprocess` gives it, an exit code or the negative number of a signal."""
    if code >= 0:
        return f"exit code {code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"signal {-code}"
    meaning = _MEANINGS.get(number)
    return f"{number.name} ({meaning})" if meaning else number.name
