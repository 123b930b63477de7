"""Names of a genome's ``let`` lines in generated code, where they must not mean something else."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import replace

from genomes.compiler.program import Program

RESERVED_IN_C = """
alignas alignof and_eq asm auto bitand bitor bool case catch char class compl const const_cast constexpr decltype
default delete do double dynamic_cast enum explicit export extern false final float friend goto inline int long
mutable namespace new noexcept not_eq nullptr operator override private protected public register
reinterpret_cast restrict short signed sizeof static static_assert static_cast struct switch template this
thread_local throw true typedef typeid typename union unsigned using virtual void volatile wchar_t xor xor_eq
half float2 float4 double2 int2 int4 dim3 warpSize INFINITY NAN NULL"""
RESERVED_IN_RUST = """
abstract as async await become box break const continue crate do dyn else enum extern false final fn for gen if impl in
let loop macro match mod move mut override priv pub ref return self Self static struct super trait true try type
typeof union unsafe unsized use virtual where while yield f32 f64 i32 u32 u64 usize bool str vec Vec Option Some None"""
_WITHOUT_NAME = re.compile(r"(new_)?v\d+(_\d+)?")  # what back ends call values that have no name


def without_names(program: Program) -> Program:
    """The program with numbered slots and no labels."""
    return replace(
        program,
        name="",
        slots=tuple(replace(slot, name=f"s{k}") for k, slot in enumerate(program.slots)),
        labels=(),
        words=(),
    )


def distinct(program: Program, write: Callable[[Program], str], more: Collection[str] = ()) -> Program:
    """The program with other names for those that the text of ``write`` uses for itself, or that are among ``more``.

    They get a ``_`` at the end. Back ends make names of others: ``new_m`` of ``m``.
    """
    taken = {*re.findall(r"[A-Za-z_]\w*", write(without_names(program))), *more}
    names = {slot.name for slot in program.slots} | {name for _, name in (*program.labels, *program.words)}
    taken |= {f"new_{name}" for name in names}
    chosen: dict[str, str] = {}
    for name in sorted(names):
        new = name
        while new in taken or _WITHOUT_NAME.fullmatch(new) or (new != name and new in names):
            new += "_"
        chosen[name] = new
    return replace(
        program,
        slots=tuple(replace(slot, name=chosen[slot.name]) for slot in program.slots),
        labels=tuple((node, chosen[label]) for node, label in program.labels),
        words=tuple((node, chosen[word]) for node, word in program.words),
    )
