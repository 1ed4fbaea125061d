"""Cold diffusion: degradations, the prior of the start, the sampling step."""
