"""What ``evo status`` prints."""

from __future__ import annotations

import json
import time
from pathlib import Path

from evo.campaign.status import status, summary

WATCH_SECONDS = 2.0


def print_status(run: Path, *, as_json: bool, watch: bool) -> None:
    """Print where a campaign stands; with ``watch``, again with every change while it runs, until Ctrl-C."""
    last = None
    try:
        while True:
            found = status(run)
            text = json.dumps(found.to_dict()) if as_json else summary(found)
            if text != last:
                print(text, flush=True)
            last = text
            if not watch or found.state != "running":
                return
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        return
