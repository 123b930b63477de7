"""Where an exported genome comes from: a campaign's hall of fame, a genome file, or the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from evo.campaign import explained
from evo.campaign.folder import RunFolder
from evo.campaign.ranking import ranked
from evo.campaign.status import open_to_read
from evo.errors import UsageError
from evo.exports.export import Export, Measured
from evo.exports.submission import depths, read_config, submission
from evo.formatting import command, interval
from evo.ledger.ledger import Ledger
from evo.recipe import reader
from evo.recipe.schema import Recipe
from evo.records import Estimate, Individual, lane_steps
from evo.search.evidence import fit
from genomes import catalogue
from genomes.compiler.identity import genome_identity
from genomes.compiler.lowering import read
from genomes.language.genome import MAX_NAME, Genome, GenomeError

LISTED_STEPS = 12  # of a descent; of a longer one, the last few are named
LAST_STEPS = 8


def find(target: str, rank: int = 1) -> Export:
    """What ``target`` names: a campaign's folder (``rank`` in its hall of fame), a genome file, a known optimizer.

    Raises UsageError, LedgerError.
    """
    if is_run(target):
        return from_run(Path(target), rank)
    if rank != 1:
        raise UsageError(f"--rank {rank}: {target} is one genome; only a campaign's folder has ranks")
    return Export(load_genome(target))


def is_run(target: str | Path) -> bool:
    """Whether a target is a campaign's folder, or the recipe in it."""
    path = Path(target)
    return path.is_dir() or path.name == "recipe.yaml"


def champion(folder: RunFolder) -> tuple[Path, Recipe]:
    """The file of a campaign's champion, and the recipe. Raises UsageError without a champion, LedgerError."""
    with open_to_read(folder, "explain") as ledger:
        recipe, past = reader.from_text(ledger.meta()["recipe"]), ledger.past()
    if not folder.champion.is_file():
        complete = recipe.ended(len(past), lane_steps(past))
        raise UsageError(_without_champion(folder.path, complete=complete))
    return folder.champion, recipe


def with_submission(
    export: Export, config: Path | str | None, given: Mapping[str, str], tracks: Mapping[str, Path | str]
) -> Export:
    """The export with what its submitter says, and with the genomes of other depths.

    ``config``: a TOML file, whose table ``[export.tig]`` has the fields of `Submission`, and ``tracks``: a genome (a
    file, or the name of a known optimizer) by numbers of hidden layers such as ``4`` or ``7,10``. ``given`` and
    ``tracks`` say the same, and come first. Raises UsageError.
    """
    details, genomes = read_config(Path(config)) if config else ({}, {})
    where = f"{config}: export.tig" if config and not given else "--format tig"
    said = submission({**details, **given}, where)
    folder = Path(config).parent if config else Path()
    found: dict[tuple[int, ...], Genome] = {}
    for source, entries in ((f"{config}: export.tig.tracks", genomes), ("--track", tracks)):
        for key, target in entries.items():
            if not isinstance(target, str | Path):
                raise UsageError(f"{source}: {key}: expected a genome's file or name")
            near = folder / target
            here = near if entries is genomes and near.suffix in (".yaml", ".yml") else target
            found[depths(str(key), source)] = load_genome(str(here))
    named = [depth for key in found for depth in key]
    if twice := sorted({depth for depth in named if named.count(depth) > 1}):
        raise UsageError(f"--track: {twice[0]} hidden layers have two genomes")
    return replace(export, submission=said, tracks=tuple(found.items()))


def load_genome(target: str) -> Genome:
    """The genome of a file (.yaml), or the known optimizer of that name. Raises UsageError."""
    path = Path(target)
    try:
        if path.suffix not in (".yaml", ".yml"):
            return catalogue.load(target)
        if not path.is_file():
            raise UsageError(f"{target}: no such file")
        return read(path)
    except GenomeError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{target}: cannot be read: {error.strerror or error}") from None


def from_run(path: Path, rank: int = 1) -> Export:
    """The genome at ``rank`` (from 1) of a campaign (`evo.campaign.ranking`), with its ancestors and results.

    Raises UsageError, LedgerError.
    """
    folder = RunFolder.find(path)
    with open_to_read(folder, "export") as ledger:
        recipe = reader.from_text(ledger.meta()["recipe"])
        reached = ledger.checkpoint()
        found = fit(ledger.observations()).estimates
        fame = ranked(ledger, reached, found)
        if not fame:
            past = ledger.past()
            raise UsageError(_without_champion(path, complete=recipe.ended(len(past), lane_steps(past))))
        place = "front" if reached.front else "hall of fame"
        if not 1 <= rank <= len(fame):
            raise UsageError(f"--rank {rank}: the {place} of {path} has ranks 1 to {len(fame)}")
        chosen = fame[rank - 1]
        found = {**found, chosen.individual.hash: chosen.estimate}
        export = of_individual(ledger, chosen.individual, found, f", place {rank} in its {place}")
    return replace(export, earned=_earned(folder, chosen.individual))


def of_individual(ledger: Ledger, individual: Individual, estimates: Mapping[str, Estimate], place: str = "") -> Export:
    """An individual of a campaign, with its ancestors and results. ``estimates``: of qualities, by hash.

    ``place``: what else is to be said of where it stands.
    """
    recipe = reader.from_text(ledger.meta()["recipe"])
    ancestors = main_line(ledger, individual)
    sources = {each.id: f" from {each.source}" for each in ledger.additions()}
    baselines = [(name, estimates.get(genome_identity(catalogue.load(name)))) for name in recipe.baselines]
    founder = ancestors[-1]
    steps = [i.operator for i in reversed(ancestors[:-1]) if i.operator != "elite"]
    by = ", ".join(steps)
    if len(steps) > LISTED_STEPS:
        by = f"{len(steps)} steps, the last of them {', '.join(steps[-LAST_STEPS:])}"
    origin = (
        f"campaign {recipe.name} (seed {recipe.seed}), individual {individual.id}{place}; "
        f"descends from {founder.name} ({founder.operator}{sources.get(founder.id, '')})"
        + (f" by {by}." if steps else ".")
    )
    depths = ", ".join(str(depth) for depth in recipe.difficulty.depths)
    measured = Measured(
        where=f"task {recipe.task}, depths {depths}, at most {recipe.epochs} epochs",
        rows=tuple(
            (name, f"{interval(estimate)} from {estimate.count} instances")
            for name, estimate in (("this", estimates.get(individual.hash)), *baselines)
            if estimate is not None
        ),
        caution="Estimates with their 95 % intervals, from all trainings of the campaign.",
    )
    # the name it carries in files of its own; genomes in the ledger are called by generation and index
    return Export(individual.genome.renamed(_name(recipe.name, individual.name), origin), origin, measured)


def _earned(folder: RunFolder, individual: Individual) -> Measured | None:
    """What each part of it earns, where `evo explain` has been asked of this program."""
    found = explained.kept(folder)
    if found is None or found.hash != individual.hash or not found.earnings:
        return None
    rows = tuple((each.what, each.in_words) for each in found.earnings)
    return Measured(found.where, rows, "Quality less that without the part, with 95 % intervals, by evo explain.")


def _without_champion(path: Path, *, complete: bool) -> str:
    if not complete:
        return f"{path}: the hall of fame is still empty; go on with: {command('resume', path)}"
    return f"{path}: complete, and the hall of fame is empty; why trainings failed: {command('report', path)}"


def _name(campaign: str, individual: str) -> str:
    """``campaign-individual``; of a long campaign's name, as much as a genome's name has room for."""
    room = MAX_NAME - len(individual) - 1
    return f"{campaign[:room]}-{individual}" if room > 0 else individual


def main_line(ledger: Ledger, individual: Individual) -> list[Individual]:
    """The individual, its first parent, that one's first parent, and so on to the start."""
    line = [individual]
    while line[-1].parents:
        line.append(ledger.individual(line[-1].parents[0]))
    return line
