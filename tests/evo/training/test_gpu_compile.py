"""Kernel texts are compiled once each, kept on disk, and refused with one clear line."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from evo.errors import EvoError, UsageError
from evo.training.gpu.compile import Compiler, compile_all, nvrtc
from genomes import catalogue
from genomes.backends.cuda.source import render
from genomes.compiler.lowering import lower
from tests.genomes import cuda_cases


class Recorder:
    """A compiler that turns a text into its upper case and remembers what it was asked."""

    def __init__(self, name: str = "recorder"):
        self.asked: list[str] = []
        self.compiler = Compiler(name, self.compile)

    def compile(self, text: str) -> bytes:
        self.asked.append(text)
        if "bad" in text:
            raise EvoError("refused")
        return text.upper().encode()


def test_each_text_is_compiled_once_and_then_read_from_disk(tmp_path: Path):
    first, later = Recorder(), Recorder()
    assert compile_all(["a", "b", "a"], first.compiler, tmp_path / "new") == {"a": b"A", "b": b"B"}
    assert sorted(first.asked) == ["a", "b"]
    assert compile_all(["b", "c"], later.compiler, tmp_path / "new") == {"b": b"B", "c": b"C"}
    assert later.asked == ["c"]


def test_another_compiler_or_architecture_shares_nothing(tmp_path: Path):
    compile_all(["a"], Recorder().compiler, tmp_path)
    other = Recorder("other")
    compile_all(["a"], other.compiler, tmp_path)
    assert other.asked == ["a"]


def test_a_refused_text_leaves_no_file_and_the_others_stay(tmp_path: Path):
    with pytest.raises(EvoError, match="refused"):
        compile_all(["a", "bad"], Recorder().compiler, tmp_path, threads=1)
    again = Recorder()
    compile_all(["a"], again.compiler, tmp_path)
    assert again.asked == []
    assert len(list(tmp_path.iterdir())) == 1


def _nvrtc() -> Compiler:
    try:
        return nvrtc()
    except UsageError as error:
        pytest.skip(str(error))


def test_nvrtc_compiles_known_optimizers(tmp_path: Path):
    texts = [render(lower(catalogue.load(name))).text for name in ("sgd", "cautious_adamw")]
    codes = compile_all(texts, _nvrtc(), tmp_path)
    assert all(code.startswith(b"\x7fELF") for code in codes.values())


def test_nvrtc_says_what_is_wrong_with_a_text(tmp_path: Path):
    with pytest.raises(EvoError, match=r'sm_90.*identifier "nothing" is undefined'):
        compile_all(["__global__ void k(int* a) { a[0] = nothing; }"], _nvrtc(), tmp_path)


def test_without_nvrtc_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(UsageError, match="pip install cuda-bindings nvidia-cuda-nvrtc"):
        nvrtc()


def test_bindings_without_the_library_are_refused_in_one_line_too(monkeypatch: pytest.MonkeyPatch):
    def missing() -> None:
        raise RuntimeError("no libnvrtc.so.13\nsearched here\nand there")

    monkeypatch.setattr(importlib.metadata, "version", lambda name: "13")
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(nvrtcVersion=missing))
    with pytest.raises(UsageError, match=r"no libnvrtc\.so\.13; pip install"):
        nvrtc()


@pytest.mark.slow
def test_nvrtc_compiles_every_text(tmp_path: Path):
    programs = [*cuda_cases.primitive_cases().values(), *cuda_cases.catalogue_cases().values()]
    texts = [render(program, real).text for program in programs for real in ("float", "double")]
    compile_all(texts, _nvrtc(), tmp_path)
