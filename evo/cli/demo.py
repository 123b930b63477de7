"""``evo demo``: the whole path, from a recipe to an exported champion judged on unseen instances."""

from __future__ import annotations

from pathlib import Path

from evo import files
from evo.campaign.folder import RunFolder
from evo.campaign.run import Machine, launch, resume
from evo.campaign.status import has_progress
from evo.cli.campaigns import shown_progress
from evo.cli.messages import say
from evo.cli.tables import summary_table
from evo.cli.terminal import TrainingProgress, console
from evo.evaluation.question import Question
from evo.evaluation.seeds import Seeds
from evo.evaluation.summaries import summarize
from evo.evaluation.targets import resolve
from evo.evaluation.trainings import Evaluation, evaluate_targets
from evo.exports.formats import find_format
from evo.exports.source import find
from evo.formatting import command
from evo.ledger.ledger import Ledger
from evo.recipe import reader
from evo.recipe.schema import Recipe
from evo.records import Purpose
from evo.report import page
from evo.search.instances import instances
from genomes.analysis.describe import formula


def run_demo(path: Path, workers: int = 0) -> bool:
    """Launch or resume the campaign at ``path``, export, judge, report. False where it was stopped before its end."""
    folder = RunFolder.find(path)
    begin = resume if has_progress(folder) else launch
    outcome = begin(path, machine=Machine(workers), progress=shown_progress())
    if not outcome.finished:
        say(f"stopped; run the same command again, or: {command('resume', path)}")
        return False
    found = find(str(path))
    submission, genome = folder.out / "champion.py", folder.champion
    files.write(submission, find_format("python").render(found))
    report = page.write(path, None)

    with Ledger.open_to_read(folder.ledger) as ledger:
        recipe = reader.from_text(ledger.meta()["recipe"])
    say("judging the exported file on instances that the search never saw ...")
    with TrainingProgress() as bar:
        question = _question(recipe, [str(submission), *recipe.baselines])
        evaluation = evaluate_targets(question, workers=workers, progress=bar)
    console().print(summary_table(evaluation))
    print("\nThe champion:", *(f"  {line}" for line in formula(found.genome)), sep="\n")
    print(f"\n{_verdict(recipe, evaluation, str(submission))}")
    print("\nTo look at:")
    for file, what in ((report, "pictures"), (submission, "the optimizer, one file"), (genome, "its genome")):
        print(f"  {file}  {what}")
    return True


def _question(recipe: Recipe, names: list[str]) -> Question:
    """The recipe's final instances: as many of each depth, which no other purpose touched."""
    depths = recipe.difficulty.depths
    finals = instances(recipe, Purpose.FINAL, 0)[: max(1, recipe.instances.final // len(depths))]
    seeds: Seeds = {instance.seed: f"hex:{instance.seed.hex()}" for instance in finals}
    return Question(recipe.task, tuple(resolve(names)), depths, seeds, recipe.epochs, recipe.patience, recipe.init)


def _verdict(recipe: Recipe, evaluation: Evaluation, champion: str) -> str:
    """Champion and first baseline on the same instances, and what may be concluded from so few."""

    def mean(name: str) -> float:
        return summarize(evaluation.of(name)).mean

    if not recipe.baselines:
        return f"champion: mean quality {mean(champion):.3f}"
    baseline = recipe.baselines[0]
    ours = [result.counted_quality for result in evaluation.of(champion)]
    theirs = [result.counted_quality for result in evaluation.of(baseline)]
    depths = ",".join(map(str, recipe.difficulty.depths))
    again = command("compare", champion, baseline, "--depths", depths, "--epochs", recipe.epochs, "--instances", 32)
    better = sum(a > b for a, b in zip(ours, theirs, strict=True))
    return (
        f"champion: mean quality {mean(champion):.3f}; {baseline}: {mean(baseline):.3f}, on the same "
        f"{len(ours)} unseen instances ({better} of them better with the champion).\n"
        f"So few instances tell little: {again}"
    )
