"""The command line: commands, options and exit codes. Logs and progress go to stderr, data to stdout.

Exit codes: 0 done; 2 usage or configuration; 75 checkpointed, to be resumed; 130 interrupted with Ctrl-C, where ``evo
evaluate`` and ``evo compare`` first print what is finished, marked as partial; 1 anything else. What a command needs
is imported in it, so that ``evo --help`` waits for nothing.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from evo.errors import EvoError
from evo.evaluation.defaults import (
    ACCURACY_FACTOR,
    BASELINES,
    CALIBRATION_EPOCHS,
    CALIBRATION_INSTANCES,
    COMPARISON_INSTANCES,
    DEPTHS,
    DEVICE,
    DTYPE,
    EPOCHS,
    EXPLAINING_INSTANCES,
    INIT,
    INSTANCES,
    LOOP,
    PATIENCE,
    QUICK,
    TASK,
)
from evo.files import STANDARD_OUTPUT

CHECKPOINTED = 75
INTERRUPTED = 130

app = typer.Typer(
    name="evo",
    help="Discover neural-network optimizers by evolution.",
    epilog="A first campaign: evo demo runs/quickstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Run = Annotated[Path, typer.Argument(metavar="RUN", help="a folder with a recipe.yaml", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="override a key of the recipe, e.g. difficulty.depths=[4,7]; repeatable"
    ),
]
Workers = Annotated[
    int, typer.Option(min=0, max=4096, help="worker processes; 0: one per CPU; a campaign on a GPU: one")
]
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="train on a Ray cluster: auto, host:port or ray://host:port; --workers: most of its CPUs or GPUs",
        show_default=False,
    ),
]
MaxMinutes = Annotated[
    float | None, typer.Option(min=0.01, help="stop after so many minutes, with exit code 75", show_default=False)
]
Notify = Annotated[
    str | None,
    typer.Option(
        metavar="COMMAND",
        help="run for each new champion, a stop and the end, with the facts in EVO_... variables (docs/serve.md)",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option(metavar="PATH", help="a file; -: standard output")]
ExportOut = Annotated[
    Path, typer.Option(metavar="PATH", help="a file or a folder, as the format is; -: standard output")
]
Algorithm = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="a search algorithm: its settings, and what else its source says", show_default=False
    ),
]
Force = Annotated[bool, typer.Option("--force", help="let --out overwrite a file")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object")]


def main() -> None:
    """Run a command; what a person can mend ends in a message and never in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no text of others ends a command after its work
    try:
        app()
    except EvoError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone
        sys.stdout = None
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.filename or 'evo'}: {error.strerror or error}", 1)
    except ValueError as error:
        from genomes.language.genome import GenomeError
        from genomes.strict_yaml import YamlError

        if not isinstance(error, GenomeError | YamlError):
            raise
        _fail(str(error), 2)


@app.command(epilog="Example: evo launch runs/quickstart --set population=12 --workers 2")
def launch(
    run: Run,
    set_: Set = None,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, or auto: a GPU where it can be used; mixed: both, on a cluster")
    ] = "auto",
    workers: Workers = 0,
    max_minutes: MaxMinutes = None,
    cluster: Cluster = None,
    notify: Notify = None,
) -> None:
    """Begin the campaign of RUN/recipe.yaml and run it to its end, or until Ctrl-C."""
    from evo.campaign.run import Machine
    from evo.cli.campaigns import launch_campaign

    machine = Machine(workers, max_minutes, cluster=cluster)
    if not launch_campaign(run, set_ or (), device=device, machine=machine, notify=notify):
        raise typer.Exit(CHECKPOINTED)


@app.command(epilog="Example: evo resume runs/quickstart --set generations=40")
def resume(
    run: Run,
    set_: Set = None,
    workers: Workers = 0,
    max_minutes: MaxMinutes = None,
    cluster: Cluster = None,
    notify: Notify = None,
) -> None:
    """Go on with a campaign that was stopped, by whatever means."""
    from evo.campaign.run import Machine
    from evo.cli.campaigns import resume_campaign

    machine = Machine(workers, max_minutes, cluster=cluster)
    if not resume_campaign(run, set_ or (), machine=machine, notify=notify):
        raise typer.Exit(CHECKPOINTED)


@app.command(epilog="Example: evo add runs/quickstart mine.yaml lion")
def add(
    run: Run,
    genomes: Annotated[
        list[str], typer.Argument(metavar="GENOME...", help="genome files (.yaml) or known optimizers' names")
    ],
) -> None:
    """Queue genomes for the next generation of a campaign, running or stopped."""
    from evo.cli.additions import add_genomes

    add_genomes(run, genomes)


@app.command(epilog="Example: evo control runs/quickstart")
def control(
    run: Run,
    algorithm: Annotated[
        list[str] | None,
        typer.Option("--algorithm", help="a search to compare with; again for more; default: both of the usual ones"),
    ] = None,
    workers: Workers = 0,
    max_minutes: MaxMinutes = None,
    cluster: Cluster = None,
) -> None:
    """Run random search and constants-only from a campaign's founders, with as many training steps, beside it."""
    from evo.campaign.run import Machine
    from evo.cli.controls import run_controls

    if not run_controls(run, algorithm or (), machine=Machine(workers, max_minutes, cluster=cluster)):
        raise typer.Exit(CHECKPOINTED)


@app.command(epilog="Example: evo status runs/quickstart --watch")
def status(
    run: Run,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="look again every two seconds, while it runs")] = False,
) -> None:
    """Show where a campaign stands; it may be running meanwhile."""
    from evo.cli.status import print_status

    print_status(run, as_json=as_json, watch=watch)


@app.command(epilog="Example: evo runs runs")
def runs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a folder of campaigns")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List the campaigns of a folder, and where each of them stands."""
    from evo.cli.runs import print_runs

    print_runs(folder, as_json=as_json)


@app.command(epilog="Example: evo diff runs/quickstart runs/mine")
def diff(
    first: Annotated[Path, typer.Argument(metavar="RUN1", help="a campaign", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="RUN2", help="another one", show_default=False)],
    as_json: Json = False,
) -> None:
    """Compare two campaigns: their recipes, their results, their champions' formulas."""
    from evo.cli.runs import print_difference

    print_difference(first, second, as_json=as_json)


@app.command(epilog="Example: evo serve runs --port 8642")
def serve(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUNS...", help="campaigns, or folders of campaigns; default: runs", show_default=False),
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="where to listen; any other than this machine's own needs --token")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8642,
    token: Annotated[
        str,
        typer.Option(metavar="TEXT", envvar="EVO_TOKEN", help="what a browser must show", show_default=False),
    ] = "",
    name: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="HOST", help="a further host name by which browsers come; repeatable"),
    ] = None,
) -> None:
    """Show campaigns in a browser, live, while they run; nothing is changed."""
    from evo.cli import serve as server

    server.serve(runs or [Path("runs")], host=host, port=port, token=token, names=name or ())


@app.command(epilog="Example: evo verify runs/quickstart")
def verify(run: Run, as_json: Json = False) -> None:
    """Check a campaign's ledger and its copies, row by row, and change nothing; exit code 1 where one is damaged."""
    from evo.cli.verify import print_verification

    if not print_verification(run, as_json=as_json):
        raise typer.Exit(1)


@app.command(epilog="Example: evo report runs/quickstart")
def report(
    run: Run,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="default: RUN/out/report.html, replaced; -: standard output", show_default=False
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write one HTML page with pictures on a campaign, running or finished."""
    from evo.cli.terminal import print_written
    from evo.report import page

    print_written(page.write(run, out, force=force))


class ExportCommand(TyperCommand):
    """``evo export``, whose help has a line for each format that there is."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As of any command; the formats are looked up now, when they are wanted."""
        from evo.exports.formats import formats

        lines = [f"{format.name}: {format.description}" for format in formats().values()]
        self.epilog = "\n\n".join(["Formats:", *lines, self.epilog or ""])
        super().format_help(ctx, formatter)


@app.command(cls=ExportCommand, epilog="Example: evo export runs/quickstart --format python --out champion.py")
def export(
    target: Annotated[str, typer.Argument(metavar="RUN|GENOME", help="a campaign's folder, a genome file, or a name")],
    format: Annotated[str, typer.Option(help="see below")] = "python",
    everything: Annotated[
        bool, typer.Option("--all", help="every format, a README and a campaign's report, to the folder --out")
    ] = False,
    out: ExportOut = STANDARD_OUTPUT,
    force: Force = False,
    rank: Annotated[
        int,
        typer.Option(min=1, help="rank in the hall of fame; of nsga2: 1, the champion, then its front"),
    ] = 1,
    config: Annotated[
        Path | None, typer.Option(help="tig: a TOML file whose table export.tig has the submission's details")
    ] = None,
    field: Annotated[
        list[str] | None, typer.Option(metavar="KEY=TEXT", help="tig: a detail of the submission, e.g. algorithm=mine")
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="DEPTHS=GENOME", help="tig: another genome for these depths, e.g. 7,10=x.yaml"),
    ] = None,
) -> None:
    """Write an optimizer as files: for the challenge, for training scripts, or for evo itself."""
    from evo.cli.exports import write_export

    write_export(
        target, None if everything else format, rank=rank, out=out, force=force, config=config, fields=field or (),
        tracks=track or (),
    )  # fmt: skip


Targets = Annotated[
    list[str], typer.Argument(metavar="TARGET...", help="known optimizers, genomes (.yaml), submissions (.py)")
]
TaskName = Annotated[str, typer.Option(help="tig: as deployed; seed: as written")]
Depths = Annotated[str, typer.Option(help="numbers of hidden layers, e.g. 4,7")]
Instances = Annotated[
    str | None,
    typer.Option(
        metavar="[LABEL:]COUNT",
        help="instances by label, e.g. unseen:8; without one, a fresh label is drawn and printed; default: "
        f"{INSTANCES} (compare: {COMPARISON_INSTANCES}, calibrate: {CALIBRATION_INSTANCES})",
        show_default=False,
    ),
]
Seeds = Annotated[
    str | None,
    typer.Option(
        help="instead of --instances: from:to:step, numbers, or hex: and 64 digits; at least 2900 apart",
        show_default=False,
    ),
]
Epochs = Annotated[int, typer.Option(help="most epochs of a training")]
Patience = Annotated[int, typer.Option(help="epochs without improvement that end a training")]
Init = Annotated[str, typer.Option(help="initial weights: per_layer or shared")]
WithoutCalibration = Annotated[
    bool,
    typer.Option(
        "--without-calibration",
        help="beside each genome that calibrates the outputs' mean, the same with that switched off",
    ),
]
AccuracyFactor = Annotated[int, typer.Option(help="task seed alone: the higher, the harder")]
Device = Annotated[str, typer.Option(help="cpu or cuda")]
Loop = Annotated[
    str,
    typer.Option(
        help="literal, or quick: the loop of campaigns, the same but for rounding; on a GPU all lanes together"
    ),
]
Picture = Annotated[
    Path | None,
    typer.Option("--out", metavar="PATH", help="a picture, .png or .svg; -: standard output", show_default=False),
]


@app.command(epilog="Example: evo evaluate adam lion mine.py --task tig --depths 4,7 --epochs 100")
def evaluate(
    targets: Targets,
    task: TaskName = TASK,
    depths: Depths = DEPTHS,
    instances: Instances = None,
    seeds: Seeds = None,
    epochs: Epochs = EPOCHS,
    patience: Patience = PATIENCE,
    init: Init = INIT,
    accuracy_factor: AccuracyFactor = ACCURACY_FACTOR,
    dtype: Annotated[str, typer.Option(help="float32, or float64 to check against other implementations")] = DTYPE,
    device: Device = DEVICE,
    loop: Loop = LOOP,
    workers: Workers = 0,
    without_calibration: WithoutCalibration = False,
    as_json: Json = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="a row for each training")] = False,
) -> None:
    """Train optimizers on the same instances, fresh ones unless you name them, and say how well they do."""
    from evo.cli.evaluations import print_evaluation

    complete = print_evaluation(
        targets, task=task, depths=depths, instances=instances, seeds=seeds, epochs=epochs, patience=patience,
        init=init, accuracy_factor=accuracy_factor, dtype=dtype, device=device, loop=loop, workers=workers,
        without_calibration=without_calibration, as_json=as_json, verbose=verbose,
    )  # fmt: skip
    if not complete:
        raise typer.Exit(INTERRUPTED)


@app.command(epilog="Example: evo compare adam best.py --depths 4,7 --out differences.png")
def compare(
    targets: Targets,
    task: TaskName = TASK,
    depths: Depths = DEPTHS,
    instances: Instances = None,
    seeds: Seeds = None,
    epochs: Epochs = EPOCHS,
    patience: Patience = PATIENCE,
    init: Init = INIT,
    accuracy_factor: AccuracyFactor = ACCURACY_FACTOR,
    device: Device = DEVICE,
    loop: Loop = LOOP,
    workers: Workers = 0,
    without_calibration: WithoutCalibration = False,
    as_json: Json = False,
    out: Picture = None,
    force: Force = False,
) -> None:
    """Compare optimizers on the same instances: paired differences, intervals, corrected tests."""
    from evo.cli.evaluations import print_comparison

    complete = print_comparison(
        targets, task=task, depths=depths, instances=instances, seeds=seeds, epochs=epochs, patience=patience,
        init=init, accuracy_factor=accuracy_factor, device=device, loop=loop, workers=workers,
        without_calibration=without_calibration, as_json=as_json, out=out, force=force,
    )  # fmt: skip
    if not complete:
        raise typer.Exit(INTERRUPTED)


def _explained(what: str, usual: object) -> str:
    return f"{what}; default: the campaign's, or {usual}"


@app.command(epilog="Example: evo explain champion.yaml --depths 4,7 --instances 32 --out simple.yaml")
def explain(
    target: Annotated[
        str,
        typer.Argument(metavar="RUN|GENOME", help="a campaign's folder, a known optimizer or a genome file (.yaml)"),
    ],
    task: Annotated[str | None, typer.Option(help=_explained("tig or seed", TASK), show_default=False)] = None,
    depths: Annotated[
        str | None, typer.Option(help=_explained("numbers of hidden layers", DEPTHS), show_default=False)
    ] = None,
    instances: Instances = str(EXPLAINING_INSTANCES),
    epochs: Annotated[
        int | None, typer.Option(help=_explained("most epochs of a training", EPOCHS), show_default=False)
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help=_explained("epochs without improvement", PATIENCE), show_default=False)
    ] = None,
    init: Annotated[str | None, typer.Option(help=_explained("per_layer or shared", INIT), show_default=False)] = None,
    loop: Loop = QUICK,
    workers: Workers = 0,
    as_json: Json = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="the simplified genome", show_default=False)
    ] = None,
    force: Force = False,
) -> None:
    """Say what each part of an optimizer is worth, and remove what it can do without.

    Of a campaign: its champion, as the campaign trains; its report and exports show the result.
    """
    from evo.cli.evaluations import print_explanation

    print_explanation(
        target, task=task, depths=depths, instances=instances, epochs=epochs, patience=patience, init=init, loop=loop,
        workers=workers, as_json=as_json, out=out, force=force,
    )  # fmt: skip


@app.command(epilog="Example: evo calibrate seed")
def calibrate(
    task: Annotated[str, typer.Argument(metavar="TASK", help="tig or seed")],
    depths: Annotated[str | None, typer.Option(help="default: all of the task", show_default=False)] = None,
    instances: Instances = None,
    epochs: Epochs = CALIBRATION_EPOCHS,
    baselines: Annotated[str, typer.Option(help="known optimizers to train, e.g. adam,lion; none: bounds alone")] = (
        ",".join(BASELINES)
    ),
    device: Device = DEVICE,
    workers: Workers = 0,
    as_json: Json = False,
    out: Picture = None,
    force: Force = False,
) -> None:
    """Say what can be reached at each difficulty: a Gaussian-process bound, the zero predictor, baselines."""
    from evo.cli.evaluations import print_calibration

    names = [] if baselines == "none" else baselines.split(",")
    print_calibration(
        task, depths=depths, instances=instances, epochs=epochs, baselines=names, device=device, workers=workers,
        as_json=as_json, out=out, force=force,
    )  # fmt: skip


@app.command(epilog="Example: evo catalogue lion")
def catalogue(
    name: Annotated[str | None, typer.Argument(help="one of them", show_default=False)] = None, as_json: Json = False
) -> None:
    """List the known optimizers, or show one of them."""
    from evo.cli.show import print_catalogue, print_catalogue_entry

    print_catalogue_entry(name, as_json) if name else print_catalogue(as_json)


genome_app = typer.Typer(no_args_is_help=True, help="Look at a genome: check, show, simplify.")
app.add_typer(genome_app, name="genome")
GenomeFile = Annotated[str, typer.Argument(metavar="FILE", help="a genome file (.yaml) or a known optimizer's name")]


@genome_app.command(epilog="Example: evo genome check mine.yaml")
def check(file: GenomeFile) -> None:
    """Say whether a genome is sound, or all that is wrong with it."""
    from evo.cli.show import print_check

    print_check(file)


@genome_app.command("show", epilog="Example: evo genome show cautious_adanw")
def show_genome(file: GenomeFile, as_json: Json = False) -> None:
    """Formula as text and LaTeX, state buffers, operations and passes."""
    from evo.cli.show import print_genome

    print_genome(file, as_json)


@genome_app.command(epilog="Example: evo genome simplify found.yaml --out simple.yaml")
def simplify(
    file: GenomeFile,
    out: Out = STANDARD_OUTPUT,
    force: Force = False,
) -> None:
    """Remove what does not change how a genome acts, and say what: exactly, or as far as the probe sees."""
    from evo.cli.show import write_simplified

    write_simplified(file, out, force)


@genome_app.command("without-calibration", epilog="Example: evo genome without-calibration calibrated_adam")
def switch_off_calibration(file: GenomeFile, out: Out = STANDARD_OUTPUT, force: Force = False) -> None:
    """Write the same genome without its calibration of the outputs' mean, to be judged beside it."""
    from evo.cli.show import write_without_calibration

    write_without_calibration(file, out, force)


@app.command(epilog="Example: evo demo runs/quickstart")
def demo(run: Run = Path("runs/quickstart"), workers: Workers = 0) -> None:
    """Run a campaign, export its champion and judge the exported file on unseen instances, beside the baselines."""
    from evo.cli.demo import run_demo

    if not run_demo(run, workers):
        raise typer.Exit(CHECKPOINTED)


@app.command(epilog="Example: evo new runs/mine --algorithm nsga2")
def new(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the folder to make", show_default=False)],
    name: Annotated[
        str | None, typer.Option(help="the campaign's name; by default the folder's", show_default=False)
    ] = None,
    algorithm: Algorithm = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite the recipe that is there")] = False,
) -> None:
    """Make a campaign's folder with a recipe in it: every key, its default and its meaning."""
    from evo.cli.new import make_folder

    make_folder(run, name, algorithm, force=force)


@app.command(epilog="Example: evo recipe --name mine > recipe.yaml")
def recipe(
    name: Annotated[str, typer.Option(help="the campaign's name")] = "mine", algorithm: Algorithm = None
) -> None:
    """Print what `evo new` writes: a recipe with every key, its default and its meaning."""
    from evo.files import write_out
    from evo.recipe import reader

    write_out(STANDARD_OUTPUT, reader.dump(reader.named(name, algorithm), comments=True))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check that this machine has what evo needs: versions, workers, device, sandbox, permissions."""
    from evo.cli.doctor import print_checks

    if not print_checks(as_json):
        raise typer.Exit(1)


def _fail(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr, flush=True)
    sys.exit(code)
