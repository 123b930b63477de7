"""The report is one page that says what the ledger holds, whether one generation is complete or many."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from evo.campaign.folder import RunFolder
from evo.campaign.wording import FOUNDER_STAYS
from evo.errors import UsageError
from evo.evaluation.bounds import MEAN_BLIND, mean_blind_quality
from evo.evaluation.reasons import Reason
from evo.formatting import half_interval
from evo.ledger.ledger import Ledger, Member
from evo.records import Champion, Estimate, Generation, Individual, Statistics, Trial
from evo.report import figures, page, panels
from evo.report.data import (
    BesideBound,
    Curve,
    Famous,
    Operator,
    Report,
    Tried,
    beside_bound,
    collect,
    curve,
    operators,
    points,
)
from evo.report.lineage import Ancestor, ancestors, draw
from evo.search.evidence import Evidence, fit
from harness.task import Instance
from tests.evo import fakes
from tests.evo.campaign.test_run import Interrupting
from tests.evo.fake_campaign import RECIPE, folder, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> RunFolder:
    place = RunFolder(folder(tmp_path_factory.mktemp("report") / "run"))
    run("launch", place.path)
    return place


def check_page(text: str, count: int = 7) -> None:
    assert not re.search(r'(src|href)="(?!#)', text), "the page must need nothing from elsewhere"
    assert not re.search(r"url\((?!#)|@import|<script", text)
    pictures = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert len(pictures) == count
    for picture in pictures:
        ElementTree.fromstring(picture)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)


def test_a_page_on_a_finished_campaign(finished):
    path = page.write(finished.path)
    text = path.read_text()
    check_page(text)
    with Ledger.open_to_read(finished.ledger) as ledger:
        champion = ledger.checkpoint().hall_of_fame[0]
    assert path == finished.report
    assert f"champion {champion.individual.name}" in text
    assert f"{champion.estimate.mean:.3f}" in text
    assert f"± {half_interval(champion.estimate)}, {champion.estimate.count} instances" in text
    assert "6 of 6 generations" in text
    assert "mutate_gene" in text
    assert "adam" in text


def test_a_page_on_one_generation_and_on_none(tmp_path):
    path = folder(tmp_path / "run", RECIPE.replace("name: fake", "name: one"))
    with pytest.raises(UsageError, match="nothing to report; begin with: evo launch"):
        page.write(path)
    run("launch", path, progress=Interrupting(lane=3))
    assert "No generation is complete yet" in page.write(path).read_text()
    run("resume", path, progress=Interrupting(generation=1))
    check_page(page.write(path, tmp_path / "page.html").read_text())


def test_operators_are_judged_by_estimates(finished):
    with Ledger.open_to_read(finished.ledger) as ledger:
        found, famous = {o.name: o for o in collect(ledger).operators}, len(ledger.checkpoint().hall_of_fame)
        made = dict(ledger.rows("SELECT operator, count(*) FROM individuals GROUP BY 1"))
    assert {name: operator.made for name, operator in found.items()} == made
    assert found["elite"].better == found["random"].better == 0, "copies, and those without parents"
    assert sum(operator.famous for operator in found.values()) == famous
    assert all(0 <= operator.upper <= operator.made for operator in found.values())


def test_an_operator_is_better_where_its_child_is_above_all_parents_and_no_copy():
    def member(generation: int, index: int, hash: str, operator: str, *parents: str) -> Member:
        return Member(generation, index, hash, parents, operator)

    members = [
        member(0, 0, "low", "random"),
        member(0, 1, "high", "random"),
        member(0, 2, "broken", "random"),
        member(1, 0, "high", "elite", "g0i1"),
        member(1, 1, "middle", "cross", "g0i0", "g0i1"),
        member(1, 2, "best", "cross", "g0i0", "g0i1"),
        member(1, 3, "high", "cross", "g0i1"),
        member(1, 4, "low", "mutate", "g0i2"),
    ]
    quality = {"low": 0.1, "middle": 0.2, "high": 0.3, "best": 0.4}
    evidence = Evidence({hash: Estimate(mean, 0.1, 2) for hash, mean in quality.items()}, {}, frozenset({"broken"}))
    found = {o.name: o for o in operators(members, evidence, {"g1i2"})}
    assert found["cross"] == Operator("cross", made=3, failed=0, upper=1, better=1, famous=1)
    assert found["mutate"] == Operator("mutate", made=1, failed=0, upper=0, better=1, famous=0)
    assert found["elite"] == Operator("elite", made=1, failed=0, upper=0, better=0, famous=0)
    assert found["random"] == Operator("random", made=3, failed=1, upper=1, better=0, famous=0)


def generation(number: int, steps: int, baselines: dict[str, Estimate | None], **values) -> Generation:
    return Generation(number, Statistics(baselines=baselines, lane_steps=steps, **values), 1.0)


def test_points_are_differences_over_the_budget():
    adam, lion = Estimate(0.5, 0.03, 9), Estimate(0.4, 0.04, 9)
    champion = Champion("g1i1", "g1i1", Estimate(0.7, 0.1, 3), Estimate(0.2, 0.1, 3), "g")
    won = Trial("g1i1", ("g0i0",), (0.1,), 8, True, "better")
    lost = Trial("g1i2", ("g1i1",), (0.1,), 8, False, "not surely better")
    past = [
        generation(1, 300, {"adam": adam, "lion": lion}, best=adam, gain=Estimate(0.0, 0.0, 9), median=0.25),
        generation(2, 500, {"adam": adam, "lion": None}, champion=champion, trials=(lost, won)),
        generation(3, 100, {"adam": None, "lion": lion}, best=lion, median=0.2, champion=replace(champion, gain=None)),
    ]
    first, second, third = points(past)
    assert [point.budget for point in (first, second, third)] == [300, 800, 900]
    assert first.best == Estimate(0.0, 0.0, 9)
    assert first.median == -0.25
    assert first.baselines == {"lion": Estimate(pytest.approx(-0.1), pytest.approx(0.05), 9)}
    assert second.champion == champion.gain
    assert second.promoted == ("g1i1",)
    assert second.baselines == {"lion": None}
    assert (third.best, third.median, third.champion, third.baselines) == (None, None, None, {"lion": None})
    (alone,) = points([generation(1, 300, {}, best=adam, median=0.25, champion=champion)])
    assert (alone.best, alone.median, alone.champion) == (adam, 0.25, champion.estimate)


def test_trials_are_told_in_words(finished, without_pictures):
    with Ledger.open_to_read(finished.ledger) as ledger:
        report = collect(ledger)
    assert any(tried.trial.promoted for tried in report.trials), "the fake campaign has a promotion"
    lost = Trial("g1i2", ("g0i0", "g0i1"), (0.02, -0.125), 16, False, "no better than lion in 16 instances")
    names = {"g1i2": "g1i2", "g0i0": "adam", "g0i1": "lion"}
    text = Reader(page.render(replace(report, trials=[*report.trials, Tried(3, lost, names)]))).text
    assert "g1i2adamlion+0.020-0.12516not promotedno better than lion in 16 instances" in text
    assert "promotedbetter in 8 instances (error rate 0.4)" in text
    many = replace(report, trials=[Tried(3, lost, names)] * (panels.TRIALS + 2))
    assert "none became champion" in page.render(many)
    assert "The first 2 are left out." in page.render(many)


def test_a_founder_that_stays_is_told_as_that(finished, without_pictures):
    with Ledger.open_to_read(finished.ledger) as ledger:
        report = collect(ledger)
        founder = next(i for k in range(8) if (i := ledger.individual(f"g0i{k}")).is_founder)
    assert FOUNDER_STAYS not in page.render(report)
    first, *others = report.hall_of_fame
    stays = Famous(replace(first.fame, individual=founder), None, first.formula)
    assert FOUNDER_STAYS in page.render(replace(report, hall_of_fame=[stays, *others]))


def test_ties_with_the_champion_are_marked(finished, without_pictures):
    with Ledger.open_to_read(finished.ledger) as ledger:
        report = collect(ledger)
    first, second, third, *_ = report.hall_of_fame
    assert first.behind is None
    assert second.behind == second.fame.estimate.minus(first.fame.estimate)
    rows = [first, replace(second, behind=Estimate(0.01, 0.02, 4)), replace(third, behind=Estimate(-0.3, 0.02, 4))]
    text = page.render(replace(report, hall_of_fame=rows))
    assert text.count("(tie)") == page.render(replace(report, hall_of_fame=[first])).count("(tie)") + 1
    assert "+0.010 ± 0.039 (tie)" in text
    assert "-0.300 ± 0.039<" in text


def test_a_curve_is_the_mean_with_ended_runs_held():
    trainings = [replace(fakes.training(q), val_loss=loss) for q, loss in ((0.5, [4.0, 2.0]), (0.7, [2.0]))]
    mean = curve("x", trainings)
    assert (mean.val_loss, mean.instances) == ([3.0, 2.0], 2)
    broken = curve("x", [replace(fakes.training(None), val_loss=[1.0, math.nan], target_loss=math.nan)])
    assert math.isnan(broken.val_loss[1])
    assert math.isnan(broken.target_loss)


def test_qualities_stand_beside_the_bounds_of_their_instances_sorted():
    instances = [Instance("tig", depth, bytes([n] * 32)) for n, depth in enumerate((4, 7, 4, 10), 1)]
    bounds = {instance: mean_blind_quality(instance) for instance in instances}
    first = [(instance, fakes.training(0.1 * n)) for n, instance in enumerate(instances)]
    second = [(instances[2], fakes.training(None)), (instances[0], fakes.training(-9.0))]
    found = beside_bound({"champion": first, "adam": second})
    order = sorted(instances, key=lambda instance: bounds[instance])
    assert found.bounds == [bounds[instance] for instance in order]
    assert found.depths == [instance.num_hidden_layers for instance in order]
    assert found.qualities["champion"] == [pytest.approx(0.1 * instances.index(instance)) for instance in order]
    assert found.qualities["adam"] == [-9.0 if instance is instances[0] else None for instance in order]
    assert MEAN_BLIND in figures.beside_bound(found)


def test_the_panel_of_bounds_is_there_for_a_task_that_hides_the_mean_alone(finished, tmp_path, without_pictures):
    assert "Quality beside the bound" in page.write(finished.path, tmp_path / "tig.html").read_text()
    path = folder(tmp_path / "run", RECIPE.replace("name: fake", "name: other\ntask: seed"))
    run("launch", path)
    text = page.write(path).read_text()
    check_page(text, count=6)
    assert "Quality beside the bound" not in text
    assert beside_bound({"adam": [(Instance("seed", 4, bytes(32)), fakes.training(0.5))]}) is None
    assert beside_bound({}) is None


def test_ancestors_skip_copies_and_reach_the_first_generation(finished):
    with Ledger.open_to_read(finished.ledger) as ledger:
        estimates = fit(ledger.observations()).estimates
        for fame in ledger.checkpoint().hall_of_fame:
            rows = ancestors(ledger, fame.individual, estimates)
            assert all(row.individual.operator != "elite" for row in rows)
            assert rows[-1].individual.generation == 0
            known = {row.individual.id for row in rows}
            assert all(set(row.parents) <= known for row in rows)


def test_rails_join_every_child_with_its_parents_and_cross_no_dot():
    def row(id: str, *parents: str) -> Ancestor:
        generation, index = map(int, id[1:].split("i"))
        return Ancestor(Individual(generation, index, fakes.GENOME, "", parents), None, parents, 0)

    rows = [row("g3i0", "g2i0", "g1i1"), row("g2i0", "g1i0", "g0i1"), row("g1i0", "g0i0"), row("g1i1", "g0i0", "g0i1"),
            row("g0i0"), row("g0i1")]  # fmt: skip
    drawing = draw(rows)
    dots = list(enumerate(drawing.columns))
    assert len(set(dots)) == 6
    assert sorted((r.start[0], r.end[0]) for r in drawing.rails) == [
        (0, 1),
        (0, 3),
        (1, 2),
        (1, 5),
        (2, 4),
        (3, 4),
        (3, 5),
    ]
    for rail in drawing.rails:
        assert {rail.start, rail.end} <= set(dots)
        between = {(r, rail.end[1]) for r in range(rail.start[0] + 1, rail.end[0])}
        assert not between & set(dots)
    few = draw(rows, most=4)
    assert (len(few.rows), few.more) == (4, 2)
    assert all(rail.end[0] < 4 for rail in few.rails)


class Reader(HTMLParser):
    """A page as a browser reads it: the names of its elements, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)

    def handle_data(self, data):
        self.text += data


def hostile(place: str) -> str:
    """A text that is an element where it is not escaped, and another text where it is escaped once too often."""
    return f"<script data-{place}>&amp;$"


def of_hostile_records(report: Report) -> Report:
    """The report with a hostile text wherever a page shows one; no reader of ours would let most of them in."""
    recipe = report.recipe.model_copy(update={"name": hostile("recipe"), "baselines": (hostile("baseline"),)})
    best, *others = report.hall_of_fame
    genome = replace(best.fame.individual.genome, name=hostile("champion"))
    champion = replace(best.fame.individual, genome=genome, operator=hostile("maker"))
    assert report.lineage
    named = replace(fakes.GENOME, name=hostile("ancestor"))
    ancestor = Ancestor(Individual(0, 0, named, "", (), hostile("origin")), None, (), 0)
    statistics = replace(report.generations[0].statistics, baselines={hostile("baseline"): Estimate(0.25, 0.1, 4)})
    trial = Trial("g1i0", ("g0i0",), (0.5,), 8, False, hostile("reason"))
    return replace(
        report,
        recipe=recipe,
        generations=[replace(generation, statistics=statistics) for generation in report.generations],
        points=[replace(point, promoted=(hostile("promoted"),)) for point in report.points],
        trials=[Tried(1, trial, {"g1i0": hostile("challenger"), "g0i0": hostile("rival")})],
        hall_of_fame=[Famous(replace(best.fame, individual=champion), None, [hostile("formula")]), *others],
        curves=[Curve(hostile("curve"), [2.0, 1.0], 0.2, 1), Curve(hostile("baseline"), [2.0, 1.5], 0.2, 1)],
        beside_bound=BesideBound(
            [4, 7], [0.1, 0.6], {hostile("bounded"): [0.2, None], hostile("failed"): [None, None]}
        ),
        lineage=draw([ancestor]),
        operators=[replace(operator, name=hostile("operator")) for operator in report.operators],
        statuses=[(hostile("status"), 3)],
        reasons=[Reason(hostile("status"), hostile("message"), 3, 0, 2)],
        meta={
            **report.meta,
            "versions": json.dumps({hostile("package"): hostile("version")}),
            **{key: hostile(key) for key in ("numerics", "device", "created")},
        },
    )


def test_hostile_records_stay_text_on_the_page(finished):
    with Ledger.open_to_read(finished.ledger) as ledger:
        report = collect(ledger)
    text = page.render(of_hostile_records(report))
    check_page(text)
    found = Reader(text)
    assert "script" not in found.elements
    for place in (
        *("recipe", "baseline", "champion", "maker", "ancestor", "origin", "formula", "curve", "operator", "status"),
        *(
            "reason",
            "challenger",
            "rival",
            "promoted",
            "message",
            "bounded",
            "failed",
            "package",
            "version",
            "numerics",
            "device",
            "created",
        ),
    ):
        assert hostile(place) in found.text, place
    assert found.text.count(hostile("champion")) == 4, "on the card, in the note, the genome and the hall of fame"
    assert found.text.count(hostile("curve")) == 1, "in the picture"


def test_a_formula_that_cannot_be_set_is_left_out():
    assert figures.formula([r"\nonsense{x}"]) == ""


def test_every_baseline_has_its_line(finished):
    names = tuple(f"baseline{k}" for k in range(6))
    with Ledger.open_to_read(finished.ledger) as ledger:
        report = collect(ledger)
    measured = [
        replace(
            generation, statistics=replace(generation.statistics, baselines=dict.fromkeys(names, Estimate(0, 1, 2)))
        )
        for generation in report.generations
    ]
    recipe = report.recipe.model_copy(update={"baselines": names})
    shown = replace(report, recipe=recipe, generations=measured, points=points(measured))
    for picture in (figures.generations(shown), figures.champion(shown)):
        assert all(name in picture for name in names)


def test_of_many_instances_a_picture_shows_some_and_the_table_counts_all():
    count = 400
    qualities = [0.5 + k / count for k in range(count)]
    blind = [0.25 if k in (7, 391) else None for k in range(count)]
    found = BesideBound([4] * count, [k / count for k in range(count)], {"champion x": qualities}, blind)
    thin = figures._thinned(found)
    assert len(thin.bounds) == len(thin.depths) == len(thin.qualities["champion x"]) == figures.MOST_INSTANCES
    assert thin.bounds == sorted(thin.bounds)
    assert max(b - a for a, b in zip(thin.bounds, thin.bounds[1:], strict=False)) < 4 / figures.MOST_INSTANCES
    assert thin.with_and_without == found.with_and_without
    few = BesideBound([4, 7], [0.1, 0.2], {"champion x": [0.3, None]})
    assert figures._thinned(few) == few
