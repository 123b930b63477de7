"""The YAML reader: plain data with line numbers, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genomes import strict_yaml
from genomes.strict_yaml import MAX_BYTES, MAX_DEPTH, YamlError, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", {"a": 1}),
        ("a: 1e-3", {"a": 1e-3}),
        ("a: 1.0E+3", {"a": 1000.0}),
        ("a: .5", {"a": 0.5}),
        ("a: -2.", {"a": -2.0}),
        ("a: +7", {"a": 7}),
        ("a: 010", {"a": 10}),
        ("a: 0x10", {"a": "0x10"}),
        ("a: 0o17", {"a": "0o17"}),
        ("a: 1_000", {"a": "1_000"}),
        ("a: 12:30", {"a": "12:30"}),
        ("a: 2024-01-01", {"a": "2024-01-01"}),
        ("a: .inf", {"a": ".inf"}),
        ("a: nan", {"a": "nan"}),
        ("a: 1e999", {"a": float("inf")}),
        (f"a: {2**62 - 1}", {"a": 2**62 - 1}),
        (f"a: {-(2**62)}", {"a": -(2**62)}),
        ("a: " + "9" * 20, {"a": 1e20}),
        (r'a: "\ud83d\ude00"', {"a": "\U0001f600"}),
        ("a: yes", {"a": "yes"}),
        ("a: on", {"a": "on"}),
        ("a: true", {"a": True}),
        ("a: False", {"a": False}),
        ("a: null", {"a": None}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("a: '1'", {"a": "1"}),
        ('a: "1e-3"', {"a": "1e-3"}),
        ("a: [1, 2, {b: c}]", {"a": [1, 2, {"b": "c"}]}),
        ("- 1\n- - 2\n  - 3", [1, [2, 3]]),
        ("a: >-\n  two\n  words", {"a": "two words"}),
        ("a: |\n  two\n  lines\n", {"a": "two\nlines\n"}),
        ("1: a", {1: "a"}),
        ("", None),
        ("# a comment", None),
        ("---\na: 1", {"a": 1}),
        ("a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
        ("\ufeffa: 1", {"a": 1}),
        ("just text", "just text"),
        ("<<: 1", {"<<": 1}),
    ],
)
def test_reads_plain_data(text: str, value: object):
    found = parse(text).value
    assert found == value
    assert repr(found) == repr(value)  # 1 is not True, 1.0 is not 1


REFUSED = {
    "duplicate key": ("a: 1\nb: 2\na: 3", 3, "a: this key stands here a second time"),
    "duplicate key in flow": ("{a: 1, a: 1}", 1, "second time"),
    "duplicate key of another spelling": ("1: a\n'1': b\n01: c", 3, "second time"),
    "nested duplicate": ("a:\n  b: 1\n  b: 2", 3, "second time"),
    "anchor": ("a: &x 1\nb: 2", 1, "anchors"),
    "anchor of a list": ("a: &x [1]", 1, "anchors"),
    "alias": ("a: 1\nb: *x", 2, "aliases"),
    "merge": ("a: &x {b: 1}\nc:\n  <<: *x", 1, "anchors"),
    "tag": ("a: 1\nb: !!python/object/apply:os.system ['true']", 2, "tags"),
    "own tag": ("a: !thing {b: 1}", 1, "tags"),
    "plain tag": ("a: !!str 1", 1, "tags"),
    "two documents": ("a: 1\n---\nb: 2", 2, "one document"),
    "mapping as key": ("{a: 1}: 2", 1, "a key must be"),
    "list as key": ("? [1, 2]\n: 3", 1, "a key must be"),
    "tab": ("a:\n\tb: 1", 2, ""),
    "unclosed list": ("a: [1, 2\nb: 3", 1, "(seen in line 2)"),
    "unclosed quote": ('a: "text\n', 1, "this quote is not closed"),
    "a value and keys below it": ("a:\n  b: 1\n    c: 2\n", 3, "indented below line 2"),
    "a key further to the left": ("a:\n    b: 1\n  c: 2\n", 3, "indented otherwise than line 2"),
    "two keys on a line": ("a: 1\nb: c: 2\n", 2, "mapping values are not allowed here"),
    "a line without a colon": ("a: 1\nb\nc: 2\n", 2, "could not find expected ':'"),
    "two values": ("a: b: c", 1, "mapping values are not allowed"),
    "bad indentation": ("a:\n    b: 1\n  c: 2", 3, ""),
    "control character": ("a: \x07", 1, ""),
    "null byte": ("a: \0", 1, ""),
    "deep lists": ("[" * 10_000 + "]" * 10_000, 1, "nested deeper"),
    "deep mappings": ("{a: " * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), 1, "nested deeper"),
    "deep blocks": ("\n".join(" " * i + f"k{i}:" for i in range(200)), MAX_DEPTH + 1, "nested deeper"),
    "long": ("a: " + "x" * MAX_BYTES, 1, "at most"),
    "directive": ("%TAG ! tag:example.com,2000:\n---\na: !b 1", 3, "tags"),
}


@pytest.mark.parametrize(("text", "line", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses_with_a_line(text: str, line: int, message: str):
    with pytest.raises(YamlError) as caught:
        parse(text, "recipe.yaml")
    assert str(caught.value).startswith(f"recipe.yaml:{line}: "), str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_billion_laughs_is_refused_at_once():
    levels = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 10))
    with pytest.raises(YamlError, match="anchors"):
        parse("l0: &l0 lol\n" + levels)


LINES = """\
# first
name: adam

terms:
  - {weight: 1,
     expr: g}
  - expr: >-
      g
    weight: 2
lr: 1
"""


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_every_value_has_its_line(ending: str):
    text = LINES.replace("\n", ending)
    document = parse(text)
    assert document.line(("name",)) == 2
    assert document.line(("terms",)) == 4
    assert document.line(("terms", 0)) == 5
    assert document.line(("terms", 0, "weight")) == 5
    assert document.line(("terms", 0, "expr")) == 6
    assert document.line(("terms", 1)) == 7
    assert document.line(("terms", 1, "expr")) == 7
    assert document.line(("terms", 1, "weight")) == 9
    assert document.line(("lr",)) == 10
    assert document.line(("terms", 1, "absent")) == 7, "a missing key is reported where its parent stands"
    assert document.line(("absent", 3)) == document.line(())


def test_load_names_file_and_line(tmp_path: Path):
    path = tmp_path / "g.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(YamlError, match=r"g\.yaml:2: this is not UTF-8"):
        strict_yaml.load(path)
    path.write_bytes(b"a: 1\n" * 300_000)
    with pytest.raises(YamlError, match="at most"):
        strict_yaml.load(path)
    path.write_text("a: 1\na: 2\n")
    with pytest.raises(YamlError, match=r"g\.yaml:2: a: this key"):
        strict_yaml.load(path)
    with pytest.raises(OSError):
        strict_yaml.load(tmp_path / "absent.yaml")


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(text=st.text(alphabet="ab:-[]{}'\"&*!|>#,? \n\t1.e%@`~", max_size=60))
def test_any_text_is_read_or_refused(text: str):
    try:
        line = parse(text).line(())
    except YamlError as error:
        line = error.line
    assert line >= 1
