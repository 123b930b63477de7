"""What people see while a campaign runs."""

import io
from dataclasses import replace

from rich.console import Console

from evo.campaign import live
from evo.campaign.live import LiveProgress
from evo.campaign.progress import PlainProgress, Progress
from evo.campaign.wording import FOUNDER_STAYS
from evo.formatting import duration, gain, interval, steps
from evo.recipe.schema import Recipe
from evo.records import Champion, Estimate, Generation, Purpose, Request, Statistics, Trial
from tests.evo import fakes

RECIPE = Recipe(name="demo", generations=4)
STATISTICS = Statistics(
    best=Estimate(0.61239, 0.01, 6),
    gain=Estimate(0.11239, 0.05, 6),
    baselines={"adam": Estimate(0.5, 0.02, 40), "cautious_adanw": None},
    diverged=2,
    dismissed=9,
    trained=40,
    lane_steps=4000,
    champion=Champion("g3i1", "g3i1", Estimate(0.7, 0.01, 20), Estimate(0.2, 0.12, 20), "sign(g) + 0.1 * ema(g, 0.9)"),
    trials=(Trial("g2i4", ("g0i1",), (-0.1,), 8, False, "no better than lion in 8 instances"),),
)
LANES = tuple(fakes.lane(RECIPE, fakes.individual(RECIPE, 0, 0), number, 4) for number in range(64))
REQUEST = Request(Purpose.SEARCH, LANES)


def play(shown: Progress, past: list | None = None) -> None:
    past = past or []
    with shown:
        shown.begin(RECIPE, past)
        shown.request(REQUEST, 30)
        for _ in range(7):
            shown.lane(fakes.training(0.5))
        shown.generation(Generation(len(past) + 1, STATISTICS, 12.0))
        shown.request(REQUEST, 0)


def test_plain_progress_is_a_line_a_generation(tmp_path):
    stream = io.StringIO()
    shown = PlainProgress(stream)
    shown.log = log = tmp_path / "log.txt"
    play(shown)
    assert stream.getvalue().splitlines() == [
        "demo begins: task tig, 4 generations of 24",
        "generation 1/4  best +0.112 ± 0.098 over adam  adam 0.500 ± 0.039  cautious_adanw –"
        "  champion g3i1 +0.200 ± 0.235 (tie)  g2i4 not promoted: no better than lion in 8 instances"
        "  trained 40  failed 2  12 s, 36 s left",
    ]
    assert [line.split(" ", 1)[1] for line in log.read_text().splitlines()] == stream.getvalue().splitlines()


def test_breeding_is_shown(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=110, record=True)
    shown = LiveProgress(console)
    shown.begin(RECIPE, [])
    shown.bred(120, 5000)
    console.print(shown.render())
    assert console.export_text().splitlines()[-2].rstrip().endswith("breeding 120 of 5000")
    stream = io.StringIO()
    plain = PlainProgress(stream)
    plain.begin(RECIPE, [])
    plain.bred(1, 5000)
    monkeypatch.setattr("evo.campaign.progress.HEARTBEAT_SECONDS", -1)
    plain.bred(2, 5000)
    assert stream.getvalue().splitlines()[1:] == ["generation 1/4: breeding 2 of 5000"]
    assert plain.seconds_left() is None, "what breeding takes says nothing of training"


def shown_table(*past: Statistics, recipe: Recipe = RECIPE) -> list[str]:
    """What stands on a terminal of 80 columns after some generations."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80, record=True)
    shown = LiveProgress(console)
    with shown:
        shown.begin(recipe, [Generation(number, each, 8.0 + number) for number, each in enumerate(past, 1)])
        shown.request(REQUEST, 0)
    console.export_text()  # what was said, and the last refresh
    console.print(shown.render())
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_the_live_table_shows_past_generations_and_the_one_under_way():
    lines = shown_table(STATISTICS, STATISTICS, replace(STATISTICS, trials=(), diverged=0))
    assert max(map(len, lines)) <= 80
    assert lines[0] == "demo · task tig · gain over adam, higher is better"
    assert lines[1].split() == ["gen.", "best", "champion", "trial", "trained", "failed", "time"]
    numbers = ["+0.112", "±", "0.098", "+0.200", "±", "0.235"]
    assert lines[3].split() == ["2", *numbers, "refused", "40", "2", "10", "s"]
    assert lines[4].split() == ["3", *numbers, "40", "11", "s"]
    assert lines[5].startswith("generation 4/4 ")
    assert lines[5].endswith("search lanes 0/64")
    assert "about 10 s left" in lines[6]
    assert lines[7] == "champion g3i1 0.700 ± 0.020, +0.200 ± 0.235 (tie) over adam"
    assert lines[8].strip() == "sign(g) + 0.1 * ema(g, 0.9)"
    assert lines[9] == "adam 0.500 ± 0.039  cautious_adanw –"


def test_the_live_table_without_baselines_shows_estimates_and_says_that_a_founder_stays():
    founder = Champion("g0i1", "lion", Estimate(-10.5, 1.25, 4), None, "sign(g)", founder=True)
    lines = shown_table(replace(STATISTICS, baselines={}, gain=None, champion=founder))
    assert lines[0] == "demo · task tig · quality, higher is better"
    assert lines[2].split()[:7] == ["1", "0.612", "±", "0.020", "-10.500", "±", "2.450"]
    assert lines[5] == "champion lion -10.500 ± 2.450"
    assert lines[7].strip() == FOUNDER_STAYS
    failed = shown_table(Statistics(diverged=24, baselines={"adam": None}))
    assert failed[2].split() == ["1", "–", "–", "0", "24", "9.0", "s"]


def test_a_reader_that_has_gone_stops_nothing():
    stream = io.StringIO()
    shown = PlainProgress(stream)
    stream.close()
    play(shown)


def test_plain_lines_where_there_is_no_terminal():
    assert isinstance(live.on(io.StringIO()), PlainProgress)


def test_durations_read_naturally():
    assert [duration(s) for s in (0.04, 9.96, 59.4, 59.6, 187, 7800)] == [
        "0.0 s", "10 s", "59 s", "1:00", "3:07", "2:10:00",
    ]  # fmt: skip


def test_intervals_gains_and_steps_read_naturally():
    estimate = Estimate(0.4124, 0.0157, 5)
    assert interval(estimate) == "0.412 ± 0.031"
    assert (gain(estimate), gain(replace(estimate, mean=-0.03))) == ("+0.412 ± 0.031", "-0.030 ± 0.031 (tie)")
    assert (interval(None), gain(None)) == ("–", "–")
    assert [steps(count) for count in (0, 12_160, 3_412_000)] == ["0", "12,160", "3.41 M"]
