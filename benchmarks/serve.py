"""How quick `evo serve` is on a campaign of 100,000 genomes, and whether its memory stays flat.

    python -m benchmarks.serve [--genomes 100000] [--run FOLDER] [--generations 600] [--out FILE]

In Chromium: the first paint of a campaign that the server has never seen, and of one that it knows. Over HTTP: pages of
the table. Over the stream: the time from a commit of the ledger to the event that tells of it. Memory: of the server
while somebody watches a small campaign that completes a generation every few milliseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

import httpx
from playwright.sync_api import sync_playwright

from benchmarks.large_ledger import Writer, write
from evo.campaign.folder import RunFolder
from evo.ledger.ledger import Ledger

QUERIES = (
    {},
    {"page": "500"},
    {"sort": "operator"},
    {"sort": "instances", "down": "0"},
    {"search": "g77i"},
    {"search": "mutate", "distinct": "1", "first": "10", "last": "60"},
    {"state": "failed"},
)


@contextlib.contextmanager
def server(folder: Path) -> Iterator[tuple[str, int]]:
    """`evo serve` on a folder in a process of its own: its address and process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "evo", "serve", str(folder), "--port", str(port)])
    address = f"http://127.0.0.1:{port}"
    try:
        wait(lambda: _answers(address))
        yield address, process.pid
    finally:
        process.terminate()
        process.wait(20)


def wait(true, seconds: float = 300.0) -> float:
    """Seconds until something is true."""
    started = time.monotonic()
    while not true():
        if time.monotonic() - started > seconds:
            raise TimeoutError("it did not come")
        time.sleep(0.02)
    return time.monotonic() - started


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/static/live.js").status_code == 200
    except httpx.TransportError:
        return False


def megabytes(process: int) -> float:
    """Resident memory."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def first_paints(address: str, times: int) -> list[float]:
    """Milliseconds from navigation to the first paint with the campaign's facts, for each visit."""
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        browser.new_page().goto(f"{address}/static/icon.svg")  # Chromium itself is up
        for _ in range(times):
            page = browser.new_page()
            page.goto(address)
            page.wait_for_selector("#facts dl, .genomes", state="attached")
            name = "first-contentful-paint"
            found.append(page.evaluate(f"performance.getEntriesByName('{name}')[0].startTime"))
            page.close()
        browser.close()
    return found


class Listener(threading.Thread):
    """Follows the stream of a campaign and notes when each event of one kind came."""

    def __init__(self, address: str, kind: str = "facts"):
        super().__init__(daemon=True)
        self.address, self.kind = address, kind
        self.moments: list[float] = []
        self.ended = False
        self.start()

    def run(self) -> None:
        """See the class."""
        stream = httpx.stream("GET", f"{self.address}/events", timeout=None)
        with contextlib.suppress(httpx.TransportError), stream as answer:
            for line in answer.iter_lines():
                if line == f"event: {self.kind}":
                    self.moments.append(time.monotonic())
                if self.ended:
                    return


def update_delays(address: str, writer: Writer, times: int) -> list[float]:
    """Milliseconds from a commit of one training to the event that tells of it."""
    listener = Listener(address)
    wait(lambda: listener.moments)
    found = []
    for _ in range(times):
        time.sleep(0.3)
        before = len(listener.moments)
        writer.train()
        committed = time.monotonic()
        wait(lambda before=before: len(listener.moments) > before)
        found.append(1000 * max(0.0, listener.moments[before] - committed))
    listener.ended = True
    return found


def memory_over_a_watch(folder: Path, generations: int) -> list[tuple[int, float]]:
    """Generations that are complete, and the server's megabytes, while somebody watches."""
    writer = Writer(RunFolder(folder / "small"), 8, 10 * generations)
    writer.create()
    writer.write(1)
    found = []
    with server(folder) as (address, process):
        listener = Listener(f"{address}/c/small")
        wait(lambda: listener.moments)
        for number in range(1, generations + 1):
            writer.write(1)
            time.sleep(0.02)
            if number % max(1, generations // 10) == 0:
                found.append((number, megabytes(process)))
        listener.ended = True
    return found


def measure(run: Path, generations: int) -> dict[str, object]:
    """All figures; ``run``: the large campaign."""
    with Ledger.open_to_watch(RunFolder(run).ledger) as ledger:
        genomes, tells = ledger.rows("SELECT count(*) FROM individuals")[0][0], ledger.tells()
    writer = Writer(RunFolder(run), genomes // tells, 10 * tells, seed=time.time_ns(), tells=tells)
    with server(run) as (address, process):
        campaign = f"{address}/c/{run.name}"
        cold = first_paints(campaign, 1)
        read = wait(lambda: " genomes" in httpx.get(f"{campaign}/rows", timeout=60).text)
        wait(lambda: "What each operator led to" in httpx.get(campaign, timeout=60).text)
        warm, table = first_paints(campaign, 5), first_paints(f"{campaign}/genomes", 5)
        pages = {}
        for query in QUERIES:
            times = []
            for _ in range(5):
                started = time.monotonic()
                httpx.get(f"{campaign}/rows?{urlencode(query)}", timeout=60).raise_for_status()
                times.append(1000 * (time.monotonic() - started))
            pages[urlencode(query) or "default"] = [round(median(times)), round(max(times))]
        delays = update_delays(campaign, writer, 40)
        used = megabytes(process)
    with tempfile.TemporaryDirectory() as folder:
        memory = memory_over_a_watch(Path(folder), generations)
    return {
        "genomes": genomes,
        "first paint, never seen, ms": round(cold[0]),
        "seconds until the table is read": round(read, 1),
        "first paint of the campaign, ms": [round(median(warm)), round(max(warm))],
        "first paint of the table, ms": [round(median(table)), round(max(table))],
        "a page of the table, ms": pages,
        "update after a commit, ms": [round(median(delays)), round(max(delays))],
        "server, MB": round(used),
        "small campaign, MB by generation": {number: round(used) for number, used in memory},
    }


def main() -> None:
    """Measure and print; pairs are median and worst."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--genomes", type=int, default=100_000)
    parser.add_argument("--run", type=Path, help="a campaign of benchmarks.large_ledger, instead of a new one")
    parser.add_argument("--generations", type=int, default=600)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not given.run:
            write(Path(folder) / "large", given.genomes)
        found = measure(given.run or Path(folder) / "large", given.generations)
    text = json.dumps(found, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
