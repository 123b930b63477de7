"""The command line. Logs and progress go to stderr, data to stdout.

Exit codes: 0 done; 2 usage or configuration; 75 checkpointed, to be resumed; 1 anything else. What a command needs
is imported in it, so that ``evo --help`` waits for nothing.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from evo.errors import EvoError, UsageError

if TYPE_CHECKING:
    from evo.campaign.run import Outcome

CHECKPOINTED = 75

app = typer.Typer(
    name="evo",
    help="Discover neural-network optimizers by evolution.",
    epilog="A first campaign: evo demo runs/quickstart",
    no_args_is_help=True,
    add_completion=False,
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
Workers = Annotated[int, typer.Option(min=0, max=4096, help="worker processes; 0: one a CPU; a campaign on a GPU: one")]
MaxMinutes = Annotated[
    float | None, typer.Option(min=0.01, help="stop after so many minutes, with exit code 75", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object")]


def main() -> None:
    """Entry point of ``evo``: runs a command; mistakes of people end in a message and never in a traceback."""
    try:
        app()
    except EvoError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 1)
    except BrokenPipeError:  # whoever read our output has gone
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
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU where it can be used")] = "auto",
    workers: Workers = 0,
    max_minutes: MaxMinutes = None,
) -> None:
    """Begin the campaign of RUN/recipe.yaml and run it to its end, or until Ctrl-C."""
    from evo.campaign import progress
    from evo.campaign import run as campaign

    machine = campaign.Machine(workers, max_minutes)
    _end(run, campaign.launch(run, set_ or (), device=device, machine=machine, progress=progress.on()))


@app.command(epilog="Example: evo resume runs/quickstart --set generations=40")
def resume(run: Run, set_: Set = None, workers: Workers = 0, max_minutes: MaxMinutes = None) -> None:
    """Go on with a campaign that was stopped, by whatever means."""
    from evo.campaign import progress
    from evo.campaign import run as campaign

    machine = campaign.Machine(workers, max_minutes)
    _end(run, campaign.resume(run, set_ or (), machine=machine, progress=progress.on()))


@app.command(epilog="Example: evo status runs/quickstart --watch")
def status(
    run: Run,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="look again every two seconds, while it runs")] = False,
) -> None:
    """Show where a campaign stands; it may be running meanwhile."""
    from evo.campaign.status import status as campaign_status
    from evo.campaign.status import summary

    last = None
    try:
        while True:
            found = campaign_status(run)
            text = json.dumps(found.to_dict()) if as_json else summary(found)
            if text != last:
                print(text, flush=True)
            last = text
            if not watch or found.state != "running":
                return
            time.sleep(2)
    except KeyboardInterrupt:
        return


@app.command(epilog="Example: evo report runs/quickstart")
def report(
    run: Run,
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", help="default: RUN/out/report.html", show_default=False)
    ] = None,
) -> None:
    """Write one HTML page with pictures on a campaign, running or finished."""
    from evo.report import page as pages

    print(pages.write(run, out))


@app.command(epilog="Example: evo export runs/quickstart --format python --out champion.py")
def export(
    target: Annotated[str, typer.Argument(metavar="RUN|GENOME", help="a campaign's folder, a genome file, or a name")],
    format: Annotated[str, typer.Option(help="yaml: the genome; python: one file that needs torch alone")] = "python",
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", help="default: standard output", show_default=False)
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="place in the campaign's hall of fame")] = 1,
) -> None:
    """Take an optimizer along: as a genome, or as a standalone Python file."""
    from evo import files
    from evo.exports import formats as exports

    if format not in exports.FORMATS:
        raise UsageError(f"--format {format}: not one of {', '.join(exports.FORMATS)}")
    text = exports.FORMATS[format](exports.find(target, rank))
    if out is None:
        print(text, end="")
    else:
        files.write(out, text)
        print(out)


Targets = Annotated[
    list[str], typer.Argument(metavar="TARGET...", help="known optimizers, genomes (.yaml), submissions (.py)")
]
TaskName = Annotated[str, typer.Option(help="tig: as deployed; seed: as written")]
Depths = Annotated[str, typer.Option(help="numbers of hidden layers, e.g. 4,7")]
Seeds = Annotated[str, typer.Option(help="from:to:step, numbers, or hex: and 64 digits; at least 2900 apart")]
Epochs = Annotated[int, typer.Option(help="most epochs of a training")]
Patience = Annotated[int, typer.Option(help="epochs without improvement that end a training")]
Init = Annotated[str, typer.Option(help="initial weights: per_layer or shared")]
AccuracyFactor = Annotated[int, typer.Option(help="task seed alone: the higher, the harder")]
Device = Annotated[str, typer.Option(help="cpu or cuda")]
Picture = Annotated[
    Path | None, typer.Option("--out", metavar="PATH", help="a picture, .png or .svg", show_default=False)
]


@app.command(epilog="Example: evo evaluate adam lion mine.py --task tig --depths 4,7 --epochs 100")
def evaluate(
    targets: Targets,
    task: TaskName = "tig",
    depths: Depths = "4",
    seeds: Seeds = "0:80000:10000",
    epochs: Epochs = 1000,
    patience: Patience = 50,
    init: Init = "per_layer",
    accuracy_factor: AccuracyFactor = 0,
    dtype: Annotated[str, typer.Option(help="float32, or float64 to check against other implementations")] = "float32",
    device: Device = "cpu",
    workers: Workers = 0,
    as_json: Json = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="a row for each training")] = False,
) -> None:
    """Train optimizers on instances that you name, and say how well they do."""
    from evo.evaluation import evaluate as evaluation

    evaluation.run(
        targets, task=task, depths=depths, seeds=seeds, epochs=epochs, patience=patience, init=init,
        accuracy_factor=accuracy_factor, dtype=dtype, device=device, workers=workers, json_output=as_json,
        verbose=verbose,
    )  # fmt: skip


@app.command(epilog="Example: evo compare adam best.py --depths 4,7 --out differences.png")
def compare(
    targets: Targets,
    task: TaskName = "tig",
    depths: Depths = "4",
    seeds: Seeds = "0:640000:10000",
    epochs: Epochs = 1000,
    patience: Patience = 50,
    init: Init = "per_layer",
    accuracy_factor: AccuracyFactor = 0,
    device: Device = "cpu",
    workers: Workers = 0,
    as_json: Json = False,
    out: Picture = None,
) -> None:
    """Compare optimizers on the same instances: paired differences, intervals, corrected tests."""
    from evo.evaluation import compare as comparison

    comparison.run(
        targets, task=task, depths=depths, seeds=seeds, epochs=epochs, patience=patience, init=init,
        accuracy_factor=accuracy_factor, device=device, workers=workers, json_output=as_json, out=out,
    )  # fmt: skip


@app.command(epilog="Example: evo calibrate seed")
def calibrate(
    task: Annotated[str, typer.Argument(metavar="TASK", help="tig or seed")],
    depths: Annotated[str | None, typer.Option(help="default: all of the task", show_default=False)] = None,
    epochs: Epochs = 100,
    baselines: Annotated[str, typer.Option(help="known optimizers to train, e.g. adam,lion; none: bounds alone")] = (
        "adam,cautious_adanw"
    ),
    device: Device = "cpu",
    workers: Workers = 0,
    as_json: Json = False,
    out: Picture = None,
) -> None:
    """Say what can be reached at each difficulty: a Gaussian-process bound, the zero predictor, baselines."""
    from evo.evaluation import calibrate as calibration

    names = [] if baselines == "none" else baselines.split(",")
    calibration.run(
        task,
        depths=depths,
        baselines=names,
        epochs=epochs,
        device=device,
        workers=workers,
        json_output=as_json,
        out=out,
    )


@app.command(epilog="Example: evo catalogue lion")
def catalogue(
    name: Annotated[str | None, typer.Argument(help="one of them", show_default=False)] = None, as_json: Json = False
) -> None:
    """List the known optimizers, or show one of them."""
    from evo.cli import show

    show.catalogue_entry(name, as_json) if name else show.catalogue_list(as_json)


genome_app = typer.Typer(no_args_is_help=True, help="Look at a genome: check, show, simplify.")
app.add_typer(genome_app, name="genome")
GenomeFile = Annotated[str, typer.Argument(metavar="FILE", help="a genome file (.yaml) or a known optimizer's name")]


@genome_app.command(epilog="Example: evo genome check mine.yaml")
def check(file: GenomeFile) -> None:
    """Say whether a genome is sound, or all that is wrong with it."""
    from evo.cli import show

    show.check(file)


@genome_app.command("show", epilog="Example: evo genome show cautious_adanw")
def show_genome(file: GenomeFile, as_json: Json = False) -> None:
    """Formula as text and LaTeX, state buffers, operations and passes."""
    from evo.cli import show

    show.genome(file, as_json)


@genome_app.command(epilog="Example: evo genome simplify found.yaml --out simple.yaml")
def simplify(
    file: GenomeFile,
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", help="default: standard output", show_default=False)
    ] = None,
) -> None:
    """Remove what does not change how a genome acts, and say what: exactly, or as far as the probe sees."""
    from evo.cli import show

    show.simplified(file, out)


@app.command(epilog="Example: evo demo runs/quickstart")
def demo(run: Run = Path("runs/quickstart"), workers: Workers = 0) -> None:
    """Run a campaign, export its champion and judge the exported file on unseen instances, beside the baselines."""
    from evo.cli import demo as demonstration

    if not demonstration.run(run, workers):
        raise typer.Exit(CHECKPOINTED)


@app.command(epilog="Example: evo recipe > runs/mine/recipe.yaml")
def recipe(name: Annotated[str, typer.Option(help="the campaign's name")] = "mine") -> None:
    """Print a recipe with every key, its default and its meaning, to start from."""
    from evo.recipe import reader as config

    print(config.dump(config.named(name), comments=True), end="")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check that this machine has what evo needs: versions, workers, device, sandbox, permissions."""
    from evo.cli import doctor as checks

    found = checks.examine()
    if as_json:
        print(json.dumps({"checks": [vars(check) for check in found]}))
    else:
        for check in found:
            mark = "ok" if check.ok else "--" if check.optional else "!!"
            print(f"{mark} {check.name:<10} {check.found}".replace("\n", "\n" + " " * 14))
    if not all(check.ok or check.optional for check in found):
        raise typer.Exit(1)


def _end(run: Path, outcome: Outcome) -> None:
    """Say how a campaign ended and what comes next. Exits with 75 when it was stopped before its end."""
    champion = outcome.champion
    if champion:
        quality = f"quality {champion.quality:.3f} on the selection instances"
        _say(f"champion {champion.individual.name}, {quality} ({run / 'out' / 'champion.yaml'})")
    if not outcome.finished:
        _say(f"stopped after {outcome.generation} of {outcome.generations} generations, all that was trained is kept")
        _say(f"go on with: evo resume {run}")
        raise typer.Exit(CHECKPOINTED)
    _say(f"all {outcome.generations} generations are complete")
    _say(f"look at it: evo report {run}")
    _say(f"take it along: evo export {run} --format python --out champion.py")


def _say(message: Any) -> None:
    print(message, file=sys.stderr, flush=True)


def _fail(message: str, code: int) -> NoReturn:
    _say(message)
    sys.exit(code)
