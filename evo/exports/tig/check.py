"""Checks a bundle as the challenge's compiler would, without a GPU: ``python -m evo.exports.tig.check FOLDER``.

NVRTC 12.6 compiles its kernels to PTX, ptxas assembles that for sm_70, and the arguments of every launch in ``mod.rs``
are compared with the parameters of the kernels. NVRTC and ptxas are those of the packages nvidia-cuda-nvrtc-cu12 and
nvidia-cuda-nvcc-cu12 (12.6.85), installed, or unpacked in a folder that the environment variable TIG_CUDA names.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evo.errors import UsageError

OPTIONS = ("--gpu-architecture=compute_70", "--use_fast_math", "-dopt=on")
VERSION = (12, 6)
HEADERS = ("math.h", "stdint.h", "float.h")  # given empty: what the text needs of them is built in
_WIDTHS = {
    "b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "b32": 4, "u32": 4, "s32": 4, "f32": 4, "b64": 8, "u64": 8,
    "s64": 8, "f64": 8,
}  # fmt: skip
_RUST_WIDTHS = {"i32": 4, "u32": 4, "f32": 4, "i64": 8, "u64": 8, "f64": 8, "usize": 8, "isize": 8}
_ENTRY = re.compile(r"\.entry\s+(\w+)\s*\(([^)]*)\)", re.DOTALL)
_PARAM = re.compile(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)")


class CheckError(UsageError):
    """A bundle that the challenge would refuse, or a compiler that is not there."""


@dataclass(frozen=True)
class Chain:
    """The arguments of one place of a launch. ``kernels``: those that it may launch; ``widths``: bytes each, None where
    the text does not tell."""

    kernels: tuple[str, ...]
    widths: tuple[int | None, ...]


def check(folder: Path) -> dict[str, int]:
    """The kernels of the bundle in ``folder`` and how many arguments each takes. Raises CheckError."""
    (source,) = folder.glob("*.cu")
    ptx = compile_ptx(source.read_text(encoding="utf-8"))
    assemble(ptx)
    found = parameters(ptx)
    compare((folder / "mod.rs").read_text(encoding="utf-8"), found)
    return {kernel: len(widths) for kernel, widths in found.items()}


def compare(rust: str, found: dict[str, tuple[int, ...]]) -> None:
    """Compare the launches of a text with the parameters of kernels. Raises CheckError."""
    launched: set[str] = set()
    for chain in chains(rust):
        for kernel in chain.kernels:
            launched.add(kernel)
            if kernel not in found:
                raise CheckError(f"mod.rs launches {kernel}, which no .cu file has")
            if chain.widths != found[kernel]:
                raise CheckError(f"{kernel}: mod.rs passes arguments of {chain.widths} bytes, it takes {found[kernel]}")
    if missing := sorted(found.keys() - launched):
        raise CheckError(f"never launched: {', '.join(missing)}")


def compile_ptx(text: str) -> str:
    """The PTX of a CUDA text by NVRTC with the challenge's options. Raises CheckError."""
    library = nvrtc()
    program = ctypes.c_void_p()
    names = (ctypes.c_char_p * len(HEADERS))(*(name.encode() for name in HEADERS))
    empty = (ctypes.c_char_p * len(HEADERS))(*[b""] * len(HEADERS))
    library.nvrtcCreateProgram(
        ctypes.byref(program), text.encode(), b"bundle.cu", ctypes.c_int(len(HEADERS)), empty, names
    )
    options = (ctypes.c_char_p * len(OPTIONS))(*(option.encode() for option in OPTIONS))
    try:
        if library.nvrtcCompileProgram(program, ctypes.c_int(len(OPTIONS)), options):
            raise CheckError(f"NVRTC: {_read(library, program, 'ProgramLog').strip()}")
        return _read(library, program, "PTX")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _read(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> str:
    size = ctypes.c_size_t()
    getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(library, f"nvrtcGet{what}")(program, text)
    return text.value.decode(errors="replace")


def nvrtc() -> ctypes.CDLL:
    """NVRTC of the challenge's version. Raises CheckError where there is none."""
    path = _find("cuda_nvrtc", "lib", "libnvrtc.so.12")
    if path is None:
        raise CheckError("no NVRTC 12.6 here: pip install nvidia-cuda-nvrtc-cu12==12.6.85, or set TIG_CUDA")
    library = ctypes.CDLL(str(path))
    version = ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(*map(ctypes.byref, version))
    if (version[0].value, version[1].value) != VERSION:
        raise CheckError(f"NVRTC is {version[0].value}.{version[1].value}; the challenge compiles with 12.6")
    return library


def assemble(ptx: str) -> None:
    """Assemble PTX for sm_70 by ptxas. Raises CheckError."""
    path = _find("cuda_nvcc", "bin", "ptxas") or shutil.which("ptxas")
    if path is None:
        raise CheckError("no ptxas here: pip install nvidia-cuda-nvcc-cu12==12.6.85, or set TIG_CUDA")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "bundle.ptx"
        source.write_text(ptx)
        command = [str(path), "-arch=sm_70", "-o", str(source.with_suffix(".cubin")), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CheckError(f"ptxas: {(done.stderr or done.stdout).strip()}")


def _find(package: str, *parts: str) -> Path | None:
    """A file of one of NVIDIA's packages."""
    roots = [Path(os.environ["TIG_CUDA"]) / "nvidia"] if os.environ.get("TIG_CUDA") else []
    spec = importlib.util.find_spec("nvidia")
    roots += [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    found = (root / package / Path(*parts) for root in roots)
    return next((path for path in found if path.is_file()), None)


def parameters(ptx: str) -> dict[str, tuple[int, ...]]:
    """Bytes of each parameter of each kernel."""
    return {name: tuple(_WIDTHS[kind] for kind in _PARAM.findall(given)) for name, given in _ENTRY.findall(ptx)}


def chains(rust: str) -> Iterator[Chain]:
    """The places of launches in a text of this format."""
    constants = {name: int(value) for name, value in re.findall(r"const (\w+): usize = (\d+);", rust)}
    own = ""  # the fields of the type to which a function belongs
    for function in re.split(r"(?m)^(?=\s*(?:pub )?(?:fn|impl) )", rust):
        if owner := re.match(r"\s*impl(?:<[^>]*>)? (?:[\w:]+ for )?(\w+)", function):
            fields = re.search(rf"struct {owner[1]}\b[^{{;]*\{{(.*?)\n\}}", rust, re.DOTALL)
            own = fields[1] if fields else ""
        for part in function.split("load_function(")[1:]:
            body = part.partition(".launch(")[0]
            name = re.match(r'"(\w+)"', body)
            kernels = (name[1],) if name else tuple(dict.fromkeys(re.findall(r'run\.\w+\("(\w+)"', rust)))
            widths: list[int | None] = []
            times = 1
            for line in body.splitlines():
                if loop := re.search(r"for \w+ in 0\.\.(\w+) \{", line):
                    times = constants.get(loop[1], 0)
                widths += [_width(x, function, own) for x in _arguments(line)] * times
                if line.strip() == "}":
                    times = 1
            yield Chain(kernels, tuple(widths))


def _arguments(line: str) -> list[str]:
    """What stands in the parentheses of each ``.arg(...)`` of a line."""
    found = []
    for part in line.split(".arg(")[1:]:
        depth = 1
        for k, letter in enumerate(part):
            depth += (letter in "([") - (letter in ")]")
            if depth == 0:
                found.append(part[:k])
                break
    return found


def _width(argument: str, function: str, own: str) -> int | None:
    """Bytes of an argument, by the type with which its name is declared in its function or its type's fields."""
    name = re.sub(r"^&?(mut )?(self\.)?|\[.*", "", argument)
    where = own + "\n" if "self." in argument else function
    kinds = re.findall(rf"\b{name}: ([^,;=)\n]+)", where) + re.findall(rf"\blet {name} = [^;]* as (\w+);", where)
    if name == "part":
        kinds = re.findall(r"\bslices: ([^=]+)", function)
    widths = {8 if "CudaSlice" in kind else _RUST_WIDTHS.get(kind.strip()) for kind in kinds}
    return widths.pop() if len(widths) == 1 else None


def main(arguments: list[str]) -> int:
    """The command. Prints what it found."""
    if len(arguments) != 1 or not Path(arguments[0], "mod.rs").is_file():
        print("use: python -m evo.exports.tig.check FOLDER, which holds mod.rs and a .cu file", file=sys.stderr)
        return 2
    try:
        found = check(Path(arguments[0]))
    except CheckError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{arguments[0]}: {len(found)} kernels compile and assemble, and every launch passes what they take")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
