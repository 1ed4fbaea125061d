"""Studies of restoration, inpainting, denoising, cold diffusion and SDEdit."""
