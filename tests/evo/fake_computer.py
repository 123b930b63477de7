"""Prints a kind of hardware, as `evo.training.computer` does, without torch: ``python -m tests.evo.fake_computer``."""

import os

if __name__ == "__main__":
    print(os.environ.get("FAKE_KIND", "cpu, fake"))
