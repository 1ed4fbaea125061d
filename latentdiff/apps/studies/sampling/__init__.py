"""Studies of latents, guidance, samplers, numbers of steps and training time."""
