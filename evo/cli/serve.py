"""What ``evo serve`` does: it runs the web server until Ctrl-C."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from evo.cli.messages import say
from evo.errors import EvoError, UsageError

SWITCH_SECONDS = 0.0005  # between threads: who looks for commits does not wait for who reads ledgers through
EXTRA = "evo serve needs the extra serve: pip install 'evo-optimizers[serve]'"


def serve(runs: Sequence[Path], *, host: str, port: int, token: str, names: Sequence[str]) -> None:
    """Show the campaigns of the folders ``runs`` at http://host:port/. Raises UsageError, EvoError."""
    try:
        import uvicorn

        from evo.serve.app import make_app
        from evo.serve.security import Access, host_names
        from evo.serve.watcher import Watcher
    except ImportError as error:
        raise UsageError(f"{EXTRA} ({error})") from None
    access = Access(host, token, host_names(names))
    with _listening(host, port) as listening, Watcher(runs) as watcher:
        config = uvicorn.Config(
            make_app(watcher, access), log_level="critical", access_log=False, server_header=False, date_header=False,
            lifespan="off", timeout_graceful_shutdown=1,
        )  # fmt: skip
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{port}/{f'?token={quote(token)}' if token else ''}  (Ctrl-C ends it)")
        sys.setswitchinterval(SWITCH_SECONDS)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises EvoError where that cannot be."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(place)
    except (OSError, UnicodeError) as error:
        raise EvoError(f"--host {host} --port {port}: cannot be listened at: {error}") from None
    return found
