"""``python -m evo`` is ``evo``."""

import atexit
import os
import sys

from evo.cli.app import main


def run() -> None:
    """Run the command ``evo``, and end the process without taking torch apart, which can last a second."""
    code = 1  # of an exception that nobody expects

    def leave() -> None:
        lost = 0
        for stream in filter(None, (sys.stdout, sys.stderr)):
            try:
                stream.flush()
            except OSError:
                lost = 1
        os._exit(code or lost)

    atexit.register(leave)  # first, so that it runs last
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


if __name__ == "__main__":
    run()
