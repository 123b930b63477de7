"""How a training's fields stand in the ledger: the one place that knows columns, their types and their texts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from harness.result import Training


@dataclass(frozen=True)
class Column:
    """A column and how a value gets into it and out again."""

    type: str
    write: Callable[[Any], Any] = lambda value: value
    read: Callable[[Any], Any] = lambda value: value


def real(value: float | None) -> float | str | None:
    """A number as SQLite keeps it exactly: it would turn NaN into NULL, so NaN goes in as a word."""
    if value is None:
        return None
    return "nan" if math.isnan(value) else float(value)


def number(value: float | str | None) -> float | None:
    """The inverse of ``real``."""
    return None if value is None else float(value)


def _optional(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else function(value)


_TEXT = Column("TEXT NOT NULL", write=lambda text: text.encode(errors="replace").decode())  # no lone surrogates
_REAL = Column("REAL", real, number)
_LOSSES = Column(  # JSON lists: their numbers are exact, with NaN and Infinity
    "TEXT NOT NULL", lambda losses: json.dumps(losses, separators=(",", ":")), json.loads
)
COLUMNS: dict[str, Column] = {
    "status": _TEXT,
    "message": _TEXT,
    "epochs_run": Column("INTEGER NOT NULL"),
    "best_epoch": Column("INTEGER"),
    "train_loss": _LOSSES,
    "val_loss": _LOSSES,
    "test_loss": _REAL,
    "target_loss": Column("REAL NOT NULL", real, number),
    "quality": _REAL,
    "passed": Column("INTEGER", _optional(int), _optional(bool)),
    "seconds": Column("REAL NOT NULL"),
}
TIMES = ("seconds",)  # outside checksum and digest
if set(COLUMNS) != {field.name for field in fields(Training)}:
    raise ValueError("every field of a Training needs its column, and no other")
CONTENT = tuple(name for name in COLUMNS if name not in TIMES)


def to_row(training: Training, names: Sequence[str]) -> tuple:
    """The fields ``names`` of a training as SQLite keeps them."""
    return tuple(COLUMNS[name].write(getattr(training, name)) for name in names)


def from_fields(fields: Mapping[str, Any]) -> Training:
    """The training in the fields of a row, by column."""
    return Training(**{name: column.read(fields[name]) for name, column in COLUMNS.items()})
