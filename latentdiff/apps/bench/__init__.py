"""Benchmarks of fused operations: the core of ``latentdiff bench`` and of the scripts in benchmarks/."""
