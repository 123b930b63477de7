"""The Python interface: campaigns, evaluation and export, for notebooks and other programs.

Every function returns a frozen object with ``to_dict()``, plain data that is ready for JSON. Nothing prints and nothing
ends the process; what is wrong is an `evo.errors.EvoError`, or its `UsageError` where the request is. ``progress``,
where it is taken, is called with `evo.events.Event` while the work goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import evo.campaign.run
from evo import files
from evo.campaign import additions, driven, explained
from evo.campaign.driven import Driven
from evo.campaign.folder import RunFolder
from evo.campaign.progress import Progress
from evo.campaign.run import Machine, Outcome
from evo.errors import UsageError
from evo.evaluation import ablation
from evo.evaluation.ablation import Explanation
from evo.evaluation.calibration import Calibration, calibrate_task, parse_calibration
from evo.evaluation.comparison import Comparison, compare_targets, parse_comparison
from evo.evaluation.defaults import (
    ACCURACY_FACTOR,
    BASELINE_INSTANCES,
    BASELINES,
    CALIBRATION_EPOCHS,
    DEPTHS,
    DEVICE,
    DTYPE,
    EPOCHS,
    EXPLAINING_INSTANCES,
    INIT,
    LOOP,
    PATIENCE,
    QUICK,
    TASK,
)
from evo.evaluation.question import Question, parse_question
from evo.evaluation.trainings import Evaluation, evaluate_targets
from evo.events import Event, Listener, ignore
from evo.exports.everything import everything
from evo.exports.formats import find_format
from evo.exports.source import champion, find, is_run, with_submission
from evo.records import Addition, Generation
from genomes.language.genome import Genome, parse
from harness.result import Training

Targets = str | Path | Sequence[str | Path]
Depths = str | int | Sequence[int]
Instances = str | int
Seeds = str | int | Sequence[int | str]


def launch(
    run: Path | str,
    overrides: str | Sequence[str] = (),
    *,
    device: str = "auto",
    workers: int = 0,
    max_minutes: float | None = None,
    cluster: str | None = None,
    progress: Listener = ignore,
) -> Outcome:
    """Begin the campaign of ``run``/recipe.yaml; returns at its end, after ``max_minutes``, or after Ctrl-C.

    ``overrides``: ``KEY=VALUE`` for keys of the recipe. ``device``: ``auto``, ``cpu`` or ``cuda``. ``workers``:
    processes; 0: one per CPU, or one that holds the GPU. ``cluster``: the address of a Ray cluster that trains, see
    docs/clusters.md; then ``device`` may be ``mixed``. Events: ``training`` (of a request of the search),
    ``generation``, ``message``. Raises UsageError, EvoError.
    """
    machine = Machine(workers, max_minutes, cluster=cluster)
    overrides = [overrides] if isinstance(overrides, str) else overrides
    return evo.campaign.run.launch(run, overrides, device=device, machine=machine, progress=_Forwarded(progress))


def resume(
    run: Path | str,
    overrides: str | Sequence[str] = (),
    *,
    workers: int = 0,
    max_minutes: float | None = None,
    cluster: str | None = None,
    progress: Listener = ignore,
) -> Outcome:
    """Go on with the campaign in the folder ``run``; as `launch`, on the device that it was launched on."""
    machine = Machine(workers, max_minutes, cluster=cluster)
    overrides = [overrides] if isinstance(overrides, str) else overrides
    return evo.campaign.run.resume(run, overrides, machine=machine, progress=_Forwarded(progress))


def add(
    run: Path | str, genomes: str | Path | Genome | Sequence[str | Path | Genome], *, by: str = ""
) -> tuple[Addition, ...]:
    """Queue genomes for the next generation of a campaign that has begun, running or stopped: all of them or none.

    ``genomes``: files (.yaml), known optimizers by name, or genomes. ``by``: who adds them; by default the user. Each
    trains beside the newcomers of that generation, has children as these, and passes the gate as any challenger before
    it is champion. Raises UsageError with all that is wrong, EvoError.
    """
    return tuple(additions.queue(run, [genomes] if isinstance(genomes, str | Path | Genome) else genomes, by))


@contextmanager
def drive(run: Path | str, overrides: str | Sequence[str] = (), *, progress: Listener = ignore) -> Iterator[Driven]:
    """Begin, or go on with, a campaign whose trainings this program does: ``ask()`` for lanes, ``tell()`` results.

    For a with statement, which holds the folder's lock. Each lane of ``ask()`` has ``text`` (the genome's YAML),
    ``instance`` and ``epochs``; see `evo.campaign.driven.Driven`. ``add`` works meanwhile. Events: as of `launch`.
    """
    overrides = [overrides] if isinstance(overrides, str) else overrides
    with driven.drive(run, overrides, progress=_Forwarded(progress)) as campaign:
        yield campaign


def evaluate(
    targets: Targets,
    *,
    task: str = TASK,
    depths: Depths = DEPTHS,
    instances: Instances | None = None,
    seeds: Seeds | None = None,
    epochs: int = EPOCHS,
    patience: int = PATIENCE,
    init: str = INIT,
    accuracy_factor: int = ACCURACY_FACTOR,
    dtype: str = DTYPE,
    without_calibration: bool = False,
    device: str = DEVICE,
    loop: str = LOOP,
    workers: int = 0,
    progress: Listener = ignore,
) -> Evaluation:
    """Train optimizers on the same instances: one per depth and seed.

    ``targets``: known optimizers, genome files (.yaml), submissions (.py). ``depths``: numbers of hidden layers.
    ``instances``: how many of a fresh label (8 by default), or ``LABEL:COUNT``, from which their seeds follow; what was
    drawn is in ``question.labeled``. ``seeds``, instead: numbers, or the command line's text, ``from:to:step`` or
    ``hex:`` and 64 digits. ``patience``: epochs without improvement that end a training. ``without_calibration``: train
    each genome that calibrates the outputs' mean a second time with that switched off, under its name with `` without
    calibration``; UsageError where none does. ``loop``: ``literal``, which defines what a training is, or ``quick``,
    the same but for rounding, on the CPU. Events: ``training``, ``warning``. Raises UsageError, EvoError.
    """
    question = parse_question(
        _names(targets), task=task, depths=depths, instances=instances, seeds=seeds, epochs=epochs, patience=patience,
        init=init, accuracy_factor=accuracy_factor, dtype=dtype, without_calibration=without_calibration,
    )  # fmt: skip
    _warn(question, progress)
    return evaluate_targets(question, workers=workers, device=device, progress=progress, loop=loop)


def compare(
    targets: Targets,
    *,
    task: str = TASK,
    depths: Depths = DEPTHS,
    instances: Instances | None = None,
    seeds: Seeds | None = None,
    epochs: int = EPOCHS,
    patience: int = PATIENCE,
    init: str = INIT,
    accuracy_factor: int = ACCURACY_FACTOR,
    without_calibration: bool = False,
    device: str = DEVICE,
    loop: str = LOOP,
    workers: int = 0,
    progress: Listener = ignore,
) -> Comparison:
    """Train optimizers as `evaluate` does, by default on 64 instances, and compare all pairs, instance by instance."""
    question = parse_comparison(
        _names(targets), task=task, depths=depths, instances=instances, seeds=seeds, epochs=epochs, patience=patience,
        init=init, accuracy_factor=accuracy_factor, without_calibration=without_calibration,
    )  # fmt: skip
    _warn(question, progress)
    return compare_targets(evaluate_targets(question, workers=workers, device=device, progress=progress, loop=loop))


def explain(
    target: str | Path,
    *,
    task: str | None = None,
    depths: Depths | None = None,
    instances: Instances = EXPLAINING_INSTANCES,
    epochs: int | None = None,
    patience: int | None = None,
    init: str | None = None,
    loop: str = QUICK,
    workers: int = 0,
    progress: Listener = ignore,
) -> Explanation:
    """Say what each part of a genome is worth, and remove what it can do without: see `evo.evaluation.ablation`.

    ``target``: a known optimizer, a genome file, or a campaign's folder, whose champion is explained as the campaign
    trains; its report and exports show the last result. The others as for `evaluate`; None: of the campaign, or as
    there. Events: ``training``, counted anew for each removal. Raises UsageError, EvoError.
    """
    given = {"task": task, "depths": depths, "epochs": epochs, "patience": patience, "init": init}
    usual: dict[str, Any] = {"task": TASK, "depths": DEPTHS, "epochs": EPOCHS, "patience": PATIENCE, "init": INIT}
    folder = RunFolder.find(target) if is_run(target) else None
    if folder is not None:
        target, recipe = champion(folder)
        usual = {key: getattr(recipe, key, None) for key in usual} | {"depths": recipe.difficulty.depths}
    options = usual | {key: value for key, value in given.items() if value is not None}
    question = parse_question([target], instances=instances, **options)
    (found,) = question.targets
    if found.foreign:
        raise UsageError(f"GENOME {target}: a submission cannot be looked into; give a genome (.yaml) or a known name")

    def train(asked: Question) -> Evaluation:
        return evaluate_targets(asked, workers=workers, progress=progress, loop=loop)

    explanation = ablation.explain(parse(found.text), question, train)
    if folder is not None:
        explained.keep(folder, explanation, question)
    return explanation


def calibrate(
    task: str,
    *,
    depths: Depths | None = None,
    instances: Instances | None = None,
    seeds: Seeds | None = None,
    epochs: int = CALIBRATION_EPOCHS,
    baselines: str | Sequence[str] = BASELINES,
    baseline_instances: int = BASELINE_INSTANCES,
    device: str = DEVICE,
    workers: int = 0,
    progress: Listener = ignore,
) -> Calibration:
    """Find what can be reached in ``task``: a Gaussian-process bound, the zero predictor, known optimizers.

    ``depths``: by default all of the task. ``instances``: by default ``calibration:16``, so that figures repeat.
    ``baselines``: known optimizers, or none; they are trained as `evaluate` does, on the first ``baseline_instances``.
    """
    baselines = [baselines] if isinstance(baselines, str) else baselines
    question = parse_calibration(
        task, depths=depths, instances=instances, seeds=seeds, epochs=epochs, baselines=baselines
    )
    _warn(question, progress)
    return calibrate_task(
        question, workers=workers, device=device, baseline_instances=baseline_instances, progress=progress
    )


@dataclass(frozen=True)
class Exported:
    """An exported optimizer. ``name``: the genome's. ``files``: texts by their paths within the export's folder.

    ``path``: where they were written, if they were: the file, or the folder of a format that has several.
    """

    name: str
    format: str
    files: Mapping[str, str]
    path: Path | None

    @property
    def text(self) -> str:
        """The text of the one file that there is. Raises UsageError where there are several."""
        if len(self.files) > 1:
            raise UsageError(f"--format {self.format} has several files: {', '.join(self.files)}")
        (text,) = self.files.values()
        return text

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data, ready for JSON."""
        path = None if self.path is None else str(self.path)
        return {"name": self.name, "format": self.format, "files": dict(self.files), "path": path}


def export(
    target: Path | str,
    format: str = "python",
    *,
    rank: int = 1,
    out: Path | str | None = None,
    force: bool = False,
    config: Path | str | None = None,
    fields: Mapping[str, str] | None = None,
    tracks: Mapping[str, Path | str] | None = None,
) -> Exported:
    """Render an optimizer in a format, and write it to ``out``, a file or a folder, where that is given (`evo.files`).

    ``target``: a campaign's folder (``rank`` in its hall of fame), a genome file or a known optimizer. ``format``: see
    `evo.exports.formats`. ``force``: overwrite files that exist. ``config``, ``fields``, ``tracks``: see
    `evo.exports.source.with_submission`. Raises UsageError, EvoError.
    """
    chosen = find_format(format)
    found = find(str(target), rank)
    if chosen.submits:
        found = with_submission(found, config, fields or {}, tracks or {})
    elif config or fields or tracks:
        raise UsageError(f"--format {format} has no submission: --config, --field and --track are for --format tig")
    exported = Exported(found.genome.name, format, chosen.files(found), None if out is None else Path(out))
    if exported.path is not None and chosen.is_folder:
        files.write_folder(exported.path, exported.files, force=force)
    elif exported.path is not None:
        files.write_out(exported.path, exported.text, force=force)
    return exported


def export_all(
    target: Path | str,
    *,
    out: Path | str,
    rank: int = 1,
    force: bool = False,
    config: Path | str | None = None,
    fields: Mapping[str, str] | None = None,
    tracks: Mapping[str, Path | str] | None = None,
) -> Exported:
    """Write an optimizer to the folder ``out`` in every format, with a README and, of a campaign, its report.

    ``format`` of the result is ``all``; its ``files`` have the report too. Formats for submissions are left out unless
    ``config``, ``fields`` or ``tracks`` are given; these and the rest are as in `export`. Raises UsageError, EvoError.
    """
    from evo.report import page

    found, folder = find(str(target), rank), Path(out)
    if config or fields or tracks:
        found = with_submission(found, config, fields or {}, tracks or {})
    report = "report.html" if is_run(target) else ""
    made = everything(found, report)
    files.check_folder(folder, [*made.files, *filter(None, [report])], force=force)
    files.write_folder(folder, made.files, force=force)
    written = dict(made.files)
    if report:
        written[report] = page.write(Path(target), folder / report, force=force).read_text()
    return Exported(found.genome.name, "all", written, folder)


class _Forwarded(Progress):
    """Tells a listener what the campaign tells its progress."""

    def __init__(self, listener: Listener):
        super().__init__()
        self._listener = listener

    def lane(self, training: Training) -> None:
        super().lane(training)
        self._listener(Event("training", self.done, self.total, self.purpose))

    def generation(self, generation: Generation) -> None:
        super().generation(generation)
        self._listener(Event("generation", self.done_generations, self.generations))

    def _show(self, message: str) -> None:
        self._listener(Event("message", self.done_generations, self.generations, message))


def _names(targets: Targets) -> Sequence[str | Path]:
    return [targets] if isinstance(targets, str | Path) else targets


def _warn(question: Question, progress: Listener) -> None:
    for warning in question.warnings:
        progress(Event("warning", message=warning))
