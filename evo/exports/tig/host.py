"""The Rust text of a program's host part: what is known without a gradient, in f64, and the launches of its kernels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evo.exports.tig.layout import EXTENTS, Device, Launch, Tiles
from genomes.backends.cuda.layout import ROLE_BITS
from genomes.backends.cuda.statements import Statements
from genomes.compiler.branches import Condition
from genomes.compiler.program import CLOCK_SOURCES, ROLE_SOURCES, Program, Query
from genomes.compiler.shapes import ShapeClass

RUST = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "neg": "-{0}", "abs": "f64::abs({0})",
    "sign": "sign({0})", "sqrt": "f64::sqrt({0})", "exp": "f64::exp({0})", "log": "f64::ln({0})",
    "tanh": "f64::tanh({0})", "sin": "f64::sin({0})", "cos": "f64::cos({0})", "atan2": "f64::atan2({0}, {1})",
    "floor": "f64::floor({0})", "max": "larger({0}, {1})", "min": "smaller({0}, {1})",
    "div": "safe_div({0}, {1})", "safe_div": "safe_div({0}, {1})", "mod": "modulo({0}, {1})",
    "power": "power({0}, {1})", "gt": "{0} > {1}", "ge": "{0} >= {1}", "eq": "{0} == {1}", "and": "{0} && {1}",
    "or": "{0} || {1}", "not": "!{0}", "where": "if {0} {{ {1} }} else {{ {2} }}", "expand": "{0}",
    "number": "if {0} {{ 1.0 }} else {{ 0.0 }}",
}  # fmt: skip
_CLOCK = {
    "t": "f64::from(number)", "epoch": "now.epoch as f64", "has_loss": "now.has_loss", "train_loss": "now.train_loss",
    "val_loss": "now.val_loss", "model_size": "model.n_params as f64", "layer_count": "(model.last_layer + 1) as f64",
    "steps_per_epoch": "f64::from(STEPS_PER_EPOCH)", "output_count": "model.n_outputs as f64",
}  # fmt: skip
_ROLE = {
    **{name: f"x.roles & {bit} != 0" for name, bit in ROLE_BITS.items()},
    "depth_fraction": "if model.last_layer > 0 { x.layer as f64 / model.last_layer as f64 } else { 0.0 }",
    "rows": "x.rows as f64",
    "columns": "x.columns as f64",
}


@dataclass(frozen=True)
class HostSlot:
    """A state on the host. ``kind``: its Rust type; ``start``: its value there."""

    name: str
    kind: str
    start: str


@dataclass(frozen=True)
class Host:
    """Rust texts of a program, as lines. ``tiles``: (name, size of a tile, extent, need) of each list of tiles.

    ``clock``: what a step computes; ``role``: for each tensor ``k``, ``x``; ``stores``; ``query``: as ``clock``, for a
    query; its values, and whether there is one in this step: ``query_values``, ``asks``.
    """

    slots: tuple[HostSlot, ...]
    tiles: tuple[tuple[str, int, str, str], ...]
    sizes: dict[str, str]
    clock: list[str]
    clock_values: list[str]
    role: list[str]
    role_values: list[str]
    moments: list[str]
    stores: list[str]
    role_stores: list[str]
    query: list[str]
    query_values: list[str]
    asks: str
    start: list[str]
    query_launches: list[str]
    readout: list[str]
    step: list[str]
    gains: list[str]


class _Writer(Statements):
    def __init__(self, program: Program, device: Device, hyperparameters: Sequence[str], prefix: str):
        super().__init__(program, "float", literal=True)
        self.device, self.hyperparameters, self.prefix = device, hyperparameters, prefix
        self.moments: list[Condition] = []  # those of launches
        self.tiles: dict[Tiles, str] = {}

    # --- values --------------------------------------------------------------------------------------------------

    def _source(self, i: int, shape: ShapeClass | None) -> str | None:
        """Where the text of class ``shape`` reads a value that it does not compute itself; None where it does."""
        node = self.program.nodes[i]
        if node.op in CLOCK_SOURCES:
            return _CLOCK[node.op]
        if node.op in ROLE_SOURCES:
            return _ROLE[node.op]
        if node.op == "load":
            name = self.program.slots[int(node.attribute or 0)].name
            if name in self.hyperparameters:
                return f"self.constants.{name}"
            return f"self.{name}" if node.shape is ShapeClass.CLOCK else f"self.{name}[k]"
        return None

    def rust(self, roots: Iterable[int], shape: ShapeClass) -> list[str]:
        """Definitions of the roots of class ``shape`` and of all of that class that they need."""
        nodes = self.program.nodes
        lines = []
        for i in self._needed(roots, lambda i: nodes[i].shape is not shape or self._source(i, shape) is not None):
            node = nodes[i]
            if node.shape is not shape or node.op == "const":
                continue
            text = self._source(i, shape) or RUST[node.op].format(*map(self.rust_atom, node.arguments))
            lines.append(f"let {self.names[i]}: {'bool' if node.is_mask else 'f64'} = {text};")
        return lines

    def rust_atom(self, i: int) -> str:
        """The name of a value, or its number."""
        node = self.program.nodes[i]
        return rust_number(float(node.attribute or 0.0)) if node.op == "const" else self.names[i]

    def given(self, i: int) -> str:
        """A value as the kernels get it."""
        atom = self.rust_atom(i)
        return f"if {atom} {{ 1.0 }} else {{ 0.0 }}" if self.program.nodes[i].is_mask else f"{atom} as f32"

    def fixed(self, i: int) -> str:
        """A value of a tensor ``x`` that never changes, written out."""
        node = self.program.nodes[i]
        if node.op == "const":
            return rust_number(float(node.attribute or 0.0))
        if node.op in ROLE_SOURCES:
            return f"({_ROLE[node.op]})"
        return f"({RUST[node.op].format(*map(self.fixed, node.arguments))})"

    def holds(self, condition: Condition) -> str:
        """Whether a tensor ``x`` fulfills a condition."""
        return " && ".join(f"{'' if wanted else '!'}{self.fixed(mask)}" for mask, wanted in sorted(condition)) or "true"

    # --- launches ------------------------------------------------------------------------------------------------

    def tiles_name(self, tiles: Tiles) -> str:
        if tiles not in self.tiles:
            same = sum(t.extent == tiles.extent for t in self.tiles)
            self.tiles[tiles] = f"{tiles.extent}_{same}" if same else tiles.extent
        return self.tiles[tiles]

    def launches(self, launches: Sequence[Launch]) -> list[str]:
        """Calls, with what repeats itself in a loop, under the masks that they have."""
        lines: list[str] = []
        k = 0
        while k < len(launches):
            count = next((n for n, x in enumerate(launches[k:]) if x.moments != launches[k].moments), len(launches) - k)
            group = launches[k : k + count]
            inner = self._calls(group)
            if group[0].moments:
                if group[0].moments not in self.moments:
                    self.moments.append(group[0].moments)
                number = self.moments.index(group[0].moments)
                lines += [f"if run.moments[{number}] {{", *(f"    {line}" for line in inner), "}"]
            else:
                lines += inner
            k += count
        return lines

    def _calls(self, group: Sequence[Launch]) -> list[str]:
        lines: list[str] = []
        k = 0
        while k < len(group):
            turns = _turns(group[k:])
            if turns:
                period, count = turns
                body = [self._call(one, "turn") for one in group[k : k + period]]
                lines += [f"for turn in 0..{count} {{", *(f"    {line}" for line in body), "}"]
                k += period * count
            else:
                lines.append(self._call(group[k], str(group[k].turn)))
                k += 1
        return lines

    def _call(self, launch: Launch, turn: str) -> str:
        name = f"{self.prefix}{launch.kernel}"
        if isinstance(launch.grid, Tiles):
            return f'run.tiles("{name}", &self.{self.tiles_name(launch.grid)}, {turn})?;'
        return f'run.{launch.grid}("{name}")?;'

    # --- all -----------------------------------------------------------------------------------------------------

    def host(self) -> Host:
        program, device = self.program, self.device
        nodes = program.nodes
        stored = {
            shape: [(k, i) for k, i in self.stores_of(shape) if program.slots[k].name not in self.hyperparameters]
            for shape in (ShapeClass.CLOCK, ShapeClass.ROLE)
        }
        slots = []
        for slot in program.slots:
            if slot.shape.on_host and slot.name not in self.hyperparameters:
                number = rust_number(float(slot.init))
                role = slot.shape is ShapeClass.ROLE
                slots.append(HostSlot(slot.name, "Vec<f64>" if role else "f64",
                                      f"vec![{number}; model.tensors.len()]" if role else number))  # fmt: skip
        masks = {m for launch in device.step for m, _ in launch.moments}
        role_roots = {i for _, i in stored[ShapeClass.ROLE]} | set(device.role)
        clock_roots = {i for _, i in stored[ShapeClass.CLOCK]} | set(device.clock) | masks
        below = self._needed(role_roots, lambda i: nodes[i].shape is not ShapeClass.ROLE)
        clock_roots |= {i for i in below if nodes[i].shape is ShapeClass.CLOCK and nodes[i].op != "const"}
        clock = self.rust(clock_roots, ShapeClass.CLOCK)
        role = self.rust(role_roots, ShapeClass.ROLE)
        query, query_values, asks = self._query(program.query)
        step, gains = self.launches(device.step), self.launches(device.gains)
        start, query_launches, readout = map(self.launches, (device.start, device.query, device.readout))
        tiles = tuple(
            (name, EXTENTS[tiles.extent][2], EXTENTS[tiles.extent][1], self.holds(tiles.needed))
            for tiles, name in self.tiles.items()
        )
        scratch = (
            _rust_size(device.scratch.size_text())
            + (f" + {device.partials} * model.n_partials" if device.partials else "")
            + (" + model.readout_size()" if device.uses_shift else "")
        )
        sizes = {
            "state": _rust_size(device.state.size_text()) + (" + model.units" if device.gains else ""),
            "scratch": scratch,
            "values": f"{len(device.clock)} + {len(device.role)} * model.tensors.len()",
        }
        return Host(
            slots=tuple(slots),
            tiles=tiles,
            sizes=sizes,
            clock=clock,
            clock_values=[self.given(i) for i in device.clock],
            role=role,
            role_values=[self.given(i) for i in device.role],
            moments=[
                " && ".join(("" if wanted else "!") + self.names[mask] for mask, wanted in sorted(condition))
                for condition in self.moments
            ],
            stores=[f"self.{program.slots[slot].name} = {self.rust_atom(i)};" for slot, i in stored[ShapeClass.CLOCK]],
            role_stores=[
                f"self.{program.slots[slot].name}[k] = {self.rust_atom(i)};" for slot, i in stored[ShapeClass.ROLE]
            ],
            query=query,
            query_values=query_values,
            asks=asks,
            start=start,
            query_launches=query_launches,
            readout=readout,
            step=step,
            gains=gains,
        )

    def _query(self, query: Query | None) -> tuple[list[str], list[str], str]:
        evaluation = self.program.evaluation
        if not self.program.queries:
            return [], [], "false"
        lines, values, reasons = [], ["0.0", "0.0"], []
        if evaluation:
            lines.append(f"let taken_back = self.{self.program.slots[evaluation.applied].name} > 0.0;")
            values[0] = "if taken_back { 1.0 } else { 0.0 }"
            reasons.append("taken_back")
        if query:
            own = _Writer(
                Program("", query.nodes, self.program.slots, (), query.when), self.device, self.hyperparameters, ""
            )
            lines += own.rust({query.when, *query.outputs}, ShapeClass.CLOCK)
            lines.append(f"let asked = number > 1 && {own.rust_atom(query.when)};")
            values[1] = "if asked { 1.0 } else { 0.0 }"
            reasons.append("asked")
            for k, i in enumerate(query.outputs):
                values.append(own.given(i))
                reasons.append(f"(model.n_outputs > {k} && {own.rust_atom(i)} != 0.0)")
        return lines, values, " || ".join(reasons)


def host(program: Program, device: Device, hyperparameters: Sequence[str], prefix: str) -> Host:
    """The host part of a program whose names are fit for Rust. ``hyperparameters``: slots that hold them.

    ``prefix``: what the names of its kernels begin with.
    """
    return _Writer(program, device, hyperparameters, prefix).host()


def rust_number(value: float) -> str:
    """An f64 as Rust text; negative ones in parentheses."""
    if math.isnan(value):
        return "f64::NAN"
    if math.isinf(value):
        return "f64::INFINITY" if value > 0 else "(-f64::INFINITY)"
    return f"({value!r})" if value < 0 or str(value).startswith("-") else repr(value)


def _rust_size(text: str) -> str:
    """A size in the kernels' words as Rust text."""
    words = {"n_tensors": "model.tensors.len()"}
    return " ".join(words.get(word, f"model.{word}" if word.startswith("n_") else word) for word in text.split(" "))


def _turns(launches: Sequence[Launch]) -> tuple[int, int] | None:
    """How many launches make a turn, and how many turns follow one another, where the first begins turn 0."""
    kernels = [launch.kernel for launch in launches]
    period = next((n for n in range(1, len(kernels)) if kernels[n] == kernels[0]), 0)
    if not period or launches[0].turn != 0 or launches[period].turn != 1:
        return None
    count = 0
    while kernels[count * period : (count + 1) * period] == kernels[:period]:
        count += 1
    return period, count
