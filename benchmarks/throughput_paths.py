"""The ways of training that `throughput.py` compares, and the floors under them.

A path is a function that goes through one epoch (eight batches, then validation) of all its lanes each time it is
called. Those that train return the losses of their first lane, training and validation, so that they can be held to
each other: ``tests/test_benchmarks.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from evo.training.batches import backend
from genomes import catalogue
from genomes.backends import torch_reference
from genomes.backends.flat.optimizer import FlatProgram
from genomes.compiler.lowering import lower
from harness.data import TRAIN, TRAIN_SIZE, VALIDATION, load_data, sample_orders
from harness.flat import FlatLoop
from harness.lanes import LaneLoop, bytes_per_lane
from harness.model import NORM_EPS, NORM_MOMENTUM, initial_parameters, network_layout
from harness.optimizer import GuardedOptimizer
from harness.task import HIDDEN_WIDTH, Instance, seed_bytes
from harness.train import BATCH_SIZE, LiteralLoop, Loop, batches

SIZES = [batch.stop - batch.start for batch in batches(TRAIN)]
VALIDATION_SIZE = VALIDATION.stop - VALIDATION.start
VMAP_LANES_ON_CPU = 8
LEARNING_RATE = 1e-3
INSTANCES = 8
CALL_EPOCHS = 5  # of a call of `batched`; a campaign's host looks every ten
MOST_EPOCHS = 10_000
Epoch = Callable[[], Any]


@dataclass(frozen=True)
class Path:
    """``lanes``: how many networks a call of ``epoch`` trains, for ``epochs`` epochs. ``about``: more to say of it."""

    name: str
    lanes: int
    epoch: Epoch
    epochs: int = 1
    about: dict[str, Any] = field(default_factory=dict)


def instances(depth: int, lanes: int) -> list[Instance]:
    """Few, as in a campaign, where many genomes train on each. Seeds lie far apart, so that no data is shared."""
    return [Instance("tig", depth, seed_bytes(1 + 10_000 * (i % INSTANCES))) for i in range(lanes)]


def groups(depth: int, device: torch.device, compiled: bool, lanes: list[int]) -> Iterator[list[Path]]:
    """What is measured at a depth: paths of a group in turns, so that they see the same machine, groups one after
    another, so that a GPU need not hold them all. ``lanes``: on a GPU, how many for the paths that train many."""
    (instance,) = instances(depth, 1)
    found = [Path("eager", 1, eager(instance, device))]
    if compiled:
        found.append(Path("compile", 1, eager(instance, device, compiled=True)))
    if device.type == "cuda":
        yield [*found, Path("graphs", 1, graphs(instance, device))]
        found.clear()
        yield [Path("vmap", min(lanes), ensemble(instances(depth, min(lanes)), device))]
        for n in lanes:
            yield [
                batched("ours", instances(depth, n), device),
                Path("gemm_floor", n, products(depth, device, n)),
                Path("bytes_floor", n, traffic(depth, device, n)),
            ]
        yield [batched("ours_tf32", instances(depth, 1024), device, "high")]
        return
    found += [
        Path("vmap", VMAP_LANES_ON_CPU, ensemble(instances(depth, VMAP_LANES_ON_CPU), device)),
        Path("literal", 1, literal(instance)),
        Path("ours", 1, ours(instance)),
        Path("gemm_floor_mm", 1, products(depth, device)),
    ]
    if torch.backends.mkldnn.is_available():
        found.append(Path("gemm_floor_onednn", 1, products(depth, device, onednn=True)))
    yield [*found, Path("bytes_floor", 1, traffic(depth, device))]


# --- this project ----------------------------------------------------------------------------------------------------


def literal(instance: Instance) -> Epoch:
    """The literal loop with Adam."""
    optimizer = GuardedOptimizer(torch_reference.optimizer(lower(catalogue.load("adam"))))
    return _loop(lambda: LiteralLoop(instance, optimizer, torch.float32, torch.device("cpu")), torch.no_grad)


def ours(instance: Instance) -> Epoch:
    """The fast loop of campaigns with Adam."""
    optimizer = FlatProgram(lower(catalogue.load("adam")))
    return _loop(lambda: FlatLoop(instance, optimizer, torch.float32), torch.inference_mode)


def batched(name: str, chosen: list[Instance], device: torch.device, precision: str = "highest") -> Path:
    """What campaigns use on a GPU: all lanes at once, with patience without end, so that none leaves.

    ``precision``: of products, as torch calls it; ``high`` is TF32. The first call records the epoch as a graph, which
    keeps it.
    """
    used, program = backend(device.type), lower(catalogue.load("adam"))
    optimizer = used.optimizer([program] * len(chosen))
    torch.set_float32_matmul_precision(precision)
    empty = _reserved(device)
    with torch.inference_mode():
        passes = used.passes(torch.float32)
        loop = LaneLoop(chosen, optimizer, MOST_EPOCHS, MOST_EPOCHS, torch.float32, device, passes)
        loop.run(CALL_EPOCHS)
    torch.set_float32_matmul_precision("highest")
    forecast = bytes_per_lane(loop.layout, optimizer, torch.float32, MOST_EPOCHS)
    about = {
        "bytes_per_lane": (_reserved(device) - empty) // len(chosen),
        "forecast_bytes_per_lane": forecast,
    }

    def epochs() -> tuple[float, float]:
        with torch.inference_mode():
            loop.run(CALL_EPOCHS)
            return loop.slabs.train_loss[0].item(), loop.slabs.val_loss[0].item()

    return Path(name, len(chosen), epochs, CALL_EPOCHS, about)


def _reserved(device: torch.device) -> int:
    return torch.cuda.memory_reserved(device) if device.type == "cuda" else 0


def _loop(make: Callable[[], Loop], mode: Callable[[], Any]) -> Epoch:
    """A loop's epochs, in the mode in which its `train` runs it."""
    with mode():
        loop = make()
        loop.start()
    epochs = count()

    def epoch() -> tuple[float, float]:
        with mode():
            return loop.run_epoch(next(epochs))

    return epoch


# --- torch's modules -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """Samples of some lanes: ``x`` and ``y`` are ``[lanes, rows, dims]``."""

    instances: list[Instance]
    x: Tensor
    y: Tensor

    def shuffled(self, epoch: int) -> list[tuple[Tensor, Tensor]]:
        """The epoch's batches ``[lanes, n, dims]``."""
        orders = [torch.from_numpy(sample_orders(instance.seed)[epoch]) for instance in self.instances]
        order = torch.stack(orders).to(self.x.device)
        lane = torch.arange(len(orders), device=order.device)[:, None]
        x, y = self.x[lane, order], self.y[lane, order]
        return list(zip(x.split(BATCH_SIZE, 1), y.split(BATCH_SIZE, 1), strict=True))


def data_of(chosen: list[Instance], device: torch.device) -> Data:
    """The data of all instances on ``device``, ``[lane, row, dims]``."""
    loaded = [load_data(instance.task, instance.seed) for instance in chosen]
    x, y = (
        torch.stack([torch.tensor(array) for array in arrays])
        for arrays in ([d.x for d in loaded], [d.y for d in loaded])
    )
    return Data(chosen, x.to(device), y.to(device))


def network(instance: Instance, device: torch.device) -> nn.Sequential:
    """The same network in torch's modules, with the instance's initial weights and the task's frozen tensors."""
    layout = network_layout(instance.task, instance.num_hidden_layers)
    values = [torch.tensor(value) for value in initial_parameters(instance)]
    modules: list[nn.Module] = []
    for i in range(layout.num_hidden_layers + 1):
        at, norm = layout.linear(i).start, layout.norm(i).start
        linear = nn.Linear(values[at].shape[1], values[at].shape[0])
        linear.weight.data, linear.bias.data = values[at], values[at + 1]
        linear.requires_grad_(layout.trainable[at])
        modules.append(linear)
        if i < layout.num_hidden_layers:
            batch_norm = nn.BatchNorm1d(HIDDEN_WIDTH, NORM_EPS, NORM_MOMENTUM)
            modules += [nn.ReLU(inplace=True), batch_norm.requires_grad_(layout.trainable[norm])]
    return nn.Sequential(*modules).to(device)


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that train."""
    return [p for p in model.parameters() if p.requires_grad]


def squared_error(prediction: Tensor, y: Tensor) -> Tensor:
    """Sum of squared errors."""
    error = prediction - y
    return (error * error).sum()


def validated(model: nn.Module, data: Data) -> float:
    """The validation loss of lane 0."""
    model.eval()
    with torch.no_grad():
        y = data.y[0, VALIDATION]
        return squared_error(model(data.x[0, VALIDATION]), y).item() / y.numel()


def eager(instance: Instance, device: torch.device, compiled: bool = False) -> Epoch:
    """Autograd and torch.optim.Adam in the fastest of its forms: one fused kernel."""
    model, data, epochs = network(instance, device), data_of([instance], device), count()
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.Adam(trained(model), lr=LEARNING_RATE, fused=True)

    def epoch() -> tuple[float, float]:
        model.train()
        total = torch.zeros((), device=device)
        for (x,), (y,) in data.shuffled(next(epochs)):
            optimizer.zero_grad(set_to_none=True)
            loss = squared_error(run(x), y)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        return total.item() / (TRAIN_SIZE * data.y.shape[-1]), validated(model, data)

    return epoch


def graphs(instance: Instance, device: torch.device) -> Epoch:
    """`eager`, each step replayed from a CUDA graph: one graph for full batches, one for the last."""
    model, data, epochs = network(instance, device), data_of([instance], device), count()
    initial = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam(trained(model), lr=LEARNING_RATE, fused=True, capturable=True)
    total = torch.zeros((), device=device)
    held = {n: tuple(array[0, :n].clone() for array in (data.x, data.y)) for n in {*SIZES}}

    def step(n: int) -> None:
        x, y = held[n]
        loss = squared_error(model(x), y)
        loss.backward()
        optimizer.step()
        total.add_(loss.detach())

    model.train()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what libraries and the optimizer set up must not be captured
        for n in [*held] * 3:
            optimizer.zero_grad(set_to_none=True)
            step(n)
    torch.cuda.current_stream().wait_stream(side)
    captured = {}
    for n in held:
        optimizer.zero_grad(set_to_none=True)  # so that the backward pass writes gradients instead of adding to them
        captured[n] = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured[n]):
            step(n)
    with torch.no_grad():  # as if the steps so far had not been
        model.load_state_dict(initial)
        for state in optimizer.state.values():
            for value in state.values():
                value.zero_()

    def epoch() -> tuple[float, float]:
        model.train()
        total.zero_()
        for (x,), (y,) in data.shuffled(next(epochs)):
            for kept, new in zip(held[len(x)], (x, y), strict=True):
                kept.copy_(new)
            captured[len(x)].replay()
        return total.item() / (TRAIN_SIZE * data.y.shape[-1]), validated(model, data)

    return epoch


def ensemble(chosen: list[Instance], device: torch.device) -> Epoch:
    """torch.func: one model's gradient, mapped over stacked parameters; Adam on the stacks. BatchNorm moves the stacked
    running statistics in place, each lane its own."""
    models = [network(instance, device) for instance in chosen]
    data, epochs, model = data_of(chosen, device), count(), models[0]
    stacked, buffers = stack_module_state(models)
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    moving = {name: p.detach().requires_grad_() for name, p in stacked.items() if flags[name]}
    frozen = {name: p.detach() for name, p in stacked.items() if not flags[name]}
    optimizer = torch.optim.Adam(list(moving.values()), lr=LEARNING_RATE, fused=True)

    def predict(own: dict[str, Tensor], rest: dict[str, Tensor], stats: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(model, (own | rest, stats), (x,))

    def loss(own: dict[str, Tensor], rest: dict[str, Tensor], stats: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return squared_error(predict(own, rest, stats, x), y)

    gradients = vmap(grad_and_value(loss))

    def epoch() -> tuple[float, float]:
        model.train()
        total = torch.zeros(len(chosen), device=device)
        for x, y in data.shuffled(next(epochs)):
            found, losses = gradients(moving, frozen, buffers, x, y)
            for name, p in moving.items():
                p.grad = found[name]
            optimizer.step()
            total += losses
        model.eval()
        with torch.no_grad():
            y = data.y[:, VALIDATION]
            error = vmap(predict)(moving, frozen, buffers, data.x[:, VALIDATION]) - y
            validation = (error * error).mean((1, 2)).tolist()
        return total.tolist()[0] / (TRAIN_SIZE * y.shape[-1]), validation[0]

    return epoch


# --- floors ----------------------------------------------------------------------------------------------------------


def products(depth: int, device: torch.device, lanes: int = 1, onednn: bool = False) -> Epoch:
    """The products of 256 x 256 weights in an epoch: forward, gradient down, gradient of what is trained."""
    layout = network_layout("tig", depth)
    square = range(1, depth)
    trained_layers = sum(layout.trainable[layout.linear(i).start] for i in square)
    batch = () if lanes == 1 else (lanes,)
    weight = torch.randn(*batch, HIDDEN_WIDTH, HIDDEN_WIDTH, device=device)
    grad = torch.empty_like(weight)
    x = {n: torch.randn(*batch, n, HIDDEN_WIDTH, device=device) for n in {*SIZES, VALIDATION_SIZE}}
    out = {n: torch.empty_like(values) for n, values in x.items()}
    linear = torch.ops.mkldnn._linear_pointwise if onednn else None

    def product(n: int, transposed: bool) -> None:
        if linear is not None:
            linear(x[n], weight if transposed else weight.T, None, "none", [], "")
        else:
            torch.matmul(x[n], weight.mT if transposed else weight, out=out[n])

    def epoch() -> None:
        for n in SIZES:
            for _ in square:
                product(n, True)
                product(n, False)
            for _ in range(trained_layers):
                if linear is not None:
                    linear(x[n].T, x[n].T, None, "none", [], "")
                else:
                    torch.matmul(x[n].mT, x[n], out=grad)
        for _ in square:
            product(VALIDATION_SIZE, True)

    return epoch


def traffic(depth: int, device: torch.device, lanes: int = 1) -> Epoch:
    """Copies of as many bytes as Adam's steps of an epoch read and write: three vectors read and written, one read."""
    layout = network_layout("tig", depth)
    entries = lanes * sum(size for size, moves in zip(layout.sizes, layout.trainable, strict=True) if moves)
    source, target = torch.zeros(2, 3 * entries + entries // 2, device=device)

    def epoch() -> None:
        for _ in SIZES:
            target.copy_(source)

    return epoch
