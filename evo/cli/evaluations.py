"""What ``evo evaluate``, ``evo compare`` and ``evo calibrate`` print: all that was found, and then they draw."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from evo.api import calibrate, compare, evaluate, explain
from evo.cli.messages import say
from evo.cli.tables import (
    calibration_table,
    pair_table,
    parts_table,
    removed,
    summary_table,
    training_table,
    unfinished,
)
from evo.cli.terminal import TrainingProgress, console, warn
from evo.errors import UsageError
from evo.evaluation import pictures
from evo.evaluation.comparison import compare_targets, too_few
from evo.evaluation.trainings import Evaluation, Interrupted
from evo.files import check_out, is_standard_output, write_out
from genomes.language.genome import dump


def print_evaluation(targets: Sequence[str], *, as_json: bool, verbose: bool, **options: Any) -> bool:
    """Evaluate and print; after Ctrl-C, what is finished. False where that is not all.

    ``options``: of `evo.api.evaluate`.
    """
    try:
        with TrainingProgress() as progress:
            evaluation = evaluate(targets, progress=progress, **options)
    except Interrupted as interrupted:
        say(str(interrupted))
        evaluation = interrupted.evaluation
    if as_json:
        _print_json(evaluation)
    elif evaluation.results:
        output = console()
        if verbose:
            output.print(training_table(evaluation))
        _print_summary(output, evaluation)
    return evaluation.complete


def print_comparison(
    targets: Sequence[str], *, as_json: bool, out: Path | None, force: bool = False, **options: Any
) -> bool:
    """Compare, print and draw; after Ctrl-C, print what is finished. False where that is not all.

    ``out``: where a picture goes; ``force``: over a file that exists; ``options``: of `evo.api.compare`.
    """
    _check_picture(out, force, as_json)
    try:
        with TrainingProgress() as progress:
            comparison = compare(targets, progress=progress, **options)
    except Interrupted as interrupted:
        say(str(interrupted))
        comparison = compare_targets(interrupted.evaluation)
    if as_json:
        _print_json(comparison)
    elif comparison.evaluation.results:
        output = _beside(out)
        _print_summary(output, comparison.evaluation)
        output.print(pair_table(comparison))
        for warning in too_few([pair for pair in comparison.pairs if pair.depth is None]):
            warn(warning)
    if out is not None and comparison.evaluation.complete:
        pictures.write(lambda: pictures.draw_comparison(comparison), out, force=force)
    return comparison.evaluation.complete


def print_calibration(task: str, *, as_json: bool, out: Path | None, force: bool = False, **options: Any) -> None:
    """Calibrate, print and draw.

    ``out``: where a picture goes; ``force``: over a file that exists; ``options``: of `evo.api.calibrate`.
    """
    _check_picture(out, force, as_json)
    with TrainingProgress() as progress:
        calibration = calibrate(task, progress=progress, **options)
    if as_json:
        _print_json(calibration)
    else:
        output = _beside(out)
        output.print(calibration_table(calibration))
        output.print(calibration.verdict, highlight=False)
        for assumption in calibration.assumptions:
            output.print(assumption, style="dim", highlight=False)
    if out is not None:
        pictures.write(lambda: pictures.draw_calibration(calibration), out, force=force)


def print_explanation(target: str, *, as_json: bool, out: Path | None, force: bool, **options: Any) -> None:
    """Ablate and print; write the simplified genome to ``out``. ``options``: of `evo.api.explain`."""
    if out is not None:
        check_out(out, force=force)
        if as_json and is_standard_output(out):
            raise UsageError(f"--out {out}: --json takes standard output; give the genome a file")
    with TrainingProgress() as progress:
        explanation = explain(target, progress=progress, **options)
    if as_json:
        _print_json(explanation)
    else:
        output = _beside(out)
        output.print(parts_table(explanation))
        for line in removed(explanation):
            output.print(line, highlight=False, soft_wrap=True)
    if out is not None:
        write_out(out, dump(explanation.simplified), force=force)


def _print_summary(output: Console, evaluation: Evaluation) -> None:
    output.print(summary_table(evaluation))
    for line in unfinished(evaluation):
        output.print(line, highlight=False, soft_wrap=True)


def _check_picture(out: Path | None, force: bool, as_json: bool) -> None:
    if out is None:
        return
    pictures.check_path(out, force=force)
    if as_json and is_standard_output(out):
        raise UsageError(f"--out {out}: --json takes standard output; give the picture a file")


def _beside(out: Path | None) -> Console:
    """Where tables go: standard output, or standard error where a picture goes there."""
    return console(stderr=out is not None and is_standard_output(out))


def _print_json(found: Any) -> None:
    print(json.dumps(found.to_dict(), allow_nan=False), flush=True)
