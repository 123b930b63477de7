"""The bench for searches: landscapes that answer at once, contestants, and what is measured (`benchmarks/search.py`)."""
