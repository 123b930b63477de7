"""The layers of the Linux kernel that confine a foreign submission, independent of one another.

Every layer needs only ctypes. `enter_namespaces` runs in the process that starts the submission's; the others in the
submission's own process, before the file is loaded, and cannot be undone from within. Each raises OSError with the
reason where the system refuses it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Callable, Iterable

LAYERS = {
    "namespaces": "own process, network and IPC namespaces: sees and signals nothing outside, has no network",
    "folder": "own mount namespace: writes only to a temporary folder in memory, which ends with it",
    "user": "a user id of its own",
    "files": "Landlock: reads the Python installation only, writes only to the temporary folder",
    "syscalls": "seccomp: starts no process or program, opens no socket, signals nobody, changes no other file",
}

FIRST_USER = 1 << 30  # user ids for submissions: above those that systems and containers hand out
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 22, 36, 38
_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000
_CLONE_THREAD, _CLONE_NEWNS = 0x00010000, 0x00020000

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments) -> int:
    function = getattr(_libc, name, None) if sys.platform == "linux" else None
    if function is None:
        raise OSError(f"{name}: this system has no such call")
    result = function(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def attempt(layer: Callable[[], object]) -> str:
    """Apply a layer: returns an empty text where it is active now, else why not."""
    try:
        layer()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def signal_at_parent_end(number: int) -> None:
    """Have the kernel send this process the signal ``number`` when the thread that forked it ends. Raises OSError."""
    _call("prctl", _PR_SET_PDEATHSIG, number, 0, 0, 0)


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent has ended. Raises OSError."""
    _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def enter_namespaces() -> None:
    """Give the next child process, number 1 there, and all its descendants namespaces of their own. Raises OSError.

    When that child ends the kernel kills whatever else lives in the namespace. Without root's rights a user namespace
    is needed first; some systems forbid that.
    """
    wanted = _CLONE_NEWPID | _CLONE_NEWNET | _CLONE_NEWIPC
    user, group = os.getuid(), os.getgid()
    try:
        _call("unshare", wanted)
    except PermissionError:
        _call("unshare", wanted | _CLONE_NEWUSER)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


_AT_FDCWD, _AT_RECURSIVE, _MOUNT_SETATTR = -100, 0x8000, 442
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 1 << 14, 1 << 18
_MOUNT_ATTR_RDONLY = 1


def private_folder(path: str, size: int) -> None:
    """Mount an empty folder of ``size`` bytes at ``path``, seen by this process alone, and all else read-only.

    It lives in memory, and ends with this process. Raises OSError, without root's rights (see `enter_namespaces`) too.
    """
    if size <= 0:  # no limit at all, for the kernel
        raise OSError("a temporary folder of 0 bytes")
    _call("unshare", _CLONE_NEWNS)
    _call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    read_only = struct.pack("=QQQQ", _MOUNT_ATTR_RDONLY, 0, 0, 0)
    _call("syscall", _MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, read_only, len(read_only))
    options = f"size={size},nr_inodes={16 + (size >> 12)},mode=1777"
    _call("mount", b"evo", os.fsencode(path), b"tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, options.encode())
    trial = os.path.join(path, "trial")  # refused where our user has no number in the namespace
    os.mkdir(trial)
    os.rmdir(trial)


def change_user(user: int, must_read: Iterable[str]) -> None:
    """Take the user and group id ``user`` for good. Raises OSError, with the old ids in place, if that cannot be.

    ``must_read``: folders that the new user has to be able to read, or Python itself would not work.
    """
    if os.geteuid() != 0:
        raise OSError("only root can change its user")
    os.setgroups([])
    os.setresgid(user, user, 0)
    try:
        os.setresuid(user, user, 0)
        unreadable = [path for path in must_read if not _readable(path)]
        if unreadable:
            os.setresuid(0, 0, 0)
            raise OSError(f"other users cannot read {unreadable[0]}, where Python is installed")
    except OSError:
        os.setresgid(0, 0, 0)
        raise
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _readable(path: str) -> bool:
    try:
        if os.path.isdir(path):
            os.listdir(path)
        return os.access(path, os.R_OK, effective_ids=True)
    except OSError:
        return False


def drop_capabilities() -> None:
    """Give up root's special rights, here and in all that this process may become. Raises OSError."""
    version = 0x20080522
    header = ctypes.create_string_buffer(struct.pack("=Ii", version, 0))
    nothing = ctypes.create_string_buffer(24)
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("capset", header, nothing)


# Landlock: https://docs.kernel.org/userspace-api/landlock.html
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(1, 6))
_MAKE_DIR, _MAKE_REG, _REFER, _TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
_READ = _READ_FILE | _READ_DIR
_CHANGE = _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many there are, by version; 16 from version 5 on
_NETWORK_RIGHTS = 3  # bind and connect, from version 4 on
_SCOPES = 3  # abstract sockets and signals, from version 6 on


def restrict_files(readable: Iterable[str], writable: Iterable[str]) -> None:
    """Allow reading beneath the paths ``readable`` and ``writable``, changes beneath the latter. Raises OSError.

    No other access to any file is left.
    """
    version = _call("syscall", _CREATE_RULESET, None, 0, 1)
    rights = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    attributes = struct.pack("=QQQ", rights, _NETWORK_RIGHTS, _SCOPES)
    attributes = attributes[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _call("syscall", _CREATE_RULESET, attributes, len(attributes), 0)
    try:
        granted = {**dict.fromkeys(readable, _READ), **dict.fromkeys(writable, _READ | _CHANGE)}
        for path, wanted in granted.items():
            allowed = wanted & rights if os.path.isdir(path) else _READ_FILE
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                _call("syscall", _ADD_RULE, ruleset, 1, struct.pack("=Qi", allowed, descriptor), 0)
            finally:
                os.close(descriptor)
        _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _call("syscall", _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


# seccomp: numbers of the system calls on (x86_64, aarch64); None where the machine has no such call.
_REFUSED = {
    # processes and programs
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    # others' processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    # network and memory that outlives the process or escapes its limits
    "socket": (41, 198),
    "io_uring_setup": (425, 425),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    # the system
    "mount": (165, 40),
    "umount2": (166, 39),
    "fsopen": (430, 430),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "open_by_handle_at": (304, 265),
    # changes of files
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
}
_REFUSED_WITHOUT_FOLDER = {  # what Landlock and read-only mounts can refuse as well
    "creat": (85, None),
    "truncate": (76, 45),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
}
_TO_ITSELF = {  # allowed where the first argument is this process's number
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
}
_ON_ITSELF = {  # the same, and 0 means this process too
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
}
_PRCTL, _CLONE = (157, 167), (56, 220)
_OPENS = {1: (2, None), 2: (257, 56)}  # which argument holds the flags: open, openat
_UNKNOWN_TO_LIBRARIES = (
    (435, 435),
    (437, 437),
)  # clone3, openat2: their flags lie in memory that a filter cannot see
_FIRST_UNKNOWN = 448  # calls newer than this table
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_NOT_PERMITTED, _NOT_THERE = 0x00050000 | 1, 0x00050000 | 38  # errno EPERM, ENOSYS


def filter_program(machine: str, pid: int, writes: bool = False) -> bytes:
    """The seccomp filter for process ``pid``, for the kernel. Raises OSError for an unknown ``machine``.

    ``writes``: whether other layers keep to a folder what the process writes, so that it may.
    """
    if machine not in _MACHINES:
        raise OSError(f"seccomp: no table of system calls for {machine}")
    column, architecture = _MACHINES[machine]
    steps: list[tuple[int, int, int, int]] = []  # code, jump if true, jump if false, constant

    def give(outcome: int) -> None:
        steps.append((_RETURN, 0, 0, outcome))

    def argument(index: int) -> None:
        steps.append((_LOAD, 0, 0, 16 + 8 * index))

    steps.append((_LOAD, 0, 0, 4))
    steps.append((_EQUAL, 1, 0, architecture))
    give(_KILL)
    steps.append((_LOAD, 0, 0, 0))
    steps.append((_AT_LEAST, 0, 1, _FIRST_UNKNOWN))
    give(_NOT_THERE)
    for numbers in _UNKNOWN_TO_LIBRARIES:
        steps.append((_EQUAL, 0, 1, numbers[column]))
        give(_NOT_THERE)
    refused = _REFUSED if writes else {**_REFUSED, **_REFUSED_WITHOUT_FOLDER}
    for numbers in refused.values():
        if numbers[column] is not None:
            steps.append((_EQUAL, 0, 1, numbers[column]))
            give(_NOT_PERMITTED)
    for index, numbers in ({} if writes else _OPENS).items():
        if numbers[column] is not None:
            steps.append((_EQUAL, 0, 4, numbers[column]))
            argument(index)
            steps.append((_ANY_BIT, 0, 1, _WRITING))
            give(_NOT_PERMITTED)
            give(_ALLOW)
    steps.append((_EQUAL, 0, 4, _PRCTL[column]))
    argument(0)
    steps.append((_EQUAL, 0, 1, _PR_SET_PDEATHSIG))  # or it could outlive its supervisor
    give(_NOT_PERMITTED)
    give(_ALLOW)
    steps.append((_EQUAL, 0, 4, _CLONE[column]))
    argument(0)
    steps.append((_ANY_BIT, 1, 0, _CLONE_THREAD))
    give(_NOT_PERMITTED)
    give(_ALLOW)
    for calls, allowed in ((_TO_ITSELF, (pid,)), (_ON_ITSELF, (pid, 0))):
        for numbers in calls.values():
            steps.append((_EQUAL, 0, len(allowed) + 3, numbers[column]))
            argument(0)
            for position, value in enumerate(allowed):
                steps.append((_EQUAL, len(allowed) - position, 0, value))
            give(_NOT_PERMITTED)
            give(_ALLOW)
    give(_ALLOW)
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def refuse_syscalls(writes: bool = False) -> None:
    """Have the kernel refuse what an optimizer has no use for, as LAYERS says. Raises OSError; see `filter_program`."""
    program = filter_program(platform.machine(), os.getpid(), writes)
    buffer = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", _PR_SET_SECCOMP, 2, ctypes.create_string_buffer(head, len(head)), 0, 0)
