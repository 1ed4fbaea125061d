"""Benchmarks of the fused operations: the measuring core of ``latentdiff bench`` and of the scripts in
benchmarks/.
"""
