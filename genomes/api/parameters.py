"""Roles and layers of parameters, from the names that frameworks give them, or from shapes alone."""

from __future__ import annotations

from collections.abc import Sequence

UNTRAINED = ("running_mean", "running_var", "num_batches_tracked")  # buffers beside the parameters in a state_dict
_BY_NAME = {
    **{name: name for name in UNTRAINED},
    "scale": "norm_scale", "gamma": "norm_scale", "beta": "norm_shift", "shift": "norm_shift",
}  # fmt: skip
_SCALES, _SHIFTS = ("weight", "scale", "gamma"), ("bias", "beta", "shift")


def roles_of(names: Sequence[str] | None, shapes: Sequence[tuple[int, ...]]) -> list[str]:
    """The role of each parameter: ``weight``, ``bias``, ``norm_scale``, ``norm_shift``, or a name of `UNTRAINED`.

    By the last part of a name such as ``bn1.running_mean``. A ``weight`` of at most one axis scales a normalization,
    and a ``bias`` beside it shifts one. Without a telling name: two axes or more are a weight, else it is a bias.
    """
    by_shape = ["weight" if len(shape) > 1 else "bias" for shape in shapes]
    if names is None:
        return by_shape
    modules = [name.rpartition(".") for name in names]
    norms = {
        module
        for (module, dot, last), shape in zip(modules, shapes, strict=True)
        if dot and len(shape) < 2 and last in _SCALES
    }
    roles = []
    for (module, _, last), role in zip(modules, by_shape, strict=True):
        if role == "bias" and module in norms and last in _SCALES + _SHIFTS:
            roles.append("norm_scale" if last in _SCALES else "norm_shift")
        else:
            roles.append(role if role == "weight" else _BY_NAME.get(last, role))
    return roles


def layers_of(names: Sequence[str] | None, roles: Sequence[str]) -> list[int]:
    """The layer of each parameter, from 0: one layer per weight, in their order.

    What shares a module's name with a weight (``2.bias`` with ``2.weight``) is of its layer; all else is of the layer
    of the last weight before it.
    """
    modules = [name.rpartition(".")[0] for name in names] if names is not None else [""] * len(roles)
    begun: dict[str, int] = {}
    own = []
    for module, role in zip(modules, roles, strict=True):
        own.append(sum(layer is not None for layer in own) if role == "weight" else None)
        if role == "weight" and module:
            begun[module] = own[-1]
    layers, last = [], 0
    for module, layer in zip(modules, own, strict=True):
        last = layer if layer is not None else last
        layers.append(layer if layer is not None else begun.get(module, last))
    return layers
