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
from evo.evaluation.statistics import paired
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
    (text,) = find_format("python").files(found).values()
    files.write(submission, text)
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
    """Champion and each baseline on the same instances, and how sure the difference is."""
    ours = [result.counted_quality for result in evaluation.of(champion)]
    said = [f"the champion on {len(ours)} unseen instances: mean quality {summarize(evaluation.of(champion)).mean:.3f}"]
    for baseline in recipe.baselines:
        found = paired(ours, [result.counted_quality for result in evaluation.of(baseline)])
        if not any(found.differences):
            said.append(f"  {baseline} is as good to the last digit: it is what the champion began as, or still is")
        elif found.low is None or found.high is None:
            said.append(f"  less that of {baseline}: {found.mean:+.3f}, on one instance, which tells nothing")
        else:
            sure = "" if found.low > 0 or found.high < 0 else ": a tie"
            between = f"95 % interval {found.low:+.3f} to {found.high:+.3f}{sure}"
            said.append(f"  less that of {baseline}: {found.mean:+.3f} ({between})")
    if recipe.baselines:
        depths = ",".join(map(str, recipe.difficulty.depths))
        names = (champion, *recipe.baselines)
        again = command("compare", *names, "--depths", depths, "--epochs", recipe.epochs, "--instances", "unseen:64")
        said.append(f"To be surer: {again}")
    return "\n".join(said)
