"""Distances of images and of sets of their features: pure functions of tensors, in float64.

No figure depends on how its input was cut into batches. Features are [images, dimensions]; images are uint8
or float in [0, 1], [N, C, H, W].
"""
