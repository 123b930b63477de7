"""``evo demo``: the whole path, from a recipe to an exported champion judged on instances that nobody saw."""

from __future__ import annotations

import sys
from pathlib import Path

from evo import files
from evo.campaign import progress
from evo.campaign import run as campaign
from evo.campaign.folder import RunFolder
from evo.campaign.run import Machine
from evo.evaluation import evaluate
from evo.evaluation.question import Question
from evo.evaluation.targets import resolve
from evo.exports import formats as export
from evo.recipe import reader as config
from evo.records import Purpose
from evo.report import page as report
from evo.search.instances import instances
from genomes.analysis.describe import formula


def run(path: Path, workers: int = 0) -> bool:
    """Launch or resume the campaign at ``path``, export, judge, report. False where it was stopped before its end."""
    folder = RunFolder.find(path)
    begin = campaign.resume if folder.ledger.is_file() else campaign.launch
    outcome = begin(path, machine=Machine(workers), progress=progress.on())
    if not outcome.finished:
        print(f"stopped; run the same command again, or: evo resume {path}", file=sys.stderr)
        return False
    found = export.find(str(path))
    submission, genome = folder.out / "champion.py", folder.out / "champion.yaml"
    files.write(submission, export.as_python(found))
    files.write(genome, export.as_yaml(found))
    page = report.write(path, None)

    recipe = config.load(folder.recipe, known=campaign.KNOWN)
    judged = _question(recipe, [str(submission), *recipe.baselines])
    print("judging the exported file on instances that the search never saw ...", file=sys.stderr)
    results = evaluate.evaluate(judged, workers=workers)
    evaluate.terminal().print(evaluate.summary_table(judged, results))
    print("\nThe champion:", *(f"  {line}" for line in formula(found.genome)), sep="\n")
    print(f"\n{_verdict(recipe, results, str(submission))}")
    print("\nTo look at:")
    for file, what in ((page, "pictures"), (submission, "the optimizer, one file"), (genome, "its genome")):
        print(f"  {file}  {what}")
    return True


def _question(recipe: config.Recipe, names: list[str]) -> Question:
    """The recipe's final instances: as many of each depth, which no search, retest or selection touched."""
    depths = recipe.difficulty.depths
    finals = instances(recipe, Purpose.FINAL, 0)[: max(1, recipe.instances.final // len(depths))]
    seeds: dict[bytes, int | str] = {instance.seed: f"hex:{instance.seed.hex()}" for instance in finals}
    return Question(recipe.task, tuple(resolve(names)), depths, seeds, recipe.epochs, recipe.patience, recipe.init)


def _verdict(recipe: config.Recipe, results: list[evaluate.Result], champion: str) -> str:
    """Champion and first baseline on the same instances, and what may be concluded from so few."""
    baseline = recipe.baselines[0] if recipe.baselines else None
    mean = {
        name: evaluate.summarise([r for r in results if r.target == name]).mean for name in {r.target for r in results}
    }
    if baseline is None:
        return f"champion: mean quality {mean[champion]:.3f}"
    ours = [r.counted_quality for r in results if r.target == champion]
    theirs = [r.counted_quality for r in results if r.target == baseline]
    better = sum(a > b for a, b in zip(ours, theirs, strict=True))
    return (
        f"champion: mean quality {mean[champion]:.3f}; {baseline}: {mean[baseline]:.3f}, on the same "
        f"{len(ours)} unseen instances ({better} of them better with the champion).\n"
        f"So few instances tell little: evo compare {champion} {baseline} --depths "
        f"{','.join(map(str, recipe.difficulty.depths))} --epochs {recipe.epochs} --seeds 0:320000:10000"
    )
