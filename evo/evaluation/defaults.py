"""What is trained, and how, unless the user says otherwise: for the command line and for Python."""

from __future__ import annotations

TASK = "tig"
DEPTHS = "4"
INSTANCES = 8  # of a fresh label, which nobody can have guessed
COMPARISON_INSTANCES = 64
EXPLAINING_INSTANCES = 16
CALIBRATION_INSTANCES = "calibration:16"  # of a fixed one: no submission is trained, and figures repeat
EPOCHS = 1000
CALIBRATION_EPOCHS = 100
PATIENCE = 50
INIT = "per_layer"
ACCURACY_FACTOR = 0
DTYPE = "float32"
DEVICE = "cpu"
LOOP, QUICK = "literal", "quick"  # see `evo.evaluation.trainings.evaluate_targets`
BASELINES = ("adam", "cautious_adanw")
BASELINE_INSTANCES = 4
