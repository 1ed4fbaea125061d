"""Constants of an evaluation that the command line needs without torch."""

PARTS = ("vae", "samples", "denoiser", "reconstruction", "scenes")
"""The parts of a model that can be measured, in the order in which they are."""
