"""The training loop for many lanes of one task and depth at once, on any device: the semantics of `harness.train`.

A lane's data lie in slabs ``[lane, n]`` and flags ``[lane]``; an epoch is a fixed list of operations on them that
never waits for the device, so on a GPU it is recorded once as a CUDA graph and replayed. Every LOOK_EPOCHS epochs the
host removes the lanes that are done and moves the others together. A lane that is done earlier stays as it is, since
every operation respects its flag.

Lanes share nothing but the launch, so a lane's result depends on the others only as far as a library rounds a batched
product differently for another number of matrices. `tests/harness/test_lanes.py` holds the loop to the literal one.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from harness.data import TEST, TRAIN, TRAIN_SIZE, VALIDATION, load_data
from harness.lane_network import Kinds, LaneNetwork, Passes, activation_size
from harness.lane_optimizer import LaneOptimizer, Slabs, keep_lanes
from harness.lane_passes import TorchPasses
from harness.model import Layout, network_layout
from harness.optimizer import optimizer_seed
from harness.result import Training
from harness.score import quality
from harness.task import HIDDEN_WIDTH, TASKS, Instance
from harness.train import MIN_IMPROVEMENT, batches

LOOK_EPOCHS = 10
_LEAST_SHARE = 1 / 16  # of the lanes: fewer that are done wait for others, since moving lanes costs time
_TEST_LANES = 256  # lanes whose test loss is computed at once
_SPARE = 1.1  # of the memory that is counted: what libraries and temporaries take


def bytes_per_lane(layout: Layout, optimizer: LaneOptimizer, dtype: torch.dtype, epochs: int) -> int:
    """Bytes per lane that `train` needs: slabs, saved model, activations, losses, what the optimizer keeps."""
    kinds = Kinds.of(layout)
    theta, frozen, running = (kinds.size(kind) for kind in (kinds.trainable, kinds.frozen, kinds.running))
    reals = (3 + optimizer.queries) * theta + frozen + 2 * running + activation_size(layout)
    reals += 2 * TRAIN_SIZE * (layout.shapes[0][1] + 4)  # data, in both orders
    return int(_SPARE * (reals * dtype.itemsize + 16 * epochs + optimizer.bytes_per_lane(layout, dtype)))


@torch.inference_mode()
def train(
    instances: Sequence[Instance],
    optimizer: LaneOptimizer,
    *,
    epochs: int = 1000,
    patience: int = 50,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    passes: Passes | None = None,
) -> Iterator[tuple[int, Training]]:
    """Train a lane on each of ``instances``, all of one task and depth; yields (lane, its training) as lanes finish.

    See `harness.train.train`. ``passes``: the passes over slabs, torch operations if None. Raises ValueError for
    instances of several tasks or depths, and for ``epochs`` below 1.
    """
    if len({(instance.task, instance.num_hidden_layers) for instance in instances}) != 1:
        raise ValueError("the lanes of a batch must have one task and one depth")
    if epochs < 1:
        raise ValueError(f"epochs: must be at least 1, got {epochs}")
    loop = LaneLoop(instances, optimizer, epochs, patience, dtype, torch.device(device), passes or TorchPasses())
    while loop.numbers:
        loop.run(min(LOOK_EPOCHS, epochs - loop.epochs_done))
        yield from loop.remove_finished()


@dataclass
class _Records:
    """The loop's records of each lane, on the device. ``training``: alive as the epoch began; ``lost``: NaN for good;
    ``best``: the least validation loss; ``total``: sum over the epoch's samples of the batches' losses."""

    training: Tensor
    lost: Tensor
    best: Tensor
    best_epoch: Tensor
    stale: Tensor
    epochs_run: Tensor
    total: Tensor
    train_losses: Tensor
    val_losses: Tensor
    data: Tensor  # which data set
    best_theta: Tensor
    best_running: Tensor


class LaneLoop:
    """All lanes of a batch in training. ``numbers``: the lanes that still train, as indices of ``instances``."""

    def __init__(
        self,
        instances: Sequence[Instance],
        optimizer: LaneOptimizer,
        epochs: int,
        patience: int,
        dtype: torch.dtype,
        device: torch.device,
        passes: Passes,
    ) -> None:
        self.instances, self.epochs, self.patience, self.device = list(instances), epochs, patience, device
        self.numbers = list(range(len(instances)))
        self.epochs_done, self._seconds, self._started = 0, 0.0, time.perf_counter()
        self.task = TASKS[instances[0].task]
        self.layout = network_layout(self.task.name, instances[0].num_hidden_layers)
        self.kinds, self._passes = Kinds.of(self.layout), passes
        self._load_data(dtype)
        self._recorder: torch.cuda.Stream | None = None

        def numbers(value: float, kind: torch.dtype, *more: int) -> Tensor:
            return torch.full((len(instances), *more), value, dtype=kind, device=device)

        theta, frozen, running = self.kinds.initial(instances, numbers(0, dtype))
        integer, double = torch.int32, torch.float64
        self.slabs = Slabs(
            theta=theta,
            gradient=torch.zeros_like(theta),
            queried=theta.clone() if optimizer.queries else theta[:, :0],
            frozen=frozen,
            running=running,
            output_bias=numbers(0, dtype, self.task.output_dims if optimizer.biases_outputs else 0),
            frozen_scale=numbers(0, dtype, HIDDEN_WIDTH if optimizer.scales_features else 0),
            alive=numbers(1, integer),
            epoch=numbers(0, integer),
            has_loss=numbers(0, integer),
            train_loss=numbers(math.nan, double),
            val_loss=numbers(math.nan, double),
        )
        self.records = _Records(
            training=numbers(1, integer),
            lost=numbers(0, integer),
            best=numbers(math.inf, double),
            best_epoch=numbers(-1, integer),
            stale=numbers(0, integer),
            epochs_run=numbers(0, integer),
            total=numbers(0, double),
            train_losses=numbers(math.nan, double, epochs),
            val_losses=numbers(math.nan, double, epochs),
            data=torch.tensor(self._data_of, device=device),
            best_theta=theta.clone(),
            best_running=running.clone(),
        )
        seeds = [optimizer_seed(instance.seed) for instance in instances]
        self._set_up()
        self._run = optimizer.bind(self.slabs, self.layout, seeds)

    def _load_data(self, dtype: torch.dtype) -> None:
        """The data of each seed once, what shuffles them, and its buffer for the epochs until the next look."""
        seeds = list(dict.fromkeys(instance.seed for instance in self.instances))
        index_of = {seed: k for k, seed in enumerate(seeds)}
        self._data_of = [index_of[instance.seed] for instance in self.instances]
        data = [load_data(self.task.name, seed) for seed in seeds]
        self._targets = [data[k].target_loss(i.alpha) for i, k in zip(self.instances, self._data_of, strict=True)]
        self._shuffle = self._passes.shuffler(seeds, self.device)
        self._x, self._y = (
            torch.from_numpy(np.stack([getattr(d, name) for d in data])).to(self.device, dtype) for name in "xy"
        )
        self._orders = torch.zeros(LOOK_EPOCHS, len(seeds), TRAIN_SIZE, dtype=torch.int64, device=self.device)
        self._turn = torch.zeros(1, dtype=torch.int64, device=self.device)  # epochs since the last look

    def _set_up(self) -> None:
        """Set up what depends on the addresses of the slabs."""
        slabs, views = self.slabs, self.kinds.views
        self._network = LaneNetwork(self.kinds, slabs.gradient, slabs.running, self._passes)
        self._params = views(slabs.theta, slabs.frozen, slabs.running)
        queried = slabs.queried if slabs.queried.shape[1] else slabs.theta
        self._queried_params = views(queried, slabs.frozen, slabs.running)
        if slabs.frozen_scale.shape[1]:
            self._queried_params[self.layout.last_scale] = slabs.frozen_scale
        self._epoch: Callable[[], None] | None = None

    # --- an epoch: nothing here may wait for the device ---------------------------------------------------------------

    def _run_epoch(self) -> None:
        slabs, records = self.slabs, self.records
        records.training.copy_(slabs.alive)
        records.total.zero_()
        order = self._orders.index_select(0, self._turn)[0].unsqueeze(2)
        rows = self._x[:, TRAIN], self._y[:, TRAIN]
        x, y = (r.gather(1, order.expand_as(r)).index_select(0, records.data) for r in rows)
        for batch in batches(TRAIN):
            self._train_batch(x[:, batch], y[:, batch])
        self._close(self._squared_errors() / self._y[0, VALIDATION].numel())

    def _train_batch(self, x: Tensor, y: Tensor) -> None:
        slabs, records = self.slabs, self.records
        querying = self._run.query()
        params, moves = self._params, slabs.alive
        if querying is not None:
            params = self._queried_params
            if self.task.restores_running_stats:
                moves = slabs.alive * (1 - querying)
        error = self._network.forward(params, x, moves) - y
        if slabs.output_bias.shape[1]:
            error += slabs.output_bias.unsqueeze(1)
        loss = (error * error).mean((1, 2)).double()
        self._mark_lost(loss)
        slabs.alive.mul_(1 - records.lost)
        records.total.add_(loss, alpha=x.shape[1])
        self._network.backward(params, error.mul_(2))
        self._run.step()

    def _mark_lost(self, loss: Tensor) -> None:
        """A lane is lost when its loss is not finite and a tensor that stays has a NaN."""
        suspects = (self.slabs.alive * ~loss.isfinite()).to(torch.int32)
        self._passes.mark_nan(self.records.lost, self.slabs.theta, suspects)
        self._passes.mark_nan(self.records.lost, self.slabs.running, suspects)

    def _squared_errors(self) -> Tensor:
        """Of all lanes on the validation rows ``[lane]``."""
        x, y = (rows[:, VALIDATION].index_select(0, self.records.data) for rows in (self._x, self._y))
        whole = slice(0, VALIDATION.stop - VALIDATION.start)
        return sum(
            (self._network.squared_errors(self._params, x[:, batch], y[:, batch]) for batch in batches(whole)),
            torch.zeros_like(self.records.total),
        )

    def _close(self, val_loss: Tensor) -> None:
        """Note an epoch's losses, save the models that are better than all before, end what is lost or stale."""
        slabs, records = self.slabs, self.records
        training = records.training != 0
        train_loss = (records.total / TRAIN_SIZE).masked_fill_(records.lost != 0, math.nan)
        self._mark_lost(val_loss)
        improved = training & (val_loss < records.best - MIN_IMPROVEMENT)
        flags = improved.to(torch.int32)
        self._passes.copy_lanes(records.best_theta, slabs.theta, flags)
        self._passes.copy_lanes(records.best_running, slabs.running, flags)
        stale = (records.stale + 1).masked_fill_(improved, 0)
        at = slabs.epoch.unsqueeze(1).long()
        records.train_losses.scatter_(1, at, train_loss.unsqueeze(1))
        records.val_losses.scatter_(1, at, val_loss.unsqueeze(1))
        going_on = training & (records.lost == 0) & (stale < self.patience)
        for tensor, value in (
            (records.best, torch.where(improved, val_loss, records.best)),
            (records.best_epoch, torch.where(improved, slabs.epoch, records.best_epoch)),
            (records.stale, torch.where(training, stale, records.stale)),
            (records.epochs_run, records.epochs_run + records.training),
            (slabs.alive, going_on.to(torch.int32)),
            (slabs.train_loss, train_loss),
            (slabs.val_loss, val_loss),
        ):
            tensor.copy_(value)
        slabs.has_loss.fill_(1)
        slabs.epoch.add_(1)
        self._turn.add_(1)

    # --- between epochs -----------------------------------------------------------------------------------------------

    def run(self, epochs: int) -> None:
        """Train for ``epochs`` more epochs, at most LOOK_EPOCHS."""
        started = self._started if self.epochs_done == 0 else time.perf_counter()
        self._shuffle(self._orders[:epochs])
        self._turn.zero_()
        for _ in range(epochs):
            if self._epoch is None:
                self._run_epoch()  # once before it is recorded: libraries make themselves ready at their first call
                self._epoch = self._recorded()
            else:
                self._epoch()
        self.epochs_done += epochs
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._seconds += (time.perf_counter() - started) / len(self.numbers)

    def _recorded(self) -> Callable[[], None]:
        """An epoch as one call, recorded as a CUDA graph on a GPU."""
        if self.device.type != "cuda":
            return self._run_epoch
        graph = torch.cuda.CUDAGraph()
        # on a stream of this loop's own: graphs of one stream share cuBLAS's workspace, which torch takes from all of
        # them when one is deleted (pytorch issue 193402)
        self._recorder = self._recorder or torch.cuda.Stream(self.device)
        gc.disable()  # kernels of an earlier batch that were unloaded just now would break the recording
        try:
            with torch.cuda.graph(graph, stream=self._recorder):
                self._run_epoch()
        finally:
            gc.enable()
        return graph.replay

    def remove_finished(self) -> list[tuple[int, Training]]:
        """Remove the lanes that are done: (number, training) of each. The others move together."""
        over = self.epochs_done >= self.epochs
        alive = (self.slabs.alive.cpu() != 0) & torch.tensor(not over)
        done = (~alive).nonzero()[:, 0].tolist()
        if alive.any() and len(done) < len(alive) * _LEAST_SHARE:
            return []
        finished = [(self.numbers[lane], self._training(lane, loss)) for lane, loss in self._test_losses(done)]
        self._keep(alive.nonzero()[:, 0])
        return finished

    def _test_losses(self, lanes: list[int]) -> Iterator[tuple[int, float]]:
        """(lane, test loss of its saved model), of the initial model where none was saved."""
        records, count = self.records, TEST.stop - TEST.start
        for start in range(0, len(lanes), _TEST_LANES):
            some = lanes[start : start + _TEST_LANES]
            index = torch.tensor(some, device=self.device)
            params = self.kinds.views(
                *(s.index_select(0, index) for s in (records.best_theta, self.slabs.frozen, records.best_running))
            )
            x, y = (r[:, TEST].index_select(0, records.data[index]) for r in (self._x, self._y))
            total = torch.zeros(len(some), dtype=torch.float64, device=self.device)
            for batch in batches(slice(0, count)):
                total += self._network.squared_errors(params, x[:, batch], y[:, batch])
            yield from zip(some, (total / y[0].numel()).tolist(), strict=True)

    def _training(self, lane: int, test_loss: float) -> Training:
        records, number = self.records, self.numbers[lane]
        epochs, best_epoch = int(records.epochs_run[lane]), int(records.best_epoch[lane])
        train_loss, val_loss = (r[lane, :epochs].tolist() for r in (records.train_losses, records.val_losses))
        status, message = "finished", ""
        if not math.isfinite(val_loss[-1]):
            status = "diverged"
            reason = self._find_nan(lane) if records.lost[lane] else "the validation loss is not finite"
            message = f"epoch {epochs - 1}: {reason}"
        saved, target = best_epoch >= 0, self._targets[number]
        return Training(
            status=status,
            message=message,
            epochs_run=epochs,
            best_epoch=best_epoch if saved else None,
            train_loss=train_loss,
            val_loss=val_loss,
            test_loss=test_loss if saved else None,
            target_loss=target,
            quality=quality(test_loss, target) if saved else None,
            passed=(saved and test_loss <= target) if self.task.threshold else None,
            seconds=self._seconds,
        )

    def _find_nan(self, lane: int) -> str:
        for i in sorted(self.kinds.trainable + self.kinds.running):
            if self._params[i][lane].isnan().any():
                return f"{self.layout.roles[i]} of layer {self.layout.layers[i]} is NaN"
        return ""

    def _keep(self, lanes: Tensor) -> None:
        """Go on with these lanes, in the slabs as they are, whose ends are then no longer used."""
        self.numbers = [self.numbers[lane] for lane in lanes.tolist()]
        self._epoch, index = None, lanes.to(self.device)
        self._params = self._queried_params = []
        del self._network
        for holder in (self.slabs, self.records):
            for field in fields(holder):
                setattr(holder, field.name, keep_lanes(getattr(holder, field.name), index))
        if self.numbers:
            self._set_up()
            self._run.keep(lanes)
