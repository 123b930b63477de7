"""What a submitter says of a submission: from options and from ``[export.tig]`` of a TOML file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from evo.errors import UsageError
from genomes.backends.own_names import RESERVED_IN_C, RESERVED_IN_RUST
from genomes.strict_yaml import escaped

MAX_NAME = 20  # characters of an algorithm's name
MAX_TEXT = 300
_NAME = re.compile(rf"[a-z][a-z0-9_]{{0,{MAX_NAME - 1}}}")
# names that the challenge, its framework or a crate has, as files, kernels or functions
_TAKEN = """
initialize_kernel finalize_kernel generate_rff_params generate_dataset init_linear_layer zero_out add_bias_forward
activation_forward activation_backward loss_mse backward_bias apply_parameter_updates_direct copy_tensor relu box_muller
template mod std core alloc anyhow cudarc serde serde_json rand ndarray ahash tig_challenges neuralnet_optimizer
tig_algorithms main lib"""
TAKEN = frozenset(_TAKEN.split())
LICENSE = (
    "Generating these files grants nothing. Submitting them to the challenge grants its owner an exclusive license to "
    "them: read its terms first."
)


@dataclass(frozen=True)
class Submission:
    """The details that a submission's README begins with; none is blank.

    ``algorithm``: also the name of the bundle, lower snake case. ``submitter``, ``creator``: identities, the creator of
    the algorithmic method. ``identifier``: the unique algorithm identifier, or ``null``.
    """

    algorithm: str
    copyright: str
    submitter: str
    creator: str
    identifier: str = "null"
    challenge: str = "neuralnet_optimizer"


KEYS = tuple(field.name for field in fields(Submission))


def submission(given: Mapping[str, Any], where: str) -> Submission:
    """The details, checked. ``where``: what messages begin with. Raises UsageError."""
    if unknown := [key for key in given if key not in KEYS]:
        raise UsageError(f"{where}: {escaped(str(unknown[0]))}: not one of {', '.join(KEYS)}")
    for key, value in given.items():
        problem = _problem(key, value)
        if problem:
            raise UsageError(f"{where}: {key}: {problem}")
    missing = [field.name for field in fields(Submission) if field.name not in given and field.name not in _DEFAULTS]
    if missing:
        raise UsageError(
            f"{where}: {missing[0]}: missing; say --field {missing[0]}=TEXT, or set it under [export.tig] of a file "
            "for --config"
        )
    return Submission(**{key: str(value) for key, value in given.items()})


_DEFAULTS = ("identifier", "challenge")


def _problem(key: str, value: Any) -> str:
    if not isinstance(value, str):
        return f"expected text, got {escaped(repr(value))}"
    if not value.strip():
        return "is blank"
    if value != escaped(value) or not value.isprintable():
        return f"has characters that cannot be printed: {escaped(value)}"
    if len(value) > MAX_TEXT:
        return f"has {len(value)} characters; at most {MAX_TEXT} are allowed"
    return name_problem(value) if key == "algorithm" else ""


def name_problem(name: str) -> str:
    """Why a bundle cannot have this name; empty where it can."""
    shown = escaped(name)
    if not _NAME.fullmatch(name):
        return f"{shown!r} is not lower snake case of at most {MAX_NAME} characters, such as my_optimizer"
    if name in RESERVED_IN_RUST.split() or name in RESERVED_IN_C.split():
        return f"{shown!r} means something in Rust or in C"
    if name in TAKEN or name.startswith("gbl_"):
        return f"{shown!r} is taken by the challenge"
    if "bra" in name:
        return f"{shown!r}: the challenge's compiler takes no kernel whose name has 'bra' in it"
    return ""


def read_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The details and the tracks under ``[export.tig]`` of a TOML file. Raises UsageError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: this is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}") from None
    found = table.get("export", {})
    found = found.get("tig") if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: export.tig: no such table")
    details = dict(found)
    tracks = details.pop("tracks", {})
    if not isinstance(tracks, dict):
        raise UsageError(f'{path}: export.tig.tracks: expected entries such as "4" = "genome.yaml"')
    return details, tracks


def depths(text: str, where: str) -> tuple[int, ...]:
    """Numbers of hidden layers from ``4`` or ``7,10``. Raises UsageError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 2 <= int(part) <= 1000 for part in parts):
        raise UsageError(f"{where}: {escaped(text)}: expected numbers of hidden layers, such as 4 or 7,10")
    return tuple(int(part) for part in parts)
