"""Studies of restoration, inpainting, denoising and SDEdit."""
