"""How well the traits of genomes predict real trainings that were recorded: the figures of docs/search-bench.md.

Run:  python benchmarks/surrogate.py [benchmarks/landscapes/quickstart.json.gz]

Genomes come in the order in which they were bred, and each is predicted from those before it, as in a campaign. What
was to be predicted is the mean over the recorded instances. Beside it: what the mean of its parents says.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from scipy.stats import spearmanr
from searching.recorded import Recorded

from evo.records import Estimate
from evo.search.surrogate import fit, probe, traits

FIRST, BLOCK = 48, 16  # genomes that nothing is predicted from before; then those that are predicted at once


def main() -> None:
    """Print rank correlations with what was recorded."""
    default = Path(__file__).parent / "landscapes" / "quickstart.json.gz"
    landscape = Recorded(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
    truths, parents = landscape.truths, landscape.parents
    noise = 0.06 / 4  # residuals of a quality, over 16 instances
    for probed in (True, False):
        known = [traits(genome, probe(genome) if probed else ()) for genome in landscape.genomes]
        predicted = np.full(len(known), np.nan)
        for start in range(FIRST, len(known), BLOCK):
            model = fit([(known[i], Estimate(float(truths[i]), noise, 16)) for i in range(start)])
            assert model is not None
            for i in range(start, min(start + BLOCK, len(known))):
                predicted[i], _ = model.predict(known[i])
        born = [i for i in range(FIRST, len(known)) if parents[i]]
        of_parents = np.array([np.mean(truths[parents[i]]) for i in born])
        worst = np.quantile(truths, 0.25)  # below, genomes are bad in one way or another
        truth, mean, promise = np.maximum(truths[born], worst), np.maximum(of_parents, worst), predicted[born]
        print(f"{'all traits' if probed else 'without the probe'}: {len(born)} children of {len(known)} genomes")
        for what, ours, theirs in (
            ("quality", promise, truth),
            ("gain over the parents", promise - mean, truth - mean),
        ):
            print(f"  {what}: rank correlation of the prediction {spearmanr(ours, theirs).statistic:.2f}")
        print(f"  quality: rank correlation of the parents' mean {spearmanr(mean, truth).statistic:.2f}")


if __name__ == "__main__":
    main()
