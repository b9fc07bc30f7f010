"""Measurements: each module prints one table, `python -m benchmarks.<name>`; none is a test."""
