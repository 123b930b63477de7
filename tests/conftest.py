"""One thread per process: the suite runs on all cores by itself, and thread pools that compete cost tenfold.

Compiled modules are kept, whatever the caller's environment says: dozens of tests start Python anew. What pytest's
collection leaves behind, half a million objects, stays out of garbage collections, each of which it makes 0.3 s longer.
"""

import gc
import os
import sys

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before anything imports numpy or torch

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
