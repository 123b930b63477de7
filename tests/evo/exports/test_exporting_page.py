"""The page about exporting is true: its training script runs on the file that its command writes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from evo.exports.formats import formats

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "exporting.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_training_script_learns(evo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (command,) = [line for block in blocks("sh") for line in block.splitlines() if "--format torch" in line]
    code, _, err = evo(*command.split()[1:])
    assert code == 0, err
    (script,) = [block for block in blocks("python") if "param_groups" in block]
    (tmp_path / "script.py").write_text(script)
    environment = {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "script.py"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("accuracy") == 6


def test_the_page_names_every_format():
    assert all(f"| `{name}` |" in PAGE for name in formats())
