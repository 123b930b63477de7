"""What tests of the command line share."""

import sys
from html import escape
from pathlib import Path

import pytest

from evo.cli.app import main
from tests.evo.training_here import train_here  # noqa: F401  # a fixture


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of charts in reports there is the text alone, which saves a second per page; for tests of what a page says."""

    def saved(figure, name: str) -> str:
        from matplotlib.text import Text  # here alone: it takes a moment to load

        words = [f"<text>{escape(found.get_text())}</text>" for found in figure.findobj(Text) if found.get_text()]
        return f'<svg id="{name}" role="img">{"".join(words)}</svg>'

    monkeypatch.setattr("evo.report.figures._saved", saved)


@pytest.fixture
def cases() -> Path:
    """The folder of small inputs that once failed."""
    return Path(__file__).parents[1] / "cases"


@pytest.fixture
def evo_command(evo):
    """The fixture ``evo``, where that name is the package."""
    return evo


@pytest.fixture
def evo(monkeypatch, capfd):
    """Runs ``evo`` in this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["evo", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call
