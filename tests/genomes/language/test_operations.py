"""Every operation of the table: its record is whole, and every back end computes what the reference computes."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch

from genomes.backends.cuda.source import render, unsupported
from genomes.backends.torch_reference import optimizer
from genomes.compiler.nodes import Nodes
from genomes.compiler.program import Node, Program, Slot, check, result_class
from genomes.compiler.shapes import ShapeClass
from genomes.language.operations import MASKS, ON_FLOATS, OPERATIONS, UNKNOWN, Operation
from tests.genomes.drive import Flat, Generated, drive

SOURCES = ("view", "clock source", "role source")


@pytest.mark.parametrize("record", OPERATIONS.values(), ids=lambda record: record.name)
def test_a_record_is_whole(record: Operation):
    assert record.meaning
    assert "\n" not in record.meaning
    arities = {"constant": 0, "load": 0, **dict.fromkeys(SOURCES, 0), "reduction": 1, "model reduction": 1, "noise": 1}
    assert record.arity == arities.get(record.kind, record.arity)
    assert all(i < record.arity for i in record.masks)
    if record.kind != "square":
        assert bool(record.shape) == (record.kind not in ("elementwise", "load")), "else the arguments decide the class"
    assert bool(record.partial) == (record.kind == "model reduction")
    assert not record.partial or OPERATIONS[record.partial].kind == "reduction"
    assert record.chooses or not record.mask, "a mask chooses"
    assert (record.on_floats is not None) == (record.kind == "elementwise" and record.name != "bfloat16")


@pytest.mark.parametrize("name", [name for name in ON_FLOATS if OPERATIONS[name].arity == 2])
def test_the_commutative_are_marked(name: str):
    values = [(a, b) for a in (True, False) for b in (True, False)]
    if not OPERATIONS[name].masks:
        values = [(a, b) for a in (0.5, -2.0, 3.0) for b in (1.5, -2.0, 0.5)]
    same = all(ON_FLOATS[name](a, b) == ON_FLOATS[name](b, a) for a, b in values)
    assert same == OPERATIONS[name].commutative


@pytest.mark.parametrize("name", [name for name, record in OPERATIONS.items() if record.kind == "elementwise"])
def test_what_is_said_of_a_bound_holds(name: str):
    """The rule of a record, on arguments whose own bounds are known, against values above those."""
    record = OPERATIONS[name]
    if record.on_floats is None or record.mask:
        assert record.bound([UNKNOWN] * record.arity) == UNKNOWN
        return
    for bounds in itertools.product((UNKNOWN, -2.0, 0.0, 0.25, 1.0), repeat=record.arity):
        result = record.bound(bounds)
        assert not math.isnan(result)
        for steps in itertools.product((0.0, 0.5, 3.0), repeat=record.arity):
            values = [max(bound, -5.0) + step for bound, step in zip(bounds, steps, strict=True)]
            value = record.on_floats(*[v > 1 if i in record.masks else v for i, v in enumerate(values)])
            assert math.isnan(value) or value >= result, f"{name}{values}"


def programs_with(record: Operation) -> list[Program]:
    """Programs made of one operation alone, of device values and, where it has a meaning there, of host values."""
    starts = [True, False] if record.on_floats else [True]
    return [_program_with(record, on_device) for on_device in starts]


def _program_with(record: Operation, on_device: bool) -> Program:
    nodes = Nodes({})
    number = nodes.source("t")
    slots: tuple[Slot, ...] = ()
    if on_device:
        g, theta = nodes.source("g"), nodes.source("theta")
        number = nodes.elementwise("add", nodes.elementwise("abs", g), nodes.const(0.5))
    mask = nodes.elementwise("gt", number, nodes.elementwise("abs", theta) if on_device else nodes.const(3.0))
    if record.kind in SOURCES:
        result = nodes.source(record.name)
    elif record.kind == "constant":
        result = nodes.const(2.0)
    elif record.kind == "load":
        slots = (Slot("kept", ShapeClass.ELEMENT, 0.5),)
        result = nodes.add(Node("load", (), ShapeClass.ELEMENT, 0))
    elif record.kind == "elementwise" and record.name != "expand":
        others = [number, nodes.elementwise("mul", number, nodes.const(0.75)), number]
        given = [mask if i in record.masks else others[i] for i in range(record.arity)]
        result = nodes.elementwise(record.name, *given)
    elif record.name == "expand":
        result = nodes.expand(nodes.op("sum_row", number) if on_device else number, ShapeClass.ELEMENT)
    elif record.kind in ("reduction", "model reduction"):
        result = nodes.op(record.name, number)
    else:
        numbers = [nodes.const(k + 1.0) for k in range(record.arity)]
        first = [number] if record.kind == "matrix" else numbers[:1]
        if record.kind == "square":
            first = [number] * 2 if record.name in ("outer", "inner") else [nodes.op("outer", number, number), number]
        count = record.matrices
        result = nodes.op(record.name, *first[:count], *numbers[count:])
        if nodes.nodes[result].shape.is_square:
            result = nodes.op("matmul", *((number, result) if record.name == "inner" else (result, number)))
    if record.name in MASKS:
        result = nodes.elementwise("where", result, nodes.source("g"), nodes.source("theta"))
    update = nodes.expand(nodes.elementwise("mul", result, nodes.source("g")), ShapeClass.ELEMENT)
    stores = ((0, update),) if slots else ()
    return check(Program(record.name, tuple(nodes.nodes), slots, stores, update))


@pytest.mark.parametrize("record", OPERATIONS.values(), ids=lambda record: record.name)
def test_every_back_end_knows_it(record: Operation, tmp_path: Path):
    for program in programs_with(record):
        assert any(node.op == record.name for node in program.nodes)
        wanted = drive(optimizer(program), 3)
        for functions in (Flat(program), Generated(program, tmp_path)):
            for found, expected in zip(drive(functions, 3), wanted, strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        assert not unsupported(program)
        render(program, "double")


def test_an_operation_that_a_back_end_lacks_is_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(OPERATIONS, "cbrt", Operation("cbrt", "elementwise", 1, "cube root"))
    with pytest.raises(KeyError, match="cbrt"):
        drive(optimizer(_program_with(OPERATIONS["cbrt"], on_device=True)), 1)


def test_classes_of_results_are_classes():
    assert {result_class(name) for name, record in OPERATIONS.items() if record.shape} == set(ShapeClass)
