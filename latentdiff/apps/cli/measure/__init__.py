"""Commands that measure: evaluate, reconstruct, bench, reproduce."""
