"""One thread per process: the suite runs on all cores by itself, and thread pools that compete cost tenfold."""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # before anything imports numpy or torch
