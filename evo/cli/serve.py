"""What ``evo serve`` does: it runs the web server until Ctrl-C."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from evo.cli.messages import say
from evo.errors import EvoError, UsageError

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
    with Watcher(runs) as watcher:
        server = uvicorn.Server(
            uvicorn.Config(
                make_app(watcher, access), host=host, port=port, log_level="warning", access_log=False,
                server_header=False, date_header=False, lifespan="off", timeout_graceful_shutdown=1,
            )
        )  # fmt: skip
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{port}/{f'?token={quote(token)}' if token else ''}  (Ctrl-C ends it)")
        server.run()
        if not server.started:
            raise EvoError(f"--port {port}: {host} cannot be listened at; is another evo serve running?")
