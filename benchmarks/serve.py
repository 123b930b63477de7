"""How quick `evo serve` is on a campaign of 100,000 genomes, and whether its memory stays flat.

    python -m benchmarks.serve [speed] [update] [watch] [--genomes 100000] [--run FOLDER] [--minutes 60]

``speed``: in Chromium, the first paint of a campaign that the server has never seen, and of one that it knows; over
HTTP, pages of the table. ``update``: the time from a commit of the ledger to the event that tells of it. ``watch``:
memory of the server while somebody watches a campaign for an hour, and that of a new server on what the campaign is
then. Writes benchmarks/results/serve.json, and keeps of it what is not asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import httpx
from playwright.sync_api import sync_playwright

from benchmarks.large_ledger import Writer, write
from evo.campaign.folder import RunFolder
from evo.ledger.ledger import Ledger

RESULTS = Path(__file__).parent / "results" / "serve.json"
POPULATION = 8  # of the campaign that is watched
GENERATION_SECONDS, TRAINING_SECONDS, SAMPLE_SECONDS, SETTLING_SECONDS = 10.0, 0.25, 10.0, 180.0
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
        self.seen: set[tuple[str, str]] = set()  # panels by key and version
        self.ended = False
        self.start()

    def run(self) -> None:
        """See the class."""
        stream = httpx.stream("GET", f"{self.address}/events", timeout=None)
        kind = ""
        with contextlib.suppress(httpx.TransportError), stream as answer:
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                if line.startswith("data: "):
                    self.event(kind, line.removeprefix("data: "))
                if self.ended:
                    return

    def event(self, kind: str, data: str) -> None:
        """What has come."""
        if kind == self.kind:
            self.moments.append(time.monotonic())


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


class Watcher(Listener):
    """Follows a campaign as the page's script does: asks for each panel, and for the table, when there is a new one."""

    def event(self, kind: str, data: str) -> None:
        """See the class."""
        super().event(kind, data)
        if kind == "panels":
            panels = set(map(tuple, json.loads(data)))
            for key, _ in panels - self.seen:
                httpx.get(f"{self.address}/panels/{key}", timeout=60)
            self.seen = panels
        if kind == "table":
            httpx.get(f"{self.address}/rows", timeout=60).raise_for_status()


def watch(minutes: float) -> dict[str, object]:
    """The server's memory while somebody watches a small campaign that trains and breeds quickly."""
    with tempfile.TemporaryDirectory() as folder:
        writer = Writer(RunFolder(Path(folder) / "small"), POPULATION, 1_000_000)
        writer.create()
        writer.write(1)
        found, events = _watched(writer, 60 * minutes)
        generations = writer.tells
        anew, _ = _watched(writer, SETTLING_SECONDS)
    later = [(seconds, used) for seconds, used in found if seconds >= 60 * minutes / 4]
    slope, _ = statistics.linear_regression(*zip(*later, strict=True))
    return {
        "minutes": minutes,
        "generations": generations,
        "genomes": POPULATION * generations + 1,
        "events": events,
        "MB every minute": [round(used, 1) for _, used in found[:: round(60 / SAMPLE_SECONDS)]],
        "MB per hour after the first quarter": round(3600 * slope, 2),
        "MB of a new server on that campaign after three minutes": round(anew[-1][1], 1),
    }


def _watched(writer: Writer, seconds: float) -> tuple[list[tuple[float, float]], int]:
    """Seconds and megabytes of a new server, and the events that it sent, while the campaign goes on."""
    found: list[tuple[float, float]] = []
    before = writer.tells
    with server(writer.folder.path.parent) as (address, process):
        watcher = Watcher(f"{address}/c/{writer.folder.path.name}")
        wait(lambda: watcher.moments)
        started = time.monotonic()
        while (now := time.monotonic() - started) < seconds:
            if now >= len(found) * SAMPLE_SECONDS:
                found.append((now, megabytes(process)))
            if now >= (writer.tells - before) * GENERATION_SECONDS:
                writer.write(1)
            writer.train()
            time.sleep(TRAINING_SECONDS)
        watcher.ended = True
    return found, len(watcher.moments)


def speed(run: Path) -> dict[str, object]:
    """How quick the page is; ``run``: the large campaign."""
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
            pages[urlencode(query) or "default"] = [round(statistics.median(times)), round(max(times))]
        used = megabytes(process)
    return {
        "first paint, never seen, ms": round(cold[0]),
        "seconds until the table is read": round(read, 1),
        "first paint of the campaign, ms": [round(statistics.median(warm)), round(max(warm))],
        "first paint of the table, ms": [round(statistics.median(table)), round(max(table))],
        "a page of the table, ms": pages,
        "server, MB": round(used),
        "load": [round(load, 1) for load in os.getloadavg()],
    }


def update(run: Path, times: int = 60) -> dict[str, object]:
    """How soon a commit is told, while the ledger is read through for the first time and when it was."""
    with Ledger.open_to_watch(RunFolder(run).ledger) as ledger:
        genomes, tells = ledger.rows("SELECT count(*) FROM individuals")[0][0], ledger.tells()
    writer = Writer(RunFolder(run), genomes // tells, 10 * tells, seed=time.time_ns(), tells=tells)
    with server(run) as (address, _):
        campaign = f"{address}/c/{run.name}"
        during = update_delays(campaign, writer, times // 2)
        wait(lambda: time.sleep(1) or "What each operator led to" in httpx.get(campaign, timeout=60).text, 500)
        after = update_delays(campaign, writer, times)
    return {
        "genomes": genomes,
        "after a commit, ms": [round(statistics.median(after)), round(max(after))],
        "while the ledger is read through, ms": [round(statistics.median(during)), round(max(during))],
        "load": [round(load, 1) for load in os.getloadavg()],
    }


def main() -> None:
    """Measure what is asked for; pairs are median and worst."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["speed", "update", "watch"])
    parser.add_argument("--genomes", type=int, default=100_000)
    parser.add_argument("--run", type=Path, help="a campaign of benchmarks.large_ledger, instead of a new one")
    parser.add_argument("--minutes", type=float, default=60.0)
    given = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        run = given.run or Path(folder) / "large"
        if not given.run and {"speed", "update"} & set(given.what):
            write(run, given.genomes)
        for name, measure in (("speed", speed), ("update", update)):
            if name in given.what:
                results[name] = measure(run)
    if "watch" in given.what:
        results["watch"] = watch(given.minutes)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps({name: results[name] for name in given.what}, indent=1))


if __name__ == "__main__":
    main()
