"""The panels of a report, in order: each is one record, and its function makes the panel's HTML.

To add one: write its function here, and list it in PANELS. What it needs of the ledger is gathered in
`evo.report.data`; pictures are drawn in `evo.report.figures`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from markupsafe import Markup

from evo.campaign.wording import FOUNDER_STAYS
from evo.formatting import duration, gain, interval, quality, steps
from evo.recipe import reader
from evo.report import figures
from evo.report.data import Famous, Report, versions
from genomes.backends import latex
from genomes.strict_yaml import escaped

REASONS = 12  # that are listed
TRIALS = 40  # the latest, that are listed


@dataclass(frozen=True)
class Panel:
    """``note``: what a reader must know. ``html``: the panel's content; empty where there is nothing to show.

    ``note`` may be a function of the report. ``kind``: a further CSS class. ``folded``: the title of a fold that holds
    the content.
    """

    title: str
    note: str | Callable[[Report], str]
    html: Callable[[Report], Markup | str]
    kind: str = ""
    folded: str = ""

    @property
    def key(self) -> str:
        """A word for addresses, made of the title."""
        return re.sub(r"[^a-z]+", "-", self.title.lower())


@dataclass(frozen=True)
class Shown:
    """A panel with its texts, as the template takes it."""

    key: str
    title: str
    note: str
    html: Markup
    kind: str
    folded: str


def shown(report: Report) -> list[Shown]:
    """The panels that have something to show."""
    found = []
    for panel in PANELS:
        if html := panel.html(report):
            note = panel.note if isinstance(panel.note, str) else panel.note(report)
            found.append(Shown(panel.key, panel.title, note, Markup(html), panel.kind, panel.folded))
    return found


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], left: Sequence[str] = (), below: Sequence[object] = ()
) -> Markup:
    """An HTML table. ``left``: the columns that are text. A cell that is no Markup is escaped.

    ``below``: of each row, what stands under it in the whole width.
    """
    sides = [Markup(' class="left"') if column in left else "" for column in columns]
    head = Markup().join(
        Markup("<th{}>{}</th>").format(side, column) for side, column in zip(sides, columns, strict=True)
    )
    lines = []
    for number, row in enumerate(rows):
        cells = (Markup("<td{}>{}</td>").format(side, cell) for side, cell in zip(sides, row, strict=True))
        lines.append(Markup("<tr{}>{}</tr>").format(Markup(' class="above"') if below else "", Markup().join(cells)))
        if below:
            cell = Markup('<tr><td></td><td class="left" colspan="{}">{}</td></tr>')
            lines.append(cell.format(len(columns) - 1, below[number]))
    return Markup("<table>\n<tr>{}</tr>\n{}\n</table>").format(head, Markup("\n").join(lines))


def _linked(report: Report, id: str, name: str) -> Markup | str:
    """The name of an individual, leading to its page where it has one."""
    return Markup('<a href="{}">{}</a>').format(report.link(id), name) if report.link else name


def _champion(report: Report) -> Famous | None:
    return report.hall_of_fame[0] if report.hall_of_fame else None


def _generations(report: Report) -> str:
    return figures.generations(report) if report.points else ""


def _about_generations(report: Report) -> str:
    what = f"Differences to {report.reference}" if report.reference else "Estimates"
    return (
        f"{what}, with 95 % intervals, as known at the end of each generation, from all trainings up to then: "
        "a model of instance, genome and noise is fitted to them, and few trainings count for less than many."
    )


def _progress(report: Report) -> str:
    return figures.champion(report) if any(point.champion for point in report.points) else ""


def _about_progress(report: Report) -> str:
    if not report.recipe.gate.instances:
        return "This campaign has no gate: the best estimate is champion."
    return (
        "A challenger becomes champion where a test on fresh instances says that it is better than the champion, and "
        f"than every founder that may be as good. {_stays(_champion(report))}"
    )


def _stays(best: Famous | None) -> str:
    """That the champion is a founder, where it is."""
    if best is None or not best.fame.individual.is_founder:
        return ""
    return f"The present one is {FOUNDER_STAYS}."


def _trials(report: Report) -> Markup | str:
    if not report.trials:
        return ""
    rows = []
    for tried in report.trials[-TRIALS:]:
        trial, names = tried.trial, tried.names
        against = Markup("<br>").join(_linked(report, id, names[id]) for id in trial.rivals)
        gains = Markup("<br>").join(f"{value:+.3f}" for value in trial.gains)
        told = Markup("<b>promoted</b>") if trial.promoted else "not promoted"
        challenger = _linked(report, trial.challenger, names[trial.challenger])
        rows.append((tried.generation, challenger, against, gains, trial.count, told, trial.reason))
    columns = ("generation", "challenger", "against", "gain", "instances", "outcome", "why")
    return table(columns, rows, left=("challenger", "against", "outcome", "why"))


def _about_trials(report: Report) -> str:
    count, promoted = len(report.trials), sum(tried.trial.promoted for tried in report.trials)
    note = (
        f"{count} {'challenger' if count == 1 else 'challengers'} trained on fresh instances beside those to beat; "
        f"{promoted or 'none'} became champion. Gain: mean difference in quality on those instances."
    )
    return note + (f" The first {count - TRIALS} are left out." if count > TRIALS else "")


def _races(report: Report) -> Markup | str:
    columns = ("generation", "programs", "dismissed", "failed", "trainings", "steps", "best", "time")
    rows = []
    for generation, point in zip(report.generations, report.points, strict=True):
        s = generation.statistics
        counts = (s.distinct, s.dismissed or "", s.diverged or "", s.trained, steps(s.lane_steps))
        best = gain(point.best) if report.reference else interval(point.best)
        rows.append((generation.number, *counts, best, duration(generation.seconds)))
    return table(columns, rows) if rows else ""


def _about_races(report: Report) -> str:
    statistics = [generation.statistics for generation in report.generations]
    programs, dismissed = sum(s.distinct for s in statistics), sum(s.dismissed for s in statistics)
    trained = sum(s.trained for s in statistics)
    raced = (
        f"{dismissed} were dismissed before the end of their race, so that the others trained on more instances"
        if dismissed
        else "none was dismissed before the others"
    )
    over = f" Best: the estimate of its best less that of {report.reference}." if report.reference else ""
    return f"{programs} programs in {trained} trainings; {raced}.{over}"


def _curves(report: Report) -> str:
    return figures.learning_curves(report.curves) if report.curves else ""


def _about_curves(report: Report) -> str:
    count = max((curve.instances for curve in report.curves), default=0)
    return (
        f"Mean validation loss over the {count} instances that all of these were trained on; a training that ended "
        "early is held at its last loss."
    )


def _beside_bound(report: Report) -> Markup | str:
    """The picture, and a row for each optimizer over the instances on which it has a quality."""
    found = report.beside_bound
    if found is None:
        return ""
    columns = ("optimizer", "instances", "quality", "bound", "above the bound", "spread", "spread above the bound")
    champion, *others = found.qualities.items()
    measured = [champion]
    if found.without_calibration and any(value is not None for value in found.without_calibration):
        measured.append((f"{champion[0]} without calibration", found.without_calibration))
    rows = []
    for name, qualities in (*measured, *others):
        pairs = [(value, bound) for value, bound in zip(qualities, found.bounds, strict=True) if value is not None]
        above = [value - bound for value, bound in pairs]
        means = [quality(fmean(numbers)) for numbers in zip(*pairs, strict=True)]
        spreads = [quality(pstdev(numbers)) for numbers in ([value for value, _ in pairs], above) if pairs]
        cells = [*means, f"{fmean(above):+.3f}", *spreads] if pairs else [quality(None)] * 5
        rows.append((name, len(pairs), *cells))
    return Markup(figures.beside_bound(found)) + table(columns, rows, left=("optimizer",))


def _about_bound(report: Report) -> str:
    """What the bound is, and what of the champion's quality comes from its calibration of the mean."""
    text = (
        "The bound of mean-blind optimizers is the quality of the true function less its mean: the network's frozen "
        "end gives every training batch outputs of mean 0, so no gradient tells of the mean. Near it, an instance's "
        "quality is a matter of that mean and not of skill. In the table: means over instances, and as spread the "
        "standard deviation, over the instances that all of these were trained on. "
    )
    found, best = report.beside_bound, _champion(report)
    if found is None or best is None:
        return text
    if found.without_calibration is None:
        return text + "The champion does not calibrate the mean: no part of its quality comes from that."
    pairs = found.with_and_without
    if not pairs:
        return text + (
            "The champion calibrates the mean; what of its quality comes from that is not known here: it has no "
            "quality without. evo resume trains what is missing, evo compare --without-calibration other instances."
        )
    ours, blind = map(fmean, zip(*pairs, strict=True))
    share = f", {(ours - blind) / ours:.0%} of its quality," if ours > 0 else ""
    return text + (
        f"The champion calibrates the mean. The same genome without that has {quality(blind)} instead of "
        f"{quality(ours)} on {len(pairs)} instances: {ours - blind:+.3f}{share} come from the mean. These instances "
        "took part in the choice of the champion: evo compare --without-calibration says it for others."
    )


def _prices(report: Report) -> str:
    return figures.quality_against_cost(report.prices) if report.prices else ""


def _about_champion(report: Report) -> str:
    best = _champion(report)
    if best is None:
        return ""
    member = best.fame.individual
    return (
        f"{member.name}, from generation {member.generation}, made by {member.operator}. g: gradient, θ: parameter, "
        "u: direction."
    )


def _formula(report: Report) -> str:
    best = _champion(report)
    return figures.formula(latex.render(best.fame.individual.genome)) if best else ""


def _genome(report: Report) -> Markup:
    best = _champion(report)
    return Markup("<pre>{}</pre>").format(best.fame.individual.text) if best else Markup()


def _about_ancestors(report: Report) -> str:
    more = report.lineage.more if report.lineage else 0
    note = "Latest first: individual (generation and index), operator that made it, estimated quality."
    return note + (f" {more} earlier ancestors are left out." if more else "")


def _ancestors(report: Report) -> str:
    return figures.lineage(report.lineage, report.link) if report.lineage else ""


def _hall_of_fame(report: Report) -> Markup:
    if not report.hall_of_fame:
        return Markup()
    columns = ("", "name", "quality", "less the champion", "instances", "generation", "operator", "nodes")
    rows, formulas = [], []
    for rank, row in enumerate(report.hall_of_fame, 1):
        member, estimate = row.fame.individual, row.fame.estimate
        known = (interval(estimate), gain(row.behind) if row.behind else "", estimate.count)
        rows.append(
            (
                rank,
                _linked(report, member.id, member.name),
                *known,
                member.generation,
                member.operator,
                member.genome.size,
            )
        )
        formulas.append(Markup("<code>{}</code>").format(Markup("<br>").join(row.formula)))
    return table(columns, rows, left=("name", "operator"), below=formulas)


def _controls(report: Report) -> Markup | str:
    """The picture, and a row for the campaign and for each control."""
    if not report.controls or not report.points:
        return ""
    own = report.generations[-1].statistics.champion
    rows = [(report.recipe.search.algorithm, report.lane_steps, len(report.points), own)]
    rows += [(c.algorithm, c.steps, len(c.points), c.champion) for c in report.controls]
    columns = ["search", "steps", "generations", "champion", "founder", "quality"]
    columns += [f"over {report.reference}"] if report.reference else []
    cells = [
        (
            name,
            steps(budget),
            generations,
            best.name if best else "none",
            "yes" if best and best.founder else "no" if best else "",
            interval(best.estimate if best else None),
            *([gain(best.gain if best else None)] if report.reference else []),
        )
        for name, budget, generations, best in rows
    ]
    return Markup(figures.controls(report)) + table(columns, cells, left=("search", "champion", "founder"))


def _about_controls(report: Report) -> str:
    return (
        "Other searches from the same founders, until they have taken as many training steps (evo control). Each "
        "campaign knows its own champion best, with 95 % intervals; evo compare judges them on instances that none met."
    )


def _earned(report: Report) -> Markup | str:
    found = report.explained
    if found is None:
        return ""
    parts = table(
        ("without", "earns (95 % interval)", "p (Holm)"),
        [(each.what, each.in_words, f"{each.p:.2g}") for each in found.earnings],
        left=("without",),
    )
    if not found.removed:
        return parts
    gone = [(each.what, f"{each.loss:+.3f}", f"{each.high:+.3f}") for each in found.removed]
    return parts + table(("can go", "costs", "surely at most"), gone, left=("can go",))


def _about_earned(report: Report) -> str:
    where = report.explained.where if report.explained else ""
    return (
        f"What the champion has more than without one part, or with rounded numbers, on the same instances: {where}. "
        "Intervals by bootstrap, p by Wilcoxon's signed-rank test, corrected over all parts (evo explain)."
    )


def _front(report: Report) -> Markup | str:
    if not report.front:
        return ""
    columns = ("rank", "name", "quality", "instances", "operations", "states")
    rows = [
        (each.rank or "baseline", each.name, interval(each.estimate), each.estimate.count, each.operations, each.states)
        for each in report.front
    ]
    return Markup(figures.front(report.front)) + table(columns, rows, left=("name",))


def _added(report: Report) -> Markup | str:
    columns = ("individual", "name", "from", "by", "when (UTC)", "quality", "descendants")
    rows = [
        (
            each.addition.id or "in training",
            each.addition.name,
            each.addition.source,
            each.addition.by,
            each.addition.time[:16].replace("T", " "),
            interval(each.estimate),
            each.descendants,
        )
        for each in report.added
    ]
    return table(columns, rows, left=("individual", "name", "from", "by", "when (UTC)")) if rows else ""


def _operators(report: Report) -> Markup:
    if not report.operators:
        return Markup()
    columns = ("operator", "made", "failed", "in the upper half", "above its parents", "in the hall of fame")
    rows = [
        (o.name, o.made, o.failed or "", f"{o.upper / o.made:.0%}", o.better or "", o.famous or "")
        for o in report.operators
    ]
    return table(columns, rows, left=("operator",))


def _statuses(report: Report) -> Markup:
    total = sum(count for _, count in report.statuses)
    rows = [(status, count, f"{count / total:.1%}") for status, count in report.statuses]
    return table(("status", "trainings", "share"), rows, left=("status",)) if rows else Markup()


def _reasons(report: Report) -> Markup:
    columns = ("status", "reason", "in", "trainings")
    rows = [(r.status, escaped(r.message), r.epochs, r.count) for r in report.reasons[:REASONS]]
    return table(columns, rows, left=("status", "reason", "in")) if rows else Markup()


def _about_reasons(report: Report) -> str:
    more = len(report.reasons) - REASONS
    note = "Trainings that did not finish, by what their workers said; epochs count from 0."
    return note + (f" {more} rarer reasons are left out." if more > 0 else "")


def _about_making(report: Report) -> str:
    return (
        f"{versions(report.meta)}; harness numerics {report.meta['numerics']}; device {report.meta['device']}; "
        f"launched {report.meta['created']}."
    )


def _recipe(report: Report) -> Markup:
    return Markup("<pre>{}</pre>").format(reader.dump(report.recipe))


PANELS = (
    Panel("The champion over the campaign", _about_progress, _progress),
    Panel("Beside its controls", _about_controls, _controls),
    Panel("Quality by generation", _about_generations, _generations),
    Panel("Trials", _about_trials, _trials),
    Panel("Generations and their races", _about_races, _races, folded="every generation"),
    Panel("Learning curves", _about_curves, _curves),
    Panel(
        "Quality beside the bound",
        _about_bound,
        _beside_bound,
    ),
    Panel(
        "Quality against cost",
        "Estimates with 95 % intervals over operations per parameter and step, of the best programs; the larger a "
        "mark, the more state buffers it keeps.",
        _prices,
    ),
    Panel("The champion", _about_champion, _formula, kind="formula"),
    Panel("The champion's genome", "Its YAML; evo export writes it with its origin.", _genome, folded="as text"),
    Panel("What each part of it earns", _about_earned, _earned),
    Panel("Its ancestors", _about_ancestors, _ancestors),
    Panel(
        "The front",
        "Than each of these, no other of the population is better in quality, operations per step or states and as "
        "good in all. By the present estimates, with 95 % intervals; rank 1 is the champion, as for evo export --rank.",
        _front,
    ),
    Panel(
        "Hall of fame",
        "The champion, then the others by their estimates, one per program. Ties cannot be told from the champion yet.",
        _hall_of_fame,
    ),
    Panel(
        "Genomes that were added",
        "They came from outside while the campaign was under way, and are challengers as what it bred itself.",
        _added,
    ),
    Panel(
        "What each operator led to",
        "By the estimates of all individuals: in the upper half of its generation, above all of its parents.",
        _operators,
    ),
    Panel("Trainings by status", "All trainings of the campaign.", _statuses),
    Panel("Why trainings did not finish", _about_reasons, _reasons),
    Panel("How it was made", _about_making, _recipe, folded="the recipe, with every default"),
)
