"""The optimizers of many lanes as CUDA kernels: lanes whose programs share a text share its launches.

See `genomes.backends.cuda.source` for what runs in a step. Nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from genomes.backends.cuda.layout import PIECES, SIZES, Arguments, Launch, Model, Product, Source, grid, seed_word
from genomes.backends.cuda.products import carry_out
from genomes.backends.cuda.source import constants, own_bytes, render
from genomes.backends.readout import feature_gains, frozen_end, output_shifts
from genomes.compiler.program import Program
from genomes.compiler.shapes import ShapeClass
from harness.lane_kernels import REALS, Launcher
from harness.lane_network import Kinds
from harness.lane_optimizer import Slabs, keep_lanes
from harness.model import Layout
from harness.train import STEPS_PER_EPOCH

STREAMS = 4  # groups whose kernels may run at the same time: a small group leaves most of a GPU idle
_SIGNALS = ("alive", "epoch", "has_loss", "train_loss", "val_loss")
_SHARED = ("tensors", "tile_tensor", "tile_start", "tensor_of_row", "tensor_of_column")


@dataclass(frozen=True)
class CudaLanes:
    """A `harness.lane_optimizer.LaneOptimizer` of CUDA kernels.

    ``programs``: one per lane; lanes that can share a text (see `text_key`) should lie side by side. ``load``: compiles
    texts, and gives for each the function that launches its kernels.
    """

    programs: Sequence[Program]
    load: Callable[[Sequence[str]], list[Launcher]]

    @property
    def queries(self) -> bool:
        """Whether any lane ever queries."""
        return any(program.queries for program in self.programs)

    @property
    def biases_outputs(self) -> bool:
        """Whether any lane ever adds something to the outputs in a query."""
        return any(program.output_biases for program in self.programs)

    @property
    def scales_features(self) -> bool:
        """Whether any lane ever rescales frozen features in a query."""
        return any(program.as_evaluated for program in self.programs)

    def bytes_per_lane(self, layout: Layout, dtype: torch.dtype) -> int:
        """Bytes per lane beside the shared slabs: those of the program that needs most."""
        model, real = _model(layout), REALS[dtype]
        return max(own_bytes(p, _render(p, real), model, real) for p in dict.fromkeys(self.programs))

    def bind(self, slabs: Slabs, layout: Layout, seeds: Sequence[bytes]) -> CudaLanesRun:
        """Begin a run on ``slabs``: compile the texts, and fill the state. ``seeds``: one per lane."""
        return CudaLanesRun(self, slabs, layout, seeds)


def text_key(program: Program) -> str:
    """A key that is equal for programs that share a text."""
    return _render(program, "float").key


@lru_cache(maxsize=8192)  # lanes of a batch share programs, and each is needed several times
def _render(program: Program, real: str) -> Source:
    return render(program, real, apply=True)


def _model(layout: Layout) -> Model:
    return Model.from_context(layout.shapes, layout.roles, layout.trainable, layout.layers, STEPS_PER_EPOCH)


class CudaLanesRun:
    """A `harness.lane_optimizer.LaneRun` of CUDA kernels: groups of lanes, each with its text and arrays."""

    def __init__(self, optimizer: CudaLanes, slabs: Slabs, layout: Layout, seeds: Sequence[bytes]) -> None:
        self._slabs, self._queries, self._model = slabs, optimizer.queries, _model(layout)
        assert self._model.n_params == Kinds.of(layout).size(Kinds.of(layout).trainable)
        device, real = slabs.theta.device, REALS[slabs.theta.dtype]
        self._tables = _tables(self._model, device)
        self._active = torch.zeros_like(slabs.alive)
        self._layout, self._steps = layout, 0
        self._end = frozen_end(layout.shapes, layout.roles, layout.layers, layout.trainable)
        self._shifting = any(node.op == "output_shift" for program in optimizer.programs for node in program.nodes)
        self._scaling = bool(self._end) and optimizer.scales_features
        size = len(slabs.theta), self._model.n_outputs, self._model.shift_size
        self._shifts = slabs.theta.new_zeros(size if self._shifting else 0)
        words = np.array([seed_word(seed) for seed in seeds], np.uint32).view(np.int32)  # torch gathers no unsigned
        sources = [_render(program, real) for program in optimizer.programs]
        kinds = [
            (source.key, program.as_evaluated) for source, program in zip(sources, optimizer.programs, strict=True)
        ]
        runs = [list(run) for _, run in groupby(range(len(sources)), kinds.__getitem__)]
        launches = optimizer.load([sources[lanes[0]].text for lanes in runs])
        self._groups: list[_Group] = []
        for lanes, launch in zip(runs, launches, strict=True):
            source, programs = sources[lanes[0]], [optimizer.programs[lane] for lane in lanes]
            self._groups.append(
                _Group(
                    source,
                    launch,
                    _arrays(source, self._model, programs, words[lanes], slabs.theta),
                    self._moved(programs[0], source),
                )
            )
        needed = min(STREAMS, len(self._groups)) if device.type == "cuda" and len(self._groups) > 1 else 0
        self._streams = [torch.cuda.Stream(device) for _ in range(needed)]
        self._bind()
        scale = self._frozen[3] if self._scaling else slabs.theta.new_empty(len(slabs.theta), 0)
        self._scale = scale.clone()  # of the frozen BatchNorm, for queries that see it as evaluation does
        for group in self._groups:
            group.run(group.source.start, self._model)

    def _moved(self, program: Program, source: Source) -> slice | None:
        """Where in the state what a query adds to the tensor before the frozen end lies, for programs that see that end
        as evaluation does."""
        if not (self._scaling and program.query and program.as_evaluated):
            return None
        model = self._model
        first = source.state.offset(program.query.offset, model)
        first += model.offset(ShapeClass.ELEMENT, model.shift_tensor)
        return slice(first, first + model.shift_size)

    def query(self) -> Tensor | None:
        """Fill ``queried``; returns int32 ``[lane]``, which lanes query now, or None where no lane ever does."""
        if not self._queries:
            return None
        self._side_by_side(self._query)
        if self._scaling:
            self._slabs.frozen_scale.copy_(self._frozen[3])
            for group in self._groups:
                if group.moved is not None:
                    asked, scale = group.arrays["asked"].unsqueeze(1) > 0, self._slabs.frozen_scale[group.lanes]
                    scale.copy_(torch.where(asked, self._scale[group.lanes], scale))
        return self._active

    def _query(self, group: _Group) -> None:
        if group.source.query:
            group.run(group.source.query, self._model)
        else:
            self._slabs.queried[group.lanes].copy_(self._slabs.theta[group.lanes])

    def step(self) -> None:
        """Add the update to the theta of each lane that is alive."""
        self._steps += 1  # a recording of steps holds whole epochs, so that it may be replayed
        last = bool(self._end) and self._steps % STEPS_PER_EPOCH == 0
        if last and self._shifting:
            self._shifts.copy_(output_shifts(*self._frozen[:-1]))
        shift = self._frozen[0].clone() if last and self._scaling else None
        self._side_by_side(lambda group: group.run(group.source.step, self._model))
        if shift is not None:
            self._rescale(shift)

    def _rescale(self, shift: Tensor) -> None:
        """Find the frozen BatchNorm's scale for the next epoch's queries. ``shift``: as before the step."""
        for group in self._groups:
            if group.moved is not None:
                end = [tensor[group.lanes] for tensor in (shift, *self._frozen[1:-2])]
                self._scale[group.lanes] = feature_gains(*end, moved=group.arrays["state"][:, group.moved])

    def keep(self, lanes: Tensor) -> None:
        """Go on with ``lanes`` alone (ascending), which have moved to the beginnings of the slabs."""
        for group in self._groups:
            own = lanes[(lanes >= group.lanes.start) & (lanes < group.lanes.stop)] - group.lanes.start
            index = own.to(self._slabs.theta.device)
            group.arrays = {name: keep_lanes(array, index) for name, array in group.arrays.items()}
        self._scale = keep_lanes(self._scale, lanes.to(self._scale.device))
        self._groups = [group for group in self._groups if len(group.arrays["steps"])]
        self._active = torch.zeros_like(self._slabs.alive)
        self._shifts = self._shifts[: len(self._active)]  # what they hold is found anew before it is read
        self._bind()

    def _bind(self) -> None:
        """Tell each group where its lanes and their arrays are."""
        views = Kinds.of(self._layout).views(self._slabs.theta, self._slabs.frozen, self._slabs.running)
        self._frozen = [views[i] for i in self._end]  # the tensors of the frozen end, [lane, ...]
        first = 0
        for group in self._groups:
            group.lanes = slice(first, first + len(group.arrays["steps"]))
            first = group.lanes.stop
            model, slabs, lanes = self._model, self._slabs, group.lanes
            arrays = {
                **self._tables,
                **group.arrays,
                **{name: getattr(slabs, name)[lanes] for name in _SIGNALS},
                "theta": slabs.theta[lanes],
                "g": slabs.gradient[lanes],
                "queried": slabs.queried[lanes],
                "active": self._active[lanes],
                "output_bias": slabs.output_bias[lanes],
                "output_shift": self._shifts[lanes],  # of no lane where no program reads it
            }
            group.arguments = Arguments(lanes.stop - lanes.start, *(getattr(model, name) for name in SIZES))
            for name, array in arrays.items():
                setattr(group.arguments, name, array.data_ptr())
            group.alive = arrays["alive"]

    def _side_by_side(self, work: Callable[[_Group], None]) -> None:
        """Do ``work`` on each group, on streams that begin after all earlier work and end before all later work.

        All streams begin before the first ends: one that began later would wait for those that have ended."""
        if not self._streams:
            for group in self._groups:
                work(group)
            return
        main = torch.cuda.current_stream(self._slabs.theta.device)
        for stream in self._streams:
            stream.wait_stream(main)
        try:
            for k, stream in enumerate(self._streams):
                with torch.cuda.stream(stream):
                    for group in self._groups[k :: len(self._streams)]:
                        work(group)
        finally:  # also when memory runs out: a recording ends only when all its streams have
            for stream in self._streams:
                main.wait_stream(stream)


class _Group:
    """Lanes that share a text. ``arrays``: what is theirs alone, ``[lane, n]``; ``moved``: see `CudaLanesRun._moved`;
    ``lanes``: their rows in the slabs."""

    def __init__(self, source: Source, launch: Launcher, arrays: dict[str, Tensor], moved: slice | None) -> None:
        self.source, self._launch, self.arrays, self.moved = source, launch, arrays, moved
        self.lanes, self.arguments, self.alive = slice(0, 0), Arguments(), self.arrays["steps"]

    def run(self, steps: Sequence[Launch | Product], model: Model) -> None:
        for step in steps:
            if isinstance(step, Product):
                carry_out(step, self.source, model, self.arrays["scratch"], self.alive)
                continue
            blocks = grid(step.unit, model, self.arguments.lanes)
            if all(blocks):  # a network may have nothing that trains
                self._launch(step.kernel, blocks, PIECES, self.arguments)


def _tables(model: Model, device: torch.device) -> dict[str, Tensor]:
    """The model's tables, which all lanes share."""
    tiles = np.array(model.tiles(), np.int32).reshape(-1, 2).T.copy()
    tables = (np.frombuffer(bytes(model.tensors()), np.uint8).copy(), *tiles, model.tensor_of(0), model.tensor_of(1))
    kinds = (torch.uint8, *[torch.int32] * 4)
    return {
        name: torch.as_tensor(table, dtype=kind).to(device)
        for name, table, kind in zip(_SHARED, tables, kinds, strict=True)
    }


def _arrays(
    source: Source, model: Model, programs: Sequence[Program], seeds: np.ndarray, theta: Tensor
) -> dict[str, Tensor]:
    """The arrays that the kernels of a group keep for its lanes, on the device and of the type of ``theta``."""
    lanes, sizes = len(programs), source.sizes(model)
    numbers = np.array([constants(program) for program in programs], np.float64).reshape(lanes, -1)
    arrays = {
        name: torch.zeros(lanes, dtype=torch.int32, device=theta.device) for name in ("steps", "asked", "not_finite")
    }
    arrays |= {name: theta.new_zeros(lanes, sizes[name]) for name in ("state", "scratch")}
    arrays |= {
        name: torch.zeros(lanes, sizes[name], dtype=torch.float64, device=theta.device)
        for name in ("host_state", "host_values")
    }
    given = {"constants": torch.from_numpy(numbers), "seed": torch.from_numpy(seeds)}
    return arrays | {name: array.to(theta.device) for name, array in given.items()}
