"""Genomes as optimizers of torch models: ``init`` and ``update``, pure functions over explicit state, as in optax.

The arithmetic is the reference's (`genomes.backends.torch_reference`): readable rather than quick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from genomes.api.parameters import UNTRAINED, layers_of, roles_of
from genomes.backends import torch_reference
from genomes.compiler.lowering import lower
from genomes.language.genome import TENSOR_ROLES, Genome

Tensors = TypeVar("Tensors", Mapping[str, Tensor], Sequence[Tensor])


@dataclass(frozen=True, eq=False)  # its tensors have no one truth value
class OptimizerState:
    """What lasts between updates; never changed. ``names``: None where the parameters came as a list.

    ``roles``, ``layers``, ``shapes``, ``trained`` (whether the optimizer moves it): one entry per parameter.
    """

    names: tuple[str, ...] | None
    shapes: tuple[tuple[int, ...], ...]
    roles: tuple[str, ...]
    layers: tuple[int, ...]
    trained: tuple[bool, ...]
    _kept: torch_reference.State

    @property
    def step(self) -> int:
        """How many updates were made."""
        return self._kept.t


@dataclass(frozen=True)
class GenomeOptimizer:
    """The optimizer that a genome means. No function changes its arguments.

    ``epoch``: from 0. ``train_loss``, ``val_loss``: means of the last epoch, both or None while unknown; a genome
    reads them where it uses ``epoch`` or losses.
    """

    genome: Genome

    def init(
        self,
        params: Tensors,
        *,
        seed: int = 0,
        roles: Mapping[str, str] | Sequence[str] | None = None,
        layers: Mapping[str, int] | Sequence[int] | None = None,
        trained: Mapping[str, bool] | Sequence[bool] | None = None,
        steps_per_epoch: int = 0,
    ) -> OptimizerState:
        """The state before the first update.

        ``params``: tensors by name, or a list. ``seed``: of pseudo-random words, 0 to 2^256 - 1. ``roles``: ``weight``,
        ``bias``, ``norm_scale``, ``norm_shift`` or a name of `UNTRAINED`; ``layers``: from 0. Both are laid out as
        ``params`` and derived from names and shapes where not given. ``trained``: laid out so too; all but running
        statistics where not given. ``steps_per_epoch``: where the genome asks for it, as what evaluation sees does; 0
        where there are no epochs. Raises ValueError, TypeError.
        """
        names, tensors = _tensors("params", params)
        shapes = tuple(tuple(tensor.shape) for tensor in tensors)
        known = _laid_out("roles", roles, names, len(tensors)) or roles_of(names, shapes)
        for name, role in zip(_labels(names, len(tensors)), known, strict=True):
            if role not in (*TENSOR_ROLES, *UNTRAINED):
                raise ValueError(f"roles: {name} is {role!r}; known are {', '.join((*TENSOR_ROLES, *UNTRAINED))}")
        layer_of = _laid_out("layers", layers, names, len(tensors)) or layers_of(names, known)
        moved = _laid_out("trained", trained, names, len(tensors)) or [True] * len(tensors)
        trained = [bool(flag) and role not in UNTRAINED for flag, role in zip(moved, known, strict=True)]
        if type(steps_per_epoch) is not int or steps_per_epoch < 0:
            raise ValueError(f"steps_per_epoch: expected a whole number from 0, got {steps_per_epoch!r}")
        dtype, device = _common(names, [t for t, flag in zip(tensors, trained, strict=True) if flag])
        if type(seed) is not int or not 0 <= seed < 2**256:
            raise ValueError(f"seed: expected a whole number from 0 to 2^256 - 1, got {seed!r}")
        if any(type(layer) is not int or layer < 0 for layer in layer_of):
            raise ValueError(f"layers: expected whole numbers from 0, got {list(layer_of)}")
        kept = self._functions.init_state(
            seed.to_bytes(32, "little"),
            [tensor.numel() for tensor in tensors],
            shapes=shapes, roles=list(known), layers=list(layer_of), trainable=trained, steps_per_epoch=steps_per_epoch,
            dtype=dtype, device=device,
        )  # fmt: skip
        return OptimizerState(names, shapes, tuple(known), tuple(layer_of), tuple(trained), kept)

    def update(
        self,
        gradients: Tensors,
        state: OptimizerState,
        params: Tensors,
        *,
        epoch: int = 0,
        train_loss: float | None = None,
        val_loss: float | None = None,
    ) -> tuple[Tensors, OptimizerState]:
        """Updates to add to ``params``, laid out as they are, and the state after them.

        ``gradients``: of the loss, at ``params`` or at what `query` gave. Running statistics need no gradient; their
        update is 0. Raises ValueError where names or shapes are not those of `init`, TypeError.
        """
        given = self._checked("params", params, state, state.trained)
        slopes = self._checked("gradients", gradients, state, state.trained)
        kept = replace(state._kept, slots=list(state._kept.slots))
        updates = self._functions.step(kept, given, slopes, epoch, train_loss, val_loss)
        return _as(params, state, updates), replace(state, _kept=kept)

    def query(
        self,
        state: OptimizerState,
        params: Tensors,
        *,
        epoch: int = 0,
        train_loss: float | None = None,
        val_loss: float | None = None,
    ) -> Tensors:
        """The parameters at which to take the next gradient: ``params`` themselves unless the genome looks ahead.

        Raises ValueError where names or shapes are not those of `init`, TypeError.
        """
        given = self._checked("params", params, state, state.trained)
        queried = self._functions.query_at_params(state._kept, given, epoch, train_loss, val_loss)
        return params if queried is None else _as(params, state, queried)

    @property
    def _functions(self) -> torch_reference.TorchOptimizer:
        return torch_reference.optimizer(lower(self.genome))

    def _checked(self, what: str, given: Any, state: OptimizerState, needed: Sequence[bool]) -> list[Tensor]:
        """The tensors of ``given`` in the order of `init`, without their graphs; zeros for those that may be absent."""
        if state.names is None:
            names, tensors = _tensors(what, given, absent=True)
            if names is not None or len(tensors) != len(state.shapes):
                raise ValueError(f"{what}: expected a list of {len(state.shapes)} tensors, as in init")
        else:
            if not isinstance(given, Mapping):
                raise TypeError(f"{what}: expected a dict of tensors by name, as in init, got {_kind(given)}")
            unknown = [name for name in given if name not in state.names]
            if unknown:
                raise ValueError(f"{what}: {unknown[0]} was not among the parameters in init")
            tensors = [given.get(name) for name in state.names]
        checked = []
        labels = _labels(state.names, len(state.shapes))
        for label, tensor, shape, wanted in zip(labels, tensors, state.shapes, needed, strict=True):
            if tensor is None and wanted:
                raise ValueError(f"{what}: {label} is missing")
            if tensor is None:
                tensor = torch.zeros(shape, dtype=state._kept.dtype, device=state._kept.device)
            if not isinstance(tensor, Tensor):
                raise TypeError(f"{what}: {label} is {_kind(tensor)}, no tensor")
            if tuple(tensor.shape) != shape:
                raise ValueError(f"{what}: {label} has shape {_shape(tensor.shape)}; in init it had {_shape(shape)}")
            if wanted and (tensor.dtype, tensor.device) != (state._kept.dtype, state._kept.device):
                raise ValueError(
                    f"{what}: {label} is {tensor.dtype} on {tensor.device}; in init it was {state._kept.dtype} on "
                    f"{state._kept.device}"
                )
            checked.append(tensor.detach())
        return checked


def optimizer(genome: Genome) -> GenomeOptimizer:
    """The optimizer that a genome means. Raises GenomeError where it has no meaning."""
    lower(genome)
    return GenomeOptimizer(genome)


def _tensors(what: str, given: Any, absent: bool = False) -> tuple[tuple[str, ...] | None, list[Any]]:
    """Names, where there are any, and tensors. ``absent``: None may stand in a tensor's place."""
    if isinstance(given, Mapping):
        names, tensors = tuple(given), list(given.values())
    elif isinstance(given, Sequence) and not isinstance(given, str | bytes):
        names, tensors = None, list(given)
    else:
        raise TypeError(f"{what}: expected a dict or a list of tensors, got {_kind(given)}")
    for label, tensor in zip(_labels(names, len(tensors)), tensors, strict=True):
        if not isinstance(tensor, Tensor) and not (absent and tensor is None):
            raise TypeError(f"{what}: {label} is {_kind(tensor)}, no tensor")
    return names, tensors


def _laid_out(what: str, given: Any, names: tuple[str, ...] | None, count: int) -> list[Any] | None:
    """Facts about parameters in the order of the parameters; None where none were given."""
    if given is None:
        return None
    if names is not None and isinstance(given, Mapping):
        missing = [name for name in names if name not in given]
        if missing:
            raise ValueError(f"{what}: {missing[0]} is missing")
        return [given[name] for name in names]
    if isinstance(given, Mapping) or len(given) != count:
        raise ValueError(f"{what}: expected {count} entries, one per parameter")
    return list(given)


def _common(names: tuple[str, ...] | None, trained: list[Tensor]) -> tuple[torch.dtype, torch.device]:
    """The dtype and device that all trained parameters share."""
    if not trained:
        raise ValueError("params: there is nothing to train")
    kinds = {(tensor.dtype, tensor.device) for tensor in trained}
    if len(kinds) > 1 or not trained[0].is_floating_point():
        found = ", ".join(sorted({f"{dtype} on {device}" for dtype, device in kinds}))
        raise ValueError(f"params: expected one floating-point dtype and one device, got {found}")
    return trained[0].dtype, trained[0].device


def _as(params: Any, state: OptimizerState, tensors: list[Tensor]) -> Any:
    """Tensors in the order of `init`, laid out as ``params``: a dict of the same names, or a list."""
    if state.names is None:
        return tensors
    by_name = dict(zip(state.names, tensors, strict=True))
    return {name: by_name[name] for name in params}


def _labels(names: tuple[str, ...] | None, count: int) -> Sequence[str]:
    return names if names is not None else [f"entry {i}" for i in range(count)]


def _kind(value: Any) -> str:
    return f"a value of type {type(value).__name__}"


def _shape(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"
