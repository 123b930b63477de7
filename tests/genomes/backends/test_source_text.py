"""The helpers of an exported file are the reference's own functions, and need nothing but Python and torch."""

from __future__ import annotations

import inspect

import pytest
import torch

from genomes.backends import source_text, torch_reference
from genomes.backends.python_source import HELPERS
from genomes.backends.source_text import SourceError, collect
from genomes.compiler.program import random_word


def needs_a_package(x: float) -> float:
    return float(inspect.isfunction(pytest.approx(x)))


def test_all_helpers_together_are_one_module_that_computes_what_the_reference_computes(tmp_path):
    imports, texts = collect(HELPERS.values())
    assert imports == ["import math", "import torch"]
    assert not any(" -> " in text or ": Tensor" in text for text in texts)
    names: dict = {}
    exec(compile("\n".join([*imports, *texts]), "helpers", "exec"), names)  # noqa: S102  our own text
    assert HELPERS.keys() <= names.keys()
    x = torch.randn(3, 5)
    word = names["_random_word"](bytes(range(32)), 3, 1, 0)
    assert word == random_word(bytes(range(32)), 3, 1, 0)
    assert torch.equal(names["_uniform"](word, x), torch_reference.uniform(word, x))
    assert names["_scalar_power"](10.0, 400.0) == float("inf")


def test_a_function_comes_after_those_that_it_calls():
    _, texts = collect([torch_reference.uniform, torch_reference.uniform])
    assert [text.partition("(")[0] for text in texts] == ["def _scramble", "def _uniform"]
    assert "_scramble(_scramble(entries) ^ word)" in texts[1]


def test_a_function_that_needs_more_is_refused(monkeypatch):
    monkeypatch.setattr(source_text, "is_ours", lambda value: value is needs_a_package)
    with pytest.raises(SourceError, match=r"test_source_text\.needs_a_package cannot stand alone: it uses inspect$"):
        collect([needs_a_package])


def test_a_missing_source_is_one_clear_line(monkeypatch):
    def refuse(_: object) -> str:
        raise OSError("could not get source code")

    source_text._excerpt.cache_clear()
    monkeypatch.setattr(inspect, "getsource", refuse)
    with pytest.raises(SourceError, match=r"text of genomes.backends.torch_reference.uniform: install the project"):
        collect([torch_reference.uniform])
