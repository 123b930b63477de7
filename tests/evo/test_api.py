"""The Python interface: light to import, silent, plain data out; and its page, which is run."""

from __future__ import annotations

import inspect
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import evo
from evo.errors import EvoError, UsageError
from evo.events import Event

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "python-api.md"
BLOCKS = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_package_is_light_until_it_is_used():
    code = (
        "import sys, evo; heavy = {'torch', 'numpy', 'pydantic', 'typer'};"
        "print(sorted(heavy & set(sys.modules)), set(evo.__all__) <= set(dir(evo)), 'evo.api' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[] True False\n"


@pytest.mark.parametrize("name", evo.__all__)
def test_what_is_offered_is_there_and_says_what_it_is(name):
    assert inspect.getdoc(getattr(evo, name))


def test_what_is_not_offered_is_not_there():
    with pytest.raises(AttributeError, match="module 'evo' has no attribute 'nonsense'"):
        evo.nonsense  # noqa: B018  # type: ignore[attr-defined]


def test_the_page_runs(tmp_path, capfd, train_here):
    """All its blocks, in order and in one namespace; they print, evo itself does not."""
    check_page(tmp_path, capfd)


@pytest.mark.slow
def test_the_page_runs_with_workers(tmp_path, capfd):
    check_page(tmp_path, capfd)


def check_page(tmp_path, capfd):
    script = tmp_path / "page.py"
    script.write_text("\n".join(BLOCKS.findall(PAGE.read_text(encoding="utf-8"))), encoding="utf-8")
    namespace = runpy.run_path(str(script), {"print": lambda *_: None})
    assert capfd.readouterr() == ("", "")
    for name in ("outcome", "champion", "lion", "evaluation", "comparison", "calibration"):
        found = namespace[name].to_dict()
        assert json.loads(json.dumps(found, allow_nan=False)) == found, name
    kinds = [event.kind for event in namespace["events"]]
    assert kinds.count("generation") == 1
    assert kinds.count("training") > 4
    assert namespace["events"][-1] == Event("generation", 1, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: evo.launch("nowhere"),
        lambda: evo.resume("nowhere"),
        lambda: evo.evaluate("adm"),
        lambda: evo.evaluate([]),
        lambda: evo.evaluate("adam", device="tpu"),
        lambda: evo.evaluate("adam", workers=-1),
        lambda: evo.evaluate("adam", epochs=1.5),
        lambda: evo.evaluate("adam", patience="5"),
        lambda: evo.evaluate("adam", depths=2.5),
        lambda: evo.compare("adam"),
        lambda: evo.compare(["adam", "lion"], seeds=[-1]),
        lambda: evo.calibrate("tog"),
        lambda: evo.export("adm"),
        lambda: evo.export("adam", "c"),
        lambda: evo.export("adam", rank=2),
    ],
)
def test_mistakes_are_errors_of_usage(call, capfd):
    with pytest.raises(UsageError):
        call()
    assert capfd.readouterr() == ("", "")


def test_a_file_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EvoError, match="cannot be written"):
        evo.export("adam", out=tmp_path / "file" / "champion.py")


def test_seeds_that_share_data_are_warned_of(monkeypatch):
    from evo import api

    monkeypatch.setattr(api, "evaluate_targets", lambda *_, **__: None)
    events: list[Event] = []
    evo.evaluate("adam", seeds=[0, 1], progress=events.append)
    assert [event.kind for event in events] == ["warning"]
    assert "share data" in events[0].message
