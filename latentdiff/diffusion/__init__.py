"""The mathematics of diffusion: schedules, predictions, denoisers, samplers, the loop.

No files, no networks.
"""
