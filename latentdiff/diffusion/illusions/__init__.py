"""Denoisers composed of several: views of an image, frequency bands, their synchronization."""
