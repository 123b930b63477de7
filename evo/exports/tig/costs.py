"""What a bundle's steps cost on the challenge's network: launches, threads, and an estimate of its "fuel".

Fuel is the challenge's measure of work: about one unit per instruction and thread, and more for each launch. Here it is
one unit per statement that a thread executes, and `PER_THREAD` for entering a kernel: right within a factor of a few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evo.exports.tig.bundle import Compiled
from evo.exports.tig.layout import EXTENTS, THREADS, Launch, Tiles
from evo.exports.tig.source import POINTERS
from genomes.backends.torch_reference import clock_values, extent, host_value, matrix_shape, role_values
from genomes.compiler.branches import Condition, needed
from genomes.compiler.shapes import ShapeClass
from harness.model import network_layout
from harness.task import TRACKS
from harness.train import STEPS_PER_EPOCH

PROCESSORS = 108  # multiprocessors of the device that estimates are for
BLOCKS_PER_PROCESSOR = 4  # as in mod.rs
PER_THREAD = 20  # units for entering a kernel and leaving it, its accounting included
MOST_FUEL = 5e12  # what the challenge lets a run use
EPOCHS = 1000  # of the longest run
_SIMULATED = 10 * STEPS_PER_EPOCH  # steps over which launches are counted


@dataclass(frozen=True)
class Cost:
    """Per epoch, on a network of ``depth`` hidden layers."""

    depth: int
    launches: int
    threads: int
    fuel: float

    @property
    def longest(self) -> float:
        """Fuel of the longest run."""
        return EPOCHS * self.fuel


def costs(parts: Sequence[Compiled]) -> list[Cost]:
    """The costs of each of the challenge's tracks."""
    named = {depth for part in parts for depth in part.part.depths}
    found = []
    for depth in sorted({*TRACKS, *named}):
        chosen = [part for part in parts if depth in part.part.depths or not part.part.depths]
        if chosen:
            found.append(_cost(chosen[0], depth, 9 + any(part.device.gains for part in parts)))
    return found


def _cost(part: Compiled, depth: int, of_end: int) -> Cost:
    """``of_end``: how many addresses are of the frozen end."""
    layout = network_layout("tig", depth)
    kept = [i for i, flag in enumerate(layout.trainable) if flag]
    shapes = [matrix_shape(layout.shapes[i]) for i in kept]
    roles = role_values(shapes, [layout.roles[i] for i in kept], [layout.layers[i] for i in kept])
    device = part.device
    bodies = {kernel.name: kernel.body for kernel in device.kernels}
    addresses = -(-(3 * len(kept) + of_end) // POINTERS)
    launches, threads, fuel = float(addresses), float(addresses), float(addresses * (PER_THREAD + 3 * POINTERS))
    shares = _shares(part, {launch.moments for launch in device.step})
    counted = [(launch, shares[launch.moments]) for launch in device.step]
    counted += [(launch, 1 / STEPS_PER_EPOCH) for launch in (*device.readout, *device.gains)]
    for launch, share in counted:
        flags = [True] * len(kept)
        if isinstance(launch.grid, Tiles):
            flags = needed(part.program, [launch.grid.needed], roles)[0]
        own = [shape for shape, flag in zip(shapes, flags, strict=True) if flag]
        own_threads, work = _launch(launch, bodies[launch.kernel], own, len(kept))
        if own_threads:
            launches += share
            threads += share * own_threads
            fuel += share * (work + PER_THREAD * own_threads)
    steps = STEPS_PER_EPOCH
    return Cost(depth, round(steps * launches), round(steps * threads), steps * fuel)


def _launch(launch: Launch, body: str, shapes: Sequence[tuple[int, int]], n_tensors: int) -> tuple[int, float]:
    """Threads and statements of one launch. ``shapes``: of the tensors that it works on."""
    statements = sum(line.rstrip().endswith(";") for line in body.splitlines())
    if launch.grid == "per_tensor":
        return THREADS, n_tensors * (statements + 64 * ("partials" in body))
    if launch.grid == "thread":
        return 1, n_tensors * statements
    if launch.grid == "block":
        return THREADS, 1e5 if "end[1]" in body else THREADS * statements
    units = [_units(launch.grid.extent, shape) for shape in shapes]
    size = EXTENTS[launch.grid.extent][2]
    tiles = sum(-(-n // size) for n in units)
    threads = THREADS * min(tiles, PROCESSORS * BLOCKS_PER_PROCESSOR)
    work = 0.0
    for (rows, columns), n in zip(shapes, units, strict=True):
        each = statements
        if "multiply(" in body:
            each += 24 * (columns if "outer" in launch.kernel else rows) if columns > 1 else 2
        elif "for (int j" in body and launch.grid.extent in ("rows", "columns"):
            each *= columns if launch.grid.extent == "rows" else rows
        elif launch.grid.extent == "tensors":
            turns = 32 if "Key::" in body else 4 * rows if "column k" in body and columns > 1 else 1
            each = 2 * rows * columns * turns
        work += each * n
    return threads, work


def _units(name: str, shape: tuple[int, int]) -> int:
    """Units of a tensor: as EXTENTS says in C and Rust."""
    rows, columns = shape
    fours = {n: -(-n // 4) for n in (rows, columns, min(shape))}
    return {
        "elements": rows * columns,
        "rows": rows,
        "columns": columns,
        "left": rows * extent(ShapeClass.LEFT, shape)[1],
        "right": columns * columns,
        "tensors": 1,
        "element_blocks": fours[rows] * fours[columns] if columns > 1 else rows,
        "left_blocks": fours[rows] ** 2 if columns > 1 else rows,
        "right_blocks": fours[columns] ** 2,
        "side_blocks": fours[min(shape)] ** 2,
    }[name]


def _shares(part: Compiled, conditions: set[Condition]) -> dict[Condition, float]:
    """The share of steps in which the masks of the clock have what a condition says."""
    program = part.program
    slots = [slot.init for slot in program.slots]
    counts = dict.fromkeys(conditions, 0)
    known = {"model_size": 1e6, "layer_count": 4.0, "steps_per_epoch": float(STEPS_PER_EPOCH), "output_count": 2.0}
    clocks = [i for i, node in enumerate(program.nodes) if node.shape is ShapeClass.CLOCK]
    for t in range(1, _SIMULATED + 1):
        loss = None if t <= STEPS_PER_EPOCH else 1.0
        clock = clock_values(t, (t - 1) // STEPS_PER_EPOCH, loss, loss) | known
        values: list = [None] * len(program.nodes)
        for i in clocks:
            node = program.nodes[i]
            values[i] = slots[int(node.attribute or 0)] if node.op == "load" else host_value(node, values, clock)
        for slot, node in program.stores:
            if program.slots[slot].shape is ShapeClass.CLOCK:
                slots[slot] = values[node]
        for condition in conditions:
            counts[condition] += all(bool(values[mask]) == wanted for mask, wanted in condition)
    return {condition: count / _SIMULATED for condition, count in counts.items()}
