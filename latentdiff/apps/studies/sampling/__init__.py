"""Studies of samplers, numbers of steps and training time."""
