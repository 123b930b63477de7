"""The report is one page that says what the ledger holds, whether one generation is complete or many."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from evo.campaign.folder import RunFolder
from evo.errors import UsageError
from evo.evaluation.bounds import MEAN_BLIND, mean_blind_quality
from evo.evaluation.reasons import Reason
from evo.ledger.ledger import Ledger
from evo.records import Individual
from evo.report import figures, page
from evo.report.data import BesideBound, Curve, Famous, Report, beside_bound, collect, curve
from evo.report.lineage import Ancestor, ancestors, draw
from harness.task import Instance
from tests.evo import fakes
from tests.evo.campaign.test_run import Interrupting
from tests.evo.fake_campaign import RECIPE, folder, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> RunFolder:
    place = RunFolder(folder(tmp_path_factory.mktemp("report") / "run"))
    run("launch", place.path)
    return place


def check_page(text: str, count: int = 6) -> None:
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
    assert f"{champion.quality:.3f}" in text
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


def test_operators_are_judged_within_their_generation(finished):
    with Ledger.open_to_read(finished.ledger) as ledger:
        found = {operator.name: operator for operator in collect(ledger).operators}
        made = dict(ledger.rows("SELECT operator, count(*) FROM individuals GROUP BY 1"))
    assert {name: operator.made for name, operator in found.items()} == made
    assert found["elite"].better == 0  # an elite is not better than every elite
    assert sum(operator.famous for operator in found.values()) == 3
    assert all(0 <= operator.upper <= operator.made for operator in found.values())


def test_a_curve_is_the_mean_with_ended_runs_held():
    trainings = [replace(fakes.training(q), val_loss=loss) for q, loss in ((0.5, [4.0, 2.0]), (0.7, [2.0]))]
    mean = curve("x", trainings)
    assert (mean.val_loss, mean.instances) == ([3.0, 2.0], 2)
    assert mean.quality == pytest.approx(0.6)
    assert curve("x", [*trainings, fakes.training(None)]).quality is None
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


def test_the_panel_of_bounds_is_there_for_a_task_that_hides_the_mean_alone(finished, tmp_path):
    assert "Quality beside the bound" in page.write(finished.path, tmp_path / "tig.html").read_text()
    path = folder(tmp_path / "run", RECIPE.replace("name: fake", "name: other\ntask: seed"))
    run("launch", path)
    text = page.write(path).read_text()
    check_page(text, count=5)
    assert "Quality beside the bound" not in text
    assert beside_bound({"adam": [(Instance("seed", 4, bytes(32)), fakes.training(0.5))]}) is None
    assert beside_bound({}) is None


def test_ancestors_skip_copies_and_reach_the_first_generation(finished):
    with Ledger.open_to_read(finished.ledger) as ledger:
        for fame in ledger.checkpoint().hall_of_fame:
            rows = ancestors(ledger, fame.individual)
            assert all(row.individual.operator != "elite" for row in rows)
            assert rows[-1].individual.generation == 0
            known = {row.individual.id for row in rows}
            assert all(set(row.parents) <= known for row in rows)


def test_rails_join_every_child_with_its_parents_and_cross_no_dot():
    def row(id: str, *parents: str) -> Ancestor:
        generation, index = map(int, id[1:].split("i"))
        return Ancestor(Individual(generation, index, fakes.GENOME, "", parents), 0.5, parents, 0)

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
    statistics = replace(report.generations[0].statistics, baselines={hostile("baseline"): 0.25})
    return replace(
        report,
        recipe=recipe,
        generations=[replace(generation, statistics=statistics) for generation in report.generations],
        hall_of_fame=[Famous(replace(best.fame, individual=champion), [hostile("formula")]), *others],
        curves=[Curve(hostile("curve"), [2.0, 1.0], 0.5, 0.2, 1), Curve(hostile("baseline"), [2.0, 1.5], 0.4, 0.2, 1)],
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
        *("message", "bounded", "failed", "package", "version", "numerics", "device", "created"),
    ):
        assert hostile(place) in found.text, place
    assert found.text.count(hostile("champion")) == 3, "in the note, the genome and the hall of fame"
    assert found.text.count(hostile("curve")) == 2, "on the card and in the picture"


def test_a_formula_that_cannot_be_set_is_left_out():
    assert figures.formula([r"\nonsense{x}"]) == ""


def test_every_baseline_has_its_line(finished):
    names = tuple(f"baseline{k}" for k in range(6))
    with Ledger.open_to_read(finished.ledger) as ledger:
        report = collect(ledger)
    measured = [
        replace(generation, statistics=replace(generation.statistics, baselines=dict.fromkeys(names, 0.3)))
        for generation in report.generations
    ]
    recipe = report.recipe.model_copy(update={"baselines": names})
    picture = figures.qualities(replace(report, recipe=recipe, generations=measured))
    assert all(name in picture for name in names)
