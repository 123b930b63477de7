"""The loop of docs/slurm.sh: begin, save on SIGTERM, requeue, go on; with stand-ins for SLURM, and for Ray and evo."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "slurm.sh"
EVO = """\
echo "evo $*" >> "$LOG"
[ -z "${CODE:-}" ] || exit "$CODE"
[ "$1" = resume ] && exit 0
mkdir -p "$2/out" && touch "$2/out/ledger.sqlite"
trap 'sleep 0.3; exit 75' TERM
while true; do sleep 0.05; done
"""
RAY = 'echo "ray $*" >> "$LOG"; trap "exit 0" TERM; while true; do sleep 0.05; done'


@pytest.fixture
def job(tmp_path):
    """Starts the script as a job of SLURM: its process, and a function that reads what was called."""
    listener = socket.create_server(("127.0.0.1", 0))  # as the head of the cluster would
    log, folder = tmp_path / "log", tmp_path / "run"
    texts = {"evo": EVO, "ray": RAY, "srun": 'echo "srun $*" >> "$LOG"', "scontrol": 'echo "scontrol $*" >> "$LOG"'}
    for name, text in texts.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)

    def start(**environment: str) -> subprocess.Popen[str]:
        log.write_text("")
        given = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "EVO_BIN": str(tmp_path),
            "RUN": str(folder),
            "LOG": str(log),
            "RAY_PORT": str(listener.getsockname()[1]),
            "SLURMD_NODENAME": "127.0.0.1",
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NUM_NODES": "3",
            "SLURM_CPUS_PER_TASK": "16",
            **environment,
        }
        return subprocess.Popen([SCRIPT], env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def called() -> list[str]:
        return log.read_text().splitlines()

    yield start, called
    listener.close()


def test_preempted_it_saves_and_is_requeued_and_goes_on(job):
    start, called = job
    process = start()
    deadline = time.monotonic() + 30
    while not any(line.startswith("evo launch") for line in called()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)  # the stand-in has its trap
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 75, out
    assert called()[-1] == "scontrol requeue 7"
    (nodes,) = (line for line in called() if line.startswith("srun"))
    assert "--nodes=2 --ntasks=2 --exclude=127.0.0.1" in nodes
    process = start(SLURM_RESTART_COUNT="1")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0, out
    assert any(line.startswith("evo resume") for line in called())
    assert not any(line.startswith("scontrol") for line in called())


@pytest.mark.parametrize(
    ("code", "restarts", "requeued"),
    [("137", "0", True), ("137", "100", False), ("75", "1000", True), ("1", "0", False), ("2", "0", False)],
)
def test_what_is_for_a_person_to_mend_is_not_requeued(job, code, restarts, requeued):
    start, called = job
    process = start(CODE=code, SLURM_RESTART_COUNT=restarts, SLURM_JOB_NUM_NODES="1")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == int(code), out
    assert any(line == "scontrol requeue 7" for line in called()) == requeued
    assert not any(line.startswith("srun") for line in called())
