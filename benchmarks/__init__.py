"""Benchmarks: measured as ratios within one run, for machines differ and drift."""
