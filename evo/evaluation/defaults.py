"""What is trained, and how, unless the user says otherwise: for the command line and for Python."""

from __future__ import annotations

TASK = "tig"
DEPTHS = "4"
SEEDS = "0:80000:10000"
COMPARISON_SEEDS = "0:640000:10000"
CALIBRATION_SEEDS = "0:160000:10000"
EPOCHS = 1000
CALIBRATION_EPOCHS = 100
PATIENCE = 50
INIT = "per_layer"
ACCURACY_FACTOR = 0
DTYPE = "float32"
DEVICE = "cpu"
BASELINES = ("adam", "cautious_adanw")
BASELINE_INSTANCES = 4
