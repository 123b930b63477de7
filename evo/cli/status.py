"""What ``evo status`` prints."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path

from evo.campaign.status import status, status_and_past, summary

WATCH_SECONDS = 2.0


def print_status(run: Path, *, as_json: bool, watch: bool) -> None:
    """Print where a campaign stands; with ``watch``, again with every change while it runs, until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        if watch and sys.stdout.isatty() and not as_json:
            _watch_on_terminal(run)
        else:
            _print(run, as_json=as_json, watch=watch)


def _print(run: Path, *, as_json: bool, watch: bool) -> None:
    last = None
    while True:
        found = status(run)
        text = json.dumps(found.to_dict()) if as_json else summary(found)
        if text != last:
            print(text, flush=True)
        last = text
        if not watch or found.state != "running":
            return
        time.sleep(WATCH_SECONDS)


def _watch_on_terminal(run: Path) -> None:
    """The table of the latest generations, as `evo launch` shows it, above the status."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from evo.campaign.live import generations_table
    from evo.cli.terminal import console

    with Live(console=console(), auto_refresh=False) as live:
        while True:
            found, past = status_and_past(run)
            table = [generations_table(past, f"{found.name} · task {found.task}")] if past else []
            live.update(Group(*table, Text(summary(found))), refresh=True)
            if found.state != "running":
                return
            time.sleep(WATCH_SECONDS)
