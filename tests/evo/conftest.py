"""What tests of the command line share."""

import sys
from pathlib import Path

import pytest

from evo.cli.app import main


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
