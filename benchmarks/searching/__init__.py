"""The bench for searches: landscapes that answer at once, contestants, measures (`benchmarks/search.py`)."""
