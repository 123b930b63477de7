"""Campaigns to look at, and the page of `evo serve` in this process and behind a real port."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.testclient import TestClient

from evo.serve.app import make_app
from evo.serve.campaign import Campaign
from evo.serve.security import Access
from evo.serve.watcher import Watcher
from tests.evo.fake_campaign import RECIPE, folder, run


@pytest.fixture(scope="package")
def runs(tmp_path_factory) -> Path:
    """A folder with a finished campaign, one that was not launched, and one that cannot be read."""
    path = tmp_path_factory.mktemp("runs")
    run("launch", folder(path / "fake"))
    folder(path / "waiting", RECIPE.replace("name: fake", "name: waiting"))
    folder(path / "broken")
    (path / "broken/out").mkdir()
    (path / "broken/out/ledger.sqlite").write_bytes(b"no ledger" * 100)
    return path


@contextlib.contextmanager
def opened(path: Path, access: Access | None = None, *, draws: bool = True) -> Iterator[TestClient]:
    """A client of the page on a folder, in this process. ``draws``: whether ledgers are read through for panels."""
    with pytest.MonkeyPatch.context() as patch, Watcher([path]) as watcher:
        if not draws:
            patch.setattr(Campaign, "is_due", property(lambda _: False))
        client = TestClient(make_app(watcher, access or Access()), base_url="http://localhost", follow_redirects=False)
        with contextlib.closing(client):
            yield client


@pytest.fixture(scope="package")
def client(runs) -> Iterator[TestClient]:
    """A client of the page on `runs`, which has read everything."""
    with opened(runs) as client:
        until(lambda: "of 48 genomes" in client.get("/c/fake/rows").text)
        until(lambda: "What each operator led to" in client.get("/c/fake").text)
        yield client


@contextlib.contextmanager
def served(path: Path, port: int = 0) -> Iterator[str]:
    """The page behind a port, as `evo serve` has it; gives its address."""
    with socket.socket() as listening, Watcher([path]) as watcher:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        config = uvicorn.Config(
            make_app(watcher, Access()), log_level="critical", lifespan="off", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        until(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something that comes by itself."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
