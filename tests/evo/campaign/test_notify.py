"""A command of a person's choice is told what happens to a campaign, and can neither harm nor hold it."""

import json
import shlex
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from evo.campaign.loop import Outcome
from evo.campaign.notify import Notifier, parse
from evo.campaign.progress import Progress
from evo.errors import UsageError
from evo.records import Champion, Estimate, Generation
from tests.evo.campaign.test_progress import RECIPE, STATISTICS

SCRIPT = """\
#!{python}
import json, os, sys, pathlib, time
facts = {{k: v for k, v in os.environ.items() if k.startswith("EVO_")}}
with open({log!r}, "a") as file:
    file.write(json.dumps([sys.argv[1:], facts]) + "\\n")
"""


class Saying(Progress):
    """Keeps what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def _show(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture
def script(tmp_path) -> Path:
    path = tmp_path / "a command"
    path.write_text(SCRIPT.format(python=sys.executable, log=str(tmp_path / "log")))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def told(tmp_path: Path) -> list:
    return [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]


def play(notifier: Notifier, progress: Progress, *champions: Champion | None) -> None:
    progress.begin(RECIPE, [])
    for number, champion in enumerate(champions, 1):
        progress.generation(Generation(number, replace(STATISTICS, champion=champion), 1.0))


def test_a_new_champion_and_the_end_are_told(script, tmp_path):
    hostile = '$(touch x); `id` "quoted" <b> \\'
    first = Champion("g0i0", "adam", Estimate(0.5, 0.02, 4), None, "g", True)
    second = Champion("g1i3", hostile, Estimate(0.6, 0.02, 4), Estimate(0.1, 0.01, 4), "g")
    progress = Saying()
    with Notifier(f"{shlex.quote(str(script))} 'one word' $HOME", tmp_path, progress) as notifier:
        play(notifier, progress, first, first, None, second, second)
        notifier.ended(Outcome(True, 5, 5, None))
    champion, end = sorted(told(tmp_path), key=lambda found: found[1]["EVO_EVENT"])
    assert champion[0] == ["one word", "$HOME"], "there is no shell"
    facts = champion[1]
    assert (facts["EVO_EVENT"], facts["EVO_CHAMPION"], facts["EVO_CHAMPION_ID"]) == ("champion", hostile, "g1i3")
    assert (facts["EVO_QUALITY"], facts["EVO_GAIN"]) == ("0.600000", "+0.100 ± 0.020")
    assert (facts["EVO_RUN"], facts["EVO_NAME"]) == (str(tmp_path.resolve()), "demo")
    assert (end[1]["EVO_EVENT"], end[1]["EVO_MESSAGE"]) == ("end", "5 of 5 generations are complete")
    assert not [line for line in progress.said if "--notify" in line]


def test_a_stop_is_told_whether_it_is_one_or_an_error(script, tmp_path):
    with Notifier(shlex.quote(str(script)), tmp_path, Progress()) as notifier:
        notifier.ended(Outcome(False, 2, 5, None))
    with pytest.raises(RuntimeError), Notifier(shlex.quote(str(script)), tmp_path, Progress()):
        raise RuntimeError("the disk is full")
    assert [(facts["EVO_EVENT"], facts["EVO_MESSAGE"]) for _, facts in told(tmp_path)] == [
        ("stop", "2 of 5 generations are complete"),
        ("stop", "the disk is full"),
    ]
    assert "EVO_CHAMPION" not in told(tmp_path)[0][1]


def test_a_command_that_hangs_or_fails_is_ended_and_said(tmp_path):
    progress, started = Saying(), time.monotonic()
    with Notifier("sh -c 'sleep 60 & sleep 60'", tmp_path, progress, seconds=0.2) as notifier:
        notifier.ended(Outcome(True, 1, 1, None))
    assert time.monotonic() - started < 20
    assert progress.said == ["--notify sh: ended after 0.2 s"]
    progress = Saying()
    with Notifier("sh -c 'exit 3'", tmp_path, progress) as notifier:
        notifier.ended(Outcome(True, 1, 1, None))
    assert progress.said == ["--notify sh: exit code 3"]


def test_commands_that_cannot_be_run_are_refused_before_anything_begins(evo, tmp_path):
    for command, message in (("", "name a command"), ("no-such-command x", "no-such-command"), ("'", "quotation")):
        with pytest.raises(UsageError, match=message):
            parse(command)
    (tmp_path / "recipe.yaml").write_text("name: x\n")
    code, _, err = evo("launch", tmp_path, "--notify", "no-such-command")
    assert (code, err) == (2, "--notify no-such-command: there is no command no-such-command\n")
    assert not (tmp_path / "out").exists()
