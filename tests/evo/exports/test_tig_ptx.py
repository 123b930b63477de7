"""The benchmark that runs a bundle's PTX on a GPU, up to the driver: one that runs the kernels on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks import tig_ptx

SCRIPT = Path(tig_ptx.__file__)


def test_it_measures_what_was_compiled_and_tells_what_fails(tmp_path):
    tig_ptx.write_libraries(tmp_path, ["adam", "lion"])
    for precision in tig_ptx.DTYPES:
        (tmp_path / precision / "b00.ptx").write_text("; this driver has its kernels already")
    driver, results = f"{tmp_path}/{{precision}}/kernels.so", tmp_path / "results.json"
    command = [sys.executable, SCRIPT, "--ptx", tmp_path, "--driver", driver, "--results", results, "--depths", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    found = json.loads(results.read_text())
    assert found["about"]["gpu"] == "the CPU"
    assert sum("b01.ptx" in row.get("error", "") for row in found["rows"]) == 2
    measured = {row["precision"]: row for row in found["rows"] if "error" not in row}
    assert measured.keys() == tig_ptx.DTYPES.keys()
    assert all(row["within"] and 0 < row["updates"] < 1e-6 for row in measured.values())
    assert len(measured["float64"]["val_loss"][0]) == 3
    assert done.stdout.count("FAILED") == 2
