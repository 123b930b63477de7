"""What ``evo evaluate``, ``evo compare`` and ``evo calibrate`` print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evo.api import calibrate, compare, evaluate
from evo.cli.tables import calibration_table, pair_table, summary_table, training_table
from evo.cli.terminal import TrainingProgress, console, warn
from evo.evaluation.calibration import ASSUMPTIONS
from evo.evaluation.comparison import too_few
from evo.evaluation.pictures import check_path, draw_calibration, draw_comparison, save


def print_evaluation(targets: Sequence[str], *, as_json: bool, verbose: bool, **options: Any) -> None:
    """Evaluate and print; ``options``: of `evo.api.evaluate`."""
    with TrainingProgress() as progress:
        evaluation = evaluate(targets, progress=progress, **options)
    if as_json:
        _print_json(evaluation)
        return
    output = console()
    if verbose:
        output.print(training_table(evaluation))
    output.print(summary_table(evaluation))


def print_comparison(targets: Sequence[str], *, as_json: bool, out: Path | None, **options: Any) -> None:
    """Compare and print; ``out``: where a picture goes; ``options``: of `evo.api.compare`."""
    if out is not None:
        check_path(out)
    with TrainingProgress() as progress:
        comparison = compare(targets, progress=progress, **options)
    if out is not None:
        save(draw_comparison(comparison), out)
    if as_json:
        _print_json(comparison)
        return
    output = console()
    output.print(summary_table(comparison.evaluation))
    output.print(pair_table(comparison))
    for warning in too_few([pair for pair in comparison.pairs if pair.depth is None]):
        warn(warning)


def print_calibration(task: str, *, as_json: bool, out: Path | None, **options: Any) -> None:
    """Calibrate and print; ``out``: where a picture goes; ``options``: of `evo.api.calibrate`."""
    if out is not None:
        check_path(out)
    with TrainingProgress() as progress:
        calibration = calibrate(task, progress=progress, **options)
    if out is not None:
        save(draw_calibration(calibration), out)
    if as_json:
        _print_json(calibration)
        return
    output = console()
    output.print(calibration_table(calibration))
    output.print(calibration.verdict, highlight=False)
    for assumption in ASSUMPTIONS:
        output.print(assumption, style="dim", highlight=False)


def _print_json(found: Any) -> None:
    print(json.dumps(found.to_dict(), allow_nan=False))
