"""Runs the three functions of a program, in the reference or as generated Python, along the common trajectory."""

from __future__ import annotations

import importlib.util
import zlib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from genomes.backends.flat.optimizer import FlatProgram
from genomes.backends.python_source import render
from genomes.backends.readout import frozen_end
from genomes.backends.torch_reference import optimizer
from genomes.compiler.lowering import lower
from genomes.compiler.program import Program
from genomes.language import genome
from genomes.language.genome import Genome
from tests.genomes import trajectory


class Generated:
    """The functions of a program's Python source, imported from a file as a user of an export would."""

    def __init__(self, program: Program, folder: Path):
        text = render(program)
        # a name of its own: Python takes files of one name, size and second for the same
        path = folder / f"generated_{zlib.crc32(text.encode())}.py"
        path.write_text(text)
        self.module = load_module(path)

    def init_state(self, seed: bytes, param_sizes: list[int], **context: Any) -> Any:
        return self.module.optimizer_init_state(seed, param_sizes, **context)

    def query_at_params(self, *arguments: Any) -> list[Tensor] | None:
        return self.module.optimizer_query_at_params(*arguments)

    def step(self, *arguments: Any) -> list[Tensor]:
        return self.module.optimizer_step(*arguments)


NETWORK = ("shapes", "roles", "layers", "trainable", "steps_per_epoch")  # of a `harness.flat.Network`


class Flat:
    """The three functions over the flat back end: it gets copies in one vector, and gives views of another."""

    def __init__(self, program: Program):
        self.program = program

    def init_state(self, seed: bytes, param_sizes: list[int], **context: Any) -> SimpleNamespace:
        trained = [i for i, flag in enumerate(context["trainable"]) if flag]
        sizes = [param_sizes[i] for i in trained]
        theta, gradient = torch.zeros(2, sum(sizes), dtype=context["dtype"])
        about = {name: [context[name][i] for i in trained] for name in ("shapes", "roles", "layers")}
        network = SimpleNamespace(params=[], **{name: context.get(name, 0) for name in NETWORK})
        run = FlatProgram(self.program).bind(theta, gradient, seed=seed, indices=trained, network=network, **about)
        return SimpleNamespace(run=run, theta=theta, gradient=gradient, trained=trained, sizes=sizes, network=network)

    def query_at_params(self, state: SimpleNamespace, params: list[Tensor], *known: Any) -> list[Tensor] | None:
        state.theta.copy_(torch.cat([params[i].flatten() for i in state.trained]))
        queried = state.run.query(*known)
        if queried is None:
            return None
        tensors = self._split(state, queried, list(params))
        if state.run.output_bias is not None:
            tensors[-1] = tensors[-1] + state.run.output_bias
        if state.run.frozen_scale is not None:
            about = (getattr(state.network, name) for name in ("shapes", "roles", "layers", "trainable"))
            tensors[frozen_end(*about)[3]] = state.run.frozen_scale.clone()
        return tensors

    def step(self, state: SimpleNamespace, params: list[Tensor], gradients: list[Tensor], *known: Any) -> list[Tensor]:
        for vector, tensors in ((state.theta, params), (state.gradient, gradients)):
            vector.copy_(torch.cat([tensors[i].flatten() for i in state.trained]))
        state.network.params[:] = params
        before = state.theta.clone(), state.gradient.clone()
        update = state.run.step(*known)
        torch.testing.assert_close((state.theta, state.gradient), before, rtol=0, atol=0, equal_nan=True)
        return self._split(state, update, [torch.zeros_like(p) for p in params])

    def _split(self, state: SimpleNamespace, vector: Tensor, tensors: list[Tensor]) -> list[Tensor]:
        for i, part in zip(state.trained, vector.split(state.sizes), strict=True):
            tensors[i] = part.view(tensors[i].shape).clone()
        return tensors


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("generated", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def drive(functions: Any, steps: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """All that the functions return in the first ``steps`` steps: queried parameters and updates, in order."""
    state = functions.init_state(bytes(range(32)), trajectory.sizes(), **trajectory.context(dtype))
    theta = trajectory.start(dtype)
    returned = []
    for now in trajectory.moments(steps):
        queried = functions.query_at_params(state, theta, now.epoch, now.train_loss, now.val_loss)
        returned += queried or []
        gradients = now.gradient(theta if queried is None else queried)
        updates = functions.step(state, theta, gradients, now.epoch, now.train_loss, now.val_loss)
        assert [u.shape for u in updates] == [p.shape for p in theta]
        assert all(u.dtype == dtype for u in updates)
        returned += updates
        theta = [p + torch.tanh(u) for p, u in zip(theta, updates, strict=True)]  # bounded, whatever the optimizer
    return returned


def from_expression(text: str, **genes: Any) -> Program:
    """The program of `expression_genome`."""
    return lower(expression_genome(text, **genes))


def expression_genome(text: str, **genes: Any) -> Genome:
    """The genome whose direction is one expression, with lr 1."""
    lines = [f"expr: {_quoted(text)}"]
    gates = genes.pop("gates", [])
    post = genes.pop("post", [])
    query = genes.pop("query", None)
    let = genes.pop("let", [])
    yaml = ["genome: 1", "name: probe", "lr: 1", "terms:", f"  - {lines[0]}"]
    if let:
        yaml += ["let:", *(f"  - {_quoted(line)}" for line in let)]
    if gates:
        yaml += ["gates:", *(f"  - {_quoted(gate)}" for gate in gates)]
    if post:
        yaml += ["post:", *(f"  - {_quoted(gate)}" for gate in post)]
    if isinstance(query, str):
        yaml.append(f"query: {query}")
    elif query:
        outputs = ", ".join(map(_quoted, query[2:]))
        yaml += [f"query: {{offset: {_quoted(query[0])}, when: {_quoted(query[1])}, outputs: [{outputs}]}}"]
    yaml += [f"{key}: {value}" for key, value in genes.items()]
    return genome.parse("\n".join(yaml))


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def value_of(text: str, g: list[float], theta: list[float] | None = None, dtype: torch.dtype = torch.float64) -> Tensor:
    """The value of an expression in the first step, for one weight tensor ``[n, 1]`` with these gradients."""
    functions = optimizer(from_expression(text))
    return -one_step(functions, g, theta, dtype)


def one_step(functions: Any, g: list[float], theta: list[float] | None, dtype: torch.dtype) -> Tensor:
    count = len(g)
    state = functions.init_state(
        bytes(32), [count], shapes=[(count, 1)], roles=["weight"], trainable=[True], layers=[0],
        device=torch.device("cpu"), dtype=dtype,
    )  # fmt: skip
    parameters = torch.tensor(theta or [0.5] * count, dtype=dtype).reshape(count, 1)
    gradient = torch.tensor(g, dtype=dtype).reshape(count, 1)
    return functions.step(state, [parameters], [gradient], 0, None, None)[0].flatten()
