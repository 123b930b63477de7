"""What people see while a campaign runs."""

import io

from rich.console import Console

from evo.campaign import live
from evo.campaign.live import LiveProgress
from evo.campaign.progress import PlainProgress, Progress
from evo.formatting import duration
from evo.recipe.schema import Recipe
from evo.records import Champion, Generation, Purpose, Request, Statistics
from tests.evo import fakes

RECIPE = Recipe(name="demo", generations=4)
STATISTICS = Statistics(
    best=0.61239,
    baselines={"adam": 0.5, "lion": None},
    diverged=2,
    trained=40,
    saved=8,
    champion=Champion("g3i1", "g3i1", 0.7, "sign(g) + 0.1 * ema(g, 0.9)"),
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
        "generation 1/4  best 0.612  median –  adam 0.500  lion –  champion g3i1 0.700  trained 40, saved 8"
        "  diverged 2  12 s, 36 s left",
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


def test_the_live_table_shows_past_generations_and_the_one_under_way():
    console = Console(file=io.StringIO(), force_terminal=True, width=110, record=True)
    shown = LiveProgress(console)
    play(shown, past=[Generation(1, STATISTICS, 8.0), Generation(2, STATISTICS, 10.0)])
    console.print(shown.render())
    lines = console.export_text().splitlines()[-7:]
    assert [line.split()[:4] for line in lines[:3]] == [[number, "0.612", "–", "0.500"] for number in "123"]
    assert lines[3].startswith("generation 4/4 ")
    assert lines[3].rstrip().endswith("search lanes 0/64")
    assert "about 10 s left" in lines[4]
    assert "champion g3i1 0.700 on the selection instances" in lines[5]
    assert lines[6].strip() == "sign(g) + 0.1 * ema(g, 0.9)"


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
