"""Studies of the forward process and of schedules, without a network."""
